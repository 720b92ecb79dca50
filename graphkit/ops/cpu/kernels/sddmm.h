#pragma once
#include "common.h"

struct SddmmArgs {
  Side side;
  const void* a;  // [rows, heads, channels], rows a_stride elements apart
  const void* b;  // [columns, heads, channels], rows b_stride elements apart
  void* out;      // [edges, heads] in the caller's order
  int64_t a_stride, b_stride, columns, heads, channels;
  DType dtype;
  int threads;
};

GK_KERNEL(void sddmm(const SddmmArgs& args))
