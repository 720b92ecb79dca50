#include "../kernels/extreme.h"

#include "bind.h"

namespace {

uint8_t* bytes(uintptr_t address) { return static_cast<uint8_t*>(to(address)); }

void extreme(const Side& side, uintptr_t x, int64_t x_stride, uintptr_t w, int64_t weight_heads,
             uintptr_t out, uintptr_t won, uintptr_t tied, int64_t heads, int64_t channels,
             bool minimum, int dtype, int threads) {
  ExtremeArgs args{};
  args.side = side;
  args.x = at(x);
  args.x_stride = x_stride;
  args.w = at(w);
  args.weight_heads = weight_heads;
  args.heads = heads;
  args.channels = channels;
  args.minimum = minimum;
  args.dtype = static_cast<DType>(dtype);
  args.out = fresh(out, side.rows * heads * channels * size_of(args.dtype));
  args.won = bytes(won);
  if (won) fresh(won, side.slots() * heads * ((channels + 7) / 8));
  args.tied = bytes(tied);
  args.threads = usable(threads);
  nb::gil_scoped_release unlocked;
  GK_PICK(extreme)(args);
}

void to_sources(const Side& side, const Side& sources, uintptr_t dy, uintptr_t w,
                int64_t weight_heads, uintptr_t won, uintptr_t place, uintptr_t share,
                int64_t num_shares, uintptr_t dx, int64_t heads, int64_t channels, int dtype,
                int threads) {
  ExtremeBackwardArgs args{};
  args.side = side;
  args.sources = sources;
  args.dy = at(dy);
  args.w = at(w);
  args.weight_heads = weight_heads;
  args.won = bytes(won);
  args.place = static_cast<const int64_t*>(at(place));
  args.heads = heads;
  args.channels = channels;
  args.dtype = static_cast<DType>(dtype);
  const int64_t row = heads * channels * size_of(args.dtype);
  args.share = fresh(share, num_shares * row);
  args.dx = fresh(dx, sources.rows * row);
  args.threads = usable(threads);
  nb::gil_scoped_release unlocked;
  GK_PICK(extreme_to_sources)(args);
}

// What the two that compare again have in common; `to` is dx or dw.
ExtremeBackwardArgs comparing(const Side& side, uintptr_t dy, uintptr_t x, int64_t x_stride,
                              uintptr_t w, int64_t weight_heads, uintptr_t out, int64_t heads,
                              int64_t channels, int dtype, int threads) {
  ExtremeBackwardArgs args{};
  args.side = side;
  args.dy = at(dy);
  args.x = at(x);
  args.x_stride = x_stride;
  args.w = at(w);
  args.weight_heads = weight_heads;
  args.out = at(out);
  args.heads = heads;
  args.channels = channels;
  args.dtype = static_cast<DType>(dtype);
  args.threads = usable(threads);
  return args;
}

void scatter(const Side& side, uintptr_t dy, uintptr_t x, int64_t x_stride, uintptr_t w,
             int64_t weight_heads, uintptr_t out, uintptr_t dx, int64_t heads, int64_t channels,
             int dtype, int threads) {
  ExtremeBackwardArgs args = comparing(side, dy, x, x_stride, w, weight_heads, out, heads,
                                       channels, dtype, threads);
  args.dx = to(dx);
  nb::gil_scoped_release unlocked;
  GK_PICK(extreme_scatter)(args);
}

void weights(const Side& side, uintptr_t dy, uintptr_t x, int64_t x_stride, uintptr_t w,
             int64_t weight_heads, uintptr_t out, uintptr_t dw, int64_t heads, int64_t channels,
             int dtype, int threads) {
  ExtremeBackwardArgs args = comparing(side, dy, x, x_stride, w, weight_heads, out, heads,
                                       channels, dtype, threads);
  args.dw = fresh(dw, side.slots() * weight_heads * size_of(args.dtype));
  nb::gil_scoped_release unlocked;
  GK_PICK(extreme_weights)(args);
}

}  // namespace

void bind_extreme(nb::module_& m) {
  m.def("extreme", &extreme);
  m.def("extreme_to_sources", &to_sources);
  m.def("extreme_scatter", &scatter);
  m.def("extreme_weights", &weights);
}
