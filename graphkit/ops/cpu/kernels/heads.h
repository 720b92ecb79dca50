// Sums and products over the channels of every head, for short lists of rows.
//
// What an output element adds up is added in the order of the list, and a product over channels is
// kSums partial sums that are joined in one fixed order: neither depends on the width of registers.
#pragma once
#include "blocks.h"

namespace GK_ISA {

template <class A>
constexpr int kSums = 64 / static_cast<int>(sizeof(A));
// a product is handed on as so many partial sums: whole lists of them are joined at once
constexpr int kQuad = 4;

// Rows [count] of a table; each is [heads, channels]. While one is read the row of ahead, if given,
// is asked for: in step with the work, since a burst of requests would wait for itself.
template <class T>
struct RowList {
  const T* base;
  int64_t stride;
  const int64_t* column;
  const int64_t* ahead;
  int64_t count;

  const T* row(int64_t slot) const { return base + column[slot] * stride; }
  void fetch(int64_t slot, int64_t at, int64_t size) const {
    if (ahead) prefetch_row(base + ahead[slot] * stride + at, size * sizeof(T));
  }
};

// Calls body(head, at, Int<lanes>, Int<vectors>, Int<heads>) for blocks of whole heads (or, with
// heads = 1, parts of one) that cover [0, heads * channels) without overlap.
template <int L, int CV, int HB, class F>
inline void head_blocks(int64_t head, int64_t heads, const F& body) {
  for (; heads - head >= HB; head += HB)
    body(head, head * (CV * L), Int<L>(), Int<CV>(), Int<HB>());
  if constexpr (HB > 1) head_blocks<L, CV, HB / 2>(head, heads, body);
}

template <int L, int CV, class F>
inline void channel_blocks(int64_t head, int64_t at, int64_t rest, const F& body) {
  for (; rest >= CV * L; rest -= CV * L, at += CV * L)
    body(head, at, Int<L>(), Int<CV>(), Int<1>());
  if constexpr (CV > 1)
    channel_blocks<L, CV / 2>(head, at, rest, body);
  else if constexpr (L > 1)
    channel_blocks<L / 2, 1>(head, at, rest, body);
}

template <class A, class F>
inline void for_heads(int64_t heads, int64_t channels, const F& body) {
  constexpr int L = kLanes<A>;
  switch (channels) {
    case L: return head_blocks<L, 1, kRegisters>(0, heads, body);
    case 2 * L: return head_blocks<L, 2, kRegisters / 2>(0, heads, body);
    case 4 * L: return head_blocks<L, 4, kRegisters / 4>(0, heads, body);
    case 8 * L: return head_blocks<L, 8, kRegisters / 8>(0, heads, body);
  }
  if constexpr (L > 8)
    if (channels == 8) return head_blocks<8, 1, kRegisters>(0, heads, body);
  for (int64_t head = 0; head < heads; ++head)
    channel_blocks<L, 8>(head, head * channels, channels, body);
}

template <class A, int L>
inline vec<A, L> bend(vec<A, L> x, A slope) {
  return x > vec<A, L>{} ? x : x * slope;
}

// What one element x adds to a sum under weight w; `own` is the element of the row's own node.
struct Weighed {
  template <class A, int L>
  static vec<A, L> term(A w, vec<A, L> x, vec<A, L>, A) {
    return w * x;
  }
};
// the LeakyReLU of the sum of both ends
struct Bent {
  template <class A, int L>
  static vec<A, L> term(A w, vec<A, L> x, vec<A, L> own, A slope) {
    return w * bend<A, L>(x + own, slope);
  }
};
// its slope
struct Slope {
  template <class A, int L>
  static vec<A, L> term(A w, vec<A, L> x, vec<A, L> own, A slope) {
    return x + own > vec<A, L>{} ? w - vec<A, L>{} : w * slope - vec<A, L>{};
  }
};

// sum[head, c] += term(w[slot, head], row[slot][head, c], own[head, c]) over the list
template <class Term, class T>
inline void add_rows(const RowList<T>& list, const acc_t<T>* w, const acc_t<T>* own,
                     acc_t<T> slope, int64_t heads, int64_t channels, acc_t<T>* sum) {
  typedef acc_t<T> A;
  const auto add = [&](int64_t head, int64_t at, auto lanes, auto vectors, auto block) {
    constexpr int L = decltype(lanes)::value, CV = decltype(vectors)::value;
    constexpr int HB = decltype(block)::value;
    vec<A, L> total[HB * CV];
#pragma GCC unroll 16
    for (int v = 0; v < HB * CV; ++v) total[v] = load<L>(sum + at + v * L);
    for (int64_t s = 0; s < list.count; ++s) {
      list.fetch(s, at, HB * CV * L);
      const T* row = list.row(s) + at;
      const A* weight = w + s * heads + head;
#pragma GCC unroll 16
      for (int v = 0; v < HB * CV; ++v)
        total[v] += Term::template term<A, L>(weight[v / CV], load<L>(row + v * L),
                                              own ? load<L>(own + at + v * L) : vec<A, L>{}, slope);
    }
#pragma GCC unroll 16
    for (int v = 0; v < HB * CV; ++v) store<L>(sum + at + v * L, total[v]);
  };
  for_heads<A>(heads, channels, add);
}

// Joins partial sums, lane k with lane k + half, until kQuad are left.
template <class A, int L, int P>
inline void fold(vec<A, L>* part, A* quad) {
  if constexpr (P * L == kQuad) {
    for (int i = 0; i < P; ++i) store<L>(quad + i * L, part[i]);
  } else if constexpr (P > 1) {
    for (int i = 0; i < P / 2; ++i) part[i] += part[i + P / 2];
    fold<A, L, P / 2>(part, quad);
  } else {
    vec<A, L / 2> low, high;
    std::memcpy(&low, part, sizeof low);
    std::memcpy(&high, reinterpret_cast<const char*>(part) + sizeof low, sizeof high);
    low += high;
    fold<A, L / 2, 1>(&low, quad);
  }
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
inline void multiply_rows(const RowList<T>& list, const acc_t<T>* own, const acc_t<T>* att,
                          acc_t<T> slope, int64_t heads, int64_t channels, acc_t<T>* quads) {
  typedef acc_t<T> A;
  constexpr int L = kLanes<A>;
  const auto whole = [&](int64_t head, int64_t at, auto lanes, auto vectors, auto block) {
    constexpr int W = decltype(lanes)::value, CV = decltype(vectors)::value;
    constexpr int HB = decltype(block)::value;
    constexpr int P = CV * W < kSums<A> ? CV : kSums<A> / W;
    for (int64_t s = 0; s < list.count; ++s) {
      list.fetch(s, at, HB * CV * W);
      const T* row = list.row(s) + at;
#pragma GCC unroll 16
      for (int b = 0; b < HB; ++b) {
        vec<A, W> part[P] = {};
#pragma GCC unroll 16
        for (int v = 0; v < CV; ++v) {
          const int64_t c = (b * CV + v) * W;
          part[v % P] += Term::template term<A, W>(
              load<W>(row + c), load<W>(own + at + c),
              att ? load<W>(att + at + c) : vec<A, W>{}, slope);
        }
        fold<A, W, P>(part, quads + (s * heads + head + b) * kQuad);
      }
    }
  };
  switch (channels) {
    case L:
      if constexpr (L >= kQuad) return head_blocks<L, 1, kRegisters>(0, heads, whole);
      break;
    case 2 * L: return head_blocks<L, 2, kRegisters / 2>(0, heads, whole);
    case 4 * L: return head_blocks<L, 4, kRegisters / 4>(0, heads, whole);
    case 8 * L: return head_blocks<L, 8, kRegisters / 8>(0, heads, whole);
  }
  if constexpr (L > 8)
    if (channels == 8) return head_blocks<8, 1, kRegisters>(0, heads, whole);
  constexpr int P = kSums<A> / L;
  for (int64_t s = 0; s < list.count; ++s)
    for (int64_t head = 0; head < heads; ++head) {
      list.fetch(s, head * channels, channels);
      const T* x = list.row(s) + head * channels;
      const A* mine = own + head * channels;
      const A* by = att ? att + head * channels : mine;
      vec<A, L> part[P] = {};
      for (int64_t c = 0; c < channels; c += kSums<A>)
#pragma GCC unroll 16
        for (int i = 0; i < P; ++i) {
          const int64_t at = c + i * L, rest = channels - at;
          if (rest >= L)
            part[i] += Term::template term<A, L>(load<L>(x + at), load<L>(mine + at),
                                                 load<L>(by + at), slope);
          else if (rest > 0)
            part[i] += Term::template term<A, L>(load_few<L>(x + at, rest),
                                                 load_few<L>(mine + at, rest),
                                                 load_few<L>(by + at, rest), slope);
        }
      fold<A, L, P>(part, quads + (s * heads + head) * kQuad);
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

}  // namespace GK_ISA
