#pragma once
#include "common.h"

// The largest or smallest message w[e] * x[j] of each row.
struct ExtremeArgs {
  Side side;
  const void* x;   // [columns, heads, channels], rows x_stride elements apart
  const void* w;   // [edges, weight_heads] in the caller's order, or null
  void* out;       // [rows, heads, channels]
  uint8_t* won;    // [edges, heads, bytes] in the caller's order: who attained it; or null
  uint8_t* tied;   // [rows], zero where every channel has one winner; with won
  int64_t x_stride, heads, channels, weight_heads;
  bool minimum;
  DType dtype;
  int threads;
};

// Its gradients; `side` has destinations as rows.
struct ExtremeBackwardArgs {
  Side side;
  Side sources;         // by source, for extreme_to_sources
  const void* dy;       // [rows, heads, channels]
  const void* x;        // as in ExtremeArgs; with out, where won is null
  const void* w;
  const void* out;      // [rows, heads, channels]
  const uint8_t* won;   // as in ExtremeArgs
  const int64_t* place; // [rows]: where a row with ties stands in share, -1 for the others; or null
  void* share;          // dy over the number of winners, of rows with ties; with place
  void* dx;             // [columns, heads, channels]; acc and zero for extreme_scatter
  void* dw;             // [edges, weight_heads]
  int64_t x_stride, heads, channels, weight_heads;
  DType dtype;
  int threads;
};

GK_KERNEL(void extreme(const ExtremeArgs& args))
// dx from the winners' bits: each source adds up what its edges won
GK_KERNEL(void extreme_to_sources(const ExtremeBackwardArgs& args))
// dx by comparing again: each destination pays its winners, threads own columns
GK_KERNEL(void extreme_scatter(const ExtremeBackwardArgs& args))
// dw by comparing again
GK_KERNEL(void extreme_weights(const ExtremeBackwardArgs& args))
