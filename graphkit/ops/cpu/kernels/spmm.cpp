// Sparse times dense, in blocks of two cache lines of a row: they stay in registers while the slots
// of the row are added in order, and wider rows take several passes. On rows that come from memory
// this is 1.3 times faster than whole rows in registers, whose prefetches are too many at once.
// Columns that do not fill the last vector are covered by one that overlaps its neighbour: the same
// sums twice, and no masks.
#include "spmm.h"

#include "blocks.h"
#include "parallel.h"

namespace GK_ISA {
namespace {

template <class T>
struct Product {
  const SpmmArgs& args;
  const T* x;
  const T* w;
  const acc_t<T>*left, *right, *diag;
  T* out;
  int64_t slots, width;  // width of a row: heads x channels
  bool streamed;

  explicit Product(const SpmmArgs& a)
      : args(a),
        x(static_cast<const T*>(a.x)),
        w(static_cast<const T*>(a.w)),
        left(static_cast<const acc_t<T>*>(a.left)),
        right(static_cast<const acc_t<T>*>(a.right)),
        diag(static_cast<const acc_t<T>*>(a.diag)),
        out(static_cast<T*>(a.out)),
        slots(a.side.slots()),
        width(a.heads * a.channels),
        streamed(streams(a.out, a.channels * sizeof(T), a.side.rows * width * sizeof(T))) {}

  const T* weight(int64_t slot, int64_t head) const {
    return w + args.side.edge(slot) * args.weight_heads + head;
  }
  acc_t<T> scale(int64_t slot, int64_t column, int64_t head) const {
    acc_t<T> s = right ? right[column] : acc_t<T>(1);
    return w ? s * load_one(weight(slot, head)) : s;
  }
};

// Columns [column, column + block) of all heads' channels, with the weights of `head`.
struct Block {
  int64_t column, size, head;
};

// Inlined by force, so that the sums stay in registers: GCC would keep them in the caller's memory.
template <class T, class I, int L, int NV, bool Scaled>
GK_INLINE void sum_slots(const Product<T>& p, const Block& b, int64_t begin, int64_t end,
                         vec<acc_t<T>, L> (&sum)[NV]) {
  const I* idx = static_cast<const I*>(p.args.side.idx);
  const T* x = p.x + b.column;
  const int64_t stride = p.args.x_stride, tail = b.size - L, slots = p.slots;
  for (int64_t e = begin; e < end; ++e) {
    if (e + kAhead < slots) {
      prefetch_row(x + static_cast<int64_t>(idx[e + kAhead]) * stride, NV * L * sizeof(T));
      if (Scaled && p.w && p.args.side.eid) prefetch_line(p.weight(e + kAhead, b.head));
    }
    const int64_t column = idx[e];
    const T* row = x + column * stride;
    if constexpr (Scaled) {
      const acc_t<T> s = p.scale(e, column, b.head);
#pragma GCC unroll 16
      for (int v = 0; v < NV; ++v) sum[v] += s * load<L>(row + (v + 1 < NV ? v * L : tail));
    } else {
#pragma GCC unroll 16
      for (int v = 0; v < NV; ++v) sum[v] += load<L>(row + (v + 1 < NV ? v * L : tail));
    }
  }
}

// What follows the sum of a row; V is a vector or one number.
template <class T, class V>
GK_INLINE V finish(const Product<T>& p, int64_t row, V sum, V own) {
  if (p.args.mean) {
    const int64_t count = p.args.side.ptr[row + 1] - p.args.side.ptr[row];
    sum = sum / static_cast<acc_t<T>>(count > 1 ? count : 1);
  }
  if (p.diag) sum += (p.right ? p.diag[row] * p.right[row] : p.diag[row]) * own;
  if (p.left) sum = p.left[row] * sum;
  return sum;
}

template <class T, class I, int L, int NV, bool Scaled>
struct Rows {
  typedef void (*Function)(const Product<T>&, const Block&, int64_t, int64_t, acc_t<T>*);

  // Rows first to last; or, with somewhere to put them, the bare sums of slots first to last.
  static void run(const Product<T>& p, const Block& b, int64_t first, int64_t last,
                  acc_t<T>* piece) {
    const int64_t* ptr = p.args.side.ptr;
    const int64_t tail = b.size - L;
    if (piece) {
      vec<acc_t<T>, L> sum[NV] = {};
      sum_slots<T, I, L, NV, Scaled>(p, b, first, last, sum);
      for (int v = 0; v < NV; ++v) store<L>(piece + b.column + (v + 1 < NV ? v * L : tail), sum[v]);
      return;
    }
    for (int64_t r = first; r < last; ++r) {
      if (is_hub(ptr, r)) continue;
      vec<acc_t<T>, L> sum[NV] = {};
      sum_slots<T, I, L, NV, Scaled>(p, b, ptr[r], ptr[r + 1], sum);
      const T* own = p.x + r * p.args.x_stride + b.column;
      T* out = p.out + r * p.width + b.column;
#pragma GCC unroll 16
      for (int v = 0; v < NV; ++v) {
        const int64_t at = v + 1 < NV ? v * L : tail;
        const auto self = p.diag ? load<L>(own + at) : vec<acc_t<T>, L>{};
        const auto total = finish(p, r, sum[v], self);
        p.streamed ? stream<L>(out + at, total) : store<L>(out + at, total);
      }
    }
    if (p.streamed) end_stream();
  }
};

template <class T, class I, bool Scaled>
void rows(const Product<T>& p, int64_t first, int64_t last, acc_t<T>* piece) {
  // one weight for all heads: they are one wide row
  const bool one = !p.w || p.args.weight_heads == 1;
  const int64_t heads = one ? 1 : p.args.heads, channels = p.width / heads;
  for (int64_t head = 0; head < heads; ++head)
    for_blocks<T, kLines<T>>(channels, [&](int64_t at, int64_t size, auto lanes, auto vectors) {
      const Block b{head * channels + at, size, head};
      Rows<T, I, decltype(lanes)::value, decltype(vectors)::value, Scaled>::run(p, b, first, last,
                                                                                piece);
    });
}

template <class T, class I, bool Scaled>
void spmm_typed(const Product<T>& p) {
  const Side& side = p.args.side;
  const Hubs hubs(side.ptr, side.rows);
  if (hubs.count) {
    const Memory<acc_t<T>> sums(hubs.count * p.width);
    parallel(hubs.count, p.args.threads, [&](int64_t i) {
      rows<T, I, Scaled>(p, hubs.pieces[i].begin, hubs.pieces[i].end, sums + i * p.width);
    });
    for (int64_t i = 0; i < hubs.count;) {
      const int64_t row = hubs.pieces[i].row, begin = i;
      while (++i < hubs.count && hubs.pieces[i].row == row) {
        for (int64_t c = 0; c < p.width; ++c)
          sums[begin * p.width + c] += sums[i * p.width + c];
      }
      for (int64_t c = 0; c < p.width; ++c) {
        const acc_t<T> own = p.diag ? load_one(p.x + row * p.args.x_stride + c) : 0;
        store_one(p.out + row * p.width + c, finish(p, row, sums[begin * p.width + c], own));
      }
    }
  }
  const auto some = [&](int64_t first, int64_t last) {
    rows<T, I, Scaled>(p, first, last, nullptr);
  };
  parallel_rows(side.ptr, side.rows, p.args.threads, some, p.width);
}

template <class T>
void spmm_stored(const SpmmArgs& args) {
  const Product<T> p(args);
  if (p.width == 0) return;
  const bool scaled = args.w || args.right;
  if (args.side.idx64)
    scaled ? spmm_typed<T, int64_t, true>(p) : spmm_typed<T, int64_t, false>(p);
  else
    scaled ? spmm_typed<T, int32_t, true>(p) : spmm_typed<T, int32_t, false>(p);
}

}  // namespace

void spmm(const SpmmArgs& args) {
  if (args.dtype == kFloat)
    spmm_stored<float>(args);
  else if (args.dtype == kDouble)
    spmm_stored<double>(args);
  else
    spmm_stored<bf16>(args);
}

}  // namespace GK_ISA
