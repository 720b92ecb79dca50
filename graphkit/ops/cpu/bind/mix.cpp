#include "../kernels/mix.h"

#include "bind.h"

void bind_mix(nb::module_& m) {
  // what both passes read: rows and their strides, parameters, and how they are to be mixed
  nb::class_<MixArgs>(m, "MixArgs")
      .def("__init__", [](MixArgs* self, uintptr_t low, int64_t low_stride, uintptr_t rest,
                          int64_t rest_stride, uintptr_t structure, uintptr_t att, uintptr_t shift,
                          uintptr_t mix, double eps, bool relu, bool final_relu, double scale,
                          int64_t rows, int64_t width, int dtype, int threads) {
        MixArgs args{};
        args.low = at(low);
        args.low_stride = low_stride;
        args.rest = at(rest);
        args.rest_stride = rest_stride;
        args.structure = at(structure);
        args.att = at(att);
        args.shift = at(shift);
        args.mix = at(mix);
        args.eps = eps;
        args.relu = relu;
        args.final_relu = final_relu;
        args.scale = scale;
        args.rows = rows;
        args.width = width;
        args.dtype = static_cast<DType>(dtype);
        args.threads = usable(threads);
        new (self) MixArgs(args);
      });
  m.def("mix", [](const MixArgs& given, uintptr_t out, uintptr_t weights, uintptr_t gates) {
    MixArgs args = given;
    args.out = fresh(out, args.rows * args.width * size_of(args.dtype));
    args.weights = to(weights);
    args.gates = to(gates);
    nb::gil_scoped_release unlocked;
    GK_PICK(mix)(args);
  });
  m.def("mix_backward", [](const MixArgs& given, uintptr_t dy, int64_t dy_stride,
                           uintptr_t dweights, uintptr_t weights, uintptr_t gates, uintptr_t dlow,
                           uintptr_t drest, uintptr_t dstructure, uintptr_t datt, uintptr_t dshift,
                           uintptr_t dmix) {
    MixArgs args = given;
    const int64_t bytes = args.rows * args.width * size_of(args.dtype);
    args.dy = at(dy);
    args.dy_stride = dy_stride;
    args.dweights = at(dweights);
    args.weights = to(weights);
    args.gates = to(gates);
    args.dlow = fresh(dlow, 2 * bytes);
    args.drest = fresh(drest, 2 * bytes);
    args.dstructure = dstructure ? fresh(dstructure, bytes) : nullptr;
    args.datt = to(datt);
    args.dshift = to(dshift);
    args.dmix = to(dmix);
    nb::gil_scoped_release unlocked;
    GK_PICK(mix_backward)(args);
  });
}
