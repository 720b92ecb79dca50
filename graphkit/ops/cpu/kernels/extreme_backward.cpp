// The gradients of the extreme of each row, dy shared evenly among a row's winners: to the sources
// from the winners' bits, or by comparing the messages again where no bits were kept.
#include "dot.h"
#include "extreme.h"
#include "parallel.h"
#include "winners.h"

namespace GK_ISA {
namespace {

template <class T>
struct Gradient {
  ExtremeBackwardArgs args;
  const T *dy, *x, *w, *out;
  int64_t width, bytes;

  explicit Gradient(const ExtremeBackwardArgs& a)
      : args(a),
        dy(static_cast<const T*>(a.dy)),
        x(static_cast<const T*>(a.x)),
        w(static_cast<const T*>(a.w)),
        out(static_cast<const T*>(a.out)),
        width(a.heads * a.channels),
        bytes(winner_bytes(a.channels)) {}

  GK_INLINE acc_t<T> weight(int64_t edge, int64_t head) const {
    if (!w) return 1;
    return load_one(w + edge * args.weight_heads + (args.weight_heads == 1 ? 0 : head));
  }
  GK_INLINE const uint8_t* won(int64_t edge, int64_t head) const {
    return args.won + (edge * args.heads + head) * bytes;
  }
};

// -- how many won each channel --------------------------------------------------------------------

template <class T, int L, int NV>
void store_counts(const Block& b, const flags<T, L>* sum, int32_t* count) {
  for (int v = 0; v < NV; ++v) {
    auto narrow = __builtin_convertvector(sum[v], vec<int32_t, L>);
    std::memcpy(count + b.column + bit_at<L, NV>(v, b.size), &narrow, sizeof narrow);
  }
}

// How many of slots begin to end won each channel, from their bits.
template <class T>
void count_bits(const Gradient<T>& p, int64_t begin, int64_t end, int32_t* count) {
  const int64_t slots = p.args.side.slots();
  each_block<T>(p.args.heads, p.args.channels, [&](const Block& b, auto l, auto n) {
    constexpr int L = decltype(l)::value, NV = decltype(n)::value;
    flags<T, L> sum[NV] = {};
    for (int64_t e = begin; e < end; ++e) {
      if (e + kAhead < slots) prefetch_line(p.won(p.args.side.edge(e + kAhead), b.head));
      uint64_t words[kWords<L, NV>];
      if (!load_bits<L, NV>(p.won(p.args.side.edge(e), b.head), b, words)) continue;
#pragma GCC unroll 16
      for (int v = 0; v < NV; ++v)
        sum[v] -= flags_of<T, L>(get_bits<L, NV>(words, bit_at<L, NV>(v, b.size)));
    }
    store_counts<T, L, NV>(b, sum, count);
  });
}

// The same by comparing their messages with row `r` of out.
template <class T>
void count_equal(const Gradient<T>& p, int64_t r, int64_t begin, int64_t end, int32_t* count) {
  const Side& side = p.args.side;
  const int64_t slots = side.slots();
  each_block<T>(p.args.heads, p.args.channels, [&](const Block& b, auto l, auto n) {
    constexpr int L = decltype(l)::value, NV = decltype(n)::value;
    const T* out = p.out + r * p.width + b.column;
    flags<T, L> sum[NV] = {};
    for (int64_t e = begin; e < end; ++e) {
      if (e + kAhead < slots)
        prefetch_row(p.x + column_of(side, e + kAhead) * p.args.x_stride + b.column,
                     b.size * sizeof(T));
      const T* row = p.x + column_of(side, e) * p.args.x_stride + b.column;
      const acc_t<T> s = p.weight(side.edge(e), b.head);
#pragma GCC unroll 16
      for (int v = 0; v < NV; ++v) {
        const int64_t at = bit_at<L, NV>(v, b.size);
        sum[v] -= attains<T, L>(as_stored<T, L>(s * load<L>(row + at)), load<L>(out + at));
      }
    }
    store_counts<T, L, NV>(b, sum, count);
  });
}

// One row of dy over its winners.
template <class T>
void divide(const Gradient<T>& p, int64_t r, const int32_t* count, T* share) {
  for_blocks<T>(p.width, [&](int64_t at, int64_t size, auto l, auto n) {
    constexpr int L = decltype(l)::value, NV = decltype(n)::value;
    for (int v = 0; v < NV; ++v) {
      const int64_t c = at + bit_at<L, NV>(v, size);
      vec<int32_t, L> winners;
      std::memcpy(&winners, count + c, sizeof winners);
      winners = winners > 1 ? winners : vec<int32_t, L>{} + 1;
      const auto dy = load<L>(p.dy + r * p.width + c);
      store<L>(share + c, dy / __builtin_convertvector(winners, lanes<T, L>));
    }
  });
}

// Calls count(piece, counts) for the pieces of hubs in parallel, then done(first piece, counts) for
// each hub, in order.
template <class F, class G>
void hub_counts(const Hubs& hubs, int64_t width, int threads, const F& count, const G& done) {
  if (!hubs.count) return;
  const Memory<int32_t> counts(hubs.count * width);
  parallel(hubs.count, threads, [&](int64_t i) { count(hubs.pieces[i], counts + i * width); });
  for (int64_t i = 0, first = 0; i < hubs.count; ++i) {
    if (hubs.pieces[i].first) first = i;
    for (int64_t c = 0; i > first && c < width; ++c)
      counts[first * width + c] += counts[i * width + c];
    if (i + 1 == hubs.count || hubs.pieces[i + 1].first) done(first, counts + first * width);
  }
}

template <class T>
void share_rows(const Gradient<T>& p) {
  const ExtremeBackwardArgs& args = p.args;
  const Side& side = args.side;
  T* share = static_cast<T*>(args.share);
  const Hubs hubs(side.ptr, side.rows);
  hub_counts(
      hubs, p.width, args.threads,
      [&](const Hubs::Piece& piece, int32_t* count) {
        count_bits(p, piece.begin, piece.end, count);
      },
      [&](int64_t first, const int32_t* count) {
        const int64_t r = hubs.pieces[first].row;
        if (args.place[r] >= 0) divide(p, r, count, share + args.place[r] * p.width);
      });
  parallel_rows(side.ptr, side.rows, args.threads, [&](int64_t first, int64_t last) {
    const Memory<int32_t> count(p.width);
    for (int64_t r = first; r < last; ++r) {
      if (is_hub(side.ptr, r) || args.place[r] < 0) continue;
      count_bits(p, side.ptr[r], side.ptr[r + 1], count);
      divide(p, r, count, share + args.place[r] * p.width);
    }
  });
}

// -- to the sources, from bits --------------------------------------------------------------------

template <class T>
struct ToSources {
  const Gradient<T>& p;

  template <int L, int NV, int Whole>
  static void sum(const ToSources& shared, const Block& block, int64_t begin, int64_t end,
                  vec<acc_t<T>, L>* to) {
    // copies, which stay in registers
    const Gradient<T> p = shared.p;
    const Side& side = p.args.sources;
    const Block b = block;
    const T* share = static_cast<const T*>(p.args.share);
    const auto paid = [&](int64_t slot) __attribute__((always_inline)) {
      const int64_t r = column_of(side, slot), place = share ? p.args.place[r] : -1;
      return (place < 0 ? p.dy + r * p.width : share + place * p.width) + b.column;
    };
    const int64_t slots = side.slots();
    constexpr int64_t line = 64 / sizeof(T);
    uint64_t words[kWords<L, NV>];
    vec<acc_t<T>, L> sum[NV];
#pragma GCC unroll 16
    for (int v = 0; v < NV; ++v) sum[v] = to[v];
    for (int64_t e = begin; e < end; ++e) {
      if (e + 2 * kAhead < slots)
        prefetch_line(p.won(side.edge(e + 2 * kAhead), b.head) + b.at / 8);
      if (e + kAhead < slots) {
        // the lines of a row that hold a winner, and no others
        load_bits<L, NV, Whole>(p.won(side.edge(e + kAhead), b.head), b, words);
        const T* row = paid(e + kAhead);
#pragma GCC unroll 16
        for (int64_t c = 0; c < L * NV; c += line)
          if (words[c / 64] >> (c % 64) & ((uint64_t(1) << line) - 1))
            prefetch_line(row + c);
      }
      const int64_t edge = side.edge(e);
      if (!load_bits<L, NV, Whole>(p.won(edge, b.head), b, words)) continue;
      const T* row = paid(e);
      const acc_t<T> s = p.weight(edge, b.head);
#pragma GCC unroll 16
      for (int v = 0; v < NV; ++v) {
        const int64_t at = bit_at<L, NV, Whole>(v, b.size);
        const uint64_t bits = get_bits<L, NV>(words, at);
        if (bits) sum[v] += flags_of<T, L>(bits) ? s * load<L>(row + at) : vec<acc_t<T>, L>{};
      }
    }
#pragma GCC unroll 16
    for (int v = 0; v < NV; ++v) to[v] = sum[v];
  }

  template <int L, int NV>
  void add(const Block& b, int64_t begin, int64_t end, vec<acc_t<T>, L>* to) const {
    by_kind<L, NV>(b, [&](auto whole) {
      sum<L, NV, decltype(whole)::value>(*this, b, begin, end, to);
    });
  }
};

template <class T>
void to_sources(const ExtremeBackwardArgs& args) {
  typedef acc_t<T> A;
  const Gradient<T> p(args);
  if (p.width == 0) return;
  if (args.share) share_rows(p);
  const Side& side = args.sources;
  const ToSources<T> to{p};
  T* dx = static_cast<T*>(args.dx);
  const bool past = streams(dx, p.args.channels * sizeof(T), side.rows * p.width * sizeof(T));
  const Hubs hubs(side.ptr, side.rows);
  if (hubs.count) {
    const Memory<A> sums(hubs.count * p.width);
    parallel(hubs.count, args.threads, [&](int64_t i) {
      each_block<T>(p.args.heads, p.args.channels, [&](const Block& b, auto l, auto n) {
        constexpr int L = decltype(l)::value, NV = decltype(n)::value;
        vec<A, L> sum[NV] = {};
        to.template add<L, NV>(b, hubs.pieces[i].begin, hubs.pieces[i].end, sum);
        for (int v = 0; v < NV; ++v)
          store<L>(sums + i * p.width + b.column + bit_at<L, NV>(v, b.size), sum[v]);
      });
    });
    for (int64_t i = 0, first = 0; i < hubs.count; ++i) {
      if (hubs.pieces[i].first) first = i;
      for (int64_t c = 0; c < p.width; ++c) {
        if (i > first) sums[first * p.width + c] += sums[i * p.width + c];
        store_one(dx + hubs.pieces[i].row * p.width + c, sums[first * p.width + c]);
      }
    }
  }
  parallel_rows(side.ptr, side.rows, args.threads, [&](int64_t first, int64_t last) {
    each_block<T>(p.args.heads, p.args.channels, [&](const Block& b, auto l, auto n) {
      constexpr int L = decltype(l)::value, NV = decltype(n)::value;
      for (int64_t r = first; r < last; ++r) {
        if (is_hub(side.ptr, r)) continue;
        vec<A, L> sum[NV] = {};
        to.template add<L, NV>(b, side.ptr[r], side.ptr[r + 1], sum);
        T* row = dx + r * p.width + b.column;
#pragma GCC unroll 16
        for (int v = 0; v < NV; ++v) {
          const int64_t at = bit_at<L, NV>(v, b.size);
          past ? stream<L>(row + at, sum[v]) : store<L>(row + at, sum[v]);
        }
      }
    });
    end_stream();
  });
}

// -- to the sources, by comparing -----------------------------------------------------------------

// Columns of all rows, in order: nobody else writes them, and vectors must not overlap. `winners`
// has room for the bits of the longest row.
template <class T, int L, int NV>
void scatter_columns(const Gradient<T>& shared, int64_t head, int64_t column, uint64_t* winners) {
  typedef vec<acc_t<T>, L> V;
  const Gradient<T> p = shared;
  const Side& side = p.args.side;
  const int64_t slots = side.slots(), stride = p.args.x_stride;
  acc_t<T>* dx = static_cast<acc_t<T>*>(p.args.dx) + column;
  const T* x = p.x + column;
  for (int64_t r = 0; r < side.rows; ++r) {
    const int64_t begin = side.ptr[r], end = side.ptr[r + 1];
    V best[NV], share[NV];
    flags<T, L> count[NV] = {};
    for (int v = 0; v < NV; ++v) best[v] = load<L>(p.out + r * p.width + column + v * L);
    for (int64_t e = begin; e < end; ++e) {
      if (e + kAhead < slots)
        prefetch_row(x + column_of(side, e + kAhead) * stride, NV * L * sizeof(T));
      const int64_t source = column_of(side, e);
      const acc_t<T> s = p.weight(side.edge(e), head);
      uint64_t bits = 0;
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) {
        const V message = as_stored<T, L>(s * load<L>(x + source * stride + v * L));
        const flags<T, L> won = attains<T, L>(message, best[v]);
        const uint64_t mine = bits_of<T, L>(won);
        count[v] -= won;
        bits |= mine << (v * L);
        if (mine) prefetch_line(dx + source * p.width + v * L);
      }
      winners[e - begin] = bits;
    }
    for (int v = 0; v < NV; ++v) {
      const flags<T, L> least = count[v] > 1 ? count[v] : flags<T, L>{} + 1;
      const V dy = load<L>(p.dy + r * p.width + column + v * L);
      share[v] = as_stored<T, L>(dy / __builtin_convertvector(least, V));
    }
    for (int64_t e = begin; e < end; ++e) {
      if (!winners[e - begin]) continue;
      acc_t<T>* to = dx + column_of(side, e) * p.width;
      const acc_t<T> s = p.weight(side.edge(e), head);
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) {
        const uint64_t bits = get_bits<L, 1>(winners + e - begin, v * L);
        if (!bits) continue;
        store<L>(to + v * L, load<L>(to + v * L) + (flags_of<T, L>(bits) ? s * share[v] : V{}));
      }
    }
  }
}

template <class T>
void scatter(const ExtremeBackwardArgs& args) {
  const Gradient<T> p(args);
  constexpr int L = kLanes<T>;
  // wide strips read fewer columns of the graph, narrow ones employ more threads
  const int64_t wide = p.width >= 4 * L * args.threads ? 4 * L : L;
  const int64_t strips = (args.channels + wide - 1) / wide;
  int64_t longest = 0;
  for (int64_t r = 0; r < args.side.rows; ++r) {
    const int64_t length = args.side.ptr[r + 1] - args.side.ptr[r];
    if (length > longest) longest = length;
  }
  parallel(args.heads * strips, args.threads, [&](int64_t i) {
    const int64_t head = i / strips, begin = i % strips * wide;
    const int64_t end = begin + wide < args.channels ? begin + wide : args.channels;
    int64_t at = head * args.channels + begin, rest = end - begin;
    const Memory<uint64_t> room(longest);
    if (rest == 4 * L) scatter_columns<T, L, 4>(p, head, at, room), rest = 0;
    for (; rest >= L; rest -= L, at += L) scatter_columns<T, L, 1>(p, head, at, room);
    if (L > 8 && rest & 8) scatter_columns<T, 8, 1>(p, head, at, room), at += 8;
    if (L > 4 && rest & 4) scatter_columns<T, 4, 1>(p, head, at, room), at += 4;
    if (L > 2 && rest & 2) scatter_columns<T, 2, 1>(p, head, at, room), at += 2;
    if (rest & 1) scatter_columns<T, 1, 1>(p, head, at, room);
  });
}

// -- to the weights -------------------------------------------------------------------------------

// dw of slots begin to end of row `r`, given its shares.
template <class T>
void weigh(const Gradient<T>& p, int64_t r, int64_t begin, int64_t end, const T* share) {
  const ExtremeBackwardArgs& args = p.args;
  const int64_t slots = args.side.slots();
  T* dw = static_cast<T*>(args.dw);
  for (int64_t e = begin; e < end; ++e) {
    if (e + kAhead < slots && end - begin > kAhead)
      prefetch_row(p.x + column_of(args.side, e + kAhead) * args.x_stride, p.width * sizeof(T));
    const int64_t edge = args.side.edge(e);
    acc_t<T> sum = 0;
    for (int64_t head = 0; head < args.heads; ++head) {
      const T* x = p.x + column_of(args.side, e) * args.x_stride + head * args.channels;
      const T* out = p.out + r * p.width + head * args.channels;
      const T* pay = share + head * args.channels;
      const acc_t<T> s = p.weight(edge, head);
      const acc_t<T> dot = column_sum<T>(args.channels, [&](int64_t c, auto l) {
        constexpr int L = decltype(l)::value;
        const auto row = load<L>(x + c);
        const auto won = attains<T, L>(as_stored<T, L>(s * row), load<L>(out + c));
        return won ? load<L>(pay + c) * row : vec<acc_t<T>, L>{};
      });
      if (args.weight_heads == args.heads)
        store_one(dw + edge * args.heads + head, dot);
      else
        sum += dot;
    }
    if (args.weight_heads != args.heads) store_one(dw + edge, sum);
  }
}

template <class T>
void weights(const ExtremeBackwardArgs& args) {
  const Gradient<T> p(args);
  const Side& side = args.side;
  const Hubs hubs(side.ptr, side.rows);
  if (hubs.count) {
    const Memory<T> shares(hubs.count * p.width);
    hub_counts(
        hubs, p.width, args.threads,
        [&](const Hubs::Piece& piece, int32_t* count) {
          count_equal(p, piece.row, piece.begin, piece.end, count);
        },
        [&](int64_t first, const int32_t* count) {
          divide(p, hubs.pieces[first].row, count, shares + first * p.width);
        });
    parallel(hubs.count, args.threads, [&](int64_t i) {
      const Hubs::Piece& piece = hubs.pieces[i];
      const int64_t first = i - (piece.begin - side.ptr[piece.row]) / kPiece;
      weigh(p, piece.row, piece.begin, piece.end, shares + first * p.width);
    });
  }
  parallel_rows(side.ptr, side.rows, args.threads, [&](int64_t first, int64_t last) {
    const Memory<T> share(p.width);
    const Memory<int32_t> count(p.width);
    for (int64_t r = first; r < last; ++r) {
      if (is_hub(side.ptr, r)) continue;
      count_equal(p, r, side.ptr[r], side.ptr[r + 1], count);
      divide(p, r, count.at, share.at);
      weigh(p, r, side.ptr[r], side.ptr[r + 1], share.at);
    }
  });
}

}  // namespace

#define GK_BY_DTYPE(name, kernel)                 \
  void name(const ExtremeBackwardArgs& args) {    \
    if (args.dtype == kFloat)                     \
      kernel<float>(args);                        \
    else if (args.dtype == kDouble)               \
      kernel<double>(args);                       \
    else                                          \
      kernel<bf16>(args);                         \
  }

GK_BY_DTYPE(extreme_to_sources, to_sources)
GK_BY_DTYPE(extreme_scatter, scatter)
GK_BY_DTYPE(extreme_weights, weights)

}  // namespace GK_ISA
