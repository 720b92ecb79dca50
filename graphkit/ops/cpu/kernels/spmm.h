#pragma once
#include "common.h"

struct SpmmArgs {
  Side side;
  const void* x;      // [columns, heads, channels], rows x_stride elements apart
  const void* w;      // [edges, weight_heads] in the caller's order, or null
  const void* left;   // acc [rows], or null
  const void* right;  // acc [columns], or null
  const void* diag;   // acc [rows], or null: adds diag[r] * right[r] * x[r]
  void* out;          // [rows, heads, channels]
  int64_t x_stride, heads, channels, weight_heads;
  bool mean;
  DType dtype;
  int threads;
};

GK_KERNEL(void spmm(const SpmmArgs& args))
