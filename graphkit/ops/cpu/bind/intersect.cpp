#include "../kernels/intersect.h"

#include "bind.h"

namespace {

IntersectArgs pairs_of(const Neighbors& of, uintptr_t pairs, int64_t count, bool keep_ends,
                       int threads) {
  IntersectArgs args{};
  args.of = of;
  args.first = static_cast<const int64_t*>(at(pairs));
  args.second = args.first + count;
  args.count = count;
  args.keep_ends = keep_ends;
  args.threads = usable(threads);
  return args;
}

bool rows_rise(const Side& side, int threads) {
  nb::gil_scoped_release unlocked;
  return GK_PICK(rows_rise)(side, usable(threads));
}

void sort_rows(const Side& side, uintptr_t out, uintptr_t end, int threads) {
  void* fresh_out = fresh(out, side.slots() * (side.idx64 ? 8 : 4));
  nb::gil_scoped_release unlocked;
  GK_PICK(sort_rows)(side, fresh_out, static_cast<int64_t*>(to(end)), usable(threads));
}

// An offset array that is left out (0) means that the differences are not asked for.
void intersect_count(const Neighbors& of, uintptr_t pairs, int64_t count, bool keep_ends,
                     uintptr_t both, uintptr_t mine, uintptr_t yours, int threads) {
  IntersectArgs args = pairs_of(of, pairs, count, keep_ends, threads);
  const uintptr_t ptr[3] = {both, mine, yours};
  args.sets = mine ? 3 : 1;
  for (int set = 0; set < args.sets; ++set) args.ptr[set] = static_cast<int64_t*>(to(ptr[set]));
  nb::gil_scoped_release unlocked;
  GK_PICK(intersect_count)(args);
}

void intersect_fill(const Neighbors& of, uintptr_t pairs, int64_t count, bool keep_ends,
                    uintptr_t both, uintptr_t mine, uintptr_t yours, uintptr_t out_both,
                    uintptr_t out_mine, uintptr_t out_yours, int threads) {
  IntersectArgs args = pairs_of(of, pairs, count, keep_ends, threads);
  const uintptr_t ptr[3] = {both, mine, yours}, out[3] = {out_both, out_mine, out_yours};
  args.sets = mine ? 3 : 1;
  for (int set = 0; set < args.sets; ++set) {
    args.ptr[set] = static_cast<int64_t*>(to(ptr[set]));
    args.out[set] = fresh(out[set], args.ptr[set][count] * (of.idx64 ? 8 : 4));
  }
  nb::gil_scoped_release unlocked;
  GK_PICK(intersect_fill)(args);
}

void intersect_score(const Neighbors& of, uintptr_t pairs, int64_t count, uintptr_t weight,
                     uintptr_t score, int threads) {
  IntersectArgs args = pairs_of(of, pairs, count, false, threads);
  args.weight = static_cast<const double*>(at(weight));
  args.score = static_cast<float*>(to(score));
  nb::gil_scoped_release unlocked;
  GK_PICK(intersect_score)(args);
}

}  // namespace

void bind_intersect(nb::module_& m) {
  nb::class_<Neighbors>(m, "Neighbors")
      .def("__init__", [](Neighbors* of, uintptr_t idx, uintptr_t begin, uintptr_t end, bool idx64,
                          int64_t nodes, int64_t slots) {
        new (of) Neighbors{at(idx), static_cast<const int64_t*>(at(begin)),
                           static_cast<const int64_t*>(at(end)), idx64, nodes, slots};
      });
  m.def("rows_rise", &rows_rise);
  m.def("sort_rows", &sort_rows);
  m.def("intersect_count", &intersect_count);
  m.def("intersect_fill", &intersect_fill);
  m.def("intersect_score", &intersect_score);
}
