#pragma once
#include "common.h"

// The neighbours of node n, strictly rising: slots begin[n] to end[n] of idx.
struct Neighbors {
  const void* idx;
  const int64_t *begin, *end;
  bool idx64;
  int64_t nodes, slots;  // slots: how many idx holds, in rows or not
};

// Sets are numbered: 0 what both ends have, 1 the first end alone, 2 the second alone.
struct IntersectArgs {
  Neighbors of;
  const int64_t *first, *second;  // [count]: the two ends of each pair
  int64_t count;
  bool keep_ends;        // whether a pair's own ends may be in its sets
  int sets;              // 1 or 3
  int64_t* ptr[3];       // [count + 1]: offsets of each set, written by intersect_count
  void* out[3];          // nodes of each set, as wide as idx
  const double* weight;  // [nodes]: what a common neighbour adds to the score, or null: 1
  float* score;          // [count]
  int threads;
};

// Whether the columns of every row rise strictly.
GK_KERNEL(bool rows_rise(const Side& side, int threads))
// The columns of every row, rising and without repeats, in out[ptr[r]] to out[end[r]].
GK_KERNEL(void sort_rows(const Side& side, void* out, int64_t* end, int threads))
GK_KERNEL(void intersect_count(const IntersectArgs& args))
GK_KERNEL(void intersect_fill(const IntersectArgs& args))
GK_KERNEL(void intersect_score(const IntersectArgs& args))
