// Neighbourhoods of seeds over several hops, the nodes numbered in the order of discovery. Rows are
// worked on in blocks, each in three passes that fetch ahead for one another: offsets, columns of
// the slots drawn, places of these nodes in the table that numbers them. Every draw is a function
// of the key, hop, relation, node and number of the draw; graphkit/ops/sample_reference.py
// makes the same.
#include "sample.h"

#include <cstdlib>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "parallel.h"
#include "prefetch.h"
#include "random.h"

namespace GK_ISA {
namespace {

// Rows of one block. All that is fetched goes to the second-level cache: with the first one, half as
// many edges are drawn in a second where the graph does not fit the caches, and with 24 rows 0.9
// times as many (AMD Zen 4).
constexpr int64_t kRows = 96;
// picks that are compared with one another, and pairs with a row; beyond, a bit for each neighbour
// says what is taken, and a table which columns are in pairs
constexpr int64_t kListed = 64;
// local numbers are int32
constexpr int64_t kMost = INT32_MAX - 1;

template <class T>
bool reserve(T*& array, int64_t& room, int64_t need) {
  if (need <= room) return true;
  const int64_t size = need + need / 2 + 64;
  T* grown = static_cast<T*>(std::realloc(array, size * sizeof(T)));
  if (!grown) return false;
  array = grown;
  room = size;
  return true;
}

// Zeros, to be freed. Large arrays ask for huge pages, because they are read here and there.
void* zeros(size_t bytes) {
#if defined(MADV_HUGEPAGE)
  constexpr size_t huge = 2 << 20;
  if (bytes >= 2 * huge) {
    const size_t size = (bytes + huge - 1) / huge * huge;
    void* memory = std::aligned_alloc(huge, size);
    if (!memory) return nullptr;
    madvise(memory, size, MADV_HUGEPAGE);
    return std::memset(memory, 0, size);
  }
#endif
  return std::calloc(bytes, 1);
}

template <class T>
bool renew(T*& array, int64_t& room, int64_t size) {
  std::free(array);
  array = static_cast<T*>(zeros(static_cast<size_t>(size) * sizeof(T)));
  room = array ? size : 0;
  return array != nullptr;
}

// --- numbers of nodes ---

struct Dense {
  uint64_t* table;
  uint64_t stamp;

  static constexpr bool kHashes = false;

  static bool prepare(SampleTable& table, int64_t num_nodes) {
    return table.room >= num_nodes || renew(table.entry, table.room, num_nodes);
  }
  bool make_room(int64_t) { return true; }
  void fetch(int64_t node, int64_t) const { prefetch_line(table + node); }
  int64_t find(int64_t node, int64_t) const {
    const uint64_t entry = table[node];
    return entry >> 32 == stamp ? static_cast<int64_t>(entry & UINT32_MAX) : -1;
  }
  // the number of a node, which becomes `next` if it is new; without a branch, as both happen often
  int64_t number(int64_t node, int64_t, int64_t next) {
    const uint64_t entry = table[node], fresh = stamp << 32 | static_cast<uint64_t>(next);
    const uint64_t kept = entry >> 32 == stamp ? entry : fresh;
    table[node] = kept;
    return static_cast<int64_t>(kept & UINT32_MAX);
  }
};

struct Hashed {
  SampleTable& table;
  const SampleNodes& nodes;
  uint64_t stamp;
  uint64_t num_nodes;

  static constexpr bool kHashes = true;
  static constexpr int64_t kLeast = 1 << 12;

  static bool prepare(SampleTable& table) {
    return table.room || renew(table.entry, table.room, 2 * kLeast);
  }
  uint64_t key_of(int64_t node, int64_t tree) const {
    return static_cast<uint64_t>(tree) * num_nodes + static_cast<uint64_t>(node);
  }
  // the place of a key, or the free one where it belongs
  uint64_t* place(uint64_t key) const {
    const uint64_t mask = static_cast<uint64_t>(table.room) / 2 - 1;
    uint64_t at = mix_words<uint64_t>(key + kCounterStep) & mask;
    for (;; at = (at + 1) & mask) {
      uint64_t* pair = table.entry + 2 * at;
      if (pair[1] >> 32 != stamp || pair[0] == key) return pair;
    }
  }
  // for so many nodes: at most half of the places are in use
  bool make_room(int64_t count) {
    if (4 * count <= table.room) return true;
    int64_t size = table.room;
    while (size < 4 * count) size *= 2;
    if (!renew(table.entry, table.room, 2 * size)) return false;
    for (int64_t i = 0; i < nodes.count; ++i)
      number(nodes.id[i], nodes.tree ? nodes.tree[i] : 0, i);
    return true;
  }
  void fetch(int64_t node, int64_t tree) const {
    const uint64_t mask = static_cast<uint64_t>(table.room) / 2 - 1;
    prefetch_line(
        table.entry + 2 * (mix_words<uint64_t>(key_of(node, tree) + kCounterStep) & mask));
  }
  int64_t find(int64_t node, int64_t tree) const {
    const uint64_t entry = place(key_of(node, tree))[1];
    return entry >> 32 == stamp ? static_cast<int64_t>(entry & UINT32_MAX) : -1;
  }
  int64_t number(int64_t node, int64_t tree, int64_t next) {
    const uint64_t key = key_of(node, tree);
    uint64_t* pair = place(key);
    if (pair[1] >> 32 != stamp) {
      pair[0] = key;
      pair[1] = stamp << 32 | static_cast<uint64_t>(next);
    }
    return static_cast<int64_t>(pair[1] & UINT32_MAX);
  }
};

// A bit of each node in the words of its tree: a node without one is not in the tree. Hubs have many
// neighbours that are not; these bits stay in the nearest caches, a table of all trees does not.
struct Filter {
  uint64_t* word;
  int64_t words;  // of a tree, a power of two
  int shift;

  // Bits for 16 times as many nodes as a tree has on average: one of 16 is let through in vain.
  static Filter of(const SampleNodes& nodes, int64_t trees) {
    Filter filter{nullptr, 1, 58};
    for (; 4 * filter.words * trees < nodes.count; filter.words *= 2) --filter.shift;
    return filter;
  }
  void fill(uint64_t* memory, const SampleNodes& nodes, int64_t trees) {
    // without seeds there is no tree, and no memory
    if (trees == 0) return;
    word = memory;
    std::memset(word, 0, static_cast<size_t>(words * trees) * sizeof(uint64_t));
    for (int64_t i = 0; i < nodes.count; ++i) {
      const uint64_t bit = place(nodes.id[i]);
      const int64_t tree = nodes.tree ? nodes.tree[i] : 0;
      word[tree * words + static_cast<int64_t>(bit >> 6)] |= uint64_t{1} << (bit & 63);
    }
  }
  uint64_t place(int64_t node) const { return static_cast<uint64_t>(node) * kCounterStep >> shift; }
  bool has(int64_t node, int64_t tree) const {
    const uint64_t bit = place(node);
    return word[tree * words + static_cast<int64_t>(bit >> 6)] >> (bit & 63) & 1;
  }
};

// Pairs of nodes between which no edge is taken, those of one row in a chain: places of a row and
// its last pair, each 1 more, and then the pair before each one.
struct Gone {
  SampleTable& table;
  const int64_t* src;
  int64_t count;

  int64_t places() const {
    int64_t size = 64;
    while (size < 2 * count) size *= 2;
    return size;
  }
  uint64_t* place(int64_t row, int64_t size) const {
    const uint64_t mask = static_cast<uint64_t>(size) - 1, key = static_cast<uint64_t>(row) + 1;
    uint64_t at = mix_words<uint64_t>(key) & mask;
    while (table.entry[2 * at] && table.entry[2 * at] != key) at = (at + 1) & mask;
    return table.entry + 2 * at;
  }
  bool fill() {
    const int64_t size = places();
    if (table.room < 2 * size + count) {
      if (!renew(table.entry, table.room, 2 * size + count)) return false;
    } else {
      std::memset(table.entry, 0, 2 * size * sizeof(uint64_t));
    }
    for (int64_t i = 0; i < count; ++i) {
      uint64_t* pair = place(src[count + i], size);
      table.entry[2 * size + i] = pair[1];
      pair[0] = static_cast<uint64_t>(src[count + i]) + 1;
      pair[1] = static_cast<uint64_t>(i) + 1;
    }
    return true;
  }
  // the sources of the pairs of a row: how many
  template <class I>
  int64_t of_row(int64_t row, I* out) const {
    const int64_t size = places();
    int64_t found = 0;
    for (uint64_t i = place(row, size)[1]; i; i = table.entry[2 * size + static_cast<int64_t>(i) - 1])
      out[found++] = static_cast<I>(src[i - 1]);
    return found;
  }
  bool in(int64_t row) const { return place(row, places())[0]; }
};

// --- one row ---

// -log of a uniform number in (0, 1), by operations that round alike everywhere
inline double exponential(uint64_t word) {
  const double unit = (static_cast<double>(word >> 12) + 0.5) * 0x1p-52;
  uint64_t bits;
  std::memcpy(&bits, &unit, sizeof bits);
  int64_t exponent = static_cast<int64_t>(bits >> 52) - 1023;
  bits = (bits & ((uint64_t{1} << 52) - 1)) | uint64_t{1023} << 52;
  double m;
  std::memcpy(&m, &bits, sizeof m);
  if (m > 1.4142135623730951) {
    m *= 0.5;
    exponent += 1;
  }
  // log m = 2 artanh s
  const double s = (m - 1.0) / (m + 1.0), z = s * s;
  double sum = 1.0 / 23.0;
  for (int odd = 21; odd >= 1; odd -= 2) sum = sum * z + 1.0 / odd;
  return -(2.0 * s * sum + static_cast<double>(exponent) * 0.6931471805599453);
}

template <class I>
struct Row {
  const SampleRelation& of;
  const I* idx;
  SampleRoom& room;

  int64_t take(int64_t slot) const {
    prefetch_line(idx + slot);
    return slot;
  }

  int64_t all(int64_t begin, int64_t end, int64_t* out) const {
    for (int64_t slot = begin; slot < end; ++slot) *out++ = slot;
    constexpr int64_t line = 64 / sizeof(I);
    for (int64_t slot = begin; slot < end; slot += line) take(slot);
    return end - begin;
  }

  // Floyd's: of the first i + 1 neighbours one is drawn, and the last of them where that is taken
  int64_t floyd(int64_t begin, int64_t end, int64_t k, uint64_t word, int64_t* out) const {
    const int64_t size = end - begin;
    if (size <= 64) {
      uint64_t taken = 0;
      for (int64_t j = 0; j < k; ++j) {
        const int64_t last = size - k + j, drawn = below(random_word(word, j), last + 1);
        const int64_t pick = taken >> drawn & 1 ? last : drawn;
        taken |= uint64_t{1} << pick;
        out[j] = take(begin + pick);
      }
    } else if (k <= kListed) {
      constexpr int L = kBytes / 4;
      int32_t picks[kListed];
      // nothing equals -1
      for (int64_t j = 0; j < k; j += L)
        for (int l = 0; l < L; ++l) picks[j + l] = -1;
      for (int64_t j = 0; j < k; ++j) {
        const int64_t last = size - k + j, drawn = below(random_word(word, j), last + 1);
        vec<int32_t, L> same{};
        for (int64_t at = 0; at < j; at += L) {
          vec<int32_t, L> some;
          std::memcpy(&some, picks + at, sizeof some);
          same |= some == static_cast<int32_t>(drawn) + vec<int32_t, L>{};
        }
        const int64_t pick = any(same) ? last : drawn;
        picks[j] = static_cast<int32_t>(pick);
        out[j] = take(begin + pick);
      }
    } else {
      uint64_t* taken = room.taken;
      for (int64_t j = 0; j < k; ++j) {
        const int64_t last = size - k + j, drawn = below(random_word(word, j), last + 1);
        const int64_t pick = taken[drawn >> 6] >> (drawn & 63) & 1 ? last : drawn;
        taken[pick >> 6] |= uint64_t{1} << (pick & 63);
        out[j] = take(begin + pick);
      }
      for (int64_t j = 0; j < k; ++j) taken[(out[j] - begin) >> 6] = 0;
    }
    return k;
  }

  int64_t replaced(int64_t begin, int64_t end, int64_t k, uint64_t word, int64_t* out) const {
    if (begin == end) return 0;
    for (int64_t j = 0; j < k; ++j)
      out[j] = take(begin + below(random_word(word, j), end - begin));
    return k;
  }

  // the slot in whose share of the sums a drawn number lies
  int64_t searched(int64_t begin, int64_t end, int64_t k, uint64_t word, int64_t* out) const {
    const int64_t total = of.sums[end] - of.sums[begin];
    if (total == 0) return 0;
    for (int64_t j = 0; j < k; ++j) {
      const int64_t drawn = of.sums[begin] + below(random_word(word, j), total);
      int64_t low = begin, high = end;
      while (high - low > 1) {
        const int64_t mid = low + (high - low) / 2;
        if (of.sums[mid] <= drawn)
          low = mid;
        else
          high = mid;
      }
      out[j] = take(low);
    }
    return k;
  }

  // the k first to arrive, each after an exponential time with its weight as rate
  int64_t first_arrivals(int64_t begin, int64_t end, int64_t k, uint64_t word,
                         int64_t* out) const {
    double* key = room.key;
    int64_t count = 0;
    for (int64_t slot = begin; slot < end; ++slot) {
      if (of.weight[slot] == 0.0) continue;
      const double mine = exponential(random_word(word, slot - begin)) / of.weight[slot];
      if (count < k) {
        key[count] = mine;
        out[count++] = slot;
        if (count == k) heap(key, out, k);
      } else if (mine < key[0]) {
        sink(key, out, 0, k, mine, slot);
      }
    }
    if (count < k) heap(key, out, count);
    // the top of the heap goes to its end, again and again
    for (int64_t size = count - 1; size > 0; --size) {
      const double mine = key[size];
      const int64_t slot = out[size];
      key[size] = key[0];
      out[size] = out[0];
      sink(key, out, 0, size, mine, slot);
    }
    for (int64_t j = 0; j < count; ++j) take(out[j]);
    return count;
  }

  // A heap with the last to arrive on top, of equals the later slot. An entry sinks from `at`.
  static void sink(double* key, int64_t* out, int64_t at, int64_t size, double mine, int64_t slot) {
    for (int64_t child; (child = 2 * at + 1) < size; at = child) {
      if (child + 1 < size && earlier(key[child], out[child], key[child + 1], out[child + 1])) ++child;
      if (!earlier(mine, slot, key[child], out[child])) break;
      key[at] = key[child];
      out[at] = out[child];
    }
    key[at] = mine;
    out[at] = slot;
  }

  static void heap(double* key, int64_t* out, int64_t size) {
    for (int64_t at = size / 2; at-- > 0;) sink(key, out, at, size, key[at], out[at]);
  }

  static bool earlier(double a, int64_t slot_a, double b, int64_t slot_b) {
    return a < b || (a == b && slot_a < slot_b);
  }

  // each with probability k / size, by a number of its own that all rows share
  int64_t labor(int64_t begin, int64_t end, int64_t k, uint64_t word, int64_t* out) const {
    if (end - begin <= k) return all(begin, end, out);
    constexpr int L = kBytes / 8;
    const double share = static_cast<double>(k) / static_cast<double>(end - begin);
    const int64_t bound = static_cast<int64_t>(share * 0x1p53);
    int64_t count = 0, slot = begin;
    for (; slot + L <= end; slot += L) {
      vec<I, L> columns;
      std::memcpy(&columns, idx + slot, sizeof columns);
      const auto counter = __builtin_convertvector(columns, vec<uint64_t, L>);
      const auto words = mix_words<vec<uint64_t, L>>(word + (counter + 1) * kCounterStep) >> 11;
      const auto hit = __builtin_convertvector(words, vec<int64_t, L>) < bound;
      for (int l = 0; l < L; ++l) {
        out[count] = slot + l;
        count -= hit[l];
      }
    }
    for (; slot < end; ++slot) {
      const uint64_t mine = random_word(word, static_cast<uint64_t>(idx[slot])) >> 11;
      out[count] = slot;
      count += static_cast<int64_t>(mine) < bound;
    }
    for (int64_t j = 0; j < count; ++j) take(out[j]);
    return count;
  }
};

// --- all hops ---

enum Way { kNone, kAll, kFloyd, kReplaced, kSearched, kArrivals, kLabor, kLast };

struct Run {
  const SamplePlan& plan;
  const SampleSeeds& seeds;
  SampleFound& into;
  SampleRoom& room;

  Way way(const SampleRelation& of, int64_t k) const {
    if (k == 0) return kNone;
    if (k < 0) return kAll;
    if (plan.labor) return kLabor;
    if (plan.last) return kLast;
    if (of.sums) return kSearched;
    if (of.weight) return kArrivals;
    return plan.replace ? kReplaced : kFloyd;
  }

  int64_t most(Way how, int64_t size, int64_t k) const {
    if (how == kNone || size == 0) return 0;
    if (how == kAll || how == kLabor) return size;
    if (how == kReplaced || how == kSearched) return k;
    return size < k ? size : k;
  }

  // the slots of the local node `row` that may be taken
  void span(const SampleRelation& of, int64_t row, int64_t& begin, int64_t& end) const {
    const SampleNodes& nodes = into.nodes[of.dst];
    const int64_t node = nodes.id[row];
    begin = of.side.ptr[node];
    end = of.side.ptr[node + 1];
    if (!of.time || !seeds.time) return;
    const int64_t now = seeds.time[nodes.tree[row]];
    int64_t low = begin, high = end;
    while (low < high) {
      const int64_t mid = low + (high - low) / 2;
      if (of.time[mid] <= now)
        low = mid + 1;
      else
        high = mid;
    }
    end = low;
  }

  template <class I>
  int64_t draw(Row<I>& row, Way how, int64_t begin, int64_t end, int64_t k, uint64_t word,
               int64_t* out) const {
    switch (how) {
      case kAll:
        return row.all(begin, end, out);
      case kFloyd:
        return end - begin <= k ? row.all(begin, end, out) : row.floyd(begin, end, k, word, out);
      case kReplaced:
        return row.replaced(begin, end, k, word, out);
      case kSearched:
        return row.searched(begin, end, k, word, out);
      case kArrivals:
        return row.first_arrivals(begin, end, k, word, out);
      case kLabor:
        return row.labor(begin, end, k, word, out);
      case kLast:
        return row.all(end - begin > k ? end - k : begin, end, out);
      default:
        return 0;
    }
  }

  Gone gone(const SampleRelation& of) const {
    const int64_t r = &of - plan.relations;
    if (!seeds.gone) return {room.gone[r], nullptr, 0};
    return {room.gone[r], seeds.gone[r], seeds.num_gone[r]};
  }

  // room for a row without some of its edges
  bool reserve_rest(int64_t pairs, int64_t longest) {
    return reserve(room.rest, room.rest_room, 5 * (longest + 1) + 5 * pairs);
  }

  // The slots whose columns are in `wanted`, by a table: to compare all of a hub's columns with as
  // many pairs would take seconds.
  template <class I>
  static int64_t find_many(const I* idx, int64_t begin, int64_t end, const I* wanted, int64_t count,
                           uint64_t* table, int64_t* found) {
    uint64_t size = 64;
    while (size < 2 * static_cast<uint64_t>(count)) size *= 2;
    std::memset(table, 0, size * sizeof(uint64_t));
    const auto place = [=](uint64_t key) {
      uint64_t at = mix_words<uint64_t>(key) & (size - 1);
      while (table[at] && table[at] != key) at = (at + 1) & (size - 1);
      return table + at;
    };
    for (int64_t j = 0; j < count; ++j) {
      const uint64_t key = static_cast<uint64_t>(wanted[j]) + 1;
      *place(key) = key;
    }
    int64_t n = 0;
    for (int64_t slot = begin; slot < end; ++slot) {
      found[n] = slot;
      n += *place(static_cast<uint64_t>(idx[slot]) + 1) != 0;
    }
    return n;
  }

  // The slots of a row whose edges may not be taken, into `found`, which rise: how many.
  template <class I>
  int64_t find_gone(const SampleRelation& of, const Gone& without, int64_t node, int64_t begin,
                    int64_t end, int64_t* found) const {
    constexpr int L = kBytes / static_cast<int>(sizeof(I));
    const I* idx = static_cast<const I*>(of.side.idx);
    I* wanted = reinterpret_cast<I*>(found + (end - begin + 1));
    const int64_t count = without.of_row(node, wanted);
    if (count > kListed) {
      uint64_t* table = reinterpret_cast<uint64_t*>(found + (end - begin + 1) + count);
      return find_many(idx, begin, end, wanted, count, table, found);
    }
    int64_t n = 0;
    for (int64_t slot = begin; slot < end; slot += L) {
      const int64_t last = slot + L < end ? slot + L : end;
      if (last - slot == L) {
        vec<I, L> columns;
        std::memcpy(&columns, idx + slot, sizeof columns);
        auto same = columns == wanted[0] + vec<I, L>{};
        for (int64_t j = 1; j < count; ++j) same |= columns == wanted[j] + vec<I, L>{};
        if (!any(same)) continue;
      }
      for (int64_t at = slot; at < last; ++at) {
        bool is_gone = false;
        for (int64_t j = 0; j < count; ++j) is_gone |= idx[at] == wanted[j];
        found[n] = at;
        n += is_gone;
      }
    }
    return n;
  }

  // As `draw`, from a row some of whose edges may not be taken; most rows have none.
  template <class I>
  int64_t draw_rest(const SampleRelation& of, const Gone& without, int64_t node, Way how,
                    int64_t begin, int64_t end, int64_t k, uint64_t word, int64_t* out) const {
    const I* idx = static_cast<const I*>(of.side.idx);
    const int64_t size = end - begin + 1;
    int64_t *rest = room.rest, *sums = rest + size;
    double* weight = reinterpret_cast<double*>(sums + size);
    I* columns = reinterpret_cast<I*>(weight + size);
    int64_t* found = reinterpret_cast<int64_t*>(weight + 2 * size);
    const int64_t lost = find_gone<I>(of, without, node, begin, end, found);
    if (how != kSearched && how != kArrivals && how != kLabor) {
      // places among those that are left
      Row<I> row{of, idx, room};
      const int64_t drawn = draw(row, how, 0, end - begin - lost, k, word, out);
      for (int64_t j = 0; j < drawn; ++j) {
        int64_t low = 0, high = lost;
        while (low < high) {
          const int64_t mid = low + (high - low) / 2;
          if (found[mid] - begin - mid <= out[j])
            low = mid + 1;
          else
            high = mid;
        }
        out[j] = row.take(begin + out[j] + low);
      }
      return drawn;
    }
    // the row is read anyway, and here copied without them
    int64_t count = 0, next = 0;
    sums[0] = 0;
    for (int64_t slot = begin; slot < end; ++slot) {
      if (next < lost && found[next] == slot) {
        ++next;
        continue;
      }
      rest[count] = slot;
      columns[count] = idx[slot];
      if (of.sums) sums[count + 1] = sums[count] + of.sums[slot + 1] - of.sums[slot];
      if (of.weight) weight[count] = of.weight[slot];
      ++count;
    }
    SampleRelation copy = of;
    if (of.sums) copy.sums = sums;
    if (of.weight) copy.weight = weight;
    Row<I> row{copy, columns, room};
    const int64_t drawn = draw(row, how, 0, count, k, word, out);
    for (int64_t j = 0; j < drawn; ++j) out[j] = row.take(rest[out[j]]);
    return drawn;
  }

  // The columns of the slots, into `found`; their places in the table are fetched, and their edge
  // numbers.
  template <class I, class M>
  void columns(const Side& side, const int64_t* slots, int64_t count, const M& map) const {
    const I* idx = static_cast<const I*>(side.idx);
    const char* eid = static_cast<const char*>(side.eid);
    const int64_t wide = side.eid64 ? 8 : 4;
    int64_t* found = room.found;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t slot = slots[i], node = idx[slot];
      found[i] = node;
      map.fetch(node, 0);
      if (eid) prefetch_line(eid + slot * wide);
    }
  }

  // slots become the caller's edge numbers
  static void number_edges(const Side& side, int64_t* slots, int64_t count) {
    if (!side.eid) return;
    if (side.eid64) {
      const int64_t* eid = static_cast<const int64_t*>(side.eid);
      for (int64_t i = 0; i < count; ++i) slots[i] = eid[slots[i]];
    } else {
      const int32_t* eid = static_cast<const int32_t*>(side.eid);
      for (int64_t i = 0; i < count; ++i) slots[i] = eid[slots[i]];
    }
  }

  void fetch_offsets(const SampleRelation& of, int64_t first, int64_t last) const {
    const SampleNodes& nodes = into.nodes[of.dst];
    for (int64_t row = first; row < last; ++row)
      prefetch_line(of.side.ptr + nodes.id[row]);
  }

  // The sampled in-edges of local nodes `first` to `last` - 1.
  template <class I, class M>
  int hop(const SampleRelation& of, SampleEdges& edges, int64_t k, uint64_t word, int64_t first,
          int64_t last, M map) {
    const Way how = way(of, k);
    const I* idx = static_cast<const I*>(of.side.idx);
    const bool disjoint = plan.disjoint;
    Row<I> row{of, idx, room};
    SampleNodes& sources = into.nodes[of.src];
    if (!reserve(edges.ptr, edges.ptr_room, last + 1)) return kNoMemory;
    if (how == kNone) {
      for (int64_t r = first; r < last; ++r) edges.ptr[r + 1] = edges.count;
      return kSampled;
    }
    const bool repeats = how == kReplaced || how == kSearched;
    const Gone without = gone(of);
    const int64_t known = edges.count;
    fetch_offsets(of, first, first + kRows < last ? first + kRows : last);
    for (int64_t r0 = first; r0 < last; r0 += kRows) {
      const int64_t r1 = r0 + kRows < last ? r0 + kRows : last;
      // the most edges, the most nodes that are new, the longest row
      int64_t begin[kRows], end[kRows], total = 0, fresh = 0, longest = 0;
      for (int64_t r = r0; r < r1; ++r) {
        span(of, r, begin[r - r0], end[r - r0]);
        const int64_t size = end[r - r0] - begin[r - r0];
        const int64_t edges_of_row = most(how, size, k);
        total += edges_of_row;
        fresh += edges_of_row < size ? edges_of_row : size;
        if (size > longest) longest = size;
      }
      fetch_offsets(of, r1, r1 + kRows < last ? r1 + kRows : last);
      if (repeats && edges.count - known + total > kMost) return kTooManyDraws;
      if (sources.count + fresh > kMost) return kTooMany;
      // one more of each, because what is not taken is written and then overwritten
      if (!reserve(edges.idx, edges.idx_room, edges.count + total + 1) ||
          !reserve(edges.eid, edges.eid_room, edges.count + total + 1) ||
          !reserve(room.found, room.found_room, total + 1) ||
          !reserve(sources.id, sources.room, sources.count + fresh + 1) ||
          (disjoint && !reserve(sources.tree, sources.tree_room, sources.count + fresh + 1)) ||
          !map.make_room(sources.count + fresh))
        return kNoMemory;
      if (how == kArrivals && !reserve(room.key, room.key_room, k < longest ? k : longest))
        return kNoMemory;
      if (without.count && !reserve_rest(without.count, longest)) return kNoMemory;
      if (how == kFloyd && k > kListed && longest / 64 >= room.taken_room &&
          !renew(room.taken, room.taken_room, 2 * (longest / 64 + 1)))
        return kNoMemory;

      const SampleNodes& rows = into.nodes[of.dst];
      int64_t at = edges.count;
      for (int64_t r = r0; r < r1; ++r) {
        uint64_t mine = word;
        if (how != kLabor && how != kAll && how != kLast) {
          mine = random_word(word, static_cast<uint64_t>(rows.id[r]));
          if (disjoint) mine = random_word(mine, static_cast<uint64_t>(rows.tree[r]));
        }
        const int64_t from = begin[r - r0], to = end[r - r0];
        at += without.count && without.in(rows.id[r])
                  ? draw_rest<I>(of, without, rows.id[r], how, from, to, k, mine, edges.eid + at)
                  : draw(row, how, from, to, k, mine, edges.eid + at);
        edges.ptr[r + 1] = at;
      }
      const int64_t count = at - edges.count;
      int64_t* slots = edges.eid + edges.count;
      int32_t* local = edges.idx + edges.count;
      const int64_t* found = room.found;
      int64_t next = sources.count;
      int64_t* ids = sources.id;
      if (!disjoint) {
        columns<I>(of.side, slots, count, map);
        for (int64_t i = 0; i < count; ++i) {
          const int64_t number = map.number(found[i], 0, next);
          local[i] = static_cast<int32_t>(number);
          ids[next] = found[i];
          next += number == next;
        }
      } else {
        int64_t i = 0;
        for (int64_t r = r0; r < r1; ++r) {
          const int64_t tree = rows.tree[r];
          for (; i < edges.ptr[r + 1] - edges.count; ++i) {
            const int64_t node = idx[slots[i]];
            const int64_t number = map.number(node, tree, next);
            local[i] = static_cast<int32_t>(number);
            ids[next] = node;
            sources.tree[next] = tree;
            next += number == next;
          }
        }
      }
      number_edges(of.side, slots, count);
      sources.count = next;
      edges.count = at;
    }
    return kSampled;
  }

  // All edges among the nodes that were found.
  template <class I, class M>
  int among(const SampleRelation& of, SampleEdges& edges, const M& map) {
    const I* idx = static_cast<const I*>(of.side.idx);
    const Gone without = gone(of);
    const SampleNodes& rows = into.nodes[of.dst];
    edges.count = 0;
    if (!reserve(edges.ptr, edges.ptr_room, rows.count + 1)) return kNoMemory;
    const SampleNodes& sources = into.nodes[of.src];
    const int64_t trees = plan.disjoint ? num_trees() : 1;
    Filter filter = Filter::of(sources, trees);
    if (M::kHashes) {
      if (!reserve(room.found, room.found_room, filter.words * trees)) return kNoMemory;
      filter.fill(reinterpret_cast<uint64_t*>(room.found), sources, trees);
    }
    fetch_offsets(of, 0, kRows < rows.count ? kRows : rows.count);
    for (int64_t r = 0; r < rows.count; ++r) {
      if (r + kRows < rows.count) fetch_offsets(of, r + kRows, r + kRows + 1);
      int64_t begin, end;
      span(of, r, begin, end);
      const int64_t tree = plan.disjoint ? rows.tree[r] : 0;
      int64_t lost = 0, next = 0;
      if (without.count && without.in(rows.id[r])) {
        if (!reserve_rest(without.count, end - begin)) return kNoMemory;
        lost = find_gone<I>(of, without, rows.id[r], begin, end, room.rest);
      }
      if (!reserve(edges.idx, edges.idx_room, edges.count + end - begin + 1) ||
          !reserve(edges.eid, edges.eid_room, edges.count + end - begin + 1))
        return kNoMemory;
      int64_t* likely = edges.eid + edges.count;
      int64_t count = 0;
      for (int64_t slot = begin; slot < end; ++slot) {
        likely[count] = slot;
        count += !M::kHashes || filter.has(idx[slot], tree);
      }
      for (int64_t i = 0; i < count; ++i) map.fetch(idx[likely[i]], tree);
      for (int64_t i = 0; i < count; ++i) {
        const int64_t slot = likely[i];
        while (next < lost && room.rest[next] < slot) ++next;
        if (next < lost && room.rest[next] == slot) continue;
        const int64_t number = map.find(idx[slot], tree);
        if (number < 0) continue;
        edges.idx[edges.count] = static_cast<int32_t>(number);
        edges.eid[edges.count++] = slot;
      }
      number_edges(of.side, edges.eid + edges.ptr[r], edges.count - edges.ptr[r]);
      edges.ptr[r + 1] = edges.count;
    }
    return kSampled;
  }

  int64_t num_trees() const {
    int64_t count = 0;
    for (int t = 0; t < plan.num_types; ++t) count += seeds.count[t];
    return count;
  }

  template <class F>
  int with_map(int type, const F& call) {
    SampleTable& table = room.tables[type];
    const uint64_t size = static_cast<uint64_t>(plan.num_nodes[type]);
    return plan.dense ? call(Dense{table.entry, room.stamp})
                      : call(Hashed{table, into.nodes[type], room.stamp, size});
  }

  int start() {
    if (++room.stamp == 0) {
      for (int t = 0; t < plan.num_types; ++t)
        if (room.tables[t].entry)
          std::memset(room.tables[t].entry, 0, room.tables[t].room * sizeof(uint64_t));
      room.stamp = 1;
    }
    for (int t = 0; t < plan.num_types; ++t) {
      SampleNodes& nodes = into.nodes[t];
      const int64_t count = seeds.count[t];
      nodes.count = 0;
      if (count > kMost) return kTooMany;
      if (!reserve(nodes.id, nodes.room, count + 1)) return kNoMemory;
      if (plan.disjoint && !reserve(nodes.tree, nodes.tree_room, count + 1)) return kNoMemory;
      if (!(plan.dense ? Dense::prepare(room.tables[t], plan.num_nodes[t])
                       : Hashed::prepare(room.tables[t])))
        return kNoMemory;
      const int status = with_map(t, [&](auto map) -> int {
        if (!map.make_room(count)) return kNoMemory;
        for (int64_t i = 0; i < count; ++i) {
          const int64_t tree = seeds.first[t] + i;
          nodes.id[i] = seeds.id[t][i];
          if (plan.disjoint) nodes.tree[i] = tree;
          // of equal seeds the first keeps its number
          map.number(nodes.id[i], plan.disjoint ? tree : 0, i);
        }
        return kSampled;
      });
      if (status) return status;
      nodes.count = count;
      into.num_nodes[t * (plan.hops + 1)] = count;
    }
    return kSampled;
  }

  int all() {
    int status = start();
    if (status) return status;
    for (int r = 0; r < plan.num_relations; ++r) {
      SampleEdges& edges = into.edges[r];
      const SampleRelation& of = plan.relations[r];
      if (gone(of).count && !gone(of).fill()) return kNoMemory;
      edges.count = 0;
      if (!reserve(edges.ptr, edges.ptr_room, 1)) return kNoMemory;
      edges.ptr[0] = 0;
    }
    for (int h = 0; h < plan.hops; ++h) {
      // what the hop before found is expanded: of each type the nodes from the sum of the counts of
      // all earlier hops on
      for (int r = 0; r < plan.num_relations; ++r) {
        const SampleRelation& of = plan.relations[r];
        const int64_t* counts = into.num_nodes + of.dst * (plan.hops + 1);
        int64_t first = 0;
        for (int before = 0; before < h; ++before) first += counts[before];
        const uint64_t layer = plan.layer_dependency ? 0xffff : static_cast<uint64_t>(h);
        // with LABOR relations share the numbers of their sources
        const uint64_t which = static_cast<uint64_t>(plan.labor ? of.src : r);
        const uint64_t word = random_word(seeds.key, which << 16 | layer);
        const int64_t k = plan.fanout[h * plan.num_relations + r];
        SampleEdges& edges = into.edges[r];
        const int64_t before = edges.count;
        status = with_map(of.src, [&](auto map) {
          return of.side.idx64
                     ? hop<int64_t>(of, edges, k, word, first, first + counts[h], map)
                     : hop<int32_t>(of, edges, k, word, first, first + counts[h], map);
        });
        if (status) return status;
        into.num_edges[r * plan.hops + h] = edges.count - before;
      }
      for (int t = 0; t < plan.num_types; ++t) {
        int64_t* counts = into.num_nodes + t * (plan.hops + 1);
        int64_t known = 0;
        for (int before = 0; before <= h; ++before) known += counts[before];
        counts[h + 1] = into.nodes[t].count - known;
      }
    }
    for (int r = 0; plan.induced && r < plan.num_relations; ++r) {
      const SampleRelation& of = plan.relations[r];
      SampleEdges& edges = into.edges[r];
      status = with_map(of.src, [&](const auto& map) {
        return of.side.idx64 ? among<int64_t>(of, edges, map) : among<int32_t>(of, edges, map);
      });
      if (status) return status;
    }
    return kSampled;
  }
};

}  // namespace

void sample(const SamplePlan& plan, const SampleSeeds* seeds, SampleFound* found, int64_t count,
            SampleRoom* rooms, int threads) {
#if defined(_OPENMP)
  if (threads > 1 && count > 1) {
#pragma omp parallel num_threads(threads)
    {
      SampleRoom& mine = rooms[omp_get_thread_num()];
#pragma omp for schedule(dynamic, 1)
      for (int64_t i = 0; i < count; ++i)
        found[i].status = Run{plan, seeds[i], found[i], mine}.all();
    }
    return;
  }
#endif
  for (int64_t i = 0; i < count; ++i)
    found[i].status = Run{plan, seeds[i], found[i], rooms[0]}.all();
}

}  // namespace GK_ISA
