// Loads and stores of the dtypes that only scatter takes, beside those of simd.h: float16, and
// whole numbers of 32 and 64 bits.
#pragma once
#include "simd.h"

namespace GK_ISA {

struct half {
  uint16_t bits;
};

template <>
struct AccOf<half> {
  typedef float type;
};

template <class To, class From>
inline To bits_as(const From& from) {
  static_assert(sizeof(To) == sizeof(From), "the same bits");
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

template <int L>
inline vec<float, L> widen(vec<uint16_t, L> bits) {
  typedef vec<uint32_t, L> U;
  typedef vec<float, L> F;
  const U wide = __builtin_convertvector(bits, U), magnitude = wide & 0x7fffu;
  // moves the exponent's bias from 15 to 127, small numbers included
  const F scaled = bits_as<F>(U(magnitude << 13)) * 0x1p112f;
  const U special = (magnitude << 13) | 0x7f800000u;
  const U found = magnitude >= 0x7c00u ? special : bits_as<U>(scaled);
  return bits_as<F>(U(found | ((wide & 0x8000u) << 16)));
}

// to the nearest, ties to even; a nan stays one
template <int L>
inline vec<uint16_t, L> narrow(vec<float, L> value) {
  typedef vec<uint32_t, L> U;
  typedef vec<float, L> F;
  const U all = bits_as<U>(value), sign = (all >> 16) & 0x8000u, bits = all & 0x7fffffffu;
  // the sum's last bits are those of the small number, rounded
  const U magic = U{} + (126u << 23);
  const U small = bits_as<U>(F(bits_as<F>(bits) + bits_as<F>(magic))) - magic;
  const U usual = (bits - (112u << 23) + 0xfffu + ((bits >> 13) & 1u)) >> 13;
  const U large = bits > (255u << 23) ? U{} + 0x7e00u : U{} + 0x7c00u;
  const U found = bits >= (143u << 23) ? large : bits < (113u << 23) ? small : usual;
  return __builtin_convertvector(U(found | sign), vec<uint16_t, L>);
}

template <class A, class B>
struct Same {
  static constexpr bool value = false;
};
template <class A>
struct Same<A, A> {
  static constexpr bool value = true;
};

template <int L, class T>
GK_INLINE vec<acc_t<T>, L> take_vector(const T* p) {
  if constexpr (Same<T, bf16>::value) {
    return load<L>(p);
  } else if constexpr (Same<T, half>::value) {
    vec<uint16_t, L> bits;
    std::memcpy(&bits, p, sizeof bits);
    return widen<L>(bits);
  } else {
    vec<T, L> stored;
    std::memcpy(&stored, p, sizeof stored);
    return stored;
  }
}

template <int L, class T>
GK_INLINE void give_vector(T* p, vec<acc_t<T>, L> value) {
  if constexpr (Same<T, bf16>::value) {
    store<L>(p, value);
  } else if constexpr (Same<T, half>::value) {
    const auto bits = narrow<L>(value);
    std::memcpy(p, &bits, sizeof bits);
  } else {
    std::memcpy(p, &value, sizeof value);
  }
}

// One number: GCC would move a vector of one through general registers.
template <class T>
GK_INLINE acc_t<T> take_one(const T* p) {
  if constexpr (Same<T, bf16>::value)
    return bits_as<float>(static_cast<uint32_t>(p->bits) << 16);
  else if constexpr (Same<T, half>::value)
    return take_vector<1>(p)[0];
  else
    return *p;
}

template <class T>
GK_INLINE void give_one(T* p, acc_t<T> value) {
  if constexpr (Same<T, bf16>::value || Same<T, half>::value)
    give_vector<1>(p, vec<acc_t<T>, 1>{value});
  else
    *p = value;
}

}  // namespace GK_ISA
