#include "../kernels/spmm.h"

#include "bind.h"

namespace {

void spmm(const Side& side, uintptr_t x, int64_t x_stride, uintptr_t w, int64_t weight_heads,
          uintptr_t left, uintptr_t right, uintptr_t diag, uintptr_t out, int64_t heads,
          int64_t channels, bool mean, int dtype, int threads) {
  SpmmArgs args{};
  args.side = side;
  args.x = at(x);
  args.x_stride = x_stride;
  args.w = at(w);
  args.weight_heads = weight_heads;
  args.left = at(left);
  args.right = at(right);
  args.diag = at(diag);
  args.heads = heads;
  args.channels = channels;
  args.mean = mean;
  args.dtype = static_cast<DType>(dtype);
  args.out = fresh(out, side.rows * heads * channels * size_of(args.dtype));
  args.threads = usable(threads);
  nb::gil_scoped_release unlocked;
  GK_PICK(spmm)(args);
}

}  // namespace

void bind_spmm(nb::module_& m) { m.def("spmm", &spmm); }
