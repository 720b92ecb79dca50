// Reductions inside rows, their gradients, and copies from rows to edges.
#include <cstring>

#include "segment_rows.h"

namespace GK_ISA {
namespace {

template <class R, class T>
void reduce_rows(const Segments<T>& s, bool mean) {
  typedef acc_t<T> A;
  const int64_t* ptr = s.side.ptr;
  const auto length = [&](int64_t row) {
    const int64_t n = mean ? ptr[row + 1] - ptr[row] : 1;
    return static_cast<A>(n > 1 ? n : 1);
  };
  over_rows(s, [&](int64_t first, int64_t last) {
    for_columns<T>(s.width, [&](int64_t at, int64_t size, auto lanes, auto vectors) {
      constexpr int L = decltype(lanes)::value, NV = decltype(vectors)::value;
      const Block<L, NV> b{at, size};
      for (int64_t r = first; r < last; ++r) {
        if (is_hub(ptr, r)) continue;
        reg<A, L> result[NV] = {};
        reduce_slots<R>(s, b, ptr[r], ptr[r + 1], result);
        for (int v = 0; v < NV; ++v) {
          if (mean) result[v] = result[v] / length(r);
          put<L>(s.out + r * s.width + b.offset(v), result[v]);
        }
      }
    });
  });
  const Hubs hubs(ptr, s.side.rows);
  if (!hubs.count) return;
  const Memory<A> results(hubs.count * s.width);
  over_pieces(
      s, hubs, results,
      [&](int64_t begin, int64_t end, int64_t, A* to) {
        for_columns<T>(s.width, [&](int64_t at, int64_t size, auto lanes, auto vectors) {
          constexpr int L = decltype(lanes)::value, NV = decltype(vectors)::value;
          const Block<L, NV> b{at, size};
          reg<A, L> result[NV] = {};
          reduce_slots<R>(s, b, begin, end, result);
          for (int v = 0; v < NV; ++v) put<L>(to + b.offset(v), result[v]);
        });
      },
      [](A into, A from) { return R::of(into, from); });
  for (int64_t i = 0; i < hubs.count; ++i) {
    const Hubs::Piece& p = hubs.pieces[i];
    for (int64_t c = 0; p.first && c < s.width; ++c)
      store_one(s.out + p.row * s.width + c,
                mean ? results[i * s.width + c] / length(p.row) : results[i * s.width + c]);
  }
}

// ---- the gradient of extremes ----

template <class T>
struct Share {
  typedef acc_t<T> A;
  const Segments<T>& s;

  template <int L>
  static reg<A, L> won(reg<A, L> value, reg<A, L> best) {
    const auto same = (value == best) | ((value != value) & (best != best));
    return same ? reg<A, L>{} + A(1) : reg<A, L>{};
  }

  template <int L, int NV>
  void count(const Block<L, NV>& b, int64_t begin, int64_t end, int64_t row, A* to) const {
    const T* best = s.third + row * s.width;
    reg<A, L> sum[NV] = {};
    for (int64_t e = begin; e < end; ++e) {
      s.ahead(e, s.values, s.a.value_stride, b.at, b.size);
      const T* value = s.values + s.side.edge(e) * s.a.value_stride;
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v)
        sum[v] += won<L>(get<L>(value + b.offset(v)), get<L>(best + b.offset(v)));
    }
    for (int v = 0; v < NV; ++v) put<L>(to + b.inner(v), sum[v]);
  }

  template <int L, int NV>
  void write(const Block<L, NV>& b, int64_t begin, int64_t end, int64_t row, const A* by) const {
    reg<A, L> share[NV], best[NV];
    for (int v = 0; v < NV; ++v) {
      best[v] = get<L>(s.third + row * s.width + b.offset(v));
      const reg<A, L> winners = get<L>(by + b.inner(v)), one = reg<A, L>{} + A(1);
      share[v] = get<L>(s.other + row * s.width + b.offset(v)) / (winners > one ? winners : one);
    }
    for (int64_t e = begin; e < end; ++e) {
      const int64_t edge = s.side.edge(e);
      const T* value = s.values + edge * s.a.value_stride;
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v)
        put<L>(s.out + edge * s.width + b.offset(v),
                 share[v] * won<L>(get<L>(value + b.offset(v)), best[v]));
    }
  }
};

// ---- the gradient of softmax ----

template <class T>
struct SoftmaxGradient {
  typedef acc_t<T> A;
  const Segments<T>& s;

  template <int L, int NV>
  void count(const Block<L, NV>& b, int64_t begin, int64_t end, int64_t, A* to) const {
    reg<A, L> sum[NV] = {};
    for (int64_t e = begin; e < end; ++e) {
      s.ahead(e, s.values, s.a.value_stride, b.at, b.size);
      s.ahead(e, s.other, s.width, b.at, b.size);
      const int64_t edge = s.side.edge(e);
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v)
        sum[v] += get<L>(s.values + edge * s.a.value_stride + b.offset(v)) *
                  get<L>(s.other + edge * s.width + b.offset(v));
    }
    for (int v = 0; v < NV; ++v) put<L>(to + b.inner(v), sum[v]);
  }

  template <int L, int NV>
  void write(const Block<L, NV>& b, int64_t begin, int64_t end, int64_t, const A* by) const {
    for (int64_t e = begin; e < end; ++e) {
      const int64_t edge = s.side.edge(e);
      s.ahead(e, s.out, s.width, b.at, b.size);
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) {
        const auto y = get<L>(s.values + edge * s.a.value_stride + b.offset(v));
        const auto dy = get<L>(s.other + edge * s.width + b.offset(v));
        put<L>(s.out + edge * s.width + b.offset(v), y * (dy - get<L>(by + b.inner(v))));
      }
    }
  }
};

// Two steps over each row: count() adds up the numbers of a block, write() uses them.
template <template <class> class Gradient, class T>
void two_steps(const Segments<T>& s) {
  typedef acc_t<T> A;
  const Gradient<T> g{s};
  const int64_t* ptr = s.side.ptr;
  over_rows(s, [&](int64_t first, int64_t last) {
    for_columns<T>(s.width, [&](int64_t at, int64_t size, auto lanes, auto vectors) {
      constexpr int L = decltype(lanes)::value, NV = decltype(vectors)::value;
      A sums[L * NV];
      for (int64_t r = first; r < last; ++r) {
        if (is_hub(ptr, r)) continue;
        const Block<L, NV> b{at, size};
        g.count(b, ptr[r], ptr[r + 1], r, sums);
        g.write(b, ptr[r], ptr[r + 1], r, sums);
      }
    });
  });
  const Hubs hubs(ptr, s.side.rows);
  if (!hubs.count) return;
  const Memory<A> sums(hubs.count * s.width);
  const auto blocks = [&](const auto& body) {
    for_columns<T>(s.width, [&](int64_t at, int64_t size, auto lanes, auto vectors) {
      body(Block<decltype(lanes)::value, decltype(vectors)::value>{at, size});
    });
  };
  over_pieces(
      s, hubs, sums,
      [&](int64_t begin, int64_t end, int64_t row, A* to) {
        blocks([&](const auto& b) { g.count(b, begin, end, row, to + b.at); });
      },
      [](A into, A from) { return into + from; });
  each_piece(s, hubs, [&](int64_t begin, int64_t end, int64_t row, int64_t first) {
    blocks([&](const auto& b) { g.write(b, begin, end, row, sums + first * s.width + b.at); });
  });
}

// ---- copies ----

// Rows of whole words of 4 bytes, copied to all edges of slots begin to end.
template <int L, int NV>
inline void copy_words(const Segments<float>& s, const Block<L, NV>& b, int64_t row, int64_t begin,
                       int64_t end) {
  reg<float, L> value[NV];
  for (int v = 0; v < NV; ++v)
    value[v] = get<L>(s.values + row * s.a.value_stride + b.offset(v));
  for (int64_t e = begin; e < end; ++e) {
    s.ahead(e, s.out, s.width, b.at, b.size);
    float* to = s.out + s.side.edge(e) * s.width;
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) put<L>(to + b.offset(v), value[v]);
  }
}

void gather_words(const Segments<float>& s) {
  const int64_t* ptr = s.side.ptr;
  const auto rows = [&](int64_t first, int64_t last, int64_t begin, int64_t end) {
    for_columns<float>(s.width, [&](int64_t at, int64_t size, auto lanes, auto vectors) {
      const Block<decltype(lanes)::value, decltype(vectors)::value> b{at, size};
      if (begin < end) return copy_words(s, b, first, begin, end);
      for (int64_t r = first; r < last; ++r)
        if (!is_hub(ptr, r)) copy_words(s, b, r, ptr[r], ptr[r + 1]);
    });
  };
  over_rows(s, [&](int64_t first, int64_t last) { rows(first, last, 0, 0); });
  const Hubs hubs(ptr, s.side.rows);
  each_piece(s, hubs, [&](int64_t begin, int64_t end, int64_t row, int64_t) {
    rows(row, row + 1, begin, end);
  });
}

// Rows of any number of bytes.
void gather_bytes(const SegmentArgs& a, int64_t size, int64_t stride) {
  const Side& side = a.side;
  const char* values = static_cast<const char*>(a.values);
  char* out = static_cast<char*>(a.out);
  const auto copy = [&](int64_t row, int64_t begin, int64_t end) {
    for (int64_t e = begin; e < end; ++e)
      std::memcpy(out + side.edge(e) * size, values + row * stride, size);
  };
  parallel_rows(side.ptr, side.rows, a.threads, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r)
      if (!is_hub(side.ptr, r)) copy(r, side.ptr[r], side.ptr[r + 1]);
  });
  const Hubs hubs(side.ptr, side.rows);
  parallel(hubs.count, a.threads, [&](int64_t i) {
    copy(hubs.pieces[i].row, hubs.pieces[i].begin, hubs.pieces[i].end);
  });
}

}  // namespace

bool valid_ptr(const int64_t* ptr, int64_t rows, int64_t slots, int threads) {
  if (ptr[0] != 0 || ptr[rows] != slots) return false;
  constexpr int64_t kBlock = 1 << 15;
  const int64_t blocks = (rows + kBlock - 1) / kBlock;
  const Memory<uint64_t> falls(blocks);
  parallel(blocks, threads, [&](int64_t b) {
    const int64_t end = (b + 1) * kBlock < rows ? (b + 1) * kBlock : rows;
    uint64_t fall = 0;
    for (int64_t r = b * kBlock; r < end; ++r) fall |= ptr[r + 1] < ptr[r];
    falls[b] = fall;
  });
  uint64_t fall = 0;
  for (int64_t b = 0; b < blocks; ++b) fall |= falls[b];
  return !fall;
}

void segment_gather(const SegmentArgs& args, int64_t bytes) {
  if (args.width == 0) return;
  const int64_t size = args.width * bytes, stride = args.value_stride * bytes;
  if (size % 4 || stride % 4) return gather_bytes(args, size, stride);
  SegmentArgs words = args;
  words.width = size / 4;
  words.value_stride = stride / 4;
  gather_words(Segments<float>(words));
}

void segment_reduce(const SegmentArgs& args) {
  typed(args, [&](const auto& s) { reduce_rows<Sum>(s, args.flag); });
}

void segment_extreme(const SegmentArgs& args) {
  typed(args, [&](const auto& s) {
    args.flag ? reduce_rows<Smallest>(s, false) : reduce_rows<Largest>(s, false);
  });
}

void segment_share(const SegmentArgs& args) {
  typed(args, [](const auto& s) { two_steps<Share>(s); });
}

void segment_softmax_backward(const SegmentArgs& args) {
  typed(args, [](const auto& s) { two_steps<SoftmaxGradient>(s); });
}

}  // namespace GK_ISA
