#include "../kernels/touch.h"

#include "bind.h"

namespace {

void touch(const Side& side, uintptr_t x, int64_t width, uintptr_t sink, int threads) {
  const TouchArgs args{side, static_cast<const float*>(at(x)), width,
                       static_cast<double*>(to(sink)), usable(threads)};
  nb::gil_scoped_release unlocked;
  GK_PICK(touch)(args);
}

}  // namespace

void bind_touch(nb::module_& m) { m.def("touch", &touch); }
