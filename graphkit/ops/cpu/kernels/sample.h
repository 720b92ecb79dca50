#pragma once
#include "common.h"

// The in-edges of one relation, by destination; the slots of a row rise in time if there are times.
struct SampleRelation {
  Side side;
  const int64_t* time;   // [slots], or null: never too late
  const int64_t* sums;   // [slots + 1]: whole-number weights before each slot, or null
  const double* weight;  // [slots], or null; sums serve with replacement, these without
  int src, dst;          // types of nodes
};

struct SamplePlan {
  const SampleRelation* relations;
  int num_relations;
  const int64_t* num_nodes;  // [num_types]
  int num_types;
  const int64_t* fanout;  // [hops, num_relations]; -1: all
  int hops;
  bool replace, labor, layer_dependency, disjoint, induced, last;
  bool dense;  // whether a table has a place for each node: else nodes are hashed
};

// What one batch leaves behind. All arrays are malloc's, and may have room before the call. Aligned,
// so that no two threads write to one cache line.
struct alignas(64) SampleNodes {
  int64_t *id, *tree;  // [count]; tree only if disjoint
  int64_t room, tree_room, count;
};

struct alignas(64) SampleEdges {
  int64_t* ptr;  // [nodes that drew + 1]; all nodes if induced
  int32_t* idx;  // [count]: local numbers of the sources
  int64_t* eid;  // [count]
  int64_t ptr_room, idx_room, eid_room, count;
};

struct alignas(64) SampleFound {
  SampleNodes* nodes;  // [num_types]
  SampleEdges* edges;  // [num_relations]
  int64_t* num_nodes;  // [num_types, hops + 1]: new in each hop, the first the seeds
  int64_t* num_edges;  // [num_relations, hops]
  int status;
};

// The numbers of the nodes of one type. Dense: an entry for each node; else pairs of key and entry,
// a power of two of them. An entry: the stamp of the batch above, the local number below.
struct SampleTable {
  uint64_t* entry;
  int64_t room;
};

// What a thread works with, kept and used again. All arrays are malloc's.
struct alignas(64) SampleRoom {
  SampleTable* tables;  // [num_types]
  SampleTable* gone;    // [num_relations]: pairs of nodes between which no edge is taken
  int64_t* found;       // columns of the slots at hand
  uint64_t* taken;      // a bit for each neighbour of a row
  double* key;          // arrivals of the edges that lead
  int64_t* rest;        // a row without the edges that may not be taken
  int64_t found_room, taken_room, key_room, rest_room;
  uint32_t stamp;
};

struct SampleSeeds {
  const int64_t* const* id;  // [num_types]
  const int64_t* count;      // [num_types]
  const int64_t* first;      // [num_types]: the tree of the first seed of each type
  const int64_t* time;       // [trees], or null
  uint64_t key;
  // [num_relations]: the sources and then the destinations of so many pairs between which no edge
  // is taken; null for none
  const int64_t* const* gone;
  const int64_t* num_gone;
};

enum SampleStatus { kSampled = 0, kNoMemory = 1, kTooMany = 2, kTooManyDraws = 3 };

// Several batches, each by one of `threads` threads with a room of its own.
GK_KERNEL(void sample(const SamplePlan& plan, const SampleSeeds* seeds, SampleFound* found,
                      int64_t count, SampleRoom* rooms, int threads))
