// Values reduced by the row of each: torch_scatter's functions. Narrow values, and few, are added
// up where they stand; for the others the edges are sorted by counting first, unless they are.
#include "scatter.h"

#include <cstring>

#include "csr.h"
#include "numbers.h"
#include "rows.h"
#include "segment_rows.h"

namespace GK_ISA {
namespace {

// numbers that are worked on where they stand, whatever their width
constexpr int64_t kFewNumbers = 1 << 13;
// from these widths on sorting pays: of sums, and of extremes, which read and write two numbers
constexpr int64_t kWideSum = 4, kWideExtreme = 2;
// numbers that are worth a second thread: to wait for one takes as long as some 2**16 of them, and
// where others use the processor very much longer
constexpr int64_t kShared = 1 << 17;
// items that are worth a thread
constexpr int64_t kBlock = 1 << 15;

int64_t blocks_for(int64_t n, int threads) {
  int64_t blocks = n / kBlock;
  const int64_t most = threads > 1 ? 8 * static_cast<int64_t>(threads) : 1;
  if (blocks > most) blocks = most;
  return blocks < 1 ? 1 : blocks;
}

// Calls body(begin, end) for parts of [0, n) and returns the or of what it returns.
template <class F>
uint64_t any_part(int64_t n, int threads, const F& body) {
  const int64_t blocks = blocks_for(n, threads), share = n / blocks;
  if (blocks == 1) return body(int64_t{0}, n);
  const Memory<uint64_t> found(blocks, true);
  parallel(blocks, threads, [&](int64_t b) {
    found[b] = body(b * share, b + 1 == blocks ? n : (b + 1) * share);
  });
  uint64_t all = 0;
  for (int64_t b = 0; b < blocks; ++b) all |= found[b];
  return all;
}

bool in_range(const int64_t* index, int64_t n, int64_t rows, int threads) {
  const uint64_t bad = any_part(n, threads, [&](int64_t begin, int64_t end) {
    const uint64_t last = static_cast<uint64_t>(rows) - 1;
    uint64_t signs = 0;
    for (int64_t i = begin; i < end; ++i) {
      const uint64_t row = static_cast<uint64_t>(index[i]);
      signs |= row | (last - row);
    }
    return signs >> 63;
  });
  return !bad;
}

bool is_extreme(const ScatterArgs& a) { return a.reduce == kMin || a.reduce == kMax; }

ScatterArgs alone_if_few(ScatterArgs args) {
  if (args.batches * args.edges * args.width < kShared) args.threads = 1;
  return args;
}

// ---- how two values become one ----

template <class T>
struct Add {
  typedef acc_t<T> A;
  static constexpr bool extreme = false;
  static A none() { return A(0); }
  template <class V>
  static GK_INLINE V of(V into, V value) {
    return into + value;
  }
};

template <class T>
struct Multiply {
  typedef acc_t<T> A;
  static constexpr bool extreme = false;
  static A none() { return A(1); }
  template <class V>
  static GK_INLINE V of(V into, V value) {
    return into * value;
  }
};

template <class T>
struct Highest {
  typedef acc_t<T> A;
  static constexpr bool extreme = false;
  static A none() { return -static_cast<A>(__builtin_inf()); }
  template <class V>
  static GK_INLINE V of(V into, V value) {
    return value > into ? value : into;
  }
};

template <class T, bool Smaller>
struct Best {
  typedef acc_t<T> A;
  static constexpr bool extreme = true;
  static A none() { return A(0); }
  template <class V>
  static GK_INLINE auto better(V value, V best) {
    if constexpr (Smaller)
      return value < best;
    else
      return value > best;
  }
};
template <class T>
using Least = Best<T, true>;
template <class T>
using Most = Best<T, false>;

// ---- in the order of the edges ----

template <int Bytes>
struct NumberOf {
  typedef int32_t type;
};
template <>
struct NumberOf<8> {
  typedef int64_t type;
};

template <class R, class T>
struct Direct {
  typedef acc_t<T> A;
  const ScatterArgs& a;
  const ScatterIndex& index;

  int64_t size() const { return a.rows * a.width; }
  const T* src(int64_t b) const { return static_cast<const T*>(a.src) + b * a.edges * a.width; }
  T* out(int64_t b) const { return static_cast<T*>(a.out) + b * size(); }
  bool by_row() const { return index.column_stride == 0; }

  // Calls step(place of the result, number of the value); false if an index is out of range.
  template <class F>
  GK_INLINE bool each(int64_t b, const F& step) const {
    const int64_t* row = index.at + b * index.batch_stride;
    const uint64_t rows = static_cast<uint64_t>(a.rows);
    const int64_t width = a.width, edges = a.edges;
    if (!by_row()) {
      for (int64_t e = 0; e < edges; ++e)
        for (int64_t k = 0; k < width; ++k) {
          const int64_t r = row[e * index.edge_stride + k * index.column_stride];
          if (static_cast<uint64_t>(r) >= rows) return false;
          step(r * width + k, e * width + k, e);
        }
      return true;
    }
    if (width == 1) {
      for (int64_t e = 0; e < edges; ++e) {
        if (static_cast<uint64_t>(row[e]) >= rows) return false;
        step(row[e], e, e);
      }
      return true;
    }
    for (int64_t e = 0; e < edges; ++e) {
      if (static_cast<uint64_t>(row[e]) >= rows) return false;
      for (int64_t k = 0; k < width; ++k) step(row[e] * width + k, e * width + k, e);
    }
    return true;
  }

  bool reduced(int64_t b) const {
    const T* from = src(b);
    constexpr bool in_place = Same<T, A>::value;
    const Memory<A> own(in_place ? 0 : size());
    A* sum;
    if constexpr (in_place)
      sum = out(b);
    else
      sum = own;
    for (int64_t i = 0; i < size(); ++i) sum[i] = R::none();
    const bool good = each(b, [&](int64_t to, int64_t i, int64_t) {
      sum[to] = R::of(sum[to], take_one(from + i));
    });
    if (good && a.reduce == kMean) divide(b, sum);
    if constexpr (!in_place)
      for (int64_t i = 0; good && i < size(); ++i) give_one(out(b) + i, sum[i]);
    return good;
  }

  void divide(int64_t b, A* sum) const {
    const int64_t* row = index.at + b * index.batch_stride;
    const int64_t width = a.width, columns = by_row() ? 1 : width;
    const Memory<int64_t> count(a.rows * columns, true);
    for (int64_t e = 0; e < a.edges; ++e)
      for (int64_t k = 0; k < columns; ++k)
        if (by_row())
          ++count[row[e]];
        else
          ++count[row[e * index.edge_stride + k * index.column_stride] * width + k];
    for (int64_t i = 0; i < size(); ++i) {
      const int64_t n = by_row() ? count[i / width] : count[i];
      if (n > 1) sum[i] = sum[i] / static_cast<A>(n);
    }
  }

  bool best(int64_t b) const {
    const T* from = src(b);
    T* to = out(b);
    const int64_t none = a.edges;
    const Memory<int64_t> own(a.arg ? 0 : size());
    int64_t* arg = a.arg ? a.arg + b * size() : own.at;
    if (size()) std::memset(to, 0, size() * sizeof(T));
    for (int64_t i = 0; i < size(); ++i) arg[i] = none;
    return each(b, [&](int64_t at, int64_t i, int64_t e) {
      const A value = take_one(from + i);
      // both are written in any case: a branch would be foreseen wrongly every other time
      const T old = to[at];
      const int64_t before = arg[at];
      const bool wins = ((before == none) | R::better(value, take_one(&old))) & (value == value);
      to[at] = wins ? from[i] : old;
      arg[at] = wins ? e : before;
    });
  }

  bool run() const {
    const Memory<uint64_t> bad(a.batches, true);
    parallel(a.batches, a.threads, [&](int64_t b) {
      if constexpr (R::extreme)
        bad[b] = !best(b);
      else
        bad[b] = !reduced(b);
    });
    uint64_t found = 0;
    for (int64_t b = 0; b < a.batches; ++b) found |= bad[b];
    return !found;
  }
};

// Many single numbers: each half of the edges has results of its own, which are joined in the end.
// That there are two does not depend on the threads: the bits do not either.
template <class R, class T>
struct InHalves {
  typedef acc_t<T> A;
  typedef typename NumberOf<sizeof(A)>::type I;
  // side by side, so that a step touches one line
  struct Pair {
    A value;
    I note;  // how many there are, or the edge that won
  };
  const ScatterArgs& a;
  const int64_t* row;

  // Calls start(half), then step(half, row, edge) for its edges; false if an index is out of range.
  template <class B, class F>
  bool each(const B& start, const F& step) const {
    uint64_t bad[2] = {0, 0};
    const int64_t middle = a.edges / 2;
    parallel(2, a.threads, [&](int64_t half) {
      start(half);
      const uint64_t rows = static_cast<uint64_t>(a.rows);
      const int64_t end = half ? a.edges : middle;
      for (int64_t e = half ? middle : 0; e < end; ++e) {
        if (static_cast<uint64_t>(row[e]) >= rows) {
          bad[half] = 1;
          return;
        }
        step(half * a.rows + row[e], e);
      }
    });
    return !(bad[0] | bad[1]);
  }

  bool sums() const {
    const Memory<A> sum(2 * a.rows);
    const T* src = static_cast<const T*>(a.src);
    T* out = static_cast<T*>(a.out);
    const auto start = [&](int64_t half) {
      for (int64_t r = half * a.rows; r < (half + 1) * a.rows; ++r) sum[r] = R::none();
    };
    const bool good = each(start, [&](int64_t to, int64_t e) {
      sum[to] = R::of(sum[to], take_one(src + e));
    });
    for (int64_t r = 0; good && r < a.rows; ++r)
      give_one(out + r, R::of(sum[r], sum[a.rows + r]));
    return good;
  }

  bool means() const {
    const Memory<Pair> sum(2 * a.rows, true);
    const T* src = static_cast<const T*>(a.src);
    T* out = static_cast<T*>(a.out);
    const bool good = each([](int64_t) {}, [&](int64_t to, int64_t e) {
      sum[to].value = R::of(sum[to].value, take_one(src + e));
      ++sum[to].note;
    });
    for (int64_t r = 0; good && r < a.rows; ++r) {
      const Pair &one = sum[r], &two = sum[a.rows + r];
      const I n = one.note + two.note;
      const A value = R::of(one.value, two.value);
      give_one(out + r, n > 1 ? value / static_cast<A>(n) : value);
    }
    return good;
  }

  bool best() const {
    const Memory<Pair> kept(2 * a.rows);
    const T* src = static_cast<const T*>(a.src);
    T* out = static_cast<T*>(a.out);
    const I none = static_cast<I>(a.edges);
    const auto start = [&](int64_t half) {
      for (int64_t r = half * a.rows; r < (half + 1) * a.rows; ++r) kept[r] = Pair{A(0), none};
    };
    const bool good = each(start, [&](int64_t to, int64_t e) {
      const A value = take_one(src + e), before = kept[to].value;
      const I edge = kept[to].note;
      const bool wins = ((edge == none) | R::better(value, before)) & (value == value);
      // chosen by bits: a branch would be foreseen wrongly every other time
      const I all = -static_cast<I>(wins), old = bits_as<I>(before);
      kept[to].value = bits_as<A>(static_cast<I>(old ^ ((old ^ bits_as<I>(value)) & all)));
      kept[to].note = edge ^ ((edge ^ static_cast<I>(e)) & all);
    });
    for (int64_t r = 0; good && r < a.rows; ++r) {
      const Pair &one = kept[r], &two = kept[a.rows + r];
      const bool second =
          two.note != none && (one.note == none || R::better(two.value, one.value));
      give_one(out + r, second ? two.value : one.value);
      if (a.arg) a.arg[r] = second ? two.note : one.note;
    }
    return good;
  }

  bool run() const {
    if constexpr (R::extreme)
      return best();
    else
      return a.reduce == kMean ? means() : sums();
  }
};

// ---- in the order of the rows ----

template <class R, class T>
struct ByRow {
  typedef acc_t<T> A;
  typedef typename NumberOf<sizeof(A)>::type I;
  const ScatterArgs& a;
  const Side& side;
  const T* src;
  T* out;
  int64_t* arg;

  template <int L>
  static GK_INLINE reg<A, L> get_row(const T* p) {
    if constexpr (L == 1)
      return take_one(p);
    else
      return take_vector<L>(p);
  }
  template <int L>
  static GK_INLINE void put_row(T* p, reg<A, L> value) {
    if constexpr (L == 1)
      give_one(p, value);
    else
      give_vector<L>(p, value);
  }

  template <int L, int NV>
  GK_INLINE const T* row(int64_t slot, int64_t end, const Block<L, NV>& b) const {
    if (side.eid && slot + kAhead < end) {
      const T* p = src + side.edge(slot + kAhead) * a.width + b.at;
      for (int64_t i = 0; i < b.size; i += 64 / static_cast<int64_t>(sizeof(T)))
        prefetch_line(p + i);
    }
    return src + side.edge(slot) * a.width;
  }

  template <int L, int NV>
  GK_INLINE void reduce(const Block<L, NV>& b, int64_t r, int64_t ahead) const {
    const int64_t begin = side.ptr[r], end = side.ptr[r + 1];
    reg<A, L> sum[NV];
    for (int v = 0; v < NV; ++v) sum[v] = reg<A, L>{} + R::none();
    for (int64_t e = begin; e < end; ++e) {
      const T* p = row(e, ahead, b);
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) sum[v] = R::of(sum[v], get_row<L>(p + b.offset(v)));
    }
    const A n = static_cast<A>(a.reduce == kMean && end - begin > 1 ? end - begin : 1);
    for (int v = 0; v < NV; ++v)
      put_row<L>(out + r * a.width + b.offset(v), a.reduce == kMean ? sum[v] / n : sum[v]);
  }

  template <int L, int NV>
  GK_INLINE void extreme(const Block<L, NV>& b, int64_t r, int64_t ahead) const {
    const int64_t begin = side.ptr[r], end = side.ptr[r + 1];
    const I none = static_cast<I>(a.edges);
    reg<A, L> best[NV];
    reg<I, L> at[NV];
    for (int v = 0; v < NV; ++v) {
      best[v] = reg<A, L>{};
      at[v] = reg<I, L>{} + none;
    }
    for (int64_t e = begin; e < end; ++e) {
      const T* p = row(e, ahead, b);
      const reg<I, L> number = reg<I, L>{} + static_cast<I>(side.edge(e));
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) {
        const reg<A, L> value = get_row<L>(p + b.offset(v));
        if constexpr (L == 1) {
          const bool wins = ((at[v] == none) | R::better(value, best[v])) & (value == value);
          best[v] = wins ? value : best[v];
          at[v] = wins ? number : at[v];
        } else {
          typedef vec<I, L> M;
          const M wins = ((M)(at[v] == none) | (M)R::better(value, best[v])) & (M)(value == value);
          best[v] = wins ? value : best[v];
          at[v] = wins ? number : at[v];
        }
      }
    }
    for (int v = 0; v < NV; ++v) {
      const int64_t place = r * a.width + b.offset(v);
      put_row<L>(out + place, best[v]);
      if (!arg) continue;
      if constexpr (L == 1) {
        arg[place] = at[v];
      } else {
        const auto wide = __builtin_convertvector(at[v], vec<int64_t, L>);
        std::memcpy(arg + place, &wide, sizeof wide);
      }
    }
  }

  void run() const {
    parallel_rows(
        side.ptr, side.rows, a.threads,
        [&](int64_t first, int64_t last) {
          const int64_t ahead = side.ptr[last];
          for_columns<T>(a.width, [&](int64_t at, int64_t size, auto lanes, auto vectors) {
            const Block<decltype(lanes)::value, decltype(vectors)::value> b{at, size};
            for (int64_t r = first; r < last; ++r) {
              if constexpr (R::extreme)
                extreme(b, r, ahead);
              else
                reduce(b, r, ahead);
            }
          });
        },
        a.width);
  }
};

// ---- one of each dtype and reduction ----

template <class Body, class T>
auto floating(const ScatterArgs& a, const Body& body, T number) {
  if (a.reduce == kTop) return body(Highest<T>(), Highest<T>(), number);
  return body(Add<T>(), Multiply<T>(), number);
}

template <class Body>
auto with_sum(const ScatterArgs& a, const Body& body) {
  switch (a.dtype) {
    case kFloat: return floating(a, body, float());
    case kDouble: return floating(a, body, double());
    case kBFloat16: return floating(a, body, bf16());
    case kFloat16: return floating(a, body, half());
    // what wraps does not depend on the sign
    case kInt32: return body(Add<uint32_t>(), Multiply<uint32_t>(), uint32_t());
    default: return body(Add<uint64_t>(), Multiply<uint64_t>(), uint64_t());
  }
}

template <class Body>
auto with_best(const ScatterArgs& a, const Body& body) {
  switch (a.dtype) {
    case kFloat: return body(Least<float>(), Most<float>(), float());
    case kDouble: return body(Least<double>(), Most<double>(), double());
    case kBFloat16: return body(Least<bf16>(), Most<bf16>(), bf16());
    case kFloat16: return body(Least<half>(), Most<half>(), half());
    case kInt32: return body(Least<int32_t>(), Most<int32_t>(), int32_t());
    default: return body(Least<int64_t>(), Most<int64_t>(), int64_t());
  }
}

bool direct(const ScatterArgs& a, const ScatterIndex& index) {
  const bool in_halves = a.batches == 1 && a.width == 1 && index.column_stride == 0 &&
                         a.edges >= (a.reduce == kMean || is_extreme(a) ? kFewNumbers : kShared) &&
                         a.edges < INT32_MAX && a.rows <= a.edges;
  const auto run = [&](auto first, auto second, auto number) {
    typedef decltype(number) T;
    const bool is_second = a.reduce == kMul || a.reduce == kMax;
    if (in_halves && is_second) return InHalves<decltype(second), T>{a, index.at}.run();
    if (in_halves) return InHalves<decltype(first), T>{a, index.at}.run();
    if (is_second) return Direct<decltype(second), T>{a, index}.run();
    return Direct<decltype(first), T>{a, index}.run();
  };
  return is_extreme(a) ? with_best(a, run) : with_sum(a, run);
}

int64_t bytes_of(int dtype) {
  switch (dtype) {
    case kFloat:
    case kInt32: return 4;
    case kDouble:
    case kInt64: return 8;
    default: return 2;
  }
}

// Rows of few single numbers that stand side by side.
template <class R, class T>
void short_rows(const ScatterArgs& a, const int64_t* ptr, const T* src, T* out) {
  typedef acc_t<T> A;
  for (int64_t r = 0; r < a.rows; ++r) {
    A sum = R::none();
    const int64_t begin = ptr[r], end = ptr[r + 1];
    for (int64_t e = begin; e < end; ++e) sum = R::of(sum, take_one(src + e));
    if (a.reduce == kMean && end - begin > 1) sum = sum / static_cast<A>(end - begin);
    give_one(out + r, sum);
  }
}

// One batch, its rows known.
void by_row(const ScatterArgs& a, const Side& side) {
  if (a.width == 1 && !side.eid && a.edges < kShared && !is_extreme(a)) {
    with_sum(a, [&](auto first, auto second, auto number) {
      typedef decltype(number) T;
      const T* src = static_cast<const T*>(a.src);
      T* out = static_cast<T*>(a.out);
      if (a.reduce == kMul) return short_rows<decltype(second), T>(a, side.ptr, src, out);
      short_rows<decltype(first), T>(a, side.ptr, src, out);
    });
    return;
  }
  if (a.reduce <= kMean && a.dtype <= kBFloat16) {
    SegmentArgs sum{};
    sum.side = side;
    sum.values = a.src;
    sum.out = a.out;
    sum.value_stride = sum.width = a.width;
    sum.flag = a.reduce == kMean;
    sum.dtype = static_cast<DType>(a.dtype);
    sum.threads = a.threads;
    return segment_reduce(sum);
  }
  const auto run = [&](auto first, auto second, auto number) {
    typedef decltype(number) T;
    const T* src = static_cast<const T*>(a.src);
    T* out = static_cast<T*>(a.out);
    const bool is_second = a.reduce == kMul || a.reduce == kMax;
    if (is_second)
      ByRow<decltype(second), T>{a, side, src, out, a.arg}.run();
    else
      ByRow<decltype(first), T>{a, side, src, out, a.arg}.run();
  };
  is_extreme(a) ? with_best(a, run) : with_sum(a, run);
}

// Batch b of args, alone.
ScatterArgs batch(const ScatterArgs& args, int64_t b) {
  ScatterArgs one = args;
  const int64_t size = bytes_of(args.dtype);
  one.src = static_cast<const char*>(args.src) + b * args.edges * args.width * size;
  one.out = static_cast<char*>(args.out) + b * args.rows * args.width * size;
  if (args.arg) one.arg = args.arg + b * args.rows * args.width;
  one.batches = 1;
  return one;
}

// The batches that share a sorted index.
void all_by_row(const ScatterArgs& a, const Side& side) {
  for (int64_t b = 0; b < a.batches; ++b) by_row(batch(a, b), side);
}

// Sorts edges that are in range, and reduces.
void sorted_first(const ScatterArgs& a, const int64_t* index, int64_t* ptr) {
  const Memory<int32_t> idx(a.edges), eid(a.edges);
  CsrArgs sort{};
  sort.rows = sort.columns = index;
  sort.wide = true;
  sort.edges = a.edges;
  sort.num_rows = a.rows;
  sort.ptr = ptr;
  sort.idx = idx;
  sort.eid = eid;
  sort.threads = a.threads;
  const Memory<char> scratch(csr_scratch(sort));
  sort.scratch = scratch;
  csr(sort);
  all_by_row(a, Side{ptr, idx, eid, false, false, a.rows});
}

}  // namespace

int index_offsets(const int64_t* index, int64_t edges, int64_t rows, int64_t* ptr, int threads) {
  const uint64_t limit = static_cast<uint64_t>(rows);
  // bit 0: unsorted; bit 1: out of range
  const uint64_t found = any_part(edges, threads, [&](int64_t begin, int64_t end) -> uint64_t {
    int64_t row = begin ? index[begin - 1] : -1;
    if (begin ? static_cast<uint64_t>(row) >= limit : end > 0 && index[0] < 0) return 2;
    for (int64_t i = begin; i < end; ++i) {
      const int64_t r = index[i];
      if (r == row) continue;
      if (static_cast<uint64_t>(r) >= limit) return 2;
      if (r < row) return 1;
      while (row < r) ptr[++row] = i;
    }
    if (end == edges)
      while (row < rows) ptr[++row] = edges;
    return 0;
  });
  if (!found) return kSorted;
  return (found & 2) || !in_range(index, edges, rows, threads) ? kBad : kUnsorted;
}

int64_t index_largest(const int64_t* index, int64_t count, int threads) {
  const int64_t blocks = blocks_for(count, threads), share = count / blocks;
  const Memory<int64_t> found(blocks);
  parallel(blocks, threads, [&](int64_t b) {
    const int64_t end = b + 1 == blocks ? count : (b + 1) * share;
    int64_t most = -1;
    for (int64_t i = b * share; i < end; ++i) most = index[i] > most ? index[i] : most;
    found[b] = most;
  });
  int64_t most = -1;
  for (int64_t b = 0; b < blocks; ++b) most = found[b] > most ? found[b] : most;
  return most;
}

bool scatter(const ScatterArgs& given, const ScatterIndex& index) {
  const ScatterArgs args = alone_if_few(given);
  const int64_t numbers = args.edges * args.width;
  if (args.rows * args.width * args.batches == 0) return args.rows || numbers * args.batches == 0;
  const bool by_row = index.column_stride == 0;
  if (!by_row || args.edges >= INT32_MAX || numbers < kFewNumbers) return direct(args, index);
  const bool shared = args.batches == 1 || index.batch_stride == 0;
  const bool narrow = args.width < (is_extreme(args) ? kWideExtreme : kWideSum);
  if (narrow && (args.width == 1 || args.batches > 1 || numbers < kShared))
    return direct(args, index);
  if (!shared) {
    for (int64_t b = 0; b < args.batches; ++b) {
      const ScatterIndex own{index.at + b * index.batch_stride, 0, 1, 0};
      if (!scatter(batch(args, b), own)) return false;
    }
    return true;
  }
  const Memory<int64_t> ptr(args.rows + 1);
  const int found = index_offsets(index.at, args.edges, args.rows, ptr, args.threads);
  if (found == kBad) return false;
  if (found == kSorted)
    all_by_row(args, Side{ptr, nullptr, nullptr, false, false, args.rows});
  else if (narrow)
    return direct(args, index);
  else
    sorted_first(args, index.at, ptr);
  return true;
}

void segments(const ScatterArgs& given, const int64_t* ptr, int64_t ptr_stride) {
  const ScatterArgs args = alone_if_few(given);
  if (args.rows * args.width == 0) return;
  for (int64_t b = 0; b < args.batches; ++b)
    by_row(batch(args, b),
           Side{ptr + b * ptr_stride, nullptr, nullptr, false, false, args.rows});
}

bool valid_offsets(const int64_t* ptr, int64_t batches, int64_t rows, int64_t size, int threads) {
  for (int64_t b = 0; b < batches; ++b, ptr += rows + 1) {
    if (ptr[0] != 0 || ptr[rows] > size) return false;
    const uint64_t falls = any_part(rows, threads, [&](int64_t begin, int64_t end) {
      uint64_t fall = 0;
      for (int64_t r = begin; r < end; ++r) fall |= ptr[r + 1] < ptr[r];
      return fall;
    });
    if (falls) return false;
  }
  return true;
}

void segments_spread(const ScatterArgs& given, const int64_t* ptr, int64_t ptr_stride,
                     int64_t bytes) {
  const ScatterArgs a = alone_if_few(given);
  const int64_t row = a.width * bytes;
  if (row * a.edges == 0) return;
  for (int64_t b = 0; b < a.batches; ++b) {
    SegmentArgs copy{};
    copy.side = Side{ptr + b * ptr_stride, nullptr, nullptr, false, false, a.rows};
    char* out = static_cast<char*>(a.out) + b * a.edges * row;
    copy.values = static_cast<const char*>(a.src) + b * a.rows * row;
    copy.value_stride = copy.width = a.width;
    copy.out = out;
    copy.threads = a.threads;
    segment_gather(copy, bytes);
    const int64_t end = copy.side.slots();
    std::memset(out + end * row, 0, (a.edges - end) * row);
  }
}

namespace {

template <int Bytes>
bool pick_narrow(const ScatterArgs& a, const int64_t* at, const char* x, char* to) {
  return !any_part(a.edges, a.threads, [&](int64_t begin, int64_t end) -> uint64_t {
    const uint64_t rows = static_cast<uint64_t>(a.rows);
    uint64_t bad = 0;
    for (int64_t e = begin; e < end; ++e) {
      const uint64_t row = static_cast<uint64_t>(at[e]);
      bad |= row >= rows;
      std::memcpy(to + e * Bytes, x + (row < rows ? row : 0) * Bytes, Bytes);
    }
    return bad;
  });
}

// Rows of so few bytes that a copy is a move or two.
bool pick_words(const ScatterArgs& a, const int64_t* at, const char* x, char* to, int64_t bytes) {
  if (a.rows == 0) return false;
  switch (bytes) {
    case 1: return pick_narrow<1>(a, at, x, to);
    case 2: return pick_narrow<2>(a, at, x, to);
    case 4: return pick_narrow<4>(a, at, x, to);
    case 8: return pick_narrow<8>(a, at, x, to);
    case 16: return pick_narrow<16>(a, at, x, to);
    default: return pick_narrow<32>(a, at, x, to);
  }
}

}  // namespace

bool scatter_pick(const ScatterArgs& given, const ScatterIndex& index, int64_t bytes) {
  const ScatterArgs a = alone_if_few(given);
  const char* src = static_cast<const char*>(a.src);
  char* out = static_cast<char*>(a.out);
  const int64_t row = a.width * bytes;
  if (a.edges * row * a.batches == 0) return true;
  for (int64_t b = 0; b < a.batches; ++b) {
    const int64_t* at = index.at + b * index.batch_stride;
    const char* x = src + b * a.rows * row;
    char* to = out + b * a.edges * row;
    if (index.column_stride == 0 && row <= 32 && !(row & (row - 1))) {
      if (!pick_words(a, at, x, to, row)) return false;
      continue;
    }
    if (index.column_stride == 0) {
      if ((b == 0 || index.batch_stride) && !in_range(at, a.edges, a.rows, a.threads)) return false;
      take_rows(RowsArgs{x, at, to, a.edges, row, row, row, true, true, a.threads});
      continue;
    }
    const uint64_t bad = any_part(a.edges, a.threads, [&](int64_t begin, int64_t end) -> uint64_t {
      for (int64_t e = begin; e < end; ++e)
        for (int64_t k = 0; k < a.width; ++k) {
          const int64_t r = at[e * index.edge_stride + k * index.column_stride];
          if (static_cast<uint64_t>(r) >= static_cast<uint64_t>(a.rows)) return 1;
          std::memcpy(to + e * row + k * bytes, x + r * row + k * bytes, bytes);
        }
      return 0;
    });
    if (bad) return false;
  }
  return true;
}

namespace {

template <class N>
void put_numbers(const ScatterArgs& a) {
  const N* src = static_cast<const N*>(a.src);
  N* out = static_cast<N*>(a.out);
  for (int64_t b = 0; b < a.batches; ++b) {
    const int64_t size = a.rows * a.width;
    const int64_t* arg = a.arg + b * size;
    const N* from = src + b * size;
    N* to = out + b * a.edges * a.width;
    // no value wins twice
    any_part(a.rows, a.width < 16 ? a.threads : a.rows > 64 ? a.threads : 1,
             [&](int64_t begin, int64_t end) -> uint64_t {
               for (int64_t r = begin; r < end; ++r)
                 for (int64_t k = 0; k < a.width; ++k) {
                   const int64_t i = r * a.width + k;
                   if (static_cast<uint64_t>(arg[i]) < static_cast<uint64_t>(a.edges))
                     to[arg[i] * a.width + k] = from[i];
                 }
               return 0;
             });
  }
}

}  // namespace

void scatter_put(const ScatterArgs& args, int64_t bytes) {
  if (bytes == 8) return put_numbers<int64_t>(args);
  if (bytes == 4) return put_numbers<int32_t>(args);
  if (bytes == 2) return put_numbers<int16_t>(args);
  put_numbers<char>(args);
}

}  // namespace GK_ISA
