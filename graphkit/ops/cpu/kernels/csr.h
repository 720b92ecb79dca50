#pragma once
#include "common.h"

// The ends of edges: int64 if wide, else int32.
struct EdgesArgs {
  const void *src, *dst;
  bool wide;
  int64_t edges, num_src, num_dst;
  int threads;
};

enum EdgesFlag { kOutOfRange = 1, kSortedBySrc = 2, kSortedByDst = 4 };

struct CsrArgs {
  const void *rows, *columns;  // of each edge: int64 if wide, else int32
  bool wide;
  bool idx64, eid64;  // of what is written
  bool sorted;        // the rows already are
  int64_t edges, num_rows;
  int64_t* ptr;   // [num_rows + 1]
  void* idx;      // [edges]
  void* eid;      // [edges]
  void* scratch;  // csr_scratch() bytes
  int threads;
};

// the flags of EdgesFlag that hold; the order is known only where all ends are in range
GK_KERNEL(int check_edges(const EdgesArgs& args))
// The edges in the order of their rows, and in their own order inside each row.
GK_KERNEL(void csr(const CsrArgs& args))
GK_KERNEL(int64_t csr_scratch(const CsrArgs& args))

struct LoopsArgs {
  Side side;
  int64_t* count;  // [rows]: how many slots of row r have column r, or null
  bool* mask;      // [edges] in the caller's order: whether an edge is such a slot, or null
  int threads;
};

GK_KERNEL(void self_loops(const LoopsArgs& args))

struct RowIdsArgs {
  const int64_t* ptr;  // [rows + 1], from 0 to edges
  int64_t rows, edges;
  int64_t* out;  // [edges]: the row of each slot
  int threads;
};

GK_KERNEL(void row_ids(const RowIdsArgs& args))
