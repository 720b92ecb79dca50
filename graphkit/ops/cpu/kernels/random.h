// Random bits as a pure function of a seed and a counter: splitmix64, whose n-th output stands by
// itself. graphkit/ops/random.py draws the same in torch.
#pragma once
#include "simd.h"

namespace GK_ISA {

// W is a word of 64 bits or a vector of them.
template <class W>
inline W mix_words(W z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

constexpr uint64_t kCounterStep = 0x9e3779b97f4a7c15u;

inline uint64_t random_word(uint64_t seed, uint64_t counter) {
  return mix_words<uint64_t>(seed + (counter + 1) * kCounterStep);
}

__extension__ typedef unsigned __int128 Wide;

// a whole number below `count`
inline int64_t below(uint64_t word, int64_t count) {
  return static_cast<int64_t>(static_cast<Wide>(word) * static_cast<uint64_t>(count) >> 64);
}

inline uint32_t random_bits(uint64_t seed, uint64_t counter) {
  return static_cast<uint32_t>(random_word(seed, counter) >> 32);
}

// counters `counter` to counter + L - 1
template <int L>
inline vec<uint64_t, L> random_words(uint64_t seed, uint64_t counter) {
  vec<uint64_t, L> steps;
  for (int lane = 0; lane < L; ++lane) steps[lane] = lane * kCounterStep;
  return mix_words<vec<uint64_t, L>>(steps + (seed + (counter + 1) * kCounterStep));
}

template <int L>
inline vec<uint32_t, L> random_bits(uint64_t seed, uint64_t counter) {
  return __builtin_convertvector(random_words<L>(seed, counter) >> 32, vec<uint32_t, L>);
}

// Bits for elements 2 * counter to 2 * counter + 2 * L - 1, two for each word: the upper half
// first.
template <int L>
inline vec<uint32_t, 2 * L> random_bits_of_elements(uint64_t seed, uint64_t counter) {
  vec<uint64_t, L> words = random_words<L>(seed, counter);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  words = (words >> 32) | (words << 32);
#endif
  vec<uint32_t, 2 * L> bits;
  std::memcpy(&bits, &words, sizeof bits);
  return bits;
}

}  // namespace GK_ISA
