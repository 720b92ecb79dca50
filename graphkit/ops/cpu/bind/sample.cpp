#include "../kernels/sample.h"

#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <tuple>
#include <vector>

#include "bind.h"

namespace {

typedef std::vector<int64_t> Numbers;

// --- memory ---

struct Block {
  void* at = nullptr;
  int64_t bytes = 0;
};

struct Room {
  std::vector<SampleTable> tables, gone;
  SampleRoom room{};

  Room(size_t types, size_t relations) : tables(types), gone(relations) {
    room.tables = tables.data();
    room.gone = gone.data();
  }
  Room(const Room&) = delete;
  ~Room() {
    for (const SampleTable& some : tables) std::free(some.entry);
    for (const SampleTable& some : gone) std::free(some.entry);
    std::free(room.rest);
    std::free(room.found);
    std::free(room.taken);
    std::free(room.key);
  }
};

// What no call is using: rooms, and the arrays of batches that were dropped. New pages would cost
// as much as a good part of the drawing. A role is one array of a batch.
struct Idle {
  std::mutex mutex;
  std::vector<std::vector<Block>> blocks;  // of each role
  Numbers last;                            // bytes of each role in the batch before
  std::vector<std::unique_ptr<Room>> rooms;
  size_t kept = 2;

  explicit Idle(size_t roles) : blocks(roles), last(roles) {}
  ~Idle() {
    for (const auto& some : blocks)
      for (const Block& block : some) std::free(block.at);
  }

  Block take(size_t role) {
    const std::lock_guard<std::mutex> locked(mutex);
    if (!blocks[role].empty()) {
      const Block block = blocks[role].back();
      blocks[role].pop_back();
      return block;
    }
    const int64_t bytes = last[role] + last[role] / 8;
    void* memory = bytes ? std::malloc(static_cast<size_t>(bytes)) : nullptr;
    return {memory, memory ? bytes : 0};
  }

  void give(size_t role, const Block& block) {
    {
      const std::lock_guard<std::mutex> locked(mutex);
      if (blocks[role].size() < kept) {
        // reserved by `keep`: this may not throw
        blocks[role].push_back(block);
        return;
      }
    }
    std::free(block.at);
  }

  // arrays of two calls of so many batches are kept
  void keep(size_t batches) {
    const std::lock_guard<std::mutex> locked(mutex);
    kept = std::max(kept, 2 * batches);
    for (auto& some : blocks) some.reserve(kept);
  }

  std::unique_ptr<Room> room(size_t types, size_t relations) {
    {
      const std::lock_guard<std::mutex> locked(mutex);
      if (!rooms.empty()) {
        std::unique_ptr<Room> found = std::move(rooms.back());
        rooms.pop_back();
        return found;
      }
    }
    return std::make_unique<Room>(types, relations);
  }

  void give(std::unique_ptr<Room> room) {
    const std::lock_guard<std::mutex> locked(mutex);
    rooms.push_back(std::move(room));
  }
};

// --- arrays for torch, by DLPack's structures ---

struct Device {
  int32_t kind, number;
};
struct Kind {
  uint8_t code, bits;
  uint16_t lanes;
};
struct Array {
  void* data;
  Device device;
  int32_t dims;
  Kind kind;
  int64_t *shape, *strides;
  uint64_t offset;
};
struct Managed {
  Array array;
  void* owner;
  void (*release)(Managed*);
};

struct Owner {
  std::shared_ptr<Idle> idle;
  size_t role;
  bool back;  // whether the block goes back to the idle ones
  Block block;
  int64_t shape[1], strides[1];
  Managed managed;

  ~Owner() {
    if (back)
      idle->give(role, block);
    else
      std::free(block.at);
  }
};

// A one-dimensional array of integers as a capsule that owns the block.
nb::object capsule(std::unique_ptr<Owner> owner, int64_t size, int bits) {
  owner->shape[0] = size;
  owner->strides[0] = 1;
  constexpr int32_t cpu = 1;
  constexpr uint8_t integer = 0;
  owner->managed = {{owner->block.at, {cpu, 0}, 1, {integer, static_cast<uint8_t>(bits), 1},
                     owner->shape, owner->strides, 0},
                    owner.get(),
                    [](Managed* of) { delete static_cast<Owner*>(of->owner); }};
  PyObject* made = PyCapsule_New(&owner->managed, "dltensor", [](PyObject* self) {
    // whoever takes the array renames the capsule
    if (!PyCapsule_IsValid(self, "dltensor")) return;
    auto* of = static_cast<Managed*>(PyCapsule_GetPointer(self, "dltensor"));
    of->release(of);
  });
  if (!made) throw nb::python_error();
  owner.release();
  return nb::steal(made);
}

// --- what is sampled ---

// side, addresses of times, sums and weights, types of sources and destinations
typedef std::tuple<Side, uintptr_t, uintptr_t, uintptr_t, int, int> Described;

struct Plan {
  std::vector<SampleRelation> relations;
  Numbers num_nodes, fanout;
  SamplePlan plan{};
  std::shared_ptr<Idle> idle;

  Plan(const std::vector<Described>& described, const Numbers& nodes, const Numbers& fanouts,
       int hops, const std::vector<bool>& flags)
      : num_nodes(nodes), fanout(fanouts) {
    for (const auto& [side, time, sums, weight, src, dst] : described)
      relations.push_back({side, static_cast<const int64_t*>(at(time)),
                           static_cast<const int64_t*>(at(sums)),
                           static_cast<const double*>(at(weight)), src, dst});
    plan.relations = relations.data();
    plan.num_relations = static_cast<int>(relations.size());
    plan.num_nodes = num_nodes.data();
    plan.num_types = static_cast<int>(num_nodes.size());
    plan.fanout = fanout.data();
    plan.hops = hops;
    plan.replace = flags[0];
    plan.labor = flags[1];
    plan.layer_dependency = flags[2];
    plan.disjoint = flags[3];
    plan.induced = flags[4];
    plan.last = flags[5];
    plan.dense = flags[6];
    idle = std::make_shared<Idle>(2 * num_nodes.size() + 3 * relations.size());
  }
  Plan(const Plan&) = delete;
};

// One batch: what it asks for, and the arrays that it gets.
struct Batch {
  const Plan& of;
  std::vector<SampleNodes> nodes;
  std::vector<SampleEdges> edges;
  Numbers num_nodes, num_edges;

  explicit Batch(const Plan& plan)
      : of(plan),
        nodes(plan.num_nodes.size()),
        edges(plan.relations.size()),
        num_nodes(plan.num_nodes.size() * (plan.plan.hops + 1)),
        num_edges(plan.relations.size() * plan.plan.hops) {
    each([this](size_t role, auto*& array, int64_t& room, int64_t) {
      if (!has(role)) return;
      const Block block = of.idle->take(role);
      array = static_cast<std::remove_reference_t<decltype(array)>>(block.at);
      room = block.bytes / static_cast<int64_t>(sizeof *array);
    });
  }
  Batch(const Batch&) = delete;
  ~Batch() {
    each([this](size_t role, auto*& array, int64_t& room, int64_t) {
      if (array) of.idle->give(role, {array, room * static_cast<int64_t>(sizeof *array)});
    });
  }

  SampleFound found() {
    return {nodes.data(), edges.data(), num_nodes.data(), num_edges.data(), 0};
  }

  // trees are there only if they are disjoint
  bool has(size_t role) const {
    return of.plan.disjoint || role >= 2 * nodes.size() || role % 2 == 0;
  }

  // each array: its role, itself, its room and how many entries were found
  template <class F>
  void each(const F& call) {
    size_t role = 0;
    for (SampleNodes& some : nodes) {
      call(role++, some.id, some.room, some.count);
      call(role++, some.tree, some.tree_room, some.count);
    }
    for (size_t r = 0; r < edges.size(); ++r) {
      SampleEdges& some = edges[r];
      const int dst = of.relations[r].dst, hops = of.plan.hops;
      // the nodes of the last hop have no in-edges, unless all among the nodes are taken
      const int64_t last = of.plan.induced ? 0 : num_nodes[dst * (hops + 1) + hops];
      call(role++, some.ptr, some.ptr_room, nodes[dst].count - last + 1);
      call(role++, some.idx, some.idx_room, some.count);
      call(role++, some.eid, some.eid_room, some.count);
    }
  }

  // For each type ids and trees or None, for each relation offsets, columns, edges. An array of
  // which less than half is in use is copied, so that a small batch does not hold the memory of a
  // large one.
  nb::list arrays() {
    nb::list made;
    each([&](size_t role, auto*& array, int64_t& room, int64_t size) {
      if (!has(role)) return made.append(nb::none());
      constexpr int64_t width = sizeof *array;
      auto owner = std::make_unique<Owner>();
      owner->idle = of.idle;
      owner->role = role;
      const int64_t least = std::max<int64_t>(size * width, 1);
      if (room * width > 2 * least + 4096 || !array) {
        owner->back = false;
        owner->block = {std::malloc(static_cast<size_t>(least)), least};
        if (!owner->block.at) throw std::bad_alloc();
        if (size) std::memcpy(owner->block.at, array, static_cast<size_t>(size * width));
      } else {
        owner->back = true;
        owner->block = {array, room * width};
        array = nullptr;
      }
      of.idle->last[role] = least;
      made.append(capsule(std::move(owner), size, 8 * width));
    });
    return made;
  }
};

typedef std::vector<uintptr_t> Addresses;
// seeds of each type: addresses, counts and the tree of the first; address of times, key; of each
// relation pairs between which no edge is taken, and how many, or nothing at all
typedef std::tuple<Addresses, Numbers, Numbers, uintptr_t, uint64_t, Addresses, Numbers> Asked;
// status, new nodes of each type and hop, edges of each relation and hop, arrays
typedef std::tuple<int, Numbers, Numbers, nb::list> Answer;

std::vector<const int64_t*> pointers(const Addresses& addresses) {
  std::vector<const int64_t*> found;
  for (uintptr_t address : addresses) found.push_back(static_cast<const int64_t*>(at(address)));
  return found;
}

std::vector<Answer> sample(const Plan& of, const std::vector<Asked>& asked, int threads) {
  of.idle->keep(asked.size());
  std::vector<std::vector<const int64_t*>> ids, gone;
  std::vector<SampleSeeds> seeds;
  std::vector<std::unique_ptr<Batch>> batches;
  std::vector<SampleFound> found;
  for (const auto& [addresses, counts, first, time, key, pairs, num_pairs] : asked) {
    ids.emplace_back(pointers(addresses));
    gone.emplace_back(pointers(pairs));
    seeds.push_back({ids.back().data(), counts.data(), first.data(),
                     static_cast<const int64_t*>(at(time)), key,
                     pairs.empty() ? nullptr : gone.back().data(), num_pairs.data()});
    batches.push_back(std::make_unique<Batch>(of));
    found.push_back(batches.back()->found());
  }
  const int most = static_cast<int>(std::max<size_t>(asked.size(), 1));
  const int used = std::min(usable(threads), most);
  std::vector<std::unique_ptr<Room>> rooms;
  std::vector<SampleRoom> inside;
  for (int i = 0; i < used; ++i) {
    rooms.push_back(of.idle->room(of.num_nodes.size(), of.relations.size()));
    inside.push_back(rooms.back()->room);
  }
  {
    nb::gil_scoped_release unlocked;
    GK_PICK(sample)(of.plan, seeds.data(), found.data(), static_cast<int64_t>(found.size()),
                    inside.data(), used);
  }
  for (int i = 0; i < used; ++i) {
    rooms[i]->room = inside[i];
    of.idle->give(std::move(rooms[i]));
  }
  std::vector<Answer> answers;
  for (size_t i = 0; i < batches.size(); ++i) {
    Batch& batch = *batches[i];
    nb::list arrays = found[i].status ? nb::list() : batch.arrays();
    answers.emplace_back(found[i].status, batch.num_nodes, batch.num_edges, std::move(arrays));
  }
  return answers;
}

}  // namespace

void bind_sample(nb::module_& m) {
  nb::class_<Plan>(m, "SamplePlan")
      .def(nb::init<const std::vector<Described>&, const Numbers&, const Numbers&, int,
                    const std::vector<bool>&>());
  m.def("sample", &sample);
}
