// What the two sides of the kernels agree on: plain numbers and addresses of dense arrays that the
// Python side has checked. "acc" is the accumulator: double for double, float for the others.
#pragma once
#include <cstdint>

enum DType { kFloat = 0, kDouble = 1, kBFloat16 = 2 };

// One sorted side of a graph: slots of row r are ptr[r] to ptr[r + 1].
struct Side {
  const int64_t* ptr;
  const void* idx;  // column of each slot, int32 or int64
  const void* eid;  // the caller's edge number of each slot, int32 or int64; null: the slot itself
  bool idx64, eid64;
  int64_t rows;

  int64_t slots() const { return rows ? ptr[rows] : 0; }
  int64_t edge(int64_t slot) const {
    if (!eid) return slot;
    return eid64 ? static_cast<const int64_t*>(eid)[slot] : static_cast<const int32_t*>(eid)[slot];
  }
};

// What a kernel calls when it gets no working memory: a MemoryError in Python.
[[noreturn]] void out_of_memory();

// Declares a kernel that is compiled once for each instruction set.
#define GK_KERNEL(signature)         \
  namespace baseline { signature; }  \
  namespace avx2 { signature; }      \
  namespace avx512 { signature; }
