#pragma once
#include "common.h"

// Shapes: D destinations, S sources, E edges, H heads, C channels, n self-loops.
struct AttentionArgs {
  Side by_dst;
  const void* h;      // [S, H, C], rows h_stride elements apart
  const void* src;    // acc [S, H]
  const void* dst;    // acc [D, H], or null
  const void* edge;   // acc [E, H] in the caller's order, or null
  const void* loop;   // acc [n, H], or null
  const void* right;  // [D, H, C], rows right_stride elements apart: GATv2, whose src is null
  const void* att;    // acc [H, C], for GATv2
  int64_t h_stride, right_stride, heads, channels;
  int64_t loops;  // n, or 0 where no node attends to itself
  double slope, scale;
  // where there is dropout: an edge is kept, and scaled, if its 32 bits are below keep_below
  uint64_t seed, keep_below;
  bool drops;
  DType dtype;
  int threads;
};

struct AttentionGrads {
  Side by_src;
  const void *top, *total;  // acc [D, H]
  const void* dy;           // [D, H, C], rows dy_stride elements apart
  int64_t dy_stride;
  // as the inputs; null where not wanted
  void *h, *src, *dst, *edge, *loop, *right, *att;
  void* records;  // acc [D, 4, H], what the second pass reads of a destination
};

GK_KERNEL(void attention(const AttentionArgs& args, void* out, void* top, void* total))
GK_KERNEL(void attention_backward(const AttentionArgs& args, const AttentionGrads& grads))
// exp of each number, computed as dtype: how far off it is, is for tests to ask
GK_KERNEL(void exponentials(const double* x, double* out, int64_t count, DType dtype))
