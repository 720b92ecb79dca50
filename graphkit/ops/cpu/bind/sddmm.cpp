#include "../kernels/sddmm.h"

#include "bind.h"

namespace {

void sddmm(const Side& side, uintptr_t a, int64_t a_stride, uintptr_t b, int64_t b_stride,
           int64_t columns, uintptr_t out, int64_t heads, int64_t channels, int dtype, int threads) {
  SddmmArgs args{};
  args.side = side;
  args.a = at(a);
  args.a_stride = a_stride;
  args.b = at(b);
  args.b_stride = b_stride;
  args.columns = columns;
  args.heads = heads;
  args.channels = channels;
  args.dtype = static_cast<DType>(dtype);
  args.out = fresh(out, side.slots() * heads * size_of(args.dtype));
  args.threads = usable(threads);
  nb::gil_scoped_release unlocked;
  GK_PICK(sddmm)(args);
}

}  // namespace

void bind_sddmm(nb::module_& m) { m.def("sddmm", &sddmm); }
