// Random walks and pushes of mass along the edges of a graph. Walks go on in blocks, step by step,
// each pass fetching for the next: offsets, column of the slot drawn. Every draw is a function of
// the key, the start and number of the walk and the step; mass is whole numbers, whose sums have no
// order. graphkit/ops/walk.py makes the same.
#include "walk.h"

#include <cstdlib>

#include "parallel.h"
#include "prefetch.h"
#include "random.h"

namespace GK_ISA {
namespace {

// walks of one block
constexpr int64_t kWalks = 32;
// steps of one task, about
constexpr int64_t kSteps = 4096;
// steps that are drawn and may be refused, before a step is drawn from all
constexpr int64_t kTries = 16;
// the number of the draw that may end a walk, after those of the step itself
constexpr uint64_t kEnd = 2 * kTries + 2;

// Steps along one side.
template <class I>
struct Steps {
  const WalkArgs& args;
  const int64_t *ptr, *sums;
  const I* idx;

  Steps(const WalkArgs& given, const WalkSide& side)
      : args(given),
        ptr(side.of.ptr),
        sums(side.sums),
        idx(static_cast<const I*>(side.of.idx)) {}

  // one of the slots, or -1
  int64_t draw(int64_t begin, int64_t end, uint64_t word) const {
    if (!sums) return begin == end ? -1 : begin + below(word, end - begin);
    const int64_t total = sums[end] - sums[begin];
    if (total == 0) return -1;
    const int64_t drawn = sums[begin] + below(word, total);
    int64_t low = begin, high = end;
    while (high - low > 1) {
      const int64_t mid = low + (high - low) / 2;
      if (sums[mid] <= drawn)
        low = mid;
      else
        high = mid;
    }
    return low;
  }

  // whether node `from` has a slot to `to`
  bool has(int64_t from, int64_t to) const {
    int64_t low = ptr[from], high = ptr[from + 1];
    while (low < high) {
      const int64_t mid = low + (high - low) / 2;
      if (idx[mid] < to)
        low = mid + 1;
      else
        high = mid;
    }
    return low < ptr[from + 1] && idx[low] == to;
  }

  // 0: back to where the walk was, 1: to a neighbour of that, 2: farther
  int kind(int64_t to, int64_t last) const { return to == last ? 0 : has(to, last) ? 1 : 2; }

  int64_t draw_second(int64_t begin, int64_t end, int64_t last, uint64_t word) const {
    if (draw(begin, end, 0) < 0) return -1;
    const int64_t chance[3] = {args.back, args.near, args.far};
    const int64_t low = args.near < args.far ? args.near : args.far;
    const int64_t high = args.near < args.far ? args.far : args.near;
    for (int64_t attempt = 0; attempt < kTries; ++attempt) {
      const int64_t slot = draw(begin, end, random_word(word, 2 * attempt));
      const int64_t number = static_cast<int64_t>(random_word(word, 2 * attempt + 1) >> 11);
      const int64_t to = idx[slot];
      // most often a search of the row is not needed
      if (to != last && number < low) return slot;
      if (to != last && number >= high) continue;
      if (number < chance[kind(to, last)]) return slot;
    }
    return draw_from_all(begin, end, last, word);
  }

  int64_t weight(int64_t slot) const { return sums ? sums[slot + 1] - sums[slot] : 1; }

  int64_t draw_from_all(int64_t begin, int64_t end, int64_t last, uint64_t word) const {
    int64_t total[3] = {0, 0, 0};
    for (int64_t slot = begin; slot < end; ++slot) total[kind(idx[slot], last)] += weight(slot);
    const double back = static_cast<double>(total[0]) * args.back_weight;
    const double near = back + static_cast<double>(total[1]);
    const double all = near + static_cast<double>(total[2]) * args.far_weight;
    const double number =
        static_cast<double>(random_word(word, 2 * kTries) >> 11) * 0x1p-53 * all;
    int chosen = number < back ? 0 : number < near ? 1 : 2;
    // what is rounded up may reach the end
    if (chosen == 2 && total[2] == 0) chosen = total[1] ? 1 : 0;
    int64_t left = below(random_word(word, 2 * kTries + 1), total[chosen]);
    for (int64_t slot = begin; slot < end; ++slot) {
      if (kind(idx[slot], last) != chosen) continue;
      left -= weight(slot);
      if (left < 0) return slot;
    }
    return end - 1;
  }
};

void fetch(const WalkSide& side, int64_t node) { prefetch_near(side.of.ptr + node); }

template <class I>
void block(const WalkArgs& args, int64_t first, int64_t count) {
  const int64_t length = args.length, width = length + 1;
  int64_t at[kWalks], last[kWalks], slot[kWalks];
  uint64_t word[kWalks];
  for (int64_t i = 0; i < count; ++i) {
    const int64_t walk = first + i;
    at[i] = args.start[walk];
    last[i] = -1;
    word[i] = random_word(random_word(args.word, static_cast<uint64_t>(at[i])),
                          static_cast<uint64_t>(args.number[walk]));
    args.node[walk * width] = at[i];
    fetch(args.sides[0], at[i]);
  }
  for (int64_t step = 0; step < length; ++step) {
    const int turn = static_cast<int>(step % args.num_sides);
    const bool is_last = turn + 1 == args.num_sides;
    const WalkSide &side = args.sides[turn], &following = args.sides[is_last ? 0 : turn + 1];
    const Steps<I> steps(args, side);
    for (int64_t i = 0; i < count; ++i) {
      slot[i] = -1;
      if (at[i] < 0) continue;
      const int64_t begin = steps.ptr[at[i]], end = steps.ptr[at[i] + 1];
      const uint64_t own = random_word(word[i], static_cast<uint64_t>(step));
      slot[i] = args.second && last[i] >= 0 ? steps.draw_second(begin, end, last[i], own)
                                            : steps.draw(begin, end, own);
      if (slot[i] >= 0) prefetch_near(steps.idx + slot[i]);
    }
    for (int64_t i = 0; i < count; ++i) {
      const int64_t walk = first + i;
      int64_t next = at[i];
      if (slot[i] >= 0)
        next = steps.idx[slot[i]];
      else if (args.ends)
        next = -1;
      args.node[walk * width + step + 1] = next;
      if (args.edge) args.edge[walk * length + step] = slot[i] < 0 ? -1 : side.of.edge(slot[i]);
      last[i] = at[i];
      at[i] = next;
      if (next < 0) continue;
      if (args.ends && is_last) {
        const uint64_t own = random_word(word[i], static_cast<uint64_t>(step));
        if (static_cast<int64_t>(random_word(own, kEnd) >> 11) < args.stop) at[i] = -1;
      }
      fetch(following, next);
    }
  }
}

template <class I>
void walk_typed(const WalkArgs& args) {
  int64_t share = kSteps / (args.length + 1) / kWalks * kWalks;
  if (share < kWalks) share = kWalks;
  parallel((args.walks + share - 1) / share, args.threads, [&](int64_t task) {
    const int64_t end = (task + 1) * share < args.walks ? (task + 1) * share : args.walks;
    for (int64_t first = task * share; first < end; first += kWalks)
      block<I>(args, first, end - first < kWalks ? end - first : kWalks);
  });
}

// --- pushes ---

constexpr int64_t kMass = int64_t{1} << 60;

// Of one thread; both masses are 0 between seeds.
struct Masses {
  int64_t *kept, *moving;            // [nodes]
  int64_t *found, *front, *next, *amount;
  uint8_t* seen;

  explicit Masses(int64_t nodes)
      : kept(zeros(nodes)),
        moving(zeros(nodes)),
        found(zeros(nodes)),
        front(zeros(nodes)),
        next(zeros(nodes)),
        amount(zeros(nodes)),
        seen(static_cast<uint8_t*>(std::calloc(nodes, 1))) {}
  Masses(const Masses&) = delete;
  Masses& operator=(const Masses&) = delete;
  ~Masses() {
    std::free(kept);
    std::free(moving);
    std::free(found);
    std::free(front);
    std::free(next);
    std::free(amount);
    std::free(seen);
  }
  static int64_t* zeros(int64_t size) {
    return static_cast<int64_t*>(std::calloc(size, sizeof(int64_t)));
  }
  bool is_whole() const { return kept && moving && found && front && next && amount && seen; }
};

// Of equals the higher node is the lesser.
inline bool lesser(int64_t mass_a, int64_t node_a, int64_t mass_b, int64_t node_b) {
  return mass_a < mass_b || (mass_a == mass_b && node_a > node_b);
}

// A heap with the least on top; an entry sinks from `at`.
void sink(int64_t* mass, int64_t* node, int64_t at, int64_t size, int64_t mine, int64_t self) {
  for (int64_t child; (child = 2 * at + 1) < size; at = child) {
    if (child + 1 < size && lesser(mass[child + 1], node[child + 1], mass[child], node[child]))
      ++child;
    if (!lesser(mass[child], node[child], mine, self)) break;
    mass[at] = mass[child];
    node[at] = node[child];
  }
  mass[at] = mine;
  node[at] = self;
}

template <class I>
struct Push {
  const PushArgs& args;
  const int64_t* ptr;
  const I* idx;

  explicit Push(const PushArgs& given)
      : args(given), ptr(given.of.ptr), idx(static_cast<const I*>(given.of.idx)) {}

  void run(Masses& m, int64_t at) const {
    const int64_t seed = args.seed[at];
    int64_t found = 1, front = 1;
    m.found[0] = m.front[0] = seed;
    m.seen[seed] = 1;
    m.moving[seed] = kMass;
    while (front) {
      // all of a round take their mass before any is given
      for (int64_t i = 0; i < front; ++i) {
        m.amount[i] = m.moving[m.front[i]];
        m.moving[m.front[i]] = 0;
      }
      int64_t next = 0;
      for (int64_t i = 0; i < front; ++i) {
        const int64_t node = m.front[i], begin = ptr[node], degree = ptr[node + 1] - begin;
        const int64_t taken = below(args.alpha, m.amount[i]), rest = m.amount[i] - taken;
        const int64_t share = degree ? rest / degree : 0;
        m.kept[node] += m.amount[i] - share * degree;
        if (share == 0) continue;
        for (int64_t slot = begin; slot < begin + degree; ++slot) {
          const int64_t to = idx[slot], before = m.moving[to], after = before + share;
          m.moving[to] = after;
          if (!m.seen[to]) {
            m.seen[to] = 1;
            m.found[found++] = to;
          }
          // a node without slots counts as one with a slot
          const int64_t slots = ptr[to + 1] - ptr[to];
          const Wide bound = static_cast<Wide>(args.least) * static_cast<uint64_t>(slots ? slots : 1);
          const bool was = static_cast<Wide>(before) >= bound, is = static_cast<Wide>(after) >= bound;
          if (is && !was) m.next[next++] = to;
        }
      }
      int64_t* swap = m.front;
      m.front = m.next;
      m.next = swap;
      front = next;
    }
    choose(m, at, found);
    for (int64_t i = 0; i < found; ++i) {
      const int64_t node = m.found[i];
      m.kept[node] = m.moving[node] = 0;
      m.seen[node] = 0;
    }
  }

  void choose(const Masses& m, int64_t at, int64_t found) const {
    int64_t *mass = args.mass + at * args.top, *node = args.node + at * args.top, size = 0;
    for (int64_t i = 0; i < found; ++i) {
      const int64_t self = m.found[i], mine = m.kept[self];
      if (mine == 0) continue;
      if (size < args.top) {
        mass[size] = mine;
        node[size++] = self;
        if (size == args.top) heap(mass, node, size);
      } else if (lesser(mass[0], node[0], mine, self)) {
        sink(mass, node, 0, size, mine, self);
      }
    }
    if (size < args.top) heap(mass, node, size);
    args.count[at] = size;
    // the top of the heap goes to its end, again and again
    while (--size > 0) {
      const int64_t mine = mass[size], self = node[size];
      mass[size] = mass[0];
      node[size] = node[0];
      sink(mass, node, 0, size, mine, self);
    }
  }

  static void heap(int64_t* mass, int64_t* node, int64_t size) {
    for (int64_t at = size / 2; at-- > 0;) sink(mass, node, at, size, mass[at], node[at]);
  }
};

template <class I>
bool push_typed(const PushArgs& args) {
  const Push<I> push(args);
  const int64_t tasks = args.threads < args.seeds ? args.threads : args.seeds;
  int64_t next = 0;
  int short_of_memory = 0;
  parallel(tasks, args.threads, [&](int64_t) {
    Masses masses(args.of.rows);
    if (!masses.is_whole()) {
      __atomic_store_n(&short_of_memory, 1, __ATOMIC_RELAXED);
      return;
    }
    for (int64_t at; (at = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED)) < args.seeds;)
      push.run(masses, at);
  });
  return !short_of_memory;
}

}  // namespace

void walk(const WalkArgs& args) {
  args.sides[0].of.idx64 ? walk_typed<int64_t>(args) : walk_typed<int32_t>(args);
}

bool push(const PushArgs& args) {
  return args.of.idx64 ? push_typed<int64_t>(args) : push_typed<int32_t>(args);
}

}  // namespace GK_ISA
