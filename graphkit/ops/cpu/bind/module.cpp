// The Python module: addresses and sizes in, nothing out. The instruction set is chosen when it is
// loaded, and may be changed for tests.
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <new>
#include <string>
#include <vector>

#if defined(__linux__) || defined(__APPLE__)
#include <pthread.h>
#include <sys/mman.h>
#endif

#include "bind.h"

namespace {

const char* const kNames[] = {"baseline", "avx2", "avx512"};

Level best() {
#if defined(GK_HAS_avx2)
  __builtin_cpu_init();
  const bool two = __builtin_cpu_supports("avx2");
#if defined(GK_HAS_avx512)
  if (two && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    return kAvx512;
#endif
  if (two) return kAvx2;
#endif
  return kBaseline;
}

Level chosen = kBaseline;
// OpenMP's threads do not survive a fork
bool forked = false;

}  // namespace

Level level() { return chosen; }

int usable(int threads) { return forked || threads < 1 ? 1 : threads; }

void out_of_memory() { throw std::bad_alloc(); }

void* fresh(uintptr_t address, int64_t bytes) {
#if defined(MADV_HUGEPAGE)
  constexpr uintptr_t huge = 2 << 20;
  const uintptr_t begin = (address + huge - 1) / huge * huge, end = (address + bytes) / huge * huge;
  if (begin < end) madvise(to(begin), end - begin, MADV_HUGEPAGE);
#endif
  return to(address);
}

NB_MODULE(_kernels, m) {
  // a worker that was started afresh ends with what it was given: nothing is to be said of that
  nb::set_leak_warnings(false);
  chosen = best();
#if defined(__linux__) || defined(__APPLE__)
  pthread_atfork(nullptr, nullptr, [] { forked = true; });
#endif
  m.def("instruction_set", [] { return std::string(kNames[chosen]); });
  m.def("instruction_sets", [] {
    return std::vector<std::string>(kNames, kNames + static_cast<int>(best()) + 1);
  });
  m.def("choose", [](const std::string& name) {
    for (int set = kBaseline; set <= static_cast<int>(best()); ++set)
      if (name == kNames[set]) {
        chosen = static_cast<Level>(set);
        return true;
      }
    return false;
  });
  m.def("threaded", [] {
#if defined(_OPENMP)
    return true;
#else
    return false;
#endif
  });
  nb::class_<Side>(m, "Side").def(
      "__init__", [](Side* side, uintptr_t ptr, uintptr_t idx, uintptr_t eid, bool idx64,
                     bool eid64, int64_t rows) {
        new (side)
            Side{static_cast<const int64_t*>(at(ptr)), at(idx), at(eid), idx64, eid64, rows};
      });
  bind_spmm(m);
  bind_csr(m);
  bind_segment(m);
  bind_extreme(m);
  bind_sddmm(m);
  bind_intersect(m);
  bind_dropout(m);
  bind_mix(m);
  bind_attention(m);
  bind_sample(m);
  bind_negatives(m);
  bind_walk(m);
  bind_rows(m);
  bind_scatter(m);
  bind_touch(m);
}
