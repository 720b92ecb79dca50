// Sets of neighbours of pairs of nodes, all lists strictly rising. Lists of similar length are
// merged a block at a time; in a much longer one each member of the shorter is searched for. Both
// find the same nodes in the same order. A table of bits for a first end that many pairs share was
// measured and did not pay.
#include "intersect.h"

#include "parallel.h"
#include "simd.h"

namespace GK_ISA {
namespace {

// pairs of one task
constexpr int64_t kPairs = 256;
// how many pairs ahead offsets and the heads of rows are fetched
constexpr int64_t kOffsetsAhead = 20, kRowsAhead = 8;
// bytes of a row that are fetched ahead
constexpr int64_t kHead = 512;
// how many times longer a list is searched and not merged
constexpr int64_t kLonger = 8;
// bytes of a block: larger ones compare more in vain
constexpr int kBlock = kBytes < 32 ? kBytes : 32;

template <class I>
struct List {
  const I* at;
  int64_t size;
};

// --- what is done with a common neighbour ---

// `skip`: the ends of the pair where they do not count, or -1
struct Skip {
  int64_t first = -1, second = -1;
  bool operator()(int64_t node) const { return node == first || node == second; }
};

struct Counted {
  Skip skip;
  int64_t count = 0;
  bool done() const { return false; }
  void hit(int64_t node) { count += !skip(node); }
};

struct Summed {
  Skip skip;
  const double* weight;
  double sum = 0;
  bool done() const { return false; }
  void hit(int64_t node) {
    if (!skip(node)) sum += weight[node];
  }
};

template <class I>
struct Written {
  Skip skip;
  I *out, *end;
  bool done() const { return out == end; }
  void hit(int64_t node) {
    if (out < end && !skip(node)) *out++ = static_cast<I>(node);
  }
};

// --- how they are found ---

// The L nodes from list.at[from] on; `none` where the list is at its end.
template <class I, int L>
vec<I, L> block(List<I> list, int64_t from, const I* end, I none) {
  const int64_t rest = list.size - from;
  vec<I, L> nodes;
  if (list.at + from + L <= end) {
    // what follows the list in memory is another one
    std::memcpy(&nodes, list.at + from, sizeof nodes);
    if (rest >= L) return nodes;
    vec<I, L> lane;
    for (int l = 0; l < L; ++l) lane[l] = l;
    return lane < static_cast<I>(rest) ? nodes : none + vec<I, L>{};
  }
  I some[L];
  for (int l = 0; l < L; ++l) some[l] = l < rest ? list.at[from + l] : none;
  std::memcpy(&nodes, some, sizeof nodes);
  return nodes;
}

// Blocks of both lists, every node of the one with every node of the other. `end` is that of the
// memory both lie in.
template <class I, class S>
void merge(List<I> a, List<I> b, const I* end, S& sink) {
  constexpr int L = kBlock / static_cast<int>(sizeof(I));
  int64_t i = 0, j = 0;
  while (i < a.size && j < b.size) {
    const vec<I, L> mine = block<I, L>(a, i, end, -1);
    I spare[L];
    const I* theirs = b.at + j;
    if (j + L > b.size) {
      const vec<I, L> padded = block<I, L>(b, j, end, -2);
      std::memcpy(spare, &padded, sizeof padded);
      theirs = spare;
    }
    vec<I, L> same{};
#pragma GCC unroll 16
    for (int l = 0; l < L; ++l) same |= mine == theirs[l] + vec<I, L>{};
    if (__builtin_expect(any(same), 0)) {
      I lanes[L];
      std::memcpy(lanes, &same, sizeof same);
      for (int l = 0; l < L; ++l)
        if (lanes[l]) sink.hit(a.at[i + l]);
      if (sink.done()) return;
    }
    const I top_a = a.at[i + L < a.size ? i + L - 1 : a.size - 1];
    const I top_b = b.at[j + L < b.size ? j + L - 1 : b.size - 1];
    i += L * static_cast<int64_t>(top_a <= top_b);
    j += L * static_cast<int64_t>(top_b <= top_a);
  }
}

// nodes of a longer list that are looked through at once
constexpr int64_t kStride = 32;

// Where to look for x, from `from` on: x is in the kStride nodes there or nowhere.
template <class I>
int64_t seek(List<I> b, int64_t from, I x) {
  const auto below = [&](int64_t at) {
    return at + kStride <= b.size && b.at[at + kStride - 1] < x;
  };
  for (int step = 0; step < 8; ++step) {
    if (!below(from)) return from;
    from += kStride;
  }
  int64_t step = kStride;
  while (below(from + step)) {
    from += step;
    step *= 2;
  }
  for (; step >= kStride; step /= 2)
    if (below(from + step - kStride)) from += step;
  return from;
}

// Whether x is one of the kStride nodes from `from` on.
template <class I>
bool holds_near(List<I> b, int64_t from, I x) {
  constexpr int L = kBytes / static_cast<int>(sizeof(I));
  if (from + kStride > b.size) {
    bool found = false;
    for (int64_t at = from; at < b.size; ++at) found |= b.at[at] == x;
    return found;
  }
  vec<I, L> same{};
  for (int64_t at = from; at < from + kStride; at += L) {
    vec<I, L> nodes;
    std::memcpy(&nodes, b.at + at, sizeof nodes);
    same |= nodes == x + vec<I, L>{};
  }
  return any(same);
}

template <class I, class S>
void search(List<I> a, List<I> b, S& sink) {
  int64_t j = 0;
  for (int64_t i = 0; i < a.size && j < b.size && !sink.done(); ++i) {
    j = seek(b, j, a.at[i]);
    if (holds_near(b, j, a.at[i])) sink.hit(a.at[i]);
  }
}

template <class I, class S>
void common(List<I> a, List<I> b, const I* end, S& sink) {
  if (a.size > b.size) {
    const List<I> c = a;
    a = b;
    b = c;
  }
  if (a.size == 0 || a.at[a.size - 1] < b.at[0] || b.at[b.size - 1] < a.at[0]) return;
  if (a.size * kLonger < b.size)
    search(a, b, sink);
  else
    merge(a, b, end, sink);
}

template <class I>
struct Pairs {
  const IntersectArgs& args;
  const I* idx;

  explicit Pairs(const IntersectArgs& a) : args(a), idx(static_cast<const I*>(a.of.idx)) {}

  List<I> list(int64_t node) const {
    const int64_t begin = args.of.begin[node];
    return {idx + begin, args.of.end[node] - begin};
  }

  Skip skip(int64_t p) const {
    return args.keep_ends ? Skip() : Skip{args.first[p], args.second[p]};
  }

  void fetch_offsets(int64_t node) const {
    prefetch_near(args.of.begin + node);
    prefetch_near(args.of.end + node);
  }

  void fetch_head(int64_t node) const {
    const List<I> row = list(node);
    const int64_t bytes = row.size * static_cast<int64_t>(sizeof(I));
    prefetch_row(row.at, bytes < kHead ? bytes : kHead);
  }

  void fetch(int64_t p) const {
    if (p + kOffsetsAhead < args.count) {
      fetch_offsets(args.first[p + kOffsetsAhead]);
      fetch_offsets(args.second[p + kOffsetsAhead]);
    }
    if (p + kRowsAhead < args.count) {
      fetch_head(args.first[p + kRowsAhead]);
      fetch_head(args.second[p + kRowsAhead]);
    }
  }

  // Calls body(p, found) for all pairs; found(sink) hands p's common neighbours to the sink.
  template <class F>
  void for_pairs(const F& body) const {
    parallel((args.count + kPairs - 1) / kPairs, args.threads, [&](int64_t task) {
      const int64_t first = task * kPairs;
      const int64_t last = first + kPairs < args.count ? first + kPairs : args.count;
      for (int64_t p = first; p < last; ++p) {
        fetch(p);
        body(p, [&](auto& sink) {
          common(list(args.first[p]), list(args.second[p]), idx + args.of.slots, sink);
        });
      }
    });
  }
};

template <class I>
bool holds(List<I> list, int64_t node) {
  const I x = static_cast<I>(node);
  return holds_near(list, seek(list, 0, x), x);
}

template <class I>
void count_pairs(const IntersectArgs& args) {
  const Pairs<I> pairs(args);
  pairs.for_pairs([&](int64_t p, auto found) {
    Counted both{pairs.skip(p)};
    found(both);
    args.ptr[0][p + 1] = both.count;
    if (args.sets == 1) return;
    const int64_t u = args.first[p], v = args.second[p];
    const List<I> a = pairs.list(u), b = pairs.list(v);
    int64_t mine = a.size - both.count, yours = b.size - both.count;
    // an end that does not count is in none of the sets
    if (!args.keep_ends) {
      mine -= holds(a, u) + (u != v && holds(a, v));
      yours -= holds(b, u) + (u != v && holds(b, v));
    }
    args.ptr[1][p + 1] = mine;
    args.ptr[2][p + 1] = yours;
  });
  for (int set = 0; set < args.sets; ++set) {
    args.ptr[set][0] = 0;
    for (int64_t p = 0; p < args.count; ++p) args.ptr[set][p + 1] += args.ptr[set][p];
  }
}

// Writes the nodes of a list that are not in `both`, which rises too.
template <class I>
void write_rest(List<I> list, List<I> both, Skip skip, I* out) {
  int64_t next = 0;
  for (int64_t i = 0; i < list.size; ++i) {
    const I node = list.at[i];
    if (next < both.size && node == both.at[next])
      ++next;
    else if (!skip(node))
      *out++ = node;
  }
}

template <class I>
void fill_pairs(const IntersectArgs& args) {
  const Pairs<I> pairs(args);
  I* out[3];
  for (int set = 0; set < args.sets; ++set) out[set] = static_cast<I*>(args.out[set]);
  pairs.for_pairs([&](int64_t p, auto found) {
    const int64_t* ptr = args.ptr[0] + p;
    I* const both = out[0] + ptr[0];
    if (ptr[0] < ptr[1]) {
      Written<I> sink{pairs.skip(p), both, out[0] + ptr[1]};
      found(sink);
    }
    if (args.sets == 1) return;
    const List<I> common_nodes{both, ptr[1] - ptr[0]};
    write_rest(pairs.list(args.first[p]), common_nodes, pairs.skip(p), out[1] + args.ptr[1][p]);
    write_rest(pairs.list(args.second[p]), common_nodes, pairs.skip(p), out[2] + args.ptr[2][p]);
  });
}

template <class I>
void score_pairs(const IntersectArgs& args) {
  const Pairs<I> pairs(args);
  pairs.for_pairs([&](int64_t p, auto found) {
    if (args.weight) {
      Summed sink{pairs.skip(p), args.weight};
      found(sink);
      args.score[p] = static_cast<float>(sink.sum);
    } else {
      Counted sink{pairs.skip(p)};
      found(sink);
      args.score[p] = static_cast<float>(sink.count);
    }
  });
}

// --- rows in order ---

template <class I>
bool rise(const Side& side, int threads) {
  const I* idx = static_cast<const I*>(side.idx);
  const int64_t* ptr = side.ptr;
  int bad = 0;
  // where columns do not rise, a row must end: both kinds of places are counted, which is faster
  // than a loop for each row
  parallel_rows(ptr, side.rows, threads, [&](int64_t first, int64_t last) {
    int64_t falls = 0, ends = 0;
    for (int64_t e = ptr[first] + 1; e < ptr[last]; ++e) falls += idx[e] <= idx[e - 1];
    for (int64_t r = first + 1; r < last; ++r) {
      const int64_t e = ptr[r];
      if (e > ptr[r - 1] && e < ptr[last]) ends += idx[e] <= idx[e - 1];
    }
    if (falls != ends) __atomic_store_n(&bad, 1, __ATOMIC_RELAXED);
  });
  return !bad;
}

// Sorts by digits of 11 bits, the lowest first.
template <class I>
void sort_long(I* keys, int64_t count, int64_t columns) {
  constexpr int kDigit = 11, kValues = 1 << kDigit;
  const Memory<I> spare(count);
  I *from = keys, *to = spare;
  for (int shift = 0; shift < 63 && (columns - 1) >> shift; shift += kDigit) {
    int64_t at[kValues] = {};
    for (int64_t i = 0; i < count; ++i) ++at[from[i] >> shift & (kValues - 1)];
    int64_t sum = 0;
    for (int64_t& place : at) {
      const int64_t size = place;
      place = sum;
      sum += size;
    }
    for (int64_t i = 0; i < count; ++i) to[at[from[i] >> shift & (kValues - 1)]++] = from[i];
    I* swap = from;
    from = to;
    to = swap;
  }
  if (from != keys) std::memcpy(keys, from, count * sizeof(I));
}

template <class I>
void sort_short(I* keys, int64_t count) {
  for (int64_t i = 1; i < count; ++i) {
    const I key = keys[i];
    int64_t at = i;
    for (; at > 0 && keys[at - 1] > key; --at) keys[at] = keys[at - 1];
    keys[at] = key;
  }
}

template <class I>
void sort_typed(const Side& side, void* into, int64_t* end, int threads) {
  I* out = static_cast<I*>(into);
  parallel_rows(side.ptr, side.rows, threads, [&](int64_t first, int64_t last) {
    const int64_t begin = side.ptr[first];
    std::memcpy(out + begin, static_cast<const I*>(side.idx) + begin,
                (side.ptr[last] - begin) * sizeof(I));
    for (int64_t r = first; r < last; ++r) {
      I* row = out + side.ptr[r];
      const int64_t count = side.ptr[r + 1] - side.ptr[r];
      // a graph is square here: its columns are as many as its rows
      count > 64 ? sort_long(row, count, side.rows) : sort_short(row, count);
      int64_t kept = count > 0;
      for (int64_t i = 1; i < count; ++i)
        if (row[i] != row[kept - 1]) row[kept++] = row[i];
      end[r] = side.ptr[r] + kept;
    }
  });
}

}  // namespace

bool rows_rise(const Side& side, int threads) {
  return side.idx64 ? rise<int64_t>(side, threads) : rise<int32_t>(side, threads);
}

void sort_rows(const Side& side, void* out, int64_t* end, int threads) {
  side.idx64 ? sort_typed<int64_t>(side, out, end, threads)
             : sort_typed<int32_t>(side, out, end, threads);
}

void intersect_count(const IntersectArgs& args) {
  args.of.idx64 ? count_pairs<int64_t>(args) : count_pairs<int32_t>(args);
}

void intersect_fill(const IntersectArgs& args) {
  args.of.idx64 ? fill_pairs<int64_t>(args) : fill_pairs<int32_t>(args);
}

void intersect_score(const IntersectArgs& args) {
  args.of.idx64 ? score_pairs<int64_t>(args) : score_pairs<int32_t>(args);
}

}  // namespace GK_ISA
