#pragma once
#include "common.h"

struct DropoutArgs {
  const void* x;  // [count]; of relu_dropout_backward the gradient of the output
  const void* y;  // [count], the output, for relu_dropout_backward alone
  void* out;      // [count]
  int64_t count;
  uint64_t seed;
  uint64_t below;  // kept where 32 random bits are below this, 0 to 2**32
  double scale;
  bool relu;
  DType dtype;
  int threads;
};

GK_KERNEL(void dropout(const DropoutArgs& args))
GK_KERNEL(void relu_dropout_backward(const DropoutArgs& args))
