#include "../kernels/negatives.h"

#include "bind.h"

namespace {

void sample_negatives(const Side& side, int64_t num_dst, uintptr_t src_sums, uintptr_t dst_sums,
                      bool loops, uintptr_t given, uintptr_t excluded, int64_t num_excluded,
                      uint64_t word, int64_t count, int64_t tries, uintptr_t src, uintptr_t dst,
                      int threads) {
  NegativeArgs args{};
  args.side = side;
  args.num_dst = num_dst;
  args.src_sums = static_cast<const int64_t*>(at(src_sums));
  args.dst_sums = static_cast<const int64_t*>(at(dst_sums));
  args.loops = loops;
  args.given = static_cast<const int64_t*>(at(given));
  args.excluded = static_cast<const int64_t*>(at(excluded));
  args.num_excluded = num_excluded;
  args.word = word;
  args.count = count;
  args.tries = tries;
  args.src = static_cast<int64_t*>(to(src));
  args.dst = static_cast<int64_t*>(to(dst));
  args.threads = usable(threads);
  nb::gil_scoped_release unlocked;
  GK_PICK(sample_negatives)(args);
}

}  // namespace

void bind_negatives(nb::module_& m) { m.def("sample_negatives", &sample_negatives); }
