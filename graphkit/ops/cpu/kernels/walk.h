#pragma once
#include "common.h"

// Where a step may go: rows are where a walk stands, columns where it may go.
struct WalkSide {
  Side of;
  const int64_t* sums;  // [slots + 1]: whole-number weights before each slot, or null
};

struct WalkArgs {
  const WalkSide* sides;  // [num_sides]: taken in turn, all with columns of one width
  int num_sides;
  const int64_t *start, *number;  // [walks]
  int64_t walks, length;
  uint64_t word;
  bool ends;     // whether a walk ends where there is no way on (-1 from there), or stays
  int64_t stop;  // of 2**53: the chance to end after each turn through all sides, if it may end
  // node2vec, on one side: the columns of every row rise, and steps back, to a node with a slot back to the last
  // one, and to others have these weights, and these chances of 2**53 to be taken when drawn
  bool second;
  double back_weight, far_weight;  // beside 1 for those between
  int64_t back, near, far;
  int64_t* node;  // [walks, length + 1]
  int64_t* edge;  // [walks, length], or null
  int threads;
};

// Approximate personalised PageRank, of each seed by itself. All mass is 2**60.
struct PushArgs {
  Side of;
  const int64_t* seed;  // [seeds]
  int64_t seeds;
  uint64_t alpha;  // of 2**64: the share of its mass that a node keeps
  int64_t least;   // mass for each slot from which on a node pushes
  int64_t top;
  int64_t *node, *mass;  // [seeds, top]: the largest first, of equals the lower node
  int64_t* count;        // [seeds]: how many there are
  int threads;
};

GK_KERNEL(void walk(const WalkArgs& args))
// false: there is not enough memory
GK_KERNEL(bool push(const PushArgs& args))
