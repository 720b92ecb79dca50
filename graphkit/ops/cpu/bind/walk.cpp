#include "../kernels/walk.h"

#include <nanobind/stl/vector.h>

#include <vector>

#include "bind.h"

namespace {

int64_t* numbers(uintptr_t address) { return static_cast<int64_t*>(to(address)); }

// What node2vec makes of the kinds of steps: weights, and chances of 2**53.
struct Bias {
  bool second;
  double back_weight, far_weight;
  int64_t back, near, far;
};

// `sums`: an address for each side, 0 for none.
void walk(const std::vector<Side>& of, const std::vector<uintptr_t>& sums, const Bias& bias, 
          uintptr_t start, uintptr_t number, int64_t walks, int64_t length, uint64_t word, bool ends, int64_t stop, uintptr_t node,
          uintptr_t edge, int threads) {
  WalkArgs args{};
  std::vector<WalkSide> sides;
  for (size_t i = 0; i < of.size(); ++i)
    sides.push_back({of[i], static_cast<const int64_t*>(at(sums[i]))});
  args.sides = sides.data();
  args.num_sides = static_cast<int>(sides.size());
  args.start = static_cast<const int64_t*>(at(start));
  args.number = static_cast<const int64_t*>(at(number));
  args.walks = walks;
  args.length = length;
  args.word = word;
  args.ends = ends;
  args.stop = stop;
  args.second = bias.second;
  args.back_weight = bias.back_weight;
  args.far_weight = bias.far_weight;
  args.back = bias.back;
  args.near = bias.near;
  args.far = bias.far;
  args.node = static_cast<int64_t*>(fresh(node, walks * (length + 1) * 8));
  args.edge = edge ? static_cast<int64_t*>(fresh(edge, walks * length * 8)) : nullptr;
  args.threads = usable(threads);
  nb::gil_scoped_release unlocked;
  GK_PICK(walk)(args);
}

bool push(const Side& of, uintptr_t seed, int64_t seeds, uint64_t alpha, int64_t least,
          int64_t top, uintptr_t node, uintptr_t mass, uintptr_t count, int threads) {
  PushArgs args{of, static_cast<const int64_t*>(at(seed)), seeds, alpha, least, top,
                numbers(node), numbers(mass), numbers(count), usable(threads)};
  nb::gil_scoped_release unlocked;
  return GK_PICK(push)(args);
}

}  // namespace

void bind_walk(nb::module_& m) {
  nb::class_<Bias>(m, "WalkBias")
      .def("__init__", [](Bias* bias, bool second, double back_weight, double far_weight,
                          int64_t back, int64_t near, int64_t far) {
        new (bias) Bias{second, back_weight, far_weight, back, near, far};
      });
  m.def("walk", &walk);
  m.def("push", &push);
}
