// Sampled dense times dense. Slots are shared out, not rows: their products are independent, so
// that a hub is cut wherever it suits. The row of a stays in the first-level cache over its slots.
#include "sddmm.h"

#include "dot.h"
#include "parallel.h"

namespace GK_ISA {
namespace {

constexpr int64_t kChunk = 4096;

template <class T, class I>
void dot_slots(const SddmmArgs& args, int64_t begin, int64_t end) {
  const Side& side = args.side;
  const I* idx = static_cast<const I*>(side.idx);
  const T *a = static_cast<const T*>(args.a), *b = static_cast<const T*>(args.b);
  T* out = static_cast<T*>(args.out);
  const int64_t slots = side.slots(), channels = args.channels;
  const int64_t bytes = args.heads * channels * static_cast<int64_t>(sizeof(T));
  int64_t row = row_of(side.ptr, side.rows, begin);
  for (int64_t e = begin; e < end; ++e) {
    while (side.ptr[row + 1] <= e) ++row;
    if (e + kAhead < slots) {
      prefetch_row(b + static_cast<int64_t>(idx[e + kAhead]) * args.b_stride, bytes);
      if (side.eid) __builtin_prefetch(out + side.edge(e + kAhead) * args.heads, 1, 2);
    }
    const T* left = a + row * args.a_stride;
    const T* right = b + static_cast<int64_t>(idx[e]) * args.b_stride;
    T* to = out + side.edge(e) * args.heads;
    for (int64_t head = 0; head < args.heads; ++head, left += channels, right += channels)
      store_one(to + head, column_sum<T>(channels, [&](int64_t c, auto lanes) {
                  constexpr int L = decltype(lanes)::value;
                  return load<L>(left + c) * load<L>(right + c);
                }));
  }
}

template <class T>
void sddmm_stored(const SddmmArgs& args) {
  const int64_t slots = args.side.slots();
  parallel((slots + kChunk - 1) / kChunk, args.threads, [&](int64_t i) {
    const int64_t begin = i * kChunk, end = slots - begin > kChunk ? begin + kChunk : slots;
    args.side.idx64 ? dot_slots<T, int64_t>(args, begin, end)
                    : dot_slots<T, int32_t>(args, begin, end);
  });
}

}  // namespace

void sddmm(const SddmmArgs& args) {
  if (args.dtype == kFloat)
    sddmm_stored<float>(args);
  else if (args.dtype == kDouble)
    sddmm_stored<double>(args);
  else
    sddmm_stored<bf16>(args);
}

}  // namespace GK_ISA
