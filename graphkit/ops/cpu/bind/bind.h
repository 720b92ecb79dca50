// What the bindings share: the instruction set in use, threads, addresses, and a graph's side.
#pragma once
#include <nanobind/nanobind.h>

#include "../kernels/common.h"

namespace nb = nanobind;

enum Level { kBaseline, kAvx2, kAvx512 };
Level level();
// the threads a kernel may use of those that were asked for: one in a forked child
int usable(int threads);
// Asks for huge pages below a large new array: at 4 KiB each, page faults outweigh the kernels.
void* fresh(uintptr_t address, int64_t bytes);

// The kernel of the instruction set in use.
#if defined(GK_HAS_avx512)
#define GK_PICK(kernel) \
  (level() == kAvx512 ? avx512::kernel : level() == kAvx2 ? avx2::kernel : baseline::kernel)
#elif defined(GK_HAS_avx2)
#define GK_PICK(kernel) (level() == kAvx2 ? avx2::kernel : baseline::kernel)
#else
#define GK_PICK(kernel) baseline::kernel
#endif

inline const void* at(uintptr_t address) { return reinterpret_cast<const void*>(address); }
inline void* to(uintptr_t address) { return reinterpret_cast<void*>(address); }
inline int64_t size_of(DType dtype) { return dtype == kDouble ? 8 : dtype == kFloat ? 4 : 2; }

void bind_spmm(nb::module_& m);
void bind_csr(nb::module_& m);
void bind_segment(nb::module_& m);
void bind_extreme(nb::module_& m);
void bind_sddmm(nb::module_& m);
void bind_intersect(nb::module_& m);
void bind_dropout(nb::module_& m);
void bind_mix(nb::module_& m);
void bind_attention(nb::module_& m);
void bind_sample(nb::module_& m);
void bind_negatives(nb::module_& m);
void bind_walk(nb::module_& m);
void bind_rows(nb::module_& m);
void bind_scatter(nb::module_& m);
void bind_touch(nb::module_& m);
