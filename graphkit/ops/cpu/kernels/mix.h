#pragma once
#include "common.h"

// Channel 0 is low[:, :width], channel 1 rest[:, :width] - low[:, width:], channel 2 rest[:, width:],
// channel 3, if any, structure. "acc" is the accumulator.
struct MixArgs {
  const void* low;        // [rows, 2 width], rows low_stride elements apart
  const void* rest;       // [rows, 2 width], rows rest_stride elements apart
  const void* structure;  // [rows, width], dense, or null: three channels
  const void* att;        // acc [channels, width]
  const void* shift;      // acc [channels], or null: 0
  const void* mix;        // acc [channels, channels]
  const void* dy;         // [rows, width], rows dy_stride elements apart: the gradient of out
  const void* dweights;   // acc [rows, channels], or null: 0
  void* weights;          // acc [rows, channels]
  void* gates;            // acc [rows, channels]
  void* out;              // [rows, width]
  void* dlow;             // [rows, 2 width], dense
  void* drest;            // [rows, 2 width], dense
  void* dstructure;       // [rows, width], dense, or null
  void* datt;             // acc [channels, width]
  void* dshift;           // acc [channels]
  void* dmix;             // acc [channels, channels]
  int64_t rows, width, low_stride, rest_stride, dy_stride;
  double scale, eps;  // eps below 0: no norm
  bool relu, final_relu;
  DType dtype;
  int threads;
};

// out, weights and gates
GK_KERNEL(void mix(const MixArgs& args))
// the gradients; weights and gates are those of the forward pass
GK_KERNEL(void mix_backward(const MixArgs& args))
