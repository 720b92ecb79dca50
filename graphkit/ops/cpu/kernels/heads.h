// Sums and products over the channels of every head, for short lists of rows.
//
// What an output element adds up is added in the order of the list, and a product over channels is
// kSums partial sums that are joined in one fixed order: neither depends on the width of registers.
#pragma once
#include "dot.h"

namespace GK_ISA {

template <class A>
constexpr int kSums = 64 / static_cast<int>(sizeof(A));

// Rows of a table, one for each slot; each is [heads, channels]. While one is read the row of ahead,
// if given, is asked for: in step with the work, since a burst of requests would wait for itself.
template <class T>
struct RowList {
  const T* base;
  int64_t stride;
  const int64_t* column;
  const int64_t* ahead;

  const T* row(int64_t slot) const { return base + column[slot] * stride; }
  void fetch(int64_t slot, int64_t at, int64_t size) const {
    if (ahead) prefetch_row(base + ahead[slot] * stride + at, size * sizeof(T));
  }
  // vectors of a row that are best read at once
  int most() const { return ahead ? kLines<T> : kRegisters; }
};

// The slots of a list by the row they belong to: run r ends before slot end[r], and begins where the
// one before it ends. own is a table with a row for each run's row.
template <class T>
struct Runs {
  const int64_t *row, *end;
  int64_t count;
  const T* own;
  int64_t own_stride;

  const T* mine(int64_t run) const { return own + row[run] * own_stride; }
};

// Calls body(head, at, Int<lanes>, Int<vectors>, Int<heads>) for blocks of whole heads (or, with
// heads = 1, parts of one) that cover [0, heads * channels) without overlap, of at most `most`
// vectors where whole heads allow it.
template <int L, int CV, int HB, class F>
inline void head_blocks(int64_t head, int64_t heads, int most, const F& body) {
  if (HB == 1 || HB * CV <= most)
    for (; heads - head >= HB; head += HB)
      body(head, head * (CV * L), Int<L>(), Int<CV>(), Int<HB>());
  if constexpr (HB > 1) head_blocks<L, CV, HB / 2>(head, heads, most, body);
}

template <int L, int CV, class F>
inline void channel_blocks(int64_t head, int64_t at, int64_t rest, int most, const F& body) {
  if (CV == 1 || CV <= most)
    for (; rest >= CV * L; rest -= CV * L, at += CV * L)
      body(head, at, Int<L>(), Int<CV>(), Int<1>());
  if constexpr (CV > 1)
    channel_blocks<L, CV / 2>(head, at, rest, most, body);
  else if constexpr (L > 1)
    channel_blocks<L / 2, 1>(head, at, rest, most, body);
}

template <class A, class F>
inline void for_heads(int64_t heads, int64_t channels, int most, const F& body) {
  constexpr int L = kLanes<A>;
  if (channels <= most * L) switch (channels) {
      case L: return head_blocks<L, 1, kRegisters>(0, heads, most, body);
      case 2 * L: return head_blocks<L, 2, kRegisters / 2>(0, heads, most, body);
      case 4 * L: return head_blocks<L, 4, kRegisters / 4>(0, heads, most, body);
      case 8 * L: return head_blocks<L, 8, kRegisters / 8>(0, heads, most, body);
    }
  if constexpr (L > 8)
    if (channels == 8) return head_blocks<8, 1, kRegisters>(0, heads, most, body);
  for (int64_t head = 0; head < heads; ++head)
    channel_blocks<L, 8>(head, head * channels, channels, most, body);
}

template <class A, int L>
inline vec<A, L> bend(vec<A, L> x, A slope) {
  return x > vec<A, L>{} ? x : x * slope;
}

// What one element x adds to a sum under weight w; `own` is the element of the row's own node, which
// those with kOwn look at.
struct Weighed {
  static constexpr bool kOwn = false;
  template <class A, int L>
  static vec<A, L> term(A w, vec<A, L> x, vec<A, L>, A) {
    return w * x;
  }
};
// the LeakyReLU of the sum of both ends
struct Bent {
  static constexpr bool kOwn = true;
  template <class A, int L>
  static vec<A, L> term(A w, vec<A, L> x, vec<A, L> own, A slope) {
    return w * bend<A, L>(x + own, slope);
  }
};
// its slope
struct Slope {
  static constexpr bool kOwn = true;
  template <class A, int L>
  static vec<A, L> term(A w, vec<A, L> x, vec<A, L> own, A slope) {
    return x + own > vec<A, L>{} ? w - vec<A, L>{} : w * slope - vec<A, L>{};
  }
};

// sum[run, head, c] = term(w[slot, head], row[slot][head, c], own[head, c]) over the run's slots, or
// with `more` what was there and they.
template <class Term, class T>
inline void add_rows(const RowList<T>& list, const Runs<T>& given, const acc_t<T>* w, acc_t<T> slope,
                     int64_t heads, int64_t channels, bool more, acc_t<T>* sum) {
  typedef acc_t<T> A;
  const auto add = [&](int64_t head, int64_t at, auto lanes, auto vectors, auto block) {
    constexpr int L = decltype(lanes)::value, CV = decltype(vectors)::value;
    constexpr int HB = decltype(block)::value;
    // copies of its own: for all the compiler knows, a store of a vector changes what is in memory
    const RowList<T> rows = list;
    const Runs<T> runs = given;
    const A *weights = w + head, bent = slope;
    const int64_t step = heads, width = heads * channels;
    const bool goes_on = more;
    A* to = sum + at;
    for (int64_t r = 0, s = 0; r < runs.count; ++r, to += width) {
      const T* mine = Term::kOwn ? runs.mine(r) + at : nullptr;
      vec<A, L> total[HB * CV] = {};
      if (goes_on)
#pragma GCC unroll 16
        for (int v = 0; v < HB * CV; ++v) total[v] = load<L>(to + v * L);
      for (const int64_t end = runs.end[r]; s < end; ++s) {
        rows.fetch(s, at, HB * CV * L);
        const T* row = rows.row(s) + at;
        const A* weight = weights + s * step;
#pragma GCC unroll 16
        for (int v = 0; v < HB * CV; ++v)
          total[v] += Term::template term<A, L>(
              weight[v / CV], load<L>(row + v * L),
              Term::kOwn ? load<L>(mine + v * L) : vec<A, L>{}, bent);
      }
#pragma GCC unroll 16
      for (int v = 0; v < HB * CV; ++v) store<L>(to + v * L, total[v]);
    }
  };
  for_heads<A>(heads, channels, list.most(), add);
}

// the first `count` < L elements, and zeros
template <int L, class T>
inline vec<acc_t<T>, L> load_few(const T* p, int64_t count) {
  acc_t<T> all[L] = {};
  for (int64_t i = 0; i < count; ++i) all[i] = load_one(p + i);
  return load<L>(static_cast<const acc_t<T>*>(all));
}

struct Product {
  template <class A, int L>
  static vec<A, L> term(vec<A, L> x, vec<A, L> own, vec<A, L>, A) {
    return x * own;
  }
};
struct BentProduct {
  template <class A, int L>
  static vec<A, L> term(vec<A, L> x, vec<A, L> own, vec<A, L> att, A slope) {
    return att * bend<A, L>(x + own, slope);
  }
};

// quads[slot, head] = partial sums over c of term(row[slot][head, c], own[head, c], att[head, c])
template <class Term, class T>
inline void multiply_rows(const RowList<T>& list, const Runs<T>& given, const acc_t<T>* att,
                          acc_t<T> slope, int64_t heads, int64_t channels, acc_t<T>* quads) {
  typedef acc_t<T> A;
  constexpr int L = kLanes<A>;
  const auto whole = [&](int64_t head, int64_t at, auto lanes, auto vectors, auto block) {
    constexpr int W = decltype(lanes)::value, CV = decltype(vectors)::value;
    constexpr int HB = decltype(block)::value;
    constexpr int P = CV * W < kSums<A> ? CV : kSums<A> / W;
    const RowList<T> rows = list;
    const Runs<T> runs = given;
    const A *by = att ? att + at : nullptr, bent = slope;
    const int64_t step = heads * kQuad;
    A* to = quads + head * kQuad;
    for (int64_t r = 0, s = 0; r < runs.count; ++r) {
      const T* mine = runs.mine(r) + at;
      for (const int64_t end = runs.end[r]; s < end; ++s, to += step) {
        rows.fetch(s, at, HB * CV * W);
        const T* row = rows.row(s) + at;
#pragma GCC unroll 16
        for (int b = 0; b < HB; ++b) {
          vec<A, W> part[P] = {};
#pragma GCC unroll 16
          for (int v = 0; v < CV; ++v) {
            const int64_t c = (b * CV + v) * W;
            part[v % P] += Term::template term<A, W>(load<W>(row + c), load<W>(mine + c),
                                                     by ? load<W>(by + c) : vec<A, W>{}, bent);
          }
          fold<A, W, P>(part, to + b * kQuad);
        }
      }
    }
  };
  const int most = list.most();
  switch (channels) {
    case L:
      if constexpr (L >= kQuad) return head_blocks<L, 1, kRegisters>(0, heads, most, whole);
      break;
    case 2 * L: return head_blocks<L, 2, kRegisters / 2>(0, heads, most, whole);
    case 4 * L: return head_blocks<L, 4, kRegisters / 4>(0, heads, most, whole);
    case 8 * L: return head_blocks<L, 8, kRegisters / 8>(0, heads, most, whole);
  }
  if constexpr (L > 8)
    if (channels == 8) return head_blocks<8, 1, kRegisters>(0, heads, most, whole);
  constexpr int P = kSums<A> / L;
  for (int64_t r = 0, s = 0; r < given.count; ++r)
    for (; s < given.end[r]; ++s)
      for (int64_t head = 0; head < heads; ++head) {
        list.fetch(s, head * channels, channels);
        const T *x = list.row(s) + head * channels, *mine = given.mine(r) + head * channels;
        const A* by = att ? att + head * channels : nullptr;
        vec<A, L> part[P] = {};
        for (int64_t c = 0; c < channels; c += kSums<A>)
#pragma GCC unroll 16
          for (int i = 0; i < P; ++i) {
            const int64_t at = c + i * L, rest = channels - at;
            if (rest >= L)
              part[i] += Term::template term<A, L>(load<L>(x + at), load<L>(mine + at),
                                                   by ? load<L>(by + at) : vec<A, L>{}, slope);
            else if (rest > 0)
              part[i] += Term::template term<A, L>(
                  load_few<L>(x + at, rest), load_few<L>(mine + at, rest),
                  by ? load_few<L>(by + at, rest) : vec<A, L>{}, slope);
          }
        fold<A, L, P>(part, quads + (s * heads + head) * kQuad);
      }
}

}  // namespace GK_ISA
