// Requests for cache lines.
//
// Not the builtin of the compiler: GCC takes a function that does nothing but prefetch for one without
// effects, and drops its calls wherever it does not inline it first. Attention took a third longer.
#pragma once
#include <cstdint>

namespace GK_ISA {

// into the second-level cache
inline void prefetch_line(const void* p) {
#if defined(__x86_64__)
  __asm__ volatile("prefetcht1 %0" : : "m"(*static_cast<const char*>(p)));
#else
  __builtin_prefetch(p, 0, 2);
#endif
}

// into the first, for what is wanted very soon
inline void prefetch_near(const void* p) {
#if defined(__x86_64__)
  __asm__ volatile("prefetcht0 %0" : : "m"(*static_cast<const char*>(p)));
#else
  __builtin_prefetch(p, 0, 3);
#endif
}

inline void prefetch_row(const void* p, int64_t bytes) {
  const char* at = static_cast<const char*>(p);
  for (int64_t line = 0; line < bytes; line += 64) prefetch_line(at + line);
}

}  // namespace GK_ISA
