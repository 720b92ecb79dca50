// Sampled dense times dense. Slots are shared out, not rows: their products are independent, so
// that a hub is cut wherever it suits. The rows of some slots are read in slices of a few lines, as
// spmm takes them; what a product has summed up stays in the first-level cache until the next slice.
#include "sddmm.h"

#include "dot.h"
#include "parallel.h"

namespace GK_ISA {
namespace {

constexpr int64_t kChunk = 4096, kTile = 128;

// Some slots: their rows of a and b, the row of b of a later slot, and where the product belongs.
template <class T>
struct Slots {
  const T *left[kTile], *right[kTile], *ahead[kTile];
  T* out[kTile];
  int64_t count;
};

// The products over [at, at + channels) of each slot, in P partial sums.
template <class T, int P>
void dot_tile(const Slots<T>& tile, int64_t at, int64_t channels, int64_t head, bool sliced) {
  typedef acc_t<T> A;
  constexpr int L = kLanes<T>, R = P / L;
  const int64_t slice = sliced ? P > kLines<T> * L ? P : kLines<T> * L : channels;
  A parts[kTile][P], quads[kTile * kQuad], dots[kTile];
  int64_t from = 0;
  do {
    const int64_t to = channels - from > slice ? from + slice : channels;
    const int64_t bytes = (to - from) * static_cast<int64_t>(sizeof(T));
    for (int64_t s = 0; s < tile.count; ++s) {
      if (sliced) prefetch_row(tile.ahead[s] + at + from, bytes);
      const T *left = tile.left[s] + at, *right = tile.right[s] + at;
      vec<A, L> sum[R] = {};
      if (from)
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) sum[r] = load<L>(parts[s] + r * L);
      const auto term = [&](int64_t c, auto lanes) {
        constexpr int N = decltype(lanes)::value;
        return load<N>(left + c) * load<N>(right + c);
      };
      add_columns<T, P>(from, to, term, sum);
      if (to == channels)
        fold<A, L, R>(sum, quads + s * kQuad);
      else
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) store<L>(parts[s] + r * L, sum[r]);
    }
    from = to;
  } while (from < channels);
  join(quads, tile.count, dots);
  for (int64_t s = 0; s < tile.count; ++s) store_one(tile.out[s] + head, dots[s]);
}

template <class T, class I>
void dot_slots(const SddmmArgs& args, int64_t begin, int64_t end) {
  const Side& side = args.side;
  const I* idx = static_cast<const I*>(side.idx);
  const T *a = static_cast<const T*>(args.a), *b = static_cast<const T*>(args.b);
  T* out = static_cast<T*>(args.out);
  const int64_t slots = side.slots(), channels = args.channels;
  // rows that stay in the second-level cache are read as a whole
  const bool sliced = args.columns * args.heads * channels * sizeof(T) > (int64_t{1} << 21);
  int64_t row = row_of(side.ptr, side.rows, begin);
  Slots<T> tile;
  for (int64_t first = begin; first < end; first += tile.count) {
    tile.count = end - first < kTile ? end - first : kTile;
    for (int64_t s = 0; s < tile.count; ++s) {
      const int64_t e = first + s, ahead = e + kAhead < slots ? e + kAhead : e;
      while (side.ptr[row + 1] <= e) ++row;
      tile.left[s] = a + row * args.a_stride;
      tile.right[s] = b + static_cast<int64_t>(idx[e]) * args.b_stride;
      tile.ahead[s] = b + static_cast<int64_t>(idx[ahead]) * args.b_stride;
      tile.out[s] = out + side.edge(e) * args.heads;
      if (side.eid) prefetch_line(tile.out[s]);
    }
    for (int64_t head = 0; head < args.heads; ++head)
      if (channels < kWide)
        dot_tile<T, kPartials<T>>(tile, head * channels, channels, head, sliced);
      else
        dot_tile<T, 2 * kPartials<T>>(tile, head * channels, channels, head, sliced);
  }
}

template <class T>
void sddmm_stored(const SddmmArgs& args) {
  const int64_t slots = args.side.slots();
  parallel((slots + kChunk - 1) / kChunk, args.threads, [&](int64_t i) {
    const int64_t begin = i * kChunk, end = slots - begin > kChunk ? begin + kChunk : slots;
    args.side.idx64 ? dot_slots<T, int64_t>(args, begin, end)
                    : dot_slots<T, int32_t>(args, begin, end);
  });
}

}  // namespace

void sddmm(const SddmmArgs& args) {
  if (args.dtype == kFloat)
    sddmm_stored<float>(args);
  else if (args.dtype == kDouble)
    sddmm_stored<double>(args);
  else
    sddmm_stored<bf16>(args);
}

}  // namespace GK_ISA
