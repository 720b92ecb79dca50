// Vectors of any lane count in the compiler's own extension, and loads and stores that convert
// between storage (float, double, bfloat16) and accumulators.
//
// Included only by files compiled once for each instruction set. Everything lives in the namespace
// GK_ISA, and nothing of the standard library that is a template is used, so that the linker can
// never take one set's code for another's.
#pragma once
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "prefetch.h"

// for what loops over slots must see through: GCC keeps vectors in memory across a call
#define GK_INLINE __attribute__((always_inline)) inline

namespace GK_ISA {

#if defined(GK_ISA_avx512)
constexpr int kBytes = 64, kRegisters = 16;
#elif defined(GK_ISA_avx2)
constexpr int kBytes = 32, kRegisters = 8;
#else
constexpr int kBytes = 16, kRegisters = 8;
#endif

struct bf16 {
  uint16_t bits;
};

template <class T>
struct AccOf {
  typedef T type;
};
template <>
struct AccOf<bf16> {
  typedef float type;
};
template <class T>
using acc_t = typename AccOf<T>::type;

template <class A, int L>
struct VecOf {
  typedef A type __attribute__((vector_size(L * sizeof(A))));
};
template <class A, int L>
using vec = typename VecOf<A, L>::type;

// lanes of one full register
template <class T>
constexpr int kLanes = kBytes / static_cast<int>(sizeof(acc_t<T>));

template <int L>
inline vec<float, L> load(const float* p) {
  vec<float, L> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

template <int L>
inline vec<double, L> load(const double* p) {
  vec<double, L> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

template <int L>
inline vec<float, L> load(const bf16* p) {
  vec<uint16_t, L> half;
  std::memcpy(&half, p, sizeof half);
  auto wide = __builtin_convertvector(half, vec<uint32_t, L>) << 16;
  vec<float, L> v;
  std::memcpy(&v, &wide, sizeof v);
  return v;
}

// What is stored of a vector of accumulators.
template <class T, int L>
struct Packed {
  static vec<T, L> of(vec<T, L> v) { return v; }
};

template <int L>
struct Packed<bf16, L> {
  // to the nearest, ties to even, as torch rounds; a nan stays one
  static vec<uint16_t, L> of(vec<float, L> v) {
    vec<uint32_t, L> bits;
    std::memcpy(&bits, &v, sizeof bits);
    const vec<uint32_t, L> rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    const vec<uint32_t, L> quiet = (bits >> 16) | 0x40u;
    const auto nan = (bits & 0x7fffffffu) > 0x7f800000u;
    return __builtin_convertvector(nan ? quiet : rounded, vec<uint16_t, L>);
  }
};

template <int L, class T>
inline void store(T* p, vec<acc_t<T>, L> v) {
  const auto packed = Packed<T, L>::of(v);
  std::memcpy(p, &packed, sizeof packed);
}

// A store past the caches, for what is too large to stay in them: the old contents are not read
// first. p is aligned to the vector; end_stream() orders such stores before what follows.
template <int L, class T>
inline void stream(T* p, vec<acc_t<T>, L> v) {
  const auto packed = Packed<T, L>::of(v);
  (void)p;
#if defined(GK_ISA_avx512)
  if constexpr (sizeof packed == 64) {
    __m512i bits;
    std::memcpy(&bits, &packed, sizeof bits);
    _mm512_stream_si512(reinterpret_cast<__m512i*>(p), bits);
    return;
  }
#endif
#if defined(GK_ISA_avx512) || defined(GK_ISA_avx2)
  if constexpr (sizeof packed == 32) {
    __m256i bits;
    std::memcpy(&bits, &packed, sizeof bits);
    _mm256_stream_si256(reinterpret_cast<__m256i*>(p), bits);
    return;
  }
#endif
#if defined(__x86_64__)
  if constexpr (sizeof packed == 16) {
    __m128i bits;
    std::memcpy(&bits, &packed, sizeof bits);
    _mm_stream_si128(reinterpret_cast<__m128i*>(p), bits);
    return;
  }
#endif
  std::memcpy(p, &packed, sizeof packed);
}

inline void end_stream() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

// Whether rows of `bytes` bytes in an array of `total` may be streamed, and should be.
inline bool streams(const void* p, int64_t bytes, int64_t total) {
  return total >= (int64_t{4} << 20) && bytes % 64 == 0 && reinterpret_cast<uintptr_t>(p) % 64 == 0;
}

template <class T>
inline acc_t<T> load_one(const T* p) {
  return load<1>(p)[0];
}

template <class T>
inline void store_one(T* p, acc_t<T> value) {
  store<1>(p, vec<acc_t<T>, 1>{value});
}

// The two halves of a vector. GCC would take one of 64 bytes apart in memory.
template <class A, int L>
struct Halves {
  vec<A, L / 2> low, high;
};

template <class A, int L>
inline Halves<A, L> halves(vec<A, L> v) {
  Halves<A, L> out;
  const auto give = [&](const auto& low, const auto& high) {
    std::memcpy(&out.low, &low, sizeof low);
    std::memcpy(&out.high, &high, sizeof high);
    return out;
  };
#if defined(GK_ISA_avx512)
  if constexpr (sizeof v == 64)
    return give(_mm512_castsi512_si256((__m512i)v), _mm512_extracti64x4_epi64((__m512i)v, 1));
#endif
#if defined(GK_ISA_avx512) || defined(GK_ISA_avx2)
  if constexpr (sizeof v == 32)
    return give(_mm256_castsi256_si128((__m256i)v), _mm256_extracti128_si256((__m256i)v, 1));
#endif
  std::memcpy(&out, &v, sizeof v);
  return out;
}

// Whether a bit is set in any lane.
template <class V>
inline bool any(V lanes) {
  vec<uint64_t, 2> parts[sizeof(V) / 16], seen{};
  std::memcpy(parts, &lanes, sizeof lanes);
  for (const vec<uint64_t, 2>& part : parts) seen |= part;
  return (seen[0] | seen[1]) != 0;
}

}  // namespace GK_ISA
