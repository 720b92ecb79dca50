#include "touch.h"

#include "blocks.h"
#include "parallel.h"

namespace GK_ISA {
namespace {

template <class I>
void touch_typed(const TouchArgs& args) {
  const Side& side = args.side;
  const I* idx = static_cast<const I*>(side.idx);
  const int64_t slots = side.slots();
  parallel_rows(side.ptr, side.rows, args.threads, [&](int64_t first, int64_t last) {
    for_blocks<float, kLines<float>>(
        args.width, [&](int64_t at, int64_t size, auto lanes, auto vectors) {
          constexpr int L = decltype(lanes)::value, NV = decltype(vectors)::value;
          const float* x = args.x + at;
          vec<float, L> sum[NV] = {};
          for (int64_t e = side.ptr[first]; e < side.ptr[last]; ++e) {
            if (e + kAhead < slots)
              prefetch_row(x + static_cast<int64_t>(idx[e + kAhead]) * args.width, NV * L * 4);
            const float* row = x + static_cast<int64_t>(idx[e]) * args.width;
            for (int v = 0; v < NV; ++v)
              sum[v] += load<L>(row + (v + 1 < NV ? v * L : size - L));
          }
          // a race of equals: the value only keeps the loads from being left out
          for (int v = 0; v < NV; ++v)
            if (sum[v][0] == 12345.678f) *args.sink = sum[v][0];
        });
  });
}

}  // namespace

void touch(const TouchArgs& args) {
  args.side.idx64 ? touch_typed<int64_t>(args) : touch_typed<int32_t>(args);
}

}  // namespace GK_ISA
