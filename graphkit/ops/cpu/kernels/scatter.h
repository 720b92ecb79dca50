#pragma once
#include "common.h"

enum ScatterReduce { kSum = 0, kMean = 1, kMul = 2, kMin = 3, kMax = 4, kTop = 5 };
// the dtypes of common.h, and those that only this family takes
enum ScatterDType { kFloat16 = 3, kInt32 = 4, kInt64 = 5 };

// src [batches, edges, width] is reduced to out [batches, rows, width], all dense. Mean is for
// floating-point values, and so is the top: the largest, -inf in an empty row. Whole numbers wrap.
struct ScatterArgs {
  const void* src;
  void* out;
  int64_t* arg;  // as out: the edge of the value that won, `edges` where none did; may be null
  int64_t batches, edges, width, rows;
  int reduce, dtype;
  int threads;
};

// The row of edge e of batch b is index[b * batch_stride + e]; with a column stride other than 0
// that of each number is index[b * batch_stride + e * edge_stride + k * column_stride].
struct ScatterIndex {
  const int64_t* at;
  int64_t batch_stride, edge_stride, column_stride;
};

enum OffsetsFlag { kBad = 0, kUnsorted = 1, kSorted = 2 };

// false: an index is out of range, and out is to be thrown away. An empty row becomes 0, or 1 under
// a product. Of equals the first wins, a nan never does.
GK_KERNEL(bool scatter(const ScatterArgs& args, const ScatterIndex& index))
// the same for rows ptr[b * ptr_stride + r] to the next one, which were checked
GK_KERNEL(void segments(const ScatterArgs& args, const int64_t* ptr, int64_t ptr_stride))
// whether every batch of ptr starts at 0, never falls, and ends by `size`
GK_KERNEL(bool valid_offsets(const int64_t* ptr, int64_t batches, int64_t rows, int64_t size, int threads))
// out[b, e, k] = src[b, r, k] for the places e of row r, 0 behind the last row; src is
// [batches, rows, width] here
GK_KERNEL(void segments_spread(const ScatterArgs& args, const int64_t* ptr, int64_t ptr_stride, int64_t bytes))
// out[b, e, k] = x[b, row of b, e (and k), k], for elements of any `bytes`; false as above
GK_KERNEL(bool scatter_pick(const ScatterArgs& args, const ScatterIndex& index, int64_t bytes))
// out[b, arg[b, r, k], k] = src[b, r, k]; out holds zeros. src is [batches, rows, width] here.
GK_KERNEL(void scatter_put(const ScatterArgs& args, int64_t bytes))
// How index [edges] lies; if sorted, its offsets are written to ptr [rows + 1].
GK_KERNEL(int index_offsets(const int64_t* index, int64_t edges, int64_t rows, int64_t* ptr, int threads))
// the largest of index, or -1 if there is none, or a negative one is the smallest
GK_KERNEL(int64_t index_largest(const int64_t* index, int64_t count, int threads))
