// Softmax inside rows. Rows of fewer than kPiece slots are whole tasks; longer ones go through the
// steps piece by piece, with the pieces' results joined in order.
#include <cstring>

#include "exp.h"
#include "segment_rows.h"

namespace GK_ISA {
namespace {

// accumulators of the values that are worked on at once, in the first-level cache
constexpr int64_t kBuffer = 2048;

// The exponentials of `count` numbers; there is room for a whole last vector.
template <class T>
inline void exp_all(acc_t<T>* p, int64_t count) {
  constexpr int L = kLanes<T>;
  put<L>(p + count, reg<acc_t<T>, L>{});
  for (int64_t i = 0; i < count; i += L) put<L>(p + i, exp_of<acc_t<T>, L>(get<L>(p + i)));
}

// Softmax of one block of columns. The values of several rows, their largest taken off, are
// gathered in a buffer, so that their exponentials fill whole vectors whatever the width.
template <class T, int L, int NV>
struct Softmax {
  typedef acc_t<T> A;
  typedef reg<A, L> V;
  const Segments<T>& s;
  const Block<L, NV> b;
  const int64_t room;  // slots that fit the buffer

  Softmax(const Segments<T>& segments, int64_t at, int64_t size)
      : s(segments), b{at, size}, room(kBuffer / size) {}

  void largest(int64_t begin, int64_t end, V* top) const {
    reduce_slots<Largest>(s, b, begin, end, top);
  }

  // a row of -inf only has no largest finite value to subtract; its softmax is 0 everywhere
  static V shift(V top) { return top == -A(__builtin_inf()) ? V{} : top; }

  void fill(int64_t begin, int64_t end, const V* top, A* buffer) const {
    for (int64_t e = begin; e < end; ++e, buffer += b.size) {
      const T* row = s.values + s.side.edge(e) * s.a.value_stride;
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v)
        put<L>(buffer + b.inner(v), get<L>(row + b.offset(v)) - shift(top[v]));
    }
  }

  void add(int64_t count, const A* buffer, V* total) const {
    for (int64_t i = 0; i < count; ++i, buffer += b.size)
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) total[v] += get<L>(buffer + b.inner(v));
  }

  static V divisor(V total) {
    const A tiny = sizeof(A) == 4 ? A(1.17549435e-38) : A(2.2250738585072014e-308);
    return total < tiny ? V{} + tiny : total;
  }

  void write(int64_t begin, int64_t end, const V* total, const A* buffer) const {
    V by[NV];
    for (int v = 0; v < NV; ++v) by[v] = divisor(total[v]);
    for (int64_t e = begin; e < end; ++e, buffer += b.size) {
      s.ahead(e, s.out, s.width, b.at, b.size);
      T* row = s.out + s.side.edge(e) * s.width;
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) put<L>(row + b.offset(v), get<L>(buffer + b.inner(v)) / by[v]);
    }
  }

  // Rows first to last, which all fit the buffer together.
  void together(int64_t first, int64_t last, A* buffer) const {
    const int64_t* ptr = s.side.ptr;
    const int64_t origin = ptr[first];
    for (int64_t r = first; r < last; ++r) {
      V top[NV] = {};
      largest(ptr[r], ptr[r + 1], top);
      fill(ptr[r], ptr[r + 1], top, buffer + (ptr[r] - origin) * b.size);
    }
    exp_all<T>(buffer, (ptr[last] - origin) * b.size);
    for (int64_t r = first; r < last; ++r) {
      const A* mine = buffer + (ptr[r] - origin) * b.size;
      V total[NV] = {};
      add(ptr[r + 1] - ptr[r], mine, total);
      write(ptr[r], ptr[r + 1], total, mine);
    }
  }

  // A longer stretch of one row, as much at a time as the buffer holds.
  template <class F>
  void exps(int64_t begin, int64_t end, const V* top, A* buffer, const F& body) const {
    for (int64_t at = begin; at < end; at += room) {
      const int64_t stop = at + room < end ? at + room : end;
      fill(at, stop, top, buffer);
      exp_all<T>(buffer, (stop - at) * b.size);
      body(at, stop);
    }
  }

  void sum_exps(int64_t begin, int64_t end, const V* top, A* buffer, V* total) const {
    exps(begin, end, top, buffer,
         [&](int64_t at, int64_t stop) { add(stop - at, buffer, total); });
  }

  void write_exps(int64_t begin, int64_t end, const V* top, const V* total, A* buffer) const {
    exps(begin, end, top, buffer,
         [&](int64_t at, int64_t stop) { write(at, stop, total, buffer); });
  }

  void rows(int64_t first, int64_t last, A* buffer) const {
    const int64_t* ptr = s.side.ptr;
    for (int64_t r = first; r < last;) {
      int64_t stop = r;
      while (stop < last && ptr[stop + 1] - ptr[r] <= room) ++stop;
      if (stop > r) {
        together(r, stop, buffer);
        r = stop;
        continue;
      }
      if (!is_hub(ptr, r)) {
        V top[NV] = {}, total[NV] = {};
        largest(ptr[r], ptr[r + 1], top);
        sum_exps(ptr[r], ptr[r + 1], top, buffer, total);
        write_exps(ptr[r], ptr[r + 1], top, total, buffer);
      }
      ++r;
    }
  }

  void read(const A* from, V* to) const {
    for (int v = 0; v < NV; ++v) to[v] = get<L>(from + b.offset(v));
  }
  void keep(const V* from, A* to) const {
    for (int v = 0; v < NV; ++v) put<L>(to + b.offset(v), from[v]);
  }
};

template <class T>
void softmax_hubs(const Segments<T>& s, const Hubs& hubs) {
  typedef acc_t<T> A;
  const Memory<A> tops(2 * hubs.count * s.width);
  A* totals = tops + hubs.count * s.width;
  // body(softmax of a block, its V[NV] twice, a buffer)
  const auto blocks = [&](const auto& body) {
    for_columns<T>(s.width, [&](int64_t at, int64_t size, auto lanes, auto vectors) {
      constexpr int L = decltype(lanes)::value, NV = decltype(vectors)::value;
      A buffer[kBuffer + kLanes<T>];
      reg<A, L> one[NV] = {}, two[NV] = {};
      body(Softmax<T, L, NV>(s, at, size), one, two, buffer);
    });
  };
  over_pieces(
      s, hubs, tops,
      [&](int64_t begin, int64_t end, int64_t, A* to) {
        blocks([&](const auto& softmax, auto* top, auto*, A*) {
          softmax.largest(begin, end, top);
          softmax.keep(top, to);
        });
      },
      [](A into, A from) { return Largest::of(into, from); });
  // every piece of a hub needs its largest
  for (int64_t i = 1; i < hubs.count; ++i)
    if (!hubs.pieces[i].first)
      std::memcpy(tops + i * s.width, tops + (i - 1) * s.width, sizeof(A) * s.width);
  over_pieces(
      s, hubs, totals,
      [&](int64_t begin, int64_t end, int64_t, A* to) {
        blocks([&](const auto& softmax, auto* top, auto* total, A* buffer) {
          softmax.read(tops + (to - totals), top);
          softmax.sum_exps(begin, end, top, buffer, total);
          softmax.keep(total, to);
        });
      },
      [](A into, A from) { return into + from; });
  each_piece(s, hubs, [&](int64_t begin, int64_t end, int64_t, int64_t first) {
    blocks([&](const auto& softmax, auto* top, auto* total, A* buffer) {
      softmax.read(tops + first * s.width, top);
      softmax.read(totals + first * s.width, total);
      softmax.write_exps(begin, end, top, total, buffer);
    });
  });
}

template <class T>
void softmax_typed(const Segments<T>& s) {
  over_rows(s, [&](int64_t first, int64_t last) {
    acc_t<T> buffer[kBuffer + kLanes<T>];
    for_columns<T>(s.width, [&](int64_t at, int64_t size, auto lanes, auto vectors) {
      Softmax<T, decltype(lanes)::value, decltype(vectors)::value>(s, at, size)
          .rows(first, last, buffer);
    });
  });
  const Hubs hubs(s.side.ptr, s.side.rows);
  if (hubs.count) softmax_hubs(s, hubs);
}

}  // namespace

void segment_softmax(const SegmentArgs& args) {
  typed(args, [](const auto& s) { softmax_typed(s); });
}

}  // namespace GK_ISA
