#include "../kernels/dropout.h"

#include "bind.h"

namespace {

void dropout(uintptr_t x, uintptr_t out, int64_t count, uint64_t seed, uint64_t below,
             double scale, bool relu, int dtype, int threads) {
  DropoutArgs args{};
  args.x = at(x);
  args.count = count;
  args.seed = seed;
  args.below = below;
  args.scale = scale;
  args.relu = relu;
  args.dtype = static_cast<DType>(dtype);
  args.out = fresh(out, count * size_of(args.dtype));
  args.threads = usable(threads);
  nb::gil_scoped_release unlocked;
  GK_PICK(dropout)(args);
}

void relu_dropout_backward(uintptr_t dy, uintptr_t y, uintptr_t out, int64_t count, double scale,
                           int dtype, int threads) {
  DropoutArgs args{};
  args.x = at(dy);
  args.y = at(y);
  args.count = count;
  args.scale = scale;
  args.dtype = static_cast<DType>(dtype);
  args.out = fresh(out, count * size_of(args.dtype));
  args.threads = usable(threads);
  nb::gil_scoped_release unlocked;
  GK_PICK(relu_dropout_backward)(args);
}

}  // namespace

void bind_dropout(nb::module_& m) {
  m.def("dropout", &dropout);
  m.def("relu_dropout_backward", &relu_dropout_backward);
}
