// One bit for each edge, head and channel: did the message attain the extreme of its row? Bits of a
// head begin at a byte; bit c of it is channel c.
#pragma once
#include "blocks.h"
#include "common.h"

namespace GK_ISA {

inline int64_t winner_bytes(int64_t channels) { return (channels + 7) / 8; }

template <class T, int L>
using lanes = vec<acc_t<T>, L>;
// what comparing gives: all ones or zero in each lane
template <class T, int L>
using flags = decltype(lanes<T, L>() == lanes<T, L>());

// A block of columns of one head; `column` counts over all heads, `at` inside the head.
struct Block {
  int64_t column, at, size, head;
};

// Calls body(block, Int<lanes>, Int<vectors>) for every block, of at most Most vectors, of `heads`
// heads' channels.
template <class T, int Most = kRegisters, class F>
inline void each_block(int64_t heads, int64_t channels, const F& body) {
  for (int64_t head = 0; head < heads; ++head)
    for_blocks<T, Most>(channels, [&](int64_t at, int64_t size, auto l, auto n) {
      body(Block{head * channels + at, at, size, head}, l, n);
    });
}

// Calls body(Whole) with true where vectors neither overlap nor begin inside a byte: places of bits
// are then known to the compiler.
template <int L, int NV, class F>
inline void by_kind(const Block& b, const F& body) {
  if (L * NV % 8 == 0 && b.size == L * NV && b.at % 8 == 0)
    body(Int<L * NV % 8 == 0>());
  else
    body(Int<0>());
}

template <int L, int NV>
constexpr int kWords = (L * NV + 63) / 64;

template <class T, int L>
GK_INLINE uint64_t bits_of(flags<T, L> flag) {
#if defined(GK_ISA_avx512)
  if constexpr (sizeof(flag) == 64 && L == 16) return _mm512_movepi32_mask((__m512i)flag);
  if constexpr (sizeof(flag) == 64 && L == 8) return _mm512_movepi64_mask((__m512i)flag);
#endif
  // a byte of 0 or 255 for each lane, of which lane l keeps bit l; the product adds the bytes up
  uint64_t bits = 0;
  constexpr int step = L < 8 ? L : 8;
  vec<int8_t, L> bytes = __builtin_convertvector(flag, vec<int8_t, L>);
  for (int l = 0; l < L; l += step) {
    uint64_t eight = 0;
    std::memcpy(&eight, reinterpret_cast<const char*>(&bytes) + l, step);
    bits |= ((eight & 0x8040201008040201u) * 0x0101010101010101u >> 56) << l;
  }
  return bits;
}

template <class T, int L>
GK_INLINE flags<T, L> flags_of(uint64_t bits) {
  typedef flags<T, L> F;
  F lane;
  for (int l = 0; l < L; ++l) lane[l] = 1 << l;
  F all = F{} + static_cast<int32_t>(bits);
  return (all & lane) != 0;
}

// The bits of vector v of a block; the last one stands at size - L and may overlap the one before.
template <int L, int NV, int Whole = 0>
GK_INLINE int64_t bit_at(int v, int64_t size) {
  return Whole || v + 1 < NV ? v * L : size - L;
}

template <int L, int NV>
GK_INLINE void put_bits(uint64_t* words, int64_t at, uint64_t bits) {
  words[at / 64] |= bits << (at % 64);
  if (kWords<L, NV> > 1 && at % 64 + L > 64) words[at / 64 + 1] |= bits >> (64 - at % 64);
}

template <int L, int NV>
GK_INLINE uint64_t get_bits(const uint64_t* words, int64_t at) {
  uint64_t bits = words[at / 64] >> (at % 64);
  if (kWords<L, NV> > 1 && at % 64 + L > 64) bits |= words[at / 64 + 1] << (64 - at % 64);
  return bits & ((uint64_t(1) << L) - 1);
}

// Writes a block's bits to those of its head, and returns how many are set. A block that was moved
// back starts inside a byte; what stands before the next byte was written by the block before it.
template <int L, int NV, int Whole>
GK_INLINE int64_t store_bits(uint8_t* head, const Block& b, uint64_t* words) {
  if constexpr (Whole) {
    std::memcpy(head + b.at / 8, words, L * NV / 8);
  } else {
    // only a single vector is ever moved back
    const int skip = static_cast<int>(-b.at & 7);
    if (skip) words[0] >>= skip;
    std::memcpy(head + (b.at + skip) / 8, words, (b.size - skip + 7) / 8);
  }
  int64_t count = 0;
  for (int k = 0; k < kWords<L, NV>; ++k) count += __builtin_popcountll(words[k]);
  return count;
}

// Reads them again; true if any is set.
template <int L, int NV, int Whole = 0>
GK_INLINE bool load_bits(const uint8_t* head, const Block& b, uint64_t* words) {
  constexpr int n = kWords<L, NV>;
  for (int k = 0; k < n; ++k) words[k] = 0;
  if constexpr (Whole) {
    std::memcpy(words, head + b.at / 8, L * NV / 8);
  } else {
    const int skip = static_cast<int>(b.at & 7);
    std::memcpy(words, head + b.at / 8, (skip + b.size + 7) / 8);
    if (skip) words[0] >>= skip;
  }
  uint64_t any = 0;
  for (int k = 0; k < n; ++k) any |= words[k];
  return any != 0;
}

// To the storage of T and back: products of bfloat16 are rounded before they are compared.
template <class T, int L>
GK_INLINE lanes<T, L> as_stored(lanes<T, L> v) {
  if constexpr (sizeof(T) == sizeof(acc_t<T>)) {
    return v;
  } else {
    T stored[L];
    store<L>(stored, v);
    return load<L>(stored);
  }
}

// Where a row has a nan its winners are the nans; otherwise no message is one.
template <class T, int L>
GK_INLINE flags<T, L> attains(lanes<T, L> message, lanes<T, L> best) {
  return (message == best) | (message != message);
}

GK_INLINE int64_t column_of(const Side& side, int64_t slot) {
  return side.idx64 ? static_cast<const int64_t*>(side.idx)[slot]
                    : static_cast<const int32_t*>(side.idx)[slot];
}

}  // namespace GK_ISA
