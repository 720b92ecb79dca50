// Pairs that are not edges, drawn anew until one is found. graphkit/ops/negatives.py does the same.
#include "negatives.h"

#include "parallel.h"
#include "random.h"

namespace GK_ISA {
namespace {

constexpr int64_t kChunk = 256;

// the first of rising numbers that is not less than `value`
template <class I>
inline int64_t lower(const I* numbers, int64_t low, int64_t high, int64_t value) {
  while (low < high) {
    const int64_t mid = low + (high - low) / 2;
    if (numbers[mid] < value)
      low = mid + 1;
    else
      high = mid;
  }
  return low;
}

inline int64_t drawn(uint64_t word, const int64_t* sums, int64_t count) {
  if (!sums) return below(word, count);
  // no node before the first sum above the number
  return lower(sums, 0, count + 1, below(word, sums[count]) + 1) - 1;
}

template <class I>
bool is_edge(const NegativeArgs& of, int64_t src, int64_t dst) {
  const I* idx = static_cast<const I*>(of.side.idx);
  const int64_t end = of.side.ptr[src + 1], at = lower(idx, of.side.ptr[src], end, dst);
  if (at < end && idx[at] == dst) return true;
  const int64_t key = src * of.num_dst + dst;
  const int64_t place = lower(of.excluded, 0, of.num_excluded, key);
  return place < of.num_excluded && of.excluded[place] == key;
}

template <class I>
void some(const NegativeArgs& of, int64_t first, int64_t last) {
  for (int64_t i = first; i < last; ++i) {
    const uint64_t mine = random_word(of.word, static_cast<uint64_t>(i));
    int64_t src = of.given ? of.given[i] : 0, found = -1;
    for (int64_t t = 0; t < of.tries && found < 0; ++t) {
      if (!of.given) src = drawn(random_word(mine, 2 * t), of.src_sums, of.side.rows);
      const int64_t dst = drawn(random_word(mine, 2 * t + 1), of.dst_sums, of.num_dst);
      if (!is_edge<I>(of, src, dst) && (of.loops || src != dst)) found = dst;
    }
    if (!of.given) of.src[i] = found < 0 ? 0 : src;
    of.dst[i] = found;
  }
}

}  // namespace

void sample_negatives(const NegativeArgs& args) {
  parallel((args.count + kChunk - 1) / kChunk, args.threads, [&](int64_t chunk) {
    const int64_t first = chunk * kChunk;
    const int64_t last = first + kChunk < args.count ? first + kChunk : args.count;
    if (args.side.idx64)
      some<int64_t>(args, first, last);
    else
      some<int32_t>(args, first, last);
  });
}

}  // namespace GK_ISA
