#include "../kernels/scatter.h"

#include "bind.h"

namespace {

ScatterArgs arguments(uintptr_t src, uintptr_t out, uintptr_t arg, int64_t batches, int64_t edges,
                      int64_t width, int64_t rows, int reduce, int dtype, int threads) {
  ScatterArgs args{};
  args.src = at(src);
  args.out = to(out);
  args.arg = static_cast<int64_t*>(to(arg));
  args.batches = batches;
  args.edges = edges;
  args.width = width;
  args.rows = rows;
  args.reduce = reduce;
  args.dtype = dtype;
  args.threads = usable(threads);
  return args;
}

ScatterIndex numbers(uintptr_t index, int64_t batch, int64_t edge, int64_t column) {
  return ScatterIndex{static_cast<const int64_t*>(at(index)), batch, edge, column};
}

bool scatter(uintptr_t src, uintptr_t index, int64_t batch, int64_t edge, int64_t column,
             uintptr_t out, uintptr_t arg, int64_t batches, int64_t edges, int64_t width,
             int64_t rows, int reduce, int dtype, int64_t bytes, int threads) {
  const ScatterArgs args =
      arguments(src, out, arg, batches, edges, width, rows, reduce, dtype, threads);
  fresh(out, batches * rows * width * bytes);
  nb::gil_scoped_release unlocked;
  return GK_PICK(scatter)(args, numbers(index, batch, edge, column));
}

void segments(uintptr_t src, uintptr_t ptr, int64_t ptr_stride, uintptr_t out, uintptr_t arg,
              int64_t batches, int64_t edges, int64_t width, int64_t rows, int reduce, int dtype,
              int64_t bytes, int threads) {
  const ScatterArgs args =
      arguments(src, out, arg, batches, edges, width, rows, reduce, dtype, threads);
  fresh(out, batches * rows * width * bytes);
  nb::gil_scoped_release unlocked;
  GK_PICK(segments)(args, static_cast<const int64_t*>(at(ptr)), ptr_stride);
}

void segments_spread(uintptr_t src, uintptr_t ptr, int64_t ptr_stride, uintptr_t out,
                     int64_t batches, int64_t edges, int64_t width, int64_t rows, int64_t bytes,
                     int threads) {
  const ScatterArgs args = arguments(src, out, 0, batches, edges, width, rows, 0, 0, threads);
  fresh(out, batches * edges * width * bytes);
  nb::gil_scoped_release unlocked;
  GK_PICK(segments_spread)(args, static_cast<const int64_t*>(at(ptr)), ptr_stride, bytes);
}

bool scatter_pick(uintptr_t x, uintptr_t index, int64_t batch, int64_t edge, int64_t column,
                  uintptr_t out, int64_t batches, int64_t edges, int64_t width, int64_t rows,
                  int64_t bytes, int threads) {
  const ScatterArgs args = arguments(x, out, 0, batches, edges, width, rows, 0, 0, threads);
  fresh(out, batches * edges * width * bytes);
  nb::gil_scoped_release unlocked;
  return GK_PICK(scatter_pick)(args, numbers(index, batch, edge, column), bytes);
}

void scatter_put(uintptr_t src, uintptr_t arg, uintptr_t out, int64_t batches, int64_t edges,
                 int64_t width, int64_t rows, int64_t bytes, int threads) {
  const ScatterArgs args = arguments(src, out, arg, batches, edges, width, rows, 0, 0, threads);
  nb::gil_scoped_release unlocked;
  GK_PICK(scatter_put)(args, bytes);
}

}  // namespace

void bind_scatter(nb::module_& m) {
  m.def("scatter", &scatter);
  m.def("segments", &segments);
  m.def("segments_spread", &segments_spread);
  m.def("valid_offsets", [](uintptr_t ptr, int64_t batches, int64_t rows, int64_t size,
                            int threads) {
    nb::gil_scoped_release unlocked;
    return GK_PICK(valid_offsets)(static_cast<const int64_t*>(at(ptr)), batches, rows, size,
                                  usable(threads));
  });
  m.def("scatter_pick", &scatter_pick);
  m.def("scatter_put", &scatter_put);
  m.def("index_offsets", [](uintptr_t index, int64_t edges, int64_t rows, uintptr_t ptr,
                            int threads) {
    nb::gil_scoped_release unlocked;
    return GK_PICK(index_offsets)(static_cast<const int64_t*>(at(index)), edges, rows,
                                  static_cast<int64_t*>(to(ptr)), usable(threads));
  });
  m.def("index_largest", [](uintptr_t index, int64_t count, int threads) {
    nb::gil_scoped_release unlocked;
    return GK_PICK(index_largest)(static_cast<const int64_t*>(at(index)), count, usable(threads));
  });
}
