// What the kernels of segments share: values of rows and edges, and rows cut into pieces.
#pragma once
#include <cstdlib>

#include "blocks.h"
#include "parallel.h"
#include "segment.h"

namespace GK_ISA {
namespace {

// One number alone is no vector here: the compiler would keep it in general registers.
template <class A, int L>
struct RegOf {
  typedef vec<A, L> type;
};
template <class A>
struct RegOf<A, 1> {
  typedef A type;
};
template <class A, int L>
using reg = typename RegOf<A, L>::type;

template <int L, class T>
inline reg<acc_t<T>, L> get(const T* p) {
  if constexpr (L == 1)
    return load_one(p);
  else
    return load<L>(p);
}

template <int L, class T>
inline void put(T* p, reg<acc_t<T>, L> value) {
  if constexpr (L == 1)
    store_one(p, value);
  else
    store<L>(p, value);
}

// vectors of a row that are worked on together
constexpr int kTogether = 4;

// Calls body(at, size, Int<lanes>, Int<vectors>) for blocks that cover [0, width), as for_blocks
// does, of at most kTogether vectors.
template <class T, class F>
inline void for_columns(int64_t width, const F& body) {
  constexpr int64_t L = kLanes<T>, most = kTogether * L;
  for (int64_t at = 0; at < width; at += most) {
    const int64_t first = width - at < L && at ? width - L : at;
    const int64_t size = width - first < most ? width - first : most;
    for_blocks<T>(size, [&](int64_t in, int64_t n, auto lanes, auto vectors) {
      if constexpr (decltype(vectors)::value <= kTogether) body(first + in, n, lanes, vectors);
    });
  }
}

template <class T>
struct Segments {
  typedef acc_t<T> A;
  const SegmentArgs& a;
  const Side& side;
  const T *values, *other, *third;
  T* out;
  int64_t slots, width;

  explicit Segments(const SegmentArgs& args)
      : a(args),
        side(args.side),
        values(static_cast<const T*>(args.values)),
        other(static_cast<const T*>(args.other)),
        third(static_cast<const T*>(args.third)),
        out(static_cast<T*>(args.out)),
        slots(args.side.slots()),
        width(args.width) {}

  // Fetches what lies at an edge that is not the next in memory. Always inline: GCC takes a
  // function that only fetches for one without effect, and drops its calls.
  __attribute__((always_inline)) void ahead(int64_t slot, const T* base, int64_t stride,
                                            int64_t column, int64_t size) const {
    if (!side.eid || slot + kAhead >= slots) return;
    const T* p = base + side.edge(slot + kAhead) * stride + column;
    for (int64_t i = 0; i < size; i += 64 / static_cast<int64_t>(sizeof(T)))
      prefetch_line(p + i);
  }
};

// Vectors v = 0 ... NV - 1 of a block of columns.
template <int L, int NV>
struct Block {
  int64_t at, size;
  int64_t inner(int v) const { return v + 1 < NV ? v * L : size - L; }
  int64_t offset(int v) const { return at + inner(v); }
};

template <class T, class F>
void over_rows(const Segments<T>& s, const F& rows) {
  parallel_rows(s.side.ptr, s.side.rows, s.a.threads, rows);
}

// One number for each column of every hub: piece(begin, end, row, to) for all pieces in parallel,
// then join(into, from) in the order of pieces. The joined numbers stand at each hub's first piece.
template <class T, class P, class J>
void over_pieces(const Segments<T>& s, const Hubs& hubs, acc_t<T>* results, const P& piece,
                 const J& join) {
  parallel(hubs.count, s.a.threads, [&](int64_t i) {
    const Hubs::Piece& p = hubs.pieces[i];
    piece(p.begin, p.end, p.row, results + i * s.width);
  });
  acc_t<T>* into = nullptr;
  for (int64_t i = 0; i < hubs.count; ++i) {
    acc_t<T>* from = results + i * s.width;
    if (hubs.pieces[i].first)
      into = from;
    else
      for (int64_t c = 0; c < s.width; ++c) into[c] = join(into[c], from[c]);
  }
}

// Runs body(begin, end, row, number of the hub's first piece) for all pieces in parallel.
template <class T, class F>
void each_piece(const Segments<T>& s, const Hubs& hubs, const F& body) {
  parallel(hubs.count, s.a.threads, [&](int64_t i) {
    const Hubs::Piece& p = hubs.pieces[i];
    body(p.begin, p.end, p.row, i - (p.begin - s.side.ptr[p.row]) / kPiece);
  });
}

struct Sum {
  template <class V>
  static V of(V sum, V value) {
    return sum + value;
  }
  template <class V>
  static V first(V) {
    return V{};
  }
};

// a nan stays, and of equals the first does
template <bool Smaller>
struct Extreme {
  template <class V>
  static V of(V best, V value) {
    return ((Smaller ? value < best : value > best) | (value != value)) ? value : best;
  }
  template <class V>
  static V first(V value) {
    return value;
  }
};
typedef Extreme<false> Largest;
typedef Extreme<true> Smallest;

template <class R, class T, int L, int NV>
inline void reduce_slots(const Segments<T>& s, const Block<L, NV>& b, int64_t begin, int64_t end,
                         reg<acc_t<T>, L>* result) {
  const int64_t stride = s.a.value_stride;
  if (begin == end) return;
  const T* row = s.values + s.side.edge(begin) * stride;
#pragma GCC unroll 4
  for (int v = 0; v < NV; ++v) result[v] = R::first(get<L>(row + b.offset(v)));
  for (int64_t e = begin; e < end; ++e) {
    s.ahead(e, s.values, stride, b.at, b.size);
    row = s.values + s.side.edge(e) * stride;
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) result[v] = R::of(result[v], get<L>(row + b.offset(v)));
  }
}

template <class F>
void typed(const SegmentArgs& args, const F& body) {
  if (args.width == 0) return;
  if (args.dtype == kFloat)
    body(Segments<float>(args));
  else if (args.dtype == kDouble)
    body(Segments<double>(args));
  else
    body(Segments<bf16>(args));
}

}  // namespace
}  // namespace GK_ISA
