#include "../kernels/attention.h"

#include "bind.h"

namespace {

// What both directions are called with.
struct Given {
  AttentionArgs args;

  Given(const Side& by_dst, uintptr_t h, int64_t h_stride, uintptr_t src, uintptr_t dst,
        uintptr_t edge, uintptr_t loop, uintptr_t right, int64_t right_stride, uintptr_t att,
        int64_t heads, int64_t channels, int64_t loops, double slope, int dtype, int threads)
      : args{} {
    args.by_dst = by_dst;
    args.h = at(h);
    args.h_stride = h_stride;
    args.src = at(src);
    args.dst = at(dst);
    args.edge = at(edge);
    args.loop = at(loop);
    args.right = at(right);
    args.right_stride = right_stride;
    args.att = at(att);
    args.heads = heads;
    args.channels = channels;
    args.loops = loops;
    args.slope = slope;
    args.dtype = static_cast<DType>(dtype);
    args.threads = usable(threads);
  }

  void drop(int64_t seed, uint64_t keep_below, double scale) {
    args.drops = true;
    args.seed = static_cast<uint64_t>(seed);
    args.keep_below = keep_below;
    args.scale = scale;
  }
};

void attention(const Given& given, uintptr_t out, uintptr_t top, uintptr_t total) {
  const AttentionArgs& args = given.args;
  void* y = fresh(out, args.by_dst.rows * args.heads * args.channels * size_of(args.dtype));
  nb::gil_scoped_release unlocked;
  GK_PICK(attention)(args, y, to(top), to(total));
}

void attention_backward(const Given& given, const Side& by_src, uintptr_t top, uintptr_t total,
                        uintptr_t dy, int64_t dy_stride, uintptr_t records, uintptr_t h,
                        uintptr_t src, uintptr_t dst, uintptr_t edge, uintptr_t loop,
                        uintptr_t right, uintptr_t att) {
  const AttentionArgs& args = given.args;
  const int64_t row = args.heads * args.channels * size_of(args.dtype);
  AttentionGrads grads{};
  grads.by_src = by_src;
  grads.top = at(top);
  grads.total = at(total);
  grads.dy = at(dy);
  grads.dy_stride = dy_stride;
  grads.records = to(records);
  grads.h = fresh(h, by_src.rows * row);
  grads.src = to(src);
  grads.dst = to(dst);
  grads.edge = to(edge);
  grads.loop = to(loop);
  grads.right = right ? fresh(right, args.by_dst.rows * row) : nullptr;
  grads.att = to(att);
  nb::gil_scoped_release unlocked;
  GK_PICK(attention_backward)(args, grads);
}

}  // namespace

void bind_attention(nb::module_& m) {
  nb::class_<Given>(m, "Attention")
      .def(nb::init<const Side&, uintptr_t, int64_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t,
                    uintptr_t, int64_t, uintptr_t, int64_t, int64_t, int64_t, double, int, int>())
      .def("drop", &Given::drop);
  m.def("exp", [](uintptr_t x, uintptr_t out, int64_t count, int dtype) {
    GK_PICK(exponentials)
    (static_cast<const double*>(at(x)), static_cast<double*>(to(out)), count,
     static_cast<DType>(dtype));
  });
  m.def("attention", &attention);
  m.def("attention_backward", &attention_backward);
}
