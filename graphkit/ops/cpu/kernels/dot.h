// Sums over the columns of a row that have the same bits on every instruction set: a fixed number
// of partial sums, each over every kPartials-th column in order, and a fixed tree over them.
#pragma once
#include "blocks.h"

namespace GK_ISA {

// one line of accumulators: 16 floats or 8 doubles
template <class T>
constexpr int kPartials = 64 / static_cast<int>(sizeof(acc_t<T>));

template <class A, int L>
inline A tree_sum(vec<A, L> v) {
  if constexpr (L == 1) {
    return v[0];
  } else {
    vec<A, L / 2> half[2];
    std::memcpy(half, &v, sizeof v);
    return tree_sum<A, L / 2>(half[0] + half[1]);
  }
}

// The sum of term(column, Int<lanes>) over [0, width) in P partial sums.
template <class T, int P, class F>
GK_INLINE acc_t<T> partial_sums(int64_t width, const F& term) {
  typedef acc_t<T> A;
  constexpr int L = kLanes<T>, R = P / L;
  vec<A, L> sum[R] = {};
  int64_t c = 0;
  for (; c + P <= width; c += P)
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) sum[r] += term(c + r * L, Int<L>());
  if (c < width) {
    A rest[P] = {};
    int64_t k = 0;
    if (P > 16 && (width - c) & 16) store<16>(rest, term(c, Int<16>())), k += 16;
    if (P > 8 && (width - c) & 8) store<8>(rest + k, term(c + k, Int<8>())), k += 8;
    if ((width - c) & 4) store<4>(rest + k, term(c + k, Int<4>())), k += 4;
    if ((width - c) & 2) store<2>(rest + k, term(c + k, Int<2>())), k += 2;
    if ((width - c) & 1) store<1>(rest + k, term(c + k, Int<1>()));
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) sum[r] += load<L>(rest + r * L);
  }
#pragma GCC unroll 8
  for (int half = R / 2; half; half /= 2)
#pragma GCC unroll 8
    for (int r = 0; r < half; ++r) sum[r] += sum[r + half];
  return tree_sum<A, L>(sum[0]);
}

// A vector of terms at a time. Wide rows have twice the partial sums: an addition of one would wait
// for the one before.
template <class T, class F>
GK_INLINE acc_t<T> column_sum(int64_t width, const F& term) {
  return width < 64 ? partial_sums<T, kPartials<T>>(width, term)
                    : partial_sums<T, 2 * kPartials<T>>(width, term);
}

}  // namespace GK_ISA
