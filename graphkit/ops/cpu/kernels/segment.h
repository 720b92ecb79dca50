#pragma once
#include "common.h"

// Values [edges, width] stand in the caller's order; the slots of row r are those of side.ptr, and
// side.eid leads from a slot to its edge. side.idx is not used.
struct SegmentArgs {
  Side side;
  const void* values;  // rows value_stride elements apart
  const void* other;   // [edges, width] or [rows, width], dense: what a gradient needs besides
  const void* third;   // [rows, width], dense
  void* out;           // [rows, width] or [edges, width]
  int64_t value_stride, width;
  bool flag;  // mean, or minimum
  DType dtype;
  int threads;
};

// whether ptr [rows + 1] starts at 0, never falls, and ends at slots
GK_KERNEL(bool valid_ptr(const int64_t* ptr, int64_t rows, int64_t slots, int threads))

// out[edge] = values[row], for elements of any `bytes`
GK_KERNEL(void segment_gather(const SegmentArgs& args, int64_t bytes))
// out[row] = sum (mean) of values
GK_KERNEL(void segment_reduce(const SegmentArgs& args))
// out[row] = largest (smallest) of values, nan if there is one, 0 for an empty row
GK_KERNEL(void segment_extreme(const SegmentArgs& args))
// out[edge] = other[row] / number of the row's values equal to third[row], 0 for the rest
GK_KERNEL(void segment_share(const SegmentArgs& args))
// out[edge] = softmax of values inside the row
GK_KERNEL(void segment_softmax(const SegmentArgs& args))
// out[edge] = values * (other - sum of values * other over the row)
GK_KERNEL(void segment_softmax_backward(const SegmentArgs& args))
