#pragma once
#include "common.h"

// Reads the rows of float x [columns, width] that spmm reads, in its order and with its prefetches,
// and writes nothing but a sum into sink: the speed that spmm is measured against.
struct TouchArgs {
  Side side;
  const float* x;
  int64_t width;
  double* sink;
  int threads;
};

GK_KERNEL(void touch(const TouchArgs& args))
