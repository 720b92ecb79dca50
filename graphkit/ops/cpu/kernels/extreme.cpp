// The largest (smallest) message of each row, in slices of a few lines as spmm takes them. Where the
// winners are asked for, the slots of some rows are read again while they are in the cache, and leave
// one bit for each channel: a 32nd of the messages, and all that the gradient needs.
#include "extreme.h"

#include "parallel.h"
#include "winners.h"

namespace GK_ISA {
namespace {

// more slots have left the second-level cache when they are read again
constexpr int64_t kCached = 256;

template <class T>
struct Extreme {
  ExtremeArgs args;
  const T* x;
  const T* w;
  T* out;
  acc_t<T> sign;  // a minimum is the largest of the negated messages
  int64_t slots, width, bytes;
  bool streamed;

  explicit Extreme(const ExtremeArgs& a)
      : args(a),
        x(static_cast<const T*>(a.x)),
        w(static_cast<const T*>(a.w)),
        out(static_cast<T*>(a.out)),
        sign(a.minimum ? -1 : 1),
        slots(a.side.slots()),
        width(a.heads * a.channels),
        bytes(winner_bytes(a.channels)),
        // where winners are asked for the results are read again
        streamed(!a.won && streams(a.out, a.channels * sizeof(T), a.side.rows * width * sizeof(T))) {}

  GK_INLINE const T* row(int64_t slot, const Block& b) const {
    return x + column_of(args.side, slot) * args.x_stride + b.column;
  }
  GK_INLINE uint8_t* bits(int64_t slot, const Block& b) const {
    return args.won + (args.side.edge(slot) * args.heads + b.head) * bytes;
  }
  GK_INLINE acc_t<T> scale(int64_t slot, int64_t head) const {
    if (!w) return sign;
    const int64_t at = args.weight_heads == 1 ? 0 : head;
    return sign * load_one(w + args.side.edge(slot) * args.weight_heads + at);
  }
};

template <class T, int L, int NV>
struct Rows {
  typedef lanes<T, L> V;

  // a nan wins and stays
  GK_INLINE static V taken(V best, V message) {
    return ((message > best) | (message != message)) ? message : best;
  }

  static void find(const Extreme<T>& p, const Block& b, int64_t begin, int64_t end, V* found) {
    // an empty row gives 0
    const acc_t<T> least = begin < end ? -__builtin_huge_val() : 0;
    // not in the caller's memory but in registers
    V best[NV];
#pragma GCC unroll 16
    for (int v = 0; v < NV; ++v) best[v] = V{} + least;
    for (int64_t e = begin; e < end; ++e) {
      if (e + kAhead < p.slots) {
        prefetch_row(p.row(e + kAhead, b), NV * L * sizeof(T));
        if (p.args.won) prefetch_line(p.bits(e + kAhead, b) + b.at / 8);
      }
      const T* row = p.row(e, b);
      const acc_t<T> s = p.scale(e, b.head);
#pragma GCC unroll 16
      for (int v = 0; v < NV; ++v)
        best[v] = taken(best[v], s * load<L>(row + bit_at<L, NV>(v, b.size)));
    }
#pragma GCC unroll 16
    for (int v = 0; v < NV; ++v) found[v] = best[v];
  }

  // Leaves the winners of slots begin to end and returns their number.
  template <int Whole>
  static int64_t mark(const Extreme<T>& shared, const Block& block, int64_t begin, int64_t end,
                      const V* found) {
    // copies, which stores to bytes cannot change
    const Extreme<T> p = shared;
    const Block b = block;
    V best[NV];
#pragma GCC unroll 16
    for (int v = 0; v < NV; ++v) best[v] = as_stored<T, L>(found[v]);
    int64_t count = 0;
    for (int64_t e = begin; e < end; ++e) {
      if (end - begin > kCached && e + kAhead < end)
        prefetch_row(p.row(e + kAhead, b), b.size * sizeof(T));
      const T* row = p.row(e, b);
      const acc_t<T> s = p.scale(e, b.head);
      uint64_t words[kWords<L, NV>] = {};
#pragma GCC unroll 16
      for (int v = 0; v < NV; ++v) {
        const int64_t at = bit_at<L, NV, Whole>(v, b.size);
        const V message = as_stored<T, L>(s * load<L>(row + at));
        put_bits<L, NV>(words, at, bits_of<T, L>(attains<T, L>(message, best[v])));
      }
      count += store_bits<L, NV, Whole>(p.bits(e, b), b, words);
    }
    return count;
  }

  static int64_t winners(const Extreme<T>& p, const Block& b, int64_t begin, int64_t end,
                         const V* best) {
    int64_t count = 0;
    by_kind<L, NV>(b, [&](auto whole) {
      count = mark<decltype(whole)::value>(p, b, begin, end, best);
    });
    return count;
  }

  static void find_rows(const Extreme<T>& p, const Block& b, int64_t first, int64_t last) {
    const int64_t* ptr = p.args.side.ptr;
    for (int64_t r = first; r < last; ++r) {
      if (is_hub(ptr, r)) continue;
      V best[NV];
      find(p, b, ptr[r], ptr[r + 1], best);
      T* out = p.out + r * p.width + b.column;
#pragma GCC unroll 16
      for (int v = 0; v < NV; ++v) {
        // zero is added for its sign: no row gives -0
        const V value = p.sign * best[v] + V{};
        T* to = out + bit_at<L, NV>(v, b.size);
        p.streamed ? stream<L>(to, value) : store<L>(to, value);
      }
    }
    if (p.streamed) end_stream();
  }

  // The winners of rows whose extremes are in `out`.
  static void mark_rows(const Extreme<T>& p, const Block& b, int64_t first, int64_t last) {
    const int64_t* ptr = p.args.side.ptr;
    // a block that was moved back does not count twice
    const int64_t channels = b.size - (-b.at & 7);
    for (int64_t r = first; r < last; ++r) {
      if (is_hub(ptr, r)) continue;
      const T* out = p.out + r * p.width + b.column;
      V best[NV];
#pragma GCC unroll 16
      for (int v = 0; v < NV; ++v) best[v] = p.sign * load<L>(out + bit_at<L, NV>(v, b.size));
      if (winners(p, b, ptr[r], ptr[r + 1], best) > channels) p.args.tied[r] = 1;
    }
  }

  static void find_piece(const Extreme<T>& p, const Block& b, const Hubs::Piece& piece,
                         acc_t<T>* row) {
    V best[NV];
    find(p, b, piece.begin, piece.end, best);
    for (int v = 0; v < NV; ++v) store<L>(row + b.column + bit_at<L, NV>(v, b.size), best[v]);
  }

  static int64_t mark_piece(const Extreme<T>& p, const Block& b, const Hubs::Piece& piece,
                            const acc_t<T>* row) {
    V best[NV];
    for (int v = 0; v < NV; ++v) best[v] = load<L>(row + b.column + bit_at<L, NV>(v, b.size));
    return winners(p, b, piece.begin, piece.end, best);
  }
};

template <class T, class Lanes, class Vectors>
using RowsOf = Rows<T, Lanes::value, Vectors::value>;

// Rows so long that their pieces are shared out: the best of each piece, of the row, its winners.
template <class T>
void hub_rows(const Extreme<T>& p) {
  typedef acc_t<T> A;
  const Hubs hubs(p.args.side.ptr, p.args.side.rows);
  if (!hubs.count) return;
  const Memory<A> best(hubs.count * p.width);
  const Memory<int64_t> counts(hubs.count, true);
  parallel(hubs.count, p.args.threads, [&](int64_t i) {
    each_block<T>(p.args.heads, p.args.channels, [&](const Block& b, auto l, auto n) {
      RowsOf<T, decltype(l), decltype(n)>::find_piece(p, b, hubs.pieces[i], best + i * p.width);
    });
  });
  A* row = nullptr;
  for (int64_t i = 0; i < hubs.count; ++i) {
    A* mine = best + i * p.width;
    if (hubs.pieces[i].first) row = mine;
    for (int64_t c = 0; c < p.width; ++c) {
      if (mine[c] > row[c] || mine[c] != mine[c]) row[c] = mine[c];
      store_one(p.out + hubs.pieces[i].row * p.width + c, p.sign * row[c] + A(0));
    }
  }
  if (p.args.won) {
    // every piece compares with the best of its row, which stands at the row's first piece
    parallel(hubs.count, p.args.threads, [&](int64_t i) {
      const Hubs::Piece& piece = hubs.pieces[i];
      const int64_t first = i - (piece.begin - p.args.side.ptr[piece.row]) / kPiece;
      each_block<T>(p.args.heads, p.args.channels, [&](const Block& b, auto l, auto n) {
        counts[i] += RowsOf<T, decltype(l), decltype(n)>::mark_piece(p, b, piece,
                                                                    best + first * p.width);
      });
    });
    int64_t count = 0;
    for (int64_t i = 0; i < hubs.count; ++i) {
      count = hubs.pieces[i].first ? counts[i] : count + counts[i];
      if (count > p.width) p.args.tied[hubs.pieces[i].row] = 1;
    }
  }
}

template <class T>
void extreme_stored(const ExtremeArgs& args) {
  const Extreme<T> p(args);
  if (p.width == 0) return;
  hub_rows(p);
  parallel_rows(args.side.ptr, args.side.rows, args.threads, [&](int64_t first, int64_t last) {
    // some rows at a time where they are read again for their winners
    for (int64_t to = last; first < last; first = to) {
      if (args.won)
        for (to = first + 1; to < last && args.side.ptr[to + 1] - args.side.ptr[first] <= kCached;)
          ++to;
      each_block<T, kLines<T>>(args.heads, args.channels, [&](const Block& b, auto l, auto n) {
        RowsOf<T, decltype(l), decltype(n)>::find_rows(p, b, first, to);
      });
      if (args.won)
        each_block<T>(args.heads, args.channels, [&](const Block& b, auto l, auto n) {
          RowsOf<T, decltype(l), decltype(n)>::mark_rows(p, b, first, to);
        });
    }
  });
}

}  // namespace

void extreme(const ExtremeArgs& args) {
  if (args.dtype == kFloat)
    extreme_stored<float>(args);
  else if (args.dtype == kDouble)
    extreme_stored<double>(args);
  else
    extreme_stored<bf16>(args);
}

}  // namespace GK_ISA
