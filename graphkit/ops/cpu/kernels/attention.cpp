// Attention: scores, softmax and weighted sum of each destination in one pass over its edges, and
// two passes for the gradients, which compute the coefficients again. Nothing has the size of E.
//
// A row is worked off in tiles of slots: scores of the tile, their exponentials in whole vectors,
// then its rows under these weights. Tiles depend on shapes alone, and so do the bits.
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

// What one thread needs for one row.
template <class T>
struct Work {
  typedef acc_t<T> A;
  int64_t count = 0;       // slots of the tile
  int64_t *column, *edge;  // of each slot; the loop of node i is edge E + i
  int64_t* ahead;          // the column of a later slot, which is to be fetched
  A *raw, *w, *dot;        // [tile, heads], with room for one vector more
  A* quads;                // [tile, heads, kQuad]
  A *sum, *other_sum;      // [heads, channels]
  A *own, *own_dy;         // [heads, channels]
  A *top, *total, *again, *own_score, *scale, *sum_score;  // [heads]
  A* delta;  // [2, heads]: delta, and the sum of alpha

  Work(int64_t tile, int64_t heads, int64_t width) {
    const int64_t flat = tile * heads + 16;
    const int64_t numbers = flat * (3 + kQuad) + 4 * width + 8 * heads;
    memory = std::calloc(1, numbers * sizeof(A) + 3 * tile * sizeof(int64_t));
    if (!memory) out_of_memory();
    column = static_cast<int64_t*>(memory);
    edge = column + tile;
    ahead = edge + tile;
    A* at = reinterpret_cast<A*>(ahead + tile);
    const auto take = [&](int64_t size) { return (at += size) - size; };
    raw = take(flat), w = take(flat), dot = take(flat), quads = take(flat * kQuad);
    sum = take(width), other_sum = take(width), own = take(width), own_dy = take(width);
    top = take(heads), total = take(heads), again = take(heads), own_score = take(heads);
    scale = take(heads), delta = take(2 * heads), sum_score = take(heads);
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
  int64_t tile;

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
  }

  static void zero(A* values, int64_t count) { std::memset(values, 0, count * sizeof(A)); }
  static void copy(const T* row, int64_t count, A* to) {
    for (int64_t c = 0; c < count; ++c) to[c] = load_one(row + c);
  }
  static V reciprocal(V total) { return total == V{} ? V{} : A(1) / total; }

  Cursor cursor(int64_t row, int64_t begin, int64_t end, bool first) const {
    return {row, begin, end, first && row < a.loops};
  }
  Cursor cursor(const Side& side, int64_t row) const {
    return cursor(row, side.ptr[row], side.ptr[row + 1], true);
  }

  template <class I, class F>
  void fill_from(const Side& side, Cursor& at, Work<T>& work, const F& fetch) const {
    const I* idx = static_cast<const I*>(side.idx);
    const bool numbered = edge || a.drops || (g && (g->edge || g->loop));
    int64_t count = 0;
    if (at.loop) {
      work.column[0] = work.ahead[0] = at.row;
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
    work.count = count;
  }

  // The next tile; fetch(column) asks for the scores that a later slot will read.
  template <class F>
  void fill(const Side& side, Cursor& at, Work<T>& work, const F& fetch) const {
    if (side.idx64)
      fill_from<int64_t>(side, at, work, fetch);
    else
      fill_from<int32_t>(side, at, work, fetch);
  }
  static bool more(const Cursor& at) { return at.loop || at.slot < at.end; }

  // the tile's rows of a table, read for the first time or again
  RowList<T> first_read(const T* base, int64_t stride, const Work<T>& work) const {
    return {base, stride, work.column, work.ahead, work.count};
  }
  RowList<T> next_read(const T* base, int64_t stride, const Work<T>& work) const {
    return {base, stride, work.column, nullptr, work.count};
  }

  // the rows of h once the scores are there, for which GATv2 has read them
  RowList<T> values(const Work<T>& work) const {
    return att ? next_read(h, a.h_stride, work) : first_read(h, a.h_stride, work);
  }

  // GAT: table[column] + own + the edge's; step apart are the table's rows
  void add_scores(const A* table, int64_t step, const A* own, Work<T>& work) const {
    for (int64_t s = 0; s < work.count; ++s) {
      const A* theirs = table + work.column[s] * step;
      const int64_t e = work.edge[s];
      const A* extra = e >= edges ? loop ? loop + (e - edges) * heads : nullptr
                       : edge     ? edge + e * heads
                                  : nullptr;
      for (int64_t k = 0; k < heads; k += W) {
        V sum = load<W>(theirs + k) + load<W>(own + k);
        if (extra) sum += load<W>(extra + k);
        store<W>(work.raw + s * heads + k, sum);
      }
    }
  }
  // GATv2: own is the row's own node as numbers of type A
  void multiply_scores(const RowList<T>& list, const A* own, Work<T>& work) const {
    multiply_rows<BentProduct>(list, own, att, slope, heads, channels, work.quads);
    join(work.quads, work.count * heads, work.raw);
  }
  void products(const RowList<T>& list, const A* own, Work<T>& work) const {
    multiply_rows<Product>(list, own, static_cast<const A*>(nullptr), slope, heads, channels,
                           work.quads);
    join(work.quads, work.count * heads, work.dot);
  }
  void scores_of_row(const A* own, Work<T>& work) const {
    if (att)
      multiply_scores(first_read(h, a.h_stride, work), own, work);
    else
      add_scores(src, heads, own, work);
  }
  void own_of_row(int64_t row, A* own_scores, A* own_row) const {
    if (att)
      copy(right + row * a.right_stride, width, own_row);
    else if (dst)
      std::memcpy(own_scores, dst + row * heads, heads * sizeof(A));
  }

  // with room for one vector more
  static void exponentials(A* values, int64_t count) {
    constexpr int L = kLanes<T>;
    for (int64_t i = 0; i < count; i += L) store<L>(values + i, exp_of<A, L>(load<L>(values + i)));
  }
  void add_slots(const A* values, int64_t count, A* sum) const {
    for (int64_t k = 0; k < heads; k += W) {
      V all = load<W>(sum + k);
      for (int64_t s = 0; s < count; ++s) all += load<W>(values + s * heads + k);
      store<W>(sum + k, all);
    }
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

  template <class F>
  void per_row(const Side& side, const F& body) const {
    const int64_t work = side.slots() + kRowCost * side.rows;
    const int64_t all = chunks(side);
    parallel(all, a.threads, [&](int64_t i) {
      const int64_t share = work / all;
      const int64_t first = i ? row_at(side.ptr, side.rows, share * i) : 0;
      const int64_t last = i + 1 == all ? side.rows : row_at(side.ptr, side.rows, share * (i + 1));
      if (first >= last) return;
      Work<T> mine(tile, heads, width);
      for (int64_t row = first; row < last; ++row)
        if (!is_hub(side.ptr, row)) body(i, row, mine);
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
      Work<T> mine(tile, heads, width);
      piece(cursor(p.row, p.begin, p.end, p.first), mine, all + i * size);
    });
    for (int64_t i = 0; i < hubs.count;) {
      const int64_t begin = i, row = hubs.pieces[i].row;
      while (++i < hubs.count && hubs.pieces[i].row == row) {
      }
      whole(row, all + begin * size, i - begin);
    }
  }
  static void add_pieces(A* pieces, int64_t count, int64_t size) {
    for (int64_t i = 1; i < count; ++i)
      for (int64_t c = 0; c < size; ++c) pieces[c] += pieces[i * size + c];
  }

  // Forward: the largest score, the sum of exponentials and the weighted sum of some slots.
  void attend(Cursor at, Work<T>& work) const {
    A *top = work.top, *total = work.total, *again = work.again;
    own_of_row(at.row, work.own_score, work.own);
    for (int64_t k = 0; k < heads; ++k) top[k] = -__builtin_inf(), total[k] = 0;
    zero(work.sum, width);
    for (bool begun = false; more(at); begun = true) {
      fill(a.by_dst, at, work, [&](int64_t column) { fetch_source(column); });
      scores_of_row(att ? work.own : work.own_score, work);
      raise_top(top, again, work);
      exponentials(work.w, work.count * heads);
      if (begun) {
        exponentials_of_heads(again);
        for (int64_t k = 0; k < heads; ++k) {
          total[k] *= again[k];
          for (int64_t c = 0; c < channels; ++c) work.sum[k * channels + c] *= again[k];
        }
      }
      add_slots(work.w, work.count, total);
      if (a.drops)
        for (int64_t s = 0; s < work.count; ++s)
          for (int64_t k = 0; k < heads; k += W) {
            A* w = work.w + s * heads + k;
            store<W>(w, load<W>(w) * factor(work.edge[s], k));
          }
      add_rows<Weighed>(values(work), work.w, static_cast<const A*>(nullptr), slope, heads,
                        channels, work.sum);
    }
  }

  void fetch_source(int64_t column) const {
    if (!att) prefetch_row(src + column * heads, heads * sizeof(A));
  }

  // w = score - the largest so far, again = what sums of before are to be raised by
  void raise_top(A* top, A* again, Work<T>& work) const {
    for (int64_t k = 0; k < heads; k += W) {
      const V before = load<W>(top + k);
      V most = before;
      for (int64_t s = 0; s < work.count; ++s) {
        const V score = bend<A, W>(load<W>(work.raw + s * heads + k), score_slope);
        most = score > most ? score : most;
        store<W>(work.w + s * heads + k, score);
      }
      store<W>(top + k, most);
      const V shift = finite(most);
      store<W>(again + k, before - shift);
      for (int64_t s = 0; s < work.count; ++s) {
        A* w = work.w + s * heads + k;
        store<W>(w, load<W>(w) - shift);
      }
    }
  }
  // -inf less -inf is not a number
  static V finite(V top) { return top == static_cast<A>(-__builtin_inf()) - V{} ? V{} : top; }
  void exponentials_of_heads(A* values) const {
    for (int64_t k = 0; k < heads; k += W) store<W>(values + k, exp_of<A, W>(load<W>(values + k)));
  }

  void finish(int64_t row, A* top, A* total, const A* sum, T* out, A* tops, A* totals) const {
    for (int64_t k = 0; k < heads; k += W) {
      store<W>(tops + row * heads + k, finite(load<W>(top + k)));
      store<W>(totals + row * heads + k, load<W>(total + k));
      store<W>(top + k, reciprocal(load<W>(total + k)));
    }
    T* y = out + row * width;
    for (int64_t k = 0; k < heads; ++k)
      for (int64_t c = 0; c < channels; ++c)
        store_one(y + k * channels + c, sum[k * channels + c] * top[k]);
  }

  void forward(T* out, A* tops, A* totals) const {
    const Side& side = a.by_dst;
    const Hubs hubs(side.ptr, side.rows);
    const int64_t size = 2 * heads + width;
    per_hub(
        side, hubs, size,
        [&](const Cursor& at, Work<T>& work, A* state) {
          attend(at, work);
          std::memcpy(state, work.top, heads * sizeof(A));
          std::memcpy(state + heads, work.total, heads * sizeof(A));
          std::memcpy(state + 2 * heads, work.sum, width * sizeof(A));
        },
        [&](int64_t row, A* pieces, int64_t count) {
          merge(pieces, count, size);
          finish(row, pieces, pieces + heads, pieces + 2 * heads, out, tops, totals);
        });
    per_row(side, [&](int64_t, int64_t row, Work<T>& work) {
      attend(cursor(side, row), work);
      finish(row, work.top, work.total, work.sum, out, tops, totals);
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

  // Backward, first pass: rows are destinations, own is right's row.

  // alpha of the tile in w, f <dy, h> in dot
  void coefficients(int64_t row, Work<T>& work) const {
    scores_of_row(att ? work.own : work.own_score, work);
    const A* top = static_cast<const A*>(g->top) + row * heads;
    const A* scale = work.scale;
    for (int64_t s = 0; s < work.count; ++s)
      for (int64_t k = 0; k < heads; k += W) {
        const int64_t at = s * heads + k;
        store<W>(work.w + at, bend<A, W>(load<W>(work.raw + at), score_slope) - load<W>(top + k));
      }
    exponentials(work.w, work.count * heads);
    products(values(work), work.own_dy, work);
    for (int64_t s = 0; s < work.count; ++s)
      for (int64_t k = 0; k < heads; k += W) {
        const int64_t at = s * heads + k;
        store<W>(work.w + at, load<W>(work.w + at) * load<W>(scale + k));
        if (a.drops)
          store<W>(work.dot + at, load<W>(work.dot + at) * factor(work.edge[s], k));
      }
  }

  void begin_destination(int64_t row, Work<T>& work) const {
    own_of_row(row, work.own_score, work.own);
    copy(dy + row * g->dy_stride, width, work.own_dy);
    const A* total = static_cast<const A*>(g->total) + row * heads;
    for (int64_t k = 0; k < heads; k += W)
      store<W>(work.scale + k, reciprocal(load<W>(total + k)));
  }

  // delta before its division, and the sum of alpha, of some slots. True if the row was one tile,
  // which is then still there.
  bool sum_delta(Cursor at, Work<T>& work) const {
    begin_destination(at.row, work);
    zero(work.delta, 2 * heads);
    int64_t tiles = 0;
    // of an empty row nothing is there
    work.count = 0;
    for (; more(at); ++tiles) {
      fill(a.by_dst, at, work, [&](int64_t column) { fetch_source(column); });
      coefficients(at.row, work);
      for (int64_t k = 0; k < heads; k += W) {
        V delta = load<W>(work.delta + k), all = load<W>(work.delta + heads + k);
        for (int64_t s = 0; s < work.count; ++s) {
          const V alpha = load<W>(work.w + s * heads + k);
          delta += alpha * load<W>(work.dot + s * heads + k);
          all += alpha;
        }
        store<W>(work.delta + k, delta);
        store<W>(work.delta + heads + k, all);
      }
    }
    return tiles <= 1;
  }

  // The rounding that all alpha of a row share, in one over their total, would not cancel in the
  // sum of the gradients of its scores. Divided by their own sum it does.
  void divide_delta(A* delta) const {
    for (int64_t k = 0; k < heads; ++k)
      if (delta[heads + k] != 0) delta[k] /= delta[heads + k];
  }

  // what the second pass needs of this destination, beside each other
  void record(int64_t row, const A* delta) const {
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
  // The gradients of some slots' scores, which need all of delta, added up: for dst in sum_score,
  // or for right in sum and for att in other_sum. A row of several tiles is read again: its sum is
  // far smaller than its terms, and no way round delta is as exact.
  void sum_gradients(Cursor at, bool ready, const A* delta, Work<T>& work) const {
    zero(work.sum_score, heads);
    if (att) zero(work.sum, width), zero(work.other_sum, width);
    if (!ready) begin_destination(at.row, work);
    while (ready || more(at)) {
      if (!ready) {
        fill(a.by_dst, at, work, [&](int64_t column) { fetch_source(column); });
        coefficients(at.row, work);
      }
      for (int64_t k = 0; k < heads; k += W) {
        V all = load<W>(work.sum_score + k);
        for (int64_t s = 0; s < work.count; ++s) {
          const int64_t i = s * heads + k;
          const V pull = load<W>(work.w + i) * (load<W>(work.dot + i) - load<W>(delta + k));
          all += load<W>(work.raw + i) > V{} ? pull : pull * score_slope;
          store<W>(work.dot + i, pull);
        }
        store<W>(work.sum_score + k, all);
      }
      if (att) {
        const RowList<T> list = next_read(h, a.h_stride, work);
        add_rows<Slope>(list, work.dot, work.own, slope, heads, channels, work.sum);
        add_rows<Bent>(list, work.dot, work.own, slope, heads, channels, work.other_sum);
      }
      if (ready) return;
    }
  }
  // what a destination ends with: the sums for dst, or for right and (added to d_att) for att
  void finish_destination(int64_t row, const A* scores, const A* sum, const A* other,
                          A* d_att) const {
    if (!att) {
      std::memcpy(static_cast<A*>(g->dst) + row * heads, scores, heads * sizeof(A));
      return;
    }
    T* to = static_cast<T*>(g->right) + row * width;
    for (int64_t c = 0; c < width; ++c) {
      store_one(to + c, att[c] * sum[c]);
      d_att[c] += other[c];
    }
  }

  void backward_destinations() const {
    const Side& side = a.by_dst;
    const Hubs hubs(side.ptr, side.rows);
    const int64_t parts = chunks(side);
    const Memory<A> shares((parts + 1) * width, true);
    A* d_att = shares + parts * width;
    per_hub(
        side, hubs, 2 * heads,
        [&](const Cursor& at, Work<T>& work, A* state) {
          sum_delta(at, work);
          std::memcpy(state, work.delta, 2 * heads * sizeof(A));
        },
        [&](int64_t row, A* pieces, int64_t count) {
          add_pieces(pieces, count, 2 * heads);
          divide_delta(pieces);
          record(row, pieces);
        });
    if (att || g->dst)
      per_hub(
          side, hubs, heads + 2 * width,
          [&](const Cursor& at, Work<T>& work, A* state) {
            sum_gradients(at, false, records + (at.row * 4 + 3) * heads, work);
            std::memcpy(state, work.sum_score, heads * sizeof(A));
            std::memcpy(state + heads, work.sum, width * sizeof(A));
            std::memcpy(state + heads + width, work.other_sum, width * sizeof(A));
          },
          [&](int64_t row, A* pieces, int64_t count) {
            add_pieces(pieces, count, heads + 2 * width);
            finish_destination(row, pieces, pieces + heads, pieces + heads + width, d_att);
          });
    per_row(side, [&](int64_t chunk, int64_t row, Work<T>& work) {
      const Cursor at = cursor(side, row);
      const bool ready = sum_delta(at, work);
      divide_delta(work.delta);
      record(row, work.delta);
      if (!att && !g->dst) return;
      sum_gradients(at, ready, work.delta, work);
      finish_destination(row, work.sum_score, work.sum, work.other_sum, shares + chunk * width);
    });
    for (int64_t i = 0; att && i < parts; ++i)
      for (int64_t c = 0; c < width; ++c) d_att[c] += shares[i * width + c];
    if (att) std::memcpy(g->att, d_att, width * sizeof(A));
  }

  // Backward, second pass: rows are sources, own is the row of h.

  void fetch_destination(int64_t column) const {
    prefetch_row(records + column * 4 * heads, 4 * heads * sizeof(A));
  }

  // w = the weights of dy, dot = the gradients of the scores before the LeakyReLU
  void pull_back(Work<T>& work) const {
    if (att)
      multiply_scores(first_read(right, a.right_stride, work), work.own, work);
    else
      add_scores(records, 4 * heads, work.own_score, work);
    for (int64_t s = 0; s < work.count; ++s)
      for (int64_t k = 0; k < heads; k += W) {
        const A* top = records + (work.column[s] * 4 + 1) * heads + k;
        const int64_t i = s * heads + k;
        store<W>(work.w + i, bend<A, W>(load<W>(work.raw + i), score_slope) - load<W>(top));
      }
    exponentials(work.w, work.count * heads);
    products(first_read(dy, g->dy_stride, work), work.own, work);
    for (int64_t s = 0; s < work.count; ++s)
      for (int64_t k = 0; k < heads; k += W) {
        const A* scale = records + (work.column[s] * 4 + 2) * heads + k;
        const int64_t i = s * heads + k;
        const V alpha = load<W>(work.w + i) * load<W>(scale), f = factor(work.edge[s], k);
        const V pull = alpha * (f * load<W>(work.dot + i) - load<W>(scale + heads));
        store<W>(work.dot + i,
                 load<W>(work.raw + i) > V{} ? pull : pull * score_slope);
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

  void sum_source(Cursor at, Work<T>& work) const {
    copy(h + at.row * a.h_stride, width, work.own);
    if (src) std::memcpy(work.own_score, src + at.row * heads, heads * sizeof(A));
    zero(work.sum, width), zero(work.other_sum, width), zero(work.sum_score, heads);
    while (more(at)) {
      fill(g->by_src, at, work, [&](int64_t column) { fetch_destination(column); });
      pull_back(work);
      if (g->edge || g->loop) keep_edges(work);
      add_rows<Weighed>(next_read(dy, g->dy_stride, work), work.w, static_cast<const A*>(nullptr),
                        slope, heads, channels, work.sum);
      if (att)
        add_rows<Slope>(next_read(right, a.right_stride, work), work.dot, work.own, slope, heads,
                        channels, work.other_sum);
      else
        add_slots(work.dot, work.count, work.sum_score);
    }
  }
  void finish_source(int64_t row, const A* d_src, const A* sum, const A* other) const {
    if (g->src) std::memcpy(static_cast<A*>(g->src) + row * heads, d_src, heads * sizeof(A));
    T* to = static_cast<T*>(g->h) + row * width;
    for (int64_t c = 0; c < width; ++c)
      store_one(to + c, att ? sum[c] + att[c] * other[c] : sum[c]);
  }

  void backward_sources() const {
    const Side& side = g->by_src;
    const Hubs hubs(side.ptr, side.rows);
    const int64_t size = heads + 2 * width;
    per_hub(
        side, hubs, size,
        [&](const Cursor& at, Work<T>& work, A* state) {
          sum_source(at, work);
          std::memcpy(state, work.sum_score, heads * sizeof(A));
          std::memcpy(state + heads, work.sum, width * sizeof(A));
          std::memcpy(state + heads + width, work.other_sum, width * sizeof(A));
        },
        [&](int64_t row, A* pieces, int64_t count) {
          add_pieces(pieces, count, size);
          finish_source(row, pieces, pieces + heads, pieces + heads + width);
        });
    per_row(side, [&](int64_t, int64_t row, Work<T>& work) {
      sum_source(cursor(side, row), work);
      finish_source(row, work.sum_score, work.sum, work.other_sum);
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
