// A stable counting sort in linear time. Many edges are first dealt into ranges of rows that fit
// the second-level cache (each thread writes forward at few places), then sorted inside each range.
#include "csr.h"

#include <cstring>

#include "parallel.h"
#include "prefetch.h"

namespace GK_ISA {
namespace {

// below so many edges dealing does not pay
constexpr int64_t kFew = 1 << 15;
// rows whose counters, and places to write, stay in the first-level cache
constexpr int64_t kFewRows = 2048;
// the least that a range holds on average
constexpr int64_t kRangeEdges = 1 << 12, kRangeRows = 1 << 15;
constexpr int64_t kMaxRanges = 2048;
// how far ahead of its last item a range's memory is fetched
constexpr int64_t kItemsAhead = 16;

struct Plan {
  int shift;  // a range holds 1 << shift rows
  int64_t ranges;
};

Plan plan_of(const CsrArgs& a) {
  if (a.sorted || a.edges < kFew || a.num_rows <= kFewRows) return {0, 1};
  int64_t ranges = a.edges / kRangeEdges;
  if (ranges < a.num_rows / kRangeRows) ranges = a.num_rows / kRangeRows;
  if (ranges > kMaxRanges) ranges = kMaxRanges;
  int shift = 0;
  while (((a.num_rows - 1) >> shift) + 1 > ranges) ++shift;
  return {shift, ((a.num_rows - 1) >> shift) + 1};
}

// The number of equal blocks of n items, each at least `least` long.
int64_t blocks_of(int64_t n, int64_t least, int threads) {
  int64_t blocks = n / least;
  const int64_t most = threads > 1 ? 4 * static_cast<int64_t>(threads) : 1;
  if (blocks > most) blocks = most;
  return blocks < 1 ? 1 : blocks;
}

// An edge on its way: its row inside its range, its column, its number.
template <class C, class E>
struct Item {
  uint32_t row;
  C column;
  E edge;
};

template <class I, class C, class E>
struct FromInput {
  const I *rows, *columns;
  int64_t row(int64_t i) const { return rows[i]; }
  Item<C, E> item(int64_t i) const { return {0, static_cast<C>(columns[i]), static_cast<E>(i)}; }
};

template <class C, class E>
struct FromItems {
  const Item<C, E>* items;
  int64_t row(int64_t i) const { return items[i].row; }
  Item<C, E> item(int64_t i) const { return items[i]; }
};

// Sorts items [0, n) of `from`, all of `rows` rows, behind the `base` slots before them. ends[r]
// becomes the end of row r.
template <class From, class C, class E>
void sort_range(const From& from, int64_t n, int64_t base, int64_t* ends, int64_t rows, C* idx,
                E* eid, int threads) {
  int64_t blocks = blocks_of(n, kFew / 2, threads);
  // counters of all blocks stay small beside the edges
  if (blocks * rows > n) blocks = 1;
  const Memory<int64_t> own(blocks == 1 ? 0 : blocks * rows, true);
  int64_t* at = blocks == 1 ? ends : own.at;
  if (blocks == 1) std::memset(ends, 0, rows * sizeof(int64_t));
  const int64_t share = n / blocks;
  const auto each = [&](const auto& body) {
    parallel(blocks, threads, [&](int64_t b) {
      body(at + b * rows, b * share, b + 1 == blocks ? n : (b + 1) * share);
    });
  };
  each([&](int64_t* count, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) ++count[from.row(i)];
  });
  int64_t slot = base;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t b = 0; b < blocks; ++b) {
      const int64_t count = at[b * rows + r];
      at[b * rows + r] = slot;
      slot += count;
    }
    if (blocks > 1) ends[r] = slot;
  }
  if (blocks == 1 && n <= kFew) {
    // what follows writes all over these lines: they are better fetched in their order
    for (int64_t i = base; i < base + n; i += 64 / sizeof(C)) prefetch_line(idx + i);
    for (int64_t i = base; i < base + n; i += 64 / sizeof(E)) prefetch_line(eid + i);
  }
  // a single block's counters end as the ends of the rows
  each([&](int64_t* next, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const auto item = from.item(i);
      const int64_t to = next[from.row(i)]++;
      idx[to] = item.column;
      eid[to] = item.edge;
    }
  });
}

template <class I, class C, class E>
void keep_order(const CsrArgs& a, const I* rows, const I* columns, C* idx, E* eid) {
  const int64_t n = a.edges;
  const int64_t blocks = blocks_of(n, kFew, a.threads);
  const int64_t share = n / blocks;
  parallel(blocks, a.threads, [&](int64_t b) {
    const int64_t begin = b * share, end = b + 1 == blocks ? n : begin + share;
    for (int64_t i = begin; i < end; ++i) {
      idx[i] = static_cast<C>(columns[i]);
      eid[i] = static_cast<E>(i);
    }
    int64_t row = begin ? rows[begin - 1] : -1;
    for (int64_t i = begin; i < end; ++i)
      while (row < rows[i]) a.ptr[++row] = i;
    if (end == n)
      while (row < a.num_rows) a.ptr[++row] = n;
  });
}

template <class I, class C, class E>
void sort_by_ranges(const CsrArgs& a, const Plan& plan, const FromInput<I, C, E>& from, C* idx,
                    E* eid) {
  const int64_t n = a.edges, ranges = plan.ranges;
  const int64_t mask = (int64_t(1) << plan.shift) - 1;
  const int64_t blocks = blocks_of(n, kFew, a.threads), share = n / blocks;
  auto* items = static_cast<Item<C, E>*>(a.scratch);
  const Memory<int64_t> counts(blocks * ranges, true), begins(ranges + 1, true);
  const auto each = [&](const auto& body) {
    parallel(blocks, a.threads, [&](int64_t b) {
      body(counts + b * ranges, b * share, b + 1 == blocks ? n : (b + 1) * share);
    });
  };
  each([&](int64_t* count, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) ++count[from.row(i) >> plan.shift];
  });
  int64_t slot = 0;
  for (int64_t range = 0; range < ranges; ++range) {
    begins[range] = slot;
    for (int64_t b = 0; b < blocks; ++b) {
      const int64_t count = counts[b * ranges + range];
      counts[b * ranges + range] = slot;
      slot += count;
    }
  }
  begins[ranges] = slot;
  each([&](int64_t* next, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = from.row(i);
      Item<C, E> item = from.item(i);
      item.row = static_cast<uint32_t>(row & mask);
      const int64_t to = next[row >> plan.shift]++;
      prefetch_line(items + to + kItemsAhead);
      items[to] = item;
    }
  });
  const auto sort = [&](int64_t range, int threads) {
    const int64_t first = range << plan.shift;
    const int64_t rows = first + mask < a.num_rows ? mask + 1 : a.num_rows - first;
    sort_range(FromItems<C, E>{items + begins[range]}, begins[range + 1] - begins[range],
               begins[range], a.ptr + 1 + first, rows, idx, eid, threads);
  };
  // a range that would keep the other threads waiting is sorted by all of them
  const int64_t large = n / (4 * static_cast<int64_t>(a.threads)) + 8 * kRangeEdges;
  const auto is_large = [&](int64_t range) {
    return a.threads > 1 && begins[range + 1] - begins[range] > large;
  };
  for (int64_t range = 0; range < ranges; ++range)
    if (is_large(range)) sort(range, a.threads);
  parallel(ranges, a.threads, [&](int64_t range) {
    if (!is_large(range)) sort(range, 1);
  });
}

template <class I, class C, class E>
void csr_typed(const CsrArgs& a) {
  const FromInput<I, C, E> from{static_cast<const I*>(a.rows), static_cast<const I*>(a.columns)};
  C* idx = static_cast<C*>(a.idx);
  E* eid = static_cast<E*>(a.eid);
  if (a.sorted) return keep_order(a, from.rows, from.columns, idx, eid);
  a.ptr[0] = 0;
  const Plan plan = plan_of(a);
  if (plan.ranges > 1) return sort_by_ranges(a, plan, from, idx, eid);
  sort_range(from, a.edges, 0, a.ptr + 1, a.num_rows, idx, eid, a.threads);
}

template <class I, class C>
void csr_columns(const CsrArgs& a) {
  a.eid64 ? csr_typed<I, C, int64_t>(a) : csr_typed<I, C, int32_t>(a);
}

template <class I>
void csr_stored(const CsrArgs& a) {
  a.idx64 ? csr_columns<I, int64_t>(a) : csr_columns<I, int32_t>(a);
}

template <class I>
int check_typed(const EdgesArgs& a) {
  typedef uint64_t Wide;
  const I *src = static_cast<const I*>(a.src), *dst = static_cast<const I*>(a.dst);
  const int64_t n = a.edges, blocks = blocks_of(n, kFew, a.threads), share = n / blocks;
  const Memory<int64_t> found(blocks, true);
  parallel(blocks, a.threads, [&](int64_t b) {
    const int64_t begin = b * share, end = b + 1 == blocks ? n : begin + share;
    // the sign bit of each says: out of range, smaller than the one before
    Wide bad = 0, src_falls = 0, dst_falls = 0;
    const Wide last_src = a.num_src - 1, last_dst = a.num_dst - 1;
    for (int64_t i = begin; i < end; ++i) {
      const Wide s = static_cast<int64_t>(src[i]), d = static_cast<int64_t>(dst[i]);
      bad |= s | (last_src - s) | d | (last_dst - d);
    }
    for (int64_t i = begin ? begin : 1; i < end; ++i) {
      src_falls |= Wide(src[i]) - Wide(src[i - 1]);
      dst_falls |= Wide(dst[i]) - Wide(dst[i - 1]);
    }
    found[b] = (bad >> 63 ? kOutOfRange : 0) | (src_falls >> 63 ? 0 : kSortedBySrc) |
               (dst_falls >> 63 ? 0 : kSortedByDst);
  });
  int flags = kSortedBySrc | kSortedByDst;
  for (int64_t b = 0; b < blocks; ++b)
    flags = (flags & static_cast<int>(found[b])) | ((flags | static_cast<int>(found[b])) & 1);
  return flags;
}

template <class I>
void loops_typed(const LoopsArgs& a) {
  const Side& side = a.side;
  const I* idx = static_cast<const I*>(side.idx);
  const Hubs hubs(side.ptr, side.rows);
  const auto slots = [&](int64_t row, int64_t begin, int64_t end) {
    int64_t count = 0;
    for (int64_t e = begin; e < end; ++e) count += idx[e] == row;
    if (a.mask)
      for (int64_t e = begin; e < end; ++e) a.mask[side.edge(e)] = idx[e] == row;
    return count;
  };
  const Memory<int64_t> part(hubs.count + 1, true);
  parallel(hubs.count, a.threads, [&](int64_t i) {
    const Hubs::Piece& piece = hubs.pieces[i];
    part[i] = slots(piece.row, piece.begin, piece.end);
  });
  parallel_rows(side.ptr, side.rows, a.threads, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
      const int64_t count = is_hub(side.ptr, r) ? 0 : slots(r, side.ptr[r], side.ptr[r + 1]);
      if (a.count) a.count[r] = count;
    }
  });
  if (a.count)
    for (int64_t i = 0; i < hubs.count; ++i) a.count[hubs.pieces[i].row] += part[i];
}

}  // namespace

int check_edges(const EdgesArgs& args) {
  return args.wide ? check_typed<int64_t>(args) : check_typed<int32_t>(args);
}

void csr(const CsrArgs& args) {
  args.wide ? csr_stored<int64_t>(args) : csr_stored<int32_t>(args);
}

int64_t csr_scratch(const CsrArgs& a) {
  if (plan_of(a).ranges == 1) return 0;
  if (a.idx64) return a.edges * sizeof(Item<int64_t, int64_t>);
  return a.edges * (a.eid64 ? sizeof(Item<int32_t, int64_t>) : sizeof(Item<int32_t, int32_t>));
}

void row_ids(const RowIdsArgs& a) {
  // a block is written in some fifty microseconds, which is what a second thread is worth
  constexpr int64_t kBlock = int64_t{1} << 17;
  // Most rows are short, and how long each is cannot be foreseen: so many slots are written for
  // every row, of which those behind its end are written again for the next one.
  constexpr int64_t kStep = 16;
  parallel((a.edges + kBlock - 1) / kBlock, a.threads, [&](int64_t b) {
    int64_t at = b * kBlock;
    const int64_t end = at + kBlock < a.edges ? at + kBlock : a.edges;
    for (int64_t row = row_of(a.ptr, a.rows, at); at < end; ++row) {
      const int64_t stop = a.ptr[row + 1] < end ? a.ptr[row + 1] : end;
      for (; at < stop && at + kStep <= end; at += kStep)
        for (int64_t i = 0; i < kStep; ++i) a.out[at + i] = row;
      for (; at < stop; ++at) a.out[at] = row;
      at = stop;
    }
  });
}

void self_loops(const LoopsArgs& args) {
  args.side.idx64 ? loops_typed<int64_t>(args) : loops_typed<int32_t>(args);
}

}  // namespace GK_ISA
