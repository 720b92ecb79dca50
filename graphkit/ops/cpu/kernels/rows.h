#pragma once
#include "common.h"

// Copies rows of `bytes` bytes, which stand `x_stride` apart in x, to rows that stand `out_stride`
// apart in out; the index was checked. Pages that nobody wrote to yet are zeroed by the system in the
// caches, where what is written next finds them: a new result is not streamed past them.
struct RowsArgs {
  const void* x;
  const void* index;  // int32 or int64
  void* out;
  int64_t rows, bytes, x_stride, out_stride;
  bool idx64, is_new;
  int threads;
};

GK_KERNEL(void take_rows(const RowsArgs& args))
