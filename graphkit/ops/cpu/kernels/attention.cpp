// Attention: scores, softmax and weighted sum of each destination in one pass over its edges, and
// two passes for the gradients, which compute the coefficients again. Nothing has the size of E.
//
// The slots of as many rows as fit, or a part of one row that is longer, are worked off together:
// scores, their exponentials in whole vectors, then the rows of features in slices of a few lines, as
// spmm takes them. What is put together depends on shapes alone, and so do the bits.
//
// The gradient of a score is alpha (f <dy, h> - delta) for f = 0 or scale, what dropout does to
// the edge, and delta the sum of alpha f <dy, h> over the destination's edges.
#include "attention.h"

#include "exp.h"
#include "heads.h"
#include "parallel.h"
#include "random.h"

namespace GK_ISA {
namespace {

// What one thread works on: the slots of some rows, each row a run of them.
template <class T>
struct Work {
  typedef acc_t<T> A;
  int64_t count = 0, runs = 0;
  int64_t *column, *edge;  // of each slot; the loop of node i is edge E + i
  int64_t* ahead;          // the column of a later slot, which is to be fetched
  int64_t *row, *end;      // of each run
  A *raw, *w, *dot;        // [tile, heads], with room for one vector more
  A* quads;                // [tile, heads, kQuad]
  A *sum, *other_sum;      // [runs, heads, channels]
  A *top, *total, *again, *sum_score;  // [runs, heads]
  A* delta;                // [runs, 2, heads]: delta, and the sum of alpha

  Work(int64_t tile, int64_t most_runs, int64_t heads, int64_t width) {
    const int64_t flat = tile * heads + 16;
    const int64_t numbers = flat * (3 + kQuad) + most_runs * (2 * width + 6 * heads);
    const int64_t ids = 3 * tile + 2 * most_runs;
    memory = std::calloc(1, numbers * sizeof(A) + ids * sizeof(int64_t));
    if (!memory) out_of_memory();
    column = static_cast<int64_t*>(memory);
    edge = column + tile, ahead = edge + tile;
    row = ahead + tile, end = row + most_runs;
    A* at = reinterpret_cast<A*>(end + most_runs);
    const auto take = [&](int64_t size) { return (at += size) - size; };
    raw = take(flat), w = take(flat), dot = take(flat), quads = take(flat * kQuad);
    sum = take(most_runs * width), other_sum = take(most_runs * width);
    top = take(most_runs * heads), total = take(most_runs * heads);
    again = take(most_runs * heads), sum_score = take(most_runs * heads);
    delta = take(2 * most_runs * heads);
  }
  Work(const Work&) = delete;
  Work& operator=(const Work&) = delete;
  ~Work() { std::free(memory); }

 private:
  void* memory;
};

// The slots of a row that are still to come.
struct Cursor {
  int64_t row, slot, end;
  bool loop;
};

// W: the heads that are taken at once, a divisor of their number.
template <class T, int W>
struct Attention {
  typedef acc_t<T> A;
  typedef vec<A, W> V;
  const AttentionArgs& a;
  const AttentionGrads* g;
  const T *h, *right, *dy = nullptr;
  const A *src, *dst, *edge, *loop, *att;
  A* records = nullptr;
  const int64_t heads, channels, width, edges;
  const A slope, score_slope;
  int64_t tile, most_runs;

  Attention(const AttentionArgs& args, const AttentionGrads* grads)
      : a(args),
        g(grads),
        h(static_cast<const T*>(a.h)),
        right(static_cast<const T*>(a.right)),
        src(static_cast<const A*>(a.src)),
        dst(static_cast<const A*>(a.dst)),
        edge(static_cast<const A*>(a.edge)),
        loop(static_cast<const A*>(a.loop)),
        att(static_cast<const A*>(a.att)),
        heads(a.heads),
        channels(a.channels),
        width(a.heads * a.channels),
        edges(a.by_dst.slots()),
        slope(static_cast<A>(a.slope)),
        // GATv2 bends channels, and leaves their product as it is
        score_slope(a.att ? A(1) : static_cast<A>(a.slope)) {
    if (g) {
      dy = static_cast<const T*>(g->dy);
      records = static_cast<A*>(g->records);
    }
    // its scores stay in the first-level cache, its rows in the second
    const int64_t by_scores = 2048 / heads, by_rows = (int64_t(1) << 17) / (width * sizeof(T));
    tile = by_scores < by_rows ? by_scores : by_rows;
    tile = tile > 256 ? 256 : tile < 8 ? 8 : tile;
    // as do their sums
    most_runs = (int64_t(1) << 14) / (width * sizeof(A));
    most_runs = most_runs > 64 ? 64 : most_runs < 1 ? 1 : most_runs;
  }

  static void zero(A* values, int64_t count) { std::memset(values, 0, count * sizeof(A)); }
  static V reciprocal(V total) { return total == V{} ? V{} : A(1) / total; }

  Cursor cursor(int64_t row, int64_t begin, int64_t end, bool first) const {
    return {row, begin, end, first && row < a.loops};
  }
  Cursor cursor(const Side& side, int64_t row) const {
    return cursor(row, side.ptr[row], side.ptr[row + 1], true);
  }
  static bool more(const Cursor& at) { return at.loop || at.slot < at.end; }

  template <class I, class F>
  void take_from(const Side& side, Cursor& at, Work<T>& work, const F& fetch) const {
    const I* idx = static_cast<const I*>(side.idx);
    const bool numbered = edge || a.drops || (g && (g->edge || g->loop));
    int64_t count = work.count;
    if (at.loop) {
      work.column[count] = work.ahead[count] = at.row;
      work.edge[count++] = edges + at.row;
      at.loop = false;
    }
    for (; at.slot < at.end && count < tile; ++at.slot) {
      const int64_t column = idx[at.slot];
      const int64_t ahead = at.slot + kAhead < edges ? idx[at.slot + kAhead] : column;
      fetch(ahead);
      if (a.loops && column == at.row) continue;
      work.column[count] = column;
      work.ahead[count] = ahead;
      work.edge[count++] = numbered ? side.edge(at.slot) : 0;
    }
    work.row[work.runs] = at.row;
    work.end[work.runs++] = work.count = count;
  }
  // One run more: the cursor's slots as far as there is room. fetch(column) asks for the scores that a
  // later slot will read.
  template <class F>
  void take(const Side& side, Cursor& at, Work<T>& work, const F& fetch) const {
    if (side.idx64)
      take_from<int64_t>(side, at, work, fetch);
    else
      take_from<int32_t>(side, at, work, fetch);
  }
  template <class F>
  void take_part(const Side& side, Cursor& at, Work<T>& work, const F& fetch) const {
    work.count = work.runs = 0;
    take(side, at, work, fetch);
  }
  // Whole rows from `row` on that fit, none if it is longer than the tile; the next row.
  template <class F>
  int64_t take_rows(const Side& side, int64_t row, int64_t last, Work<T>& work,
                    const F& fetch) const {
    work.count = work.runs = 0;
    for (; row < last && work.runs < most_runs; ++row) {
      Cursor at = cursor(side, row);
      // a loop may take the place of one slot more
      if (work.count + (at.end - at.slot) + 1 > tile) break;
      take(side, at, work, fetch);
    }
    return row;
  }

  // the rows of a table for the slots, read for the first time or again
  RowList<T> first_read(const T* base, int64_t stride, const Work<T>& work) const {
    return {base, stride, work.column, work.ahead};
  }
  RowList<T> next_read(const T* base, int64_t stride, const Work<T>& work) const {
    return {base, stride, work.column, nullptr};
  }
  // the rows of h once the scores are there, for which GATv2 has read them
  RowList<T> values(const Work<T>& work) const {
    return att ? next_read(h, a.h_stride, work) : first_read(h, a.h_stride, work);
  }
  Runs<T> runs(const Work<T>& work, const T* own, int64_t stride) const {
    return {work.row, work.end, work.runs, own, stride};
  }

  // Calls body(run, first slot, slot after the last, head) for each run and strip of W heads.
  template <class F>
  void per_run(const Work<T>& work, const F& body) const {
    for (int64_t r = 0, first = 0; r < work.runs; first = work.end[r++])
      for (int64_t k = 0; k < heads; k += W) body(r, first, work.end[r], k);
  }

  // GAT: table[column] + own[row] + the edge's; step apart are the table's rows
  void add_scores(const A* table, int64_t step, const A* own, Work<T>& work) const {
    per_run(work, [&](int64_t r, int64_t first, int64_t last, int64_t k) {
      const V mine = own ? load<W>(own + work.row[r] * heads + k) : V{};
      for (int64_t s = first; s < last; ++s) {
        V sum = load<W>(table + work.column[s] * step + k) + mine;
        if (edge || loop) {
          const int64_t e = work.edge[s];
          if (e < edges ? edge != nullptr : loop != nullptr)
            sum += load<W>((e < edges ? edge + e * heads : loop + (e - edges) * heads) + k);
        }
        store<W>(work.raw + s * heads + k, sum);
      }
    });
  }
  // GATv2: own are the rows' own nodes
  void multiply_scores(const RowList<T>& list, const Runs<T>& own, Work<T>& work) const {
    multiply_rows<BentProduct>(list, own, att, slope, heads, channels, work.quads);
    join(work.quads, work.count * heads, work.raw);
  }
  void products(const RowList<T>& list, const Runs<T>& own, Work<T>& work) const {
    multiply_rows<Product>(list, own, static_cast<const A*>(nullptr), slope, heads, channels,
                           work.quads);
    join(work.quads, work.count * heads, work.dot);
  }
  // of destinations
  void scores(Work<T>& work) const {
    if (att)
      multiply_scores(first_read(h, a.h_stride, work), runs(work, right, a.right_stride), work);
    else
      add_scores(src, heads, dst, work);
  }
  template <class Term>
  void add(const RowList<T>& list, const Runs<T>& own, const A* w, bool goes_on, A* sum) const {
    add_rows<Term>(list, own, w, slope, heads, channels, goes_on, sum);
  }

  // with room for one vector more
  static void exponentials(A* values, int64_t count) {
    constexpr int L = kLanes<T>;
    for (int64_t i = 0; i < count; i += L) store<L>(values + i, exp_of<A, L>(load<L>(values + i)));
  }

  // what dropout multiplies W heads of an edge by
  V factor(int64_t e, int64_t head) const {
    if (!a.drops) return A(1) - V{};
    vec<uint64_t, W> counter;
    for (int i = 0; i < W; ++i) counter[i] = static_cast<uint64_t>(e * heads + head + i);
    const vec<uint64_t, W> bits = mix_words(a.seed + (counter + 1) * kCounterStep) >> 32;
    V out;
    for (int i = 0; i < W; ++i) out[i] = bits[i] < a.keep_below ? static_cast<A>(a.scale) : A(0);
    return out;
  }

  // value(c, Int<lanes>) for every column c of a row of a result
  template <class F>
  static void write(T* to, int64_t count, bool past, const F& value) {
    constexpr int L = kLanes<T>;
    int64_t c = 0;
    for (; c + L <= count; c += L) {
      if (past)
        stream<L>(to + c, value(c, Int<L>()));
      else
        store<L>(to + c, value(c, Int<L>()));
    }
    for (; c < count; ++c) store<1>(to + c, value(c, Int<1>()));
  }
  // whether heads of a result of so many rows are written past the caches
  bool streamed(const void* to, int64_t rows) const {
    return streams(to, channels * sizeof(T), rows * width * sizeof(T));
  }

  // Calls whole(chunk, work) for rows that were taken together, and part(chunk, row, work) for those
  // that are too long for it; hubs are left out.
  template <class F, class G, class P>
  void per_row(const Side& side, const F& fetch, const G& whole, const P& part) const {
    const int64_t amount = side.slots() + kRowCost * side.rows;
    const int64_t all = chunks(side);
    parallel(all, a.threads, [&](int64_t i) {
      const int64_t share = amount / all;
      int64_t row = i ? row_at(side.ptr, side.rows, share * i) : 0;
      const int64_t last = i + 1 == all ? side.rows : row_at(side.ptr, side.rows, share * (i + 1));
      if (row >= last) return;
      Work<T> mine(tile, most_runs, heads, width);
      while (row < last) {
        row = take_rows(side, row, last, mine, fetch);
        if (mine.runs) {
          whole(i, mine);
        } else {
          if (!is_hub(side.ptr, row)) part(i, row, mine);
          ++row;
        }
      }
      end_stream();
    });
  }
  // the same for any number of threads, since gradients of att are added up chunk by chunk
  static int64_t chunks(const Side& side) {
    const int64_t count = (side.slots() + kRowCost * side.rows) / 2048;
    return count < 1 ? 1 : count > 1024 ? 1024 : count;
  }

  // Calls piece(cursor, work, numbers) in parallel, each with `size` numbers of its own to fill,
  // then whole(row, the numbers of its pieces, their count) in order.
  template <class P, class F>
  void per_hub(const Side& side, const Hubs& hubs, int64_t size, const P& piece,
               const F& whole) const {
    if (!hubs.count) return;
    const Memory<A> all(hubs.count * size);
    parallel(hubs.count, a.threads, [&](int64_t i) {
      const Hubs::Piece& p = hubs.pieces[i];
      Work<T> mine(tile, 1, heads, width);
      piece(cursor(p.row, p.begin, p.end, p.first), mine, all + i * size);
    });
    for (int64_t i = 0; i < hubs.count;) {
      const int64_t begin = i, row = hubs.pieces[i].row;
      while (++i < hubs.count && hubs.pieces[i].row == row) {
      }
      whole(row, all + begin * size, i - begin);
    }
    end_stream();
  }
  // what a piece of a hub has summed up for the gradients
  void keep_sums(const Work<T>& work, A* state) const {
    std::memcpy(state, work.sum_score, heads * sizeof(A));
    std::memcpy(state + heads, work.sum, width * sizeof(A));
    std::memcpy(state + heads + width, work.other_sum, width * sizeof(A));
  }
  static void add_pieces(A* pieces, int64_t count, int64_t size) {
    for (int64_t i = 1; i < count; ++i)
      for (int64_t c = 0; c < size; ++c) pieces[c] += pieces[i * size + c];
  }

  // Forward: the largest score, the sum of exponentials and the weighted sum of each run; with
  // goes_on, of the slots before too.
  void attend(Work<T>& work, bool goes_on) const {
    scores(work);
    if (!goes_on) {
      for (int64_t i = 0; i < work.runs * heads; ++i) work.top[i] = -__builtin_inf();
      zero(work.total, work.runs * heads);
    }
    raise_top(work);
    exponentials(work.w, work.count * heads);
    if (goes_on) {
      for (int64_t k = 0; k < heads; k += W)
        store<W>(work.again + k, exp_of<A, W>(load<W>(work.again + k)));
      for (int64_t k = 0; k < heads; ++k) {
        work.total[k] *= work.again[k];
        for (int64_t c = 0; c < channels; ++c) work.sum[k * channels + c] *= work.again[k];
      }
    }
    per_run(work, [&](int64_t r, int64_t first, int64_t last, int64_t k) {
      V all = load<W>(work.total + r * heads + k);
      for (int64_t s = first; s < last; ++s) all += load<W>(work.w + s * heads + k);
      store<W>(work.total + r * heads + k, all);
    });
    if (a.drops)
      for (int64_t s = 0; s < work.count; ++s)
        for (int64_t k = 0; k < heads; k += W) {
          A* w = work.w + s * heads + k;
          store<W>(w, load<W>(w) * factor(work.edge[s], k));
        }
    add<Weighed>(values(work), runs(work, nullptr, 0), work.w, goes_on, work.sum);
  }
  void attend_row(Cursor at, Work<T>& work) const {
    bool goes_on = false;
    do {
      take_part(a.by_dst, at, work, fetch_source());
      attend(work, goes_on);
      goes_on = true;
    } while (more(at));
  }

  auto fetch_source() const {
    return [this](int64_t column) {
      if (!att) prefetch_row(src + column * heads, heads * sizeof(A));
    };
  }

  // w = score - the largest so far, again = what sums of before are to be raised by
  void raise_top(Work<T>& work) const {
    per_run(work, [&](int64_t r, int64_t first, int64_t last, int64_t k) {
      const V before = load<W>(work.top + r * heads + k);
      V most = before;
      for (int64_t s = first; s < last; ++s) {
        const V score = bend<A, W>(load<W>(work.raw + s * heads + k), score_slope);
        most = score > most ? score : most;
        store<W>(work.w + s * heads + k, score);
      }
      const V shift = finite(most);
      store<W>(work.top + r * heads + k, most);
      store<W>(work.again + r * heads + k, before - shift);
      for (int64_t s = first; s < last; ++s) {
        A* w = work.w + s * heads + k;
        store<W>(w, load<W>(w) - shift);
      }
    });
  }
  // -inf less -inf is not a number
  static V finite(V top) { return top == static_cast<A>(-__builtin_inf()) - V{} ? V{} : top; }

  void finish(int64_t row, A* top, const A* total, const A* sum, T* out, A* tops, A* totals,
              bool past) const {
    for (int64_t k = 0; k < heads; k += W) {
      store<W>(tops + row * heads + k, finite(load<W>(top + k)));
      store<W>(totals + row * heads + k, load<W>(total + k));
      store<W>(top + k, reciprocal(load<W>(total + k)));
    }
    for (int64_t k = 0; k < heads; ++k)
      write(out + row * width + k * channels, channels, past, [&](int64_t c, auto lanes) {
        return load<decltype(lanes)::value>(sum + k * channels + c) * top[k];
      });
  }

  void forward(T* out, A* tops, A* totals) const {
    const Side& side = a.by_dst;
    const Hubs hubs(side.ptr, side.rows);
    const int64_t size = 2 * heads + width;
    const bool past = streamed(out, side.rows);
    per_hub(
        side, hubs, size,
        [&](const Cursor& at, Work<T>& work, A* state) {
          attend_row(at, work);
          std::memcpy(state, work.top, heads * sizeof(A));
          std::memcpy(state + heads, work.total, heads * sizeof(A));
          std::memcpy(state + 2 * heads, work.sum, width * sizeof(A));
        },
        [&](int64_t row, A* pieces, int64_t count) {
          merge(pieces, count, size);
          finish(row, pieces, pieces + heads, pieces + 2 * heads, out, tops, totals, past);
        });
    const auto finish_run = [&](int64_t r, Work<T>& work) {
      finish(work.row[r], work.top + r * heads, work.total + r * heads, work.sum + r * width, out,
             tops, totals, past);
    };
    per_row(
        side, fetch_source(),
        [&](int64_t, Work<T>& work) {
          attend(work, false);
          for (int64_t r = 0; r < work.runs; ++r) finish_run(r, work);
        },
        [&](int64_t, int64_t row, Work<T>& work) {
          attend_row(cursor(side, row), work);
          finish_run(0, work);
        });
  }

  // The pieces of a hub, each relative to its own largest score, into the first.
  void merge(A* pieces, int64_t count, int64_t size) const {
    for (int64_t k = 0; k < heads; ++k) {
      A most = pieces[k];
      for (int64_t i = 1; i < count; ++i)
        most = pieces[i * size + k] > most ? pieces[i * size + k] : most;
      const A shift = most == static_cast<A>(-__builtin_inf()) ? A(0) : most;
      for (int64_t i = 0; i < count; ++i) {
        A* piece = pieces + i * size;
        const A raise = exp_of<A, 1>(vec<A, 1>{piece[k] - shift})[0];
        A* sum = piece + 2 * heads + k * channels;
        piece[heads + k] *= raise;
        for (int64_t c = 0; c < channels; ++c) sum[c] *= raise;
        if (i == 0) continue;
        A* first = pieces + 2 * heads + k * channels;
        pieces[heads + k] += piece[heads + k];
        for (int64_t c = 0; c < channels; ++c) first[c] += sum[c];
      }
      pieces[k] = most;
    }
  }

  // Backward, first pass: rows are destinations, their own rows those of dy.

  // alpha in w, f <dy, h> in dot
  void coefficients(Work<T>& work) const {
    scores(work);
    per_run(work, [&](int64_t r, int64_t first, int64_t last, int64_t k) {
      const V top = load<W>(static_cast<const A*>(g->top) + work.row[r] * heads + k);
      for (int64_t i = first * heads + k; i < last * heads; i += heads)
        store<W>(work.w + i, bend<A, W>(load<W>(work.raw + i), score_slope) - top);
    });
    exponentials(work.w, work.count * heads);
    products(values(work), runs(work, dy, g->dy_stride), work);
    per_run(work, [&](int64_t r, int64_t first, int64_t last, int64_t k) {
      const V scale =
          reciprocal(load<W>(static_cast<const A*>(g->total) + work.row[r] * heads + k));
      for (int64_t s = first; s < last; ++s) {
        const int64_t i = s * heads + k;
        store<W>(work.w + i, load<W>(work.w + i) * scale);
        if (a.drops) store<W>(work.dot + i, load<W>(work.dot + i) * factor(work.edge[s], k));
      }
    });
  }

  // delta before its division, and the sum of alpha; with goes_on, of the slots before too
  void add_delta(Work<T>& work, bool goes_on) const {
    if (!goes_on) zero(work.delta, 2 * work.runs * heads);
    per_run(work, [&](int64_t r, int64_t first, int64_t last, int64_t k) {
      A* to = work.delta + 2 * r * heads + k;
      V delta = load<W>(to), all = load<W>(to + heads);
      for (int64_t i = first * heads + k; i < last * heads; i += heads) {
        const V alpha = load<W>(work.w + i);
        delta += alpha * load<W>(work.dot + i);
        all += alpha;
      }
      store<W>(to, delta);
      store<W>(to + heads, all);
    });
  }
  // True if the row was one tile, which is then still there.
  bool sum_delta(Cursor at, Work<T>& work) const {
    int64_t tiles = 0;
    do {
      take_part(a.by_dst, at, work, fetch_source());
      coefficients(work);
      add_delta(work, tiles++ > 0);
    } while (more(at));
    return tiles == 1;
  }

  // Delta ready for use, and what the second pass needs of this destination, beside each other. The
  // rounding that all alpha of a row share, in one over their total, would not cancel in the sum of
  // the gradients of its scores. Divided by their own sum it does.
  void record(int64_t row, A* delta) const {
    for (int64_t k = 0; k < heads; ++k)
      if (delta[heads + k] != 0) delta[k] /= delta[heads + k];
    A* to = records + row * 4 * heads;
    const A* top = static_cast<const A*>(g->top) + row * heads;
    const A* total = static_cast<const A*>(g->total) + row * heads;
    for (int64_t k = 0; k < heads; k += W) {
      store<W>(to + k, dst ? load<W>(dst + row * heads + k) : V{});
      store<W>(to + heads + k, load<W>(top + k));
      store<W>(to + 2 * heads + k, reciprocal(load<W>(total + k)));
      store<W>(to + 3 * heads + k, load<W>(delta + k));
    }
  }

  // The gradients of the scores, which need all of delta, added up: for dst in sum_score, or for
  // right in sum and for att in other_sum. delta of a run stands 2 * heads after the one before.
  void add_gradients(Work<T>& work, const A* delta, bool goes_on) const {
    if (!goes_on) zero(work.sum_score, work.runs * heads);
    per_run(work, [&](int64_t r, int64_t first, int64_t last, int64_t k) {
      const V own = load<W>(delta + 2 * r * heads + k);
      V all = load<W>(work.sum_score + r * heads + k);
      for (int64_t i = first * heads + k; i < last * heads; i += heads) {
        const V pull = load<W>(work.w + i) * (load<W>(work.dot + i) - own);
        all += load<W>(work.raw + i) > V{} ? pull : pull * score_slope;
        store<W>(work.dot + i, pull);
      }
      store<W>(work.sum_score + r * heads + k, all);
    });
    if (!att) return;
    const RowList<T> list = next_read(h, a.h_stride, work);
    const Runs<T> own = runs(work, right, a.right_stride);
    add<Slope>(list, own, work.dot, goes_on, work.sum);
    add<Bent>(list, own, work.dot, goes_on, work.other_sum);
  }
  // A row of several tiles is read again: its sum is far smaller than its terms, and no way round
  // delta is as exact.
  void sum_gradients(Cursor at, const A* delta, Work<T>& work) const {
    bool goes_on = false;
    do {
      take_part(a.by_dst, at, work, fetch_source());
      coefficients(work);
      add_gradients(work, delta, goes_on);
      goes_on = true;
    } while (more(at));
  }
  // what a destination ends with: the sums for dst, or for right and (added to d_att) for att
  void finish_destination(int64_t row, const A* scores, const A* sum, const A* other, A* d_att,
                          bool past) const {
    if (!att) {
      std::memcpy(static_cast<A*>(g->dst) + row * heads, scores, heads * sizeof(A));
      return;
    }
    write(static_cast<T*>(g->right) + row * width, width, past, [&](int64_t c, auto lanes) {
      constexpr int L = decltype(lanes)::value;
      return load<L>(att + c) * load<L>(sum + c);
    });
    for (int64_t c = 0; c < width; ++c) d_att[c] += other[c];
  }

  void backward_destinations() const {
    const Side& side = a.by_dst;
    const Hubs hubs(side.ptr, side.rows);
    const int64_t parts = chunks(side);
    const Memory<A> shares((parts + 1) * width, true);
    A* d_att = shares + parts * width;
    const bool wanted = att || g->dst, past = att && streamed(g->right, side.rows);
    per_hub(
        side, hubs, 2 * heads,
        [&](const Cursor& at, Work<T>& work, A* state) {
          sum_delta(at, work);
          std::memcpy(state, work.delta, 2 * heads * sizeof(A));
        },
        [&](int64_t row, A* pieces, int64_t count) {
          add_pieces(pieces, count, 2 * heads);
          record(row, pieces);
        });
    if (wanted)
      per_hub(
          side, hubs, heads + 2 * width,
          [&](const Cursor& at, Work<T>& work, A* state) {
            sum_gradients(at, records + (at.row * 4 + 3) * heads, work);
            keep_sums(work, state);
          },
          [&](int64_t row, A* pieces, int64_t count) {
            add_pieces(pieces, count, heads + 2 * width);
            finish_destination(row, pieces, pieces + heads, pieces + heads + width, d_att, past);
          });
    const auto finish_run = [&](int64_t chunk, int64_t r, Work<T>& work) {
      finish_destination(work.row[r], work.sum_score + r * heads, work.sum + r * width,
                         work.other_sum + r * width, shares + chunk * width, past);
    };
    per_row(
        side, fetch_source(),
        [&](int64_t chunk, Work<T>& work) {
          coefficients(work);
          add_delta(work, false);
          for (int64_t r = 0; r < work.runs; ++r) record(work.row[r], work.delta + 2 * r * heads);
          if (!wanted) return;
          add_gradients(work, work.delta, false);
          for (int64_t r = 0; r < work.runs; ++r) finish_run(chunk, r, work);
        },
        [&](int64_t chunk, int64_t row, Work<T>& work) {
          const Cursor at = cursor(side, row);
          const bool ready = sum_delta(at, work);
          record(row, work.delta);
          if (!wanted) return;
          if (ready)
            add_gradients(work, work.delta, false);
          else
            sum_gradients(at, work.delta, work);
          finish_run(chunk, 0, work);
        });
    for (int64_t i = 0; att && i < parts; ++i)
      for (int64_t c = 0; c < width; ++c) d_att[c] += shares[i * width + c];
    if (att) std::memcpy(g->att, d_att, width * sizeof(A));
  }

  // Backward, second pass: rows are sources, their own rows those of h.

  auto fetch_destination() const {
    return [this](int64_t column) {
      prefetch_row(records + column * 4 * heads, 4 * heads * sizeof(A));
    };
  }

  // w = the weights of dy, dot = the gradients of the scores before the LeakyReLU
  void pull_back(Work<T>& work) const {
    const Runs<T> own = runs(work, h, a.h_stride);
    if (att)
      multiply_scores(first_read(right, a.right_stride, work), own, work);
    else
      add_scores(records, 4 * heads, src, work);
    for (int64_t s = 0; s < work.count; ++s)
      for (int64_t k = 0; k < heads; k += W) {
        const A* top = records + (work.column[s] * 4 + 1) * heads + k;
        const int64_t i = s * heads + k;
        store<W>(work.w + i, bend<A, W>(load<W>(work.raw + i), score_slope) - load<W>(top));
      }
    exponentials(work.w, work.count * heads);
    products(first_read(dy, g->dy_stride, work), own, work);
    for (int64_t s = 0; s < work.count; ++s)
      for (int64_t k = 0; k < heads; k += W) {
        const A* scale = records + (work.column[s] * 4 + 2) * heads + k;
        const int64_t i = s * heads + k;
        const V alpha = load<W>(work.w + i) * load<W>(scale), f = factor(work.edge[s], k);
        const V pull = alpha * (f * load<W>(work.dot + i) - load<W>(scale + heads));
        store<W>(work.dot + i, load<W>(work.raw + i) > V{} ? pull : pull * score_slope);
        store<W>(work.w + i, alpha * f);
      }
  }

  void keep_edges(const Work<T>& work) const {
    for (int64_t s = 0; s < work.count; ++s) {
      const int64_t e = work.edge[s];
      void* to = e < edges ? g->edge : g->loop;
      if (!to) continue;
      std::memcpy(static_cast<A*>(to) + (e < edges ? e : e - edges) * heads, work.dot + s * heads,
                  heads * sizeof(A));
    }
  }

  void add_source(Work<T>& work, bool goes_on) const {
    pull_back(work);
    if (g->edge || g->loop) keep_edges(work);
    const Runs<T> own = runs(work, h, a.h_stride);
    add<Weighed>(next_read(dy, g->dy_stride, work), own, work.w, goes_on, work.sum);
    if (att) {
      add<Slope>(next_read(right, a.right_stride, work), own, work.dot, goes_on, work.other_sum);
      return;
    }
    if (!goes_on) zero(work.sum_score, work.runs * heads);
    per_run(work, [&](int64_t r, int64_t first, int64_t last, int64_t k) {
      V all = load<W>(work.sum_score + r * heads + k);
      for (int64_t s = first; s < last; ++s) all += load<W>(work.dot + s * heads + k);
      store<W>(work.sum_score + r * heads + k, all);
    });
  }
  void sum_source(Cursor at, Work<T>& work) const {
    bool goes_on = false;
    do {
      take_part(g->by_src, at, work, fetch_destination());
      add_source(work, goes_on);
      goes_on = true;
    } while (more(at));
  }
  void finish_source(int64_t row, const A* d_src, const A* sum, const A* other, bool past) const {
    if (g->src) std::memcpy(static_cast<A*>(g->src) + row * heads, d_src, heads * sizeof(A));
    write(static_cast<T*>(g->h) + row * width, width, past, [&](int64_t c, auto lanes) {
      constexpr int L = decltype(lanes)::value;
      const vec<A, L> all = load<L>(sum + c);
      return att ? all + load<L>(att + c) * load<L>(other + c) : all;
    });
  }

  void backward_sources() const {
    const Side& side = g->by_src;
    const Hubs hubs(side.ptr, side.rows);
    const int64_t size = heads + 2 * width;
    const bool past = streamed(g->h, side.rows);
    per_hub(
        side, hubs, size,
        [&](const Cursor& at, Work<T>& work, A* state) {
          sum_source(at, work);
          keep_sums(work, state);
        },
        [&](int64_t row, A* pieces, int64_t count) {
          add_pieces(pieces, count, size);
          finish_source(row, pieces, pieces + heads, pieces + heads + width, past);
        });
    const auto finish_run = [&](int64_t r, Work<T>& work) {
      finish_source(work.row[r], work.sum_score + r * heads, work.sum + r * width,
                    work.other_sum + r * width, past);
    };
    per_row(
        side, fetch_destination(),
        [&](int64_t, Work<T>& work) {
          add_source(work, false);
          for (int64_t r = 0; r < work.runs; ++r) finish_run(r, work);
        },
        [&](int64_t, int64_t row, Work<T>& work) {
          sum_source(cursor(side, row), work);
          finish_run(0, work);
        });
  }
};

// Two ways to take heads: more would double the time that compiling takes, and the heads are few.
template <class T, class F>
void with_strip(int64_t heads, const F& body) {
  if (heads % 4 == 0)
    body(Int<4>());
  else
    body(Int<1>());
}

template <class T>
void forward(const AttentionArgs& args, void* out, void* top, void* total) {
  with_strip<T>(args.heads, [&](auto strip) {
    const Attention<T, decltype(strip)::value> pass(args, nullptr);
    pass.forward(static_cast<T*>(out), static_cast<acc_t<T>*>(top),
                 static_cast<acc_t<T>*>(total));
  });
}

template <class T>
void backward(const AttentionArgs& args, const AttentionGrads& grads) {
  with_strip<T>(args.heads, [&](auto strip) {
    const Attention<T, decltype(strip)::value> pass(args, &grads);
    pass.backward_destinations();
    pass.backward_sources();
  });
}

}  // namespace

void exponentials(const double* x, double* out, int64_t count, DType dtype) {
  for (int64_t i = 0; i < count; ++i)
    out[i] = dtype == kDouble ? exp_of<double, 1>(vec<double, 1>{x[i]})[0]
                              : exp_of<float, 1>(vec<float, 1>{static_cast<float>(x[i])})[0];
}

void attention(const AttentionArgs& args, void* out, void* top, void* total) {
  if (args.dtype == kFloat)
    forward<float>(args, out, top, total);
  else if (args.dtype == kDouble)
    forward<double>(args, out, top, total);
  else
    forward<bf16>(args, out, top, total);
}

void attention_backward(const AttentionArgs& args, const AttentionGrads& grads) {
  if (args.dtype == kFloat)
    backward<float>(args, grads);
  else if (args.dtype == kDouble)
    backward<double>(args, grads);
  else
    backward<bf16>(args, grads);
}

}  // namespace GK_ISA
