#pragma once
#include "common.h"

struct NegativeArgs {
  Side side;  // rows of sources, whose destinations rise
  int64_t num_dst;
  const int64_t *src_sums, *dst_sums;  // whole-number weights before each node; null: all the same
  bool loops;                          // whether a node may be paired with itself
  const int64_t* given;                // [count]: sources, or null
  const int64_t* excluded;             // rising keys source * num_dst + destination
  int64_t num_excluded;
  uint64_t word;
  int64_t count, tries;
  int64_t *src, *dst;  // [count]; src only if none are given, dst -1 where no try gave a pair
  int threads;
};

GK_KERNEL(void sample_negatives(const NegativeArgs& args))
