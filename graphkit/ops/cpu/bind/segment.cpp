#include "../kernels/segment.h"

#include "bind.h"

namespace {

// What a kernel writes decides how much memory is asked for; rows are those of the side.
template <class Kernel>
void run(const Side& side, uintptr_t values, int64_t stride, uintptr_t other, uintptr_t third,
         uintptr_t out, int64_t out_rows, int64_t width, bool flag, int dtype, int threads,
         const Kernel& kernel) {
  SegmentArgs args{};
  args.side = side;
  args.values = at(values);
  args.value_stride = stride;
  args.other = at(other);
  args.third = at(third);
  args.width = width;
  args.flag = flag;
  args.dtype = static_cast<DType>(dtype);
  args.out = fresh(out, out_rows * width * size_of(args.dtype));
  args.threads = usable(threads);
  nb::gil_scoped_release unlocked;
  kernel(args);
}

}  // namespace

void bind_segment(nb::module_& m) {
  m.def("valid_ptr", [](uintptr_t ptr, int64_t rows, int64_t slots, int threads) {
    nb::gil_scoped_release unlocked;
    return GK_PICK(valid_ptr)(static_cast<const int64_t*>(at(ptr)), rows, slots, usable(threads));
  });
  m.def("segment_gather", [](const Side& side, uintptr_t values, int64_t stride, uintptr_t out,
                             int64_t width, int64_t bytes, int threads) {
    SegmentArgs args{};
    args.side = side;
    args.values = at(values);
    args.value_stride = stride;
    args.width = width;
    args.out = fresh(out, side.slots() * width * bytes);
    args.threads = usable(threads);
    nb::gil_scoped_release unlocked;
    GK_PICK(segment_gather)(args, bytes);
  });
#define GK_DEFINE(name)                                                                          \
  m.def(#name, [](const Side& side, uintptr_t values, int64_t stride, uintptr_t other,           \
                  uintptr_t third, uintptr_t out, int64_t out_rows, int64_t width, bool flag,    \
                  int dtype, int threads) {                                                      \
    run(side, values, stride, other, third, out, out_rows, width, flag, dtype, threads,          \
        [](const SegmentArgs& args) { GK_PICK(name)(args); });                                   \
  });
  GK_DEFINE(segment_reduce)
  GK_DEFINE(segment_extreme)
  GK_DEFINE(segment_share)
  GK_DEFINE(segment_softmax)
  GK_DEFINE(segment_softmax_backward)
#undef GK_DEFINE
}
