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
    const Halves<A, L> both = halves<A, L>(v);
    return tree_sum<A, L / 2>(both.low + both.high);
  }
}

// a product is handed on as so many partial sums: whole lists of them are joined at once
constexpr int kQuad = 4;

// Joins partial sums, lane k with lane k + half, until kQuad are left.
template <class A, int L, int P>
inline void fold(vec<A, L>* part, A* quad) {
  if constexpr (P * L == kQuad) {
    for (int i = 0; i < P; ++i) store<L>(quad + i * L, part[i]);
  } else if constexpr (P > 1) {
    for (int i = 0; i < P / 2; ++i) part[i] += part[i + P / 2];
    fold<A, L, P / 2>(part, quad);
  } else {
    const Halves<A, L> both = halves<A, L>(part[0]);
    vec<A, L / 2> sum = both.low + both.high;
    fold<A, L / 2, 1>(&sum, quad);
  }
}

// the last step of the products of a whole list
template <class A>
inline void join(const A* __restrict quads, int64_t count, A* __restrict products) {
  for (int64_t i = 0; i < count; ++i) {
    const A* q = quads + i * kQuad;
    products[i] = (q[0] + q[2]) + (q[1] + q[3]);
  }
}

// Adds term(column, Int<lanes>) over [begin, end) to R vectors of P partial sums; begin is a multiple
// of P, and end too where more columns are to come.
template <class T, int P, class F, int R>
GK_INLINE void add_columns(int64_t begin, int64_t end, const F& term,
                           vec<acc_t<T>, kLanes<T>> (&sum)[R]) {
  constexpr int L = kLanes<T>;
  int64_t c = begin;
  for (; c + P <= end; c += P)
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) sum[r] += term(c + r * L, Int<L>());
  if (c == end) return;
  acc_t<T> rest[P] = {};
  int64_t k = 0;
  if (P > 16 && (end - c) & 16) store<16>(rest, term(c, Int<16>())), k += 16;
  if (P > 8 && (end - c) & 8) store<8>(rest + k, term(c + k, Int<8>())), k += 8;
  if ((end - c) & 4) store<4>(rest + k, term(c + k, Int<4>())), k += 4;
  if ((end - c) & 2) store<2>(rest + k, term(c + k, Int<2>())), k += 2;
  if ((end - c) & 1) store<1>(rest + k, term(c + k, Int<1>()));
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) sum[r] += load<L>(rest + r * L);
}

template <class A, int L, int R>
GK_INLINE A join_sums(vec<A, L> (&sum)[R]) {
#pragma GCC unroll 8
  for (int half = R / 2; half; half /= 2)
#pragma GCC unroll 8
    for (int r = 0; r < half; ++r) sum[r] += sum[r + half];
  return tree_sum<A, L>(sum[0]);
}

// Sums over so many columns or more have twice the partial sums: an addition of one would wait for
// the one before.
constexpr int64_t kWide = 64;

template <class T, int P, class F>
GK_INLINE acc_t<T> partial_sums(int64_t width, const F& term) {
  constexpr int L = kLanes<T>, R = P / L;
  vec<acc_t<T>, L> sum[R] = {};
  add_columns<T, P>(0, width, term, sum);
  return join_sums<acc_t<T>, L, R>(sum);
}

// The sum of term(column, Int<lanes>) over [0, width), a vector of terms at a time.
template <class T, class F>
GK_INLINE acc_t<T> column_sum(int64_t width, const F& term) {
  return width < kWide ? partial_sums<T, kPartials<T>>(width, term)
                       : partial_sums<T, 2 * kPartials<T>>(width, term);
}

}  // namespace GK_ISA
