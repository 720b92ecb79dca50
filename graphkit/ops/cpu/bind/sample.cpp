#include "../kernels/sample.h"

#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <cstdlib>
#include <cstring>
#include <tuple>
#include <vector>

#include "bind.h"

namespace {

typedef std::vector<int64_t> Numbers;

// side, addresses of times, sums and weights, types of sources and destinations
typedef std::tuple<Side, uintptr_t, uintptr_t, uintptr_t, int, int> Described;

struct Plan {
  std::vector<SampleRelation> relations;
  Numbers num_nodes, fanout;
  SamplePlan plan{};

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
  }
  Plan(const Plan&) = delete;
};

struct Room {
  std::vector<SampleNodes> nodes;
  std::vector<SampleEdges> edges;
  Numbers num_nodes, num_edges;
  SampleRoom room{};

  explicit Room(const Plan& of)
      : nodes(of.plan.num_types),
        edges(of.plan.num_relations),
        num_nodes(of.plan.num_types * (of.plan.hops + 1)),
        num_edges(of.plan.num_relations * of.plan.hops) {
    room.nodes = nodes.data();
    room.edges = edges.data();
    room.num_nodes = num_nodes.data();
    room.num_edges = num_edges.data();
  }
  Room(const Room&) = delete;
  ~Room() {
    for (const SampleNodes& some : nodes) {
      std::free(some.id);
      std::free(some.tree);
      std::free(some.table);
    }
    for (const SampleEdges& some : edges) {
      std::free(some.ptr);
      std::free(some.idx);
      std::free(some.eid);
    }
    std::free(room.found);
    std::free(room.taken);
    std::free(room.key);
  }
};

// Status, new nodes of each type and hop, edges of each relation and hop, and of each relation
// the edges there are now.
std::tuple<int, Numbers, Numbers, Numbers> sample(const Plan& of, Room& into,
                                                  const std::vector<uintptr_t>& seeds,
                                                  const Numbers& counts, const Numbers& first,
                                                  uintptr_t time, uint64_t key) {
  std::vector<const int64_t*> ids;
  for (uintptr_t address : seeds) ids.push_back(static_cast<const int64_t*>(at(address)));
  const SampleSeeds given{ids.data(), counts.data(), first.data(),
                          static_cast<const int64_t*>(at(time)), key};
  int status;
  {
    nb::gil_scoped_release unlocked;
    status = GK_PICK(sample)(of.plan, given, into.room);
  }
  Numbers edges;
  for (const SampleEdges& some : into.edges) edges.push_back(some.count);
  return {status, into.num_nodes, into.num_edges, edges};
}

void copy(uintptr_t out, const void* from, int64_t bytes) {
  if (out && bytes) std::memcpy(to(out), from, static_cast<size_t>(bytes));
}

// What the last call found: for each type ids and trees, for each relation offsets, columns, edges.
void sampled(const Plan& of, const Room& found, const std::vector<uintptr_t>& nodes,
             const std::vector<uintptr_t>& edges) {
  nb::gil_scoped_release unlocked;
  for (size_t t = 0; t < found.nodes.size(); ++t) {
    const SampleNodes& some = found.nodes[t];
    copy(nodes[2 * t], some.id, some.count * 8);
    copy(nodes[2 * t + 1], some.tree, some.count * 8);
  }
  for (size_t r = 0; r < found.edges.size(); ++r) {
    const SampleEdges& some = found.edges[r];
    const int dst = of.relations[r].dst, hops = of.plan.hops;
    // the nodes of the last hop have no in-edges, unless all among the nodes are taken
    const int64_t last = of.plan.induced ? 0 : found.num_nodes[dst * (hops + 1) + hops];
    copy(edges[3 * r], some.ptr, (found.nodes[dst].count - last + 1) * 8);
    copy(edges[3 * r + 1], some.idx, some.count * 4);
    copy(edges[3 * r + 2], some.eid, some.count * 8);
  }
}

}  // namespace

void bind_sample(nb::module_& m) {
  nb::class_<Plan>(m, "SamplePlan")
      .def(nb::init<const std::vector<Described>&, const Numbers&, const Numbers&, int,
                    const std::vector<bool>&>());
  nb::class_<Room>(m, "SampleRoom").def(nb::init<const Plan&>());
  m.def("sample", &sample);
  m.def("sampled", &sampled);
}
