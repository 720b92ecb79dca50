// A row of any width as blocks of whole vectors, their numbers known to the compiler.
#pragma once
#include "simd.h"

namespace GK_ISA {

template <int N>
struct Int {
  static constexpr int value = N;
};

// Vectors in some cache lines of storage. How much of a row is best fetched at once was measured,
// interleaved, at widths 64 to 256: four lines where AVX2 is the best there is (Zen 3: two are 1.1 to
// 1.2 times slower), two with AVX-512 (Zen 4: eight are 1.7 times slower). Without either the
// registers hold no more than two.
template <class T>
constexpr int kLines =
#if defined(GK_ISA_avx2)
    256
#else
    128
#endif
    / (kLanes<T> * static_cast<int>(sizeof(T)));

// Calls body(at, size, Int<lanes>, Int<vectors>) for blocks of at most Most vectors that cover
// [0, width). In a block, vector v stands at v * lanes and the last one at size - lanes, so that it
// may overlap the one before it. The last of several blocks is moved back where it would be less
// than a vector.
template <class T, int Most = kRegisters, class F>
inline void for_blocks(int64_t width, const F& body) {
  constexpr int L = kLanes<T>;
  if (width < L) {
    // at most two vectors of the largest power of two that fits
    if (L > 8 && width >= 8)
      width > 8 ? body(0, width, Int<(L > 8 ? 8 : 1)>(), Int<2>())
                : body(0, width, Int<(L > 8 ? 8 : 1)>(), Int<1>());
    else if (L > 4 && width >= 4)
      width > 4 ? body(0, width, Int<(L > 4 ? 4 : 1)>(), Int<2>())
                : body(0, width, Int<(L > 4 ? 4 : 1)>(), Int<1>());
    else if (L > 2 && width >= 2)
      width > 2 ? body(0, width, Int<(L > 2 ? 2 : 1)>(), Int<2>())
                : body(0, width, Int<(L > 2 ? 2 : 1)>(), Int<1>());
    else if (width == 1)
      body(0, width, Int<1>(), Int<1>());
    return;
  }
  for (int64_t at = 0; at < width;) {
    if (width - at < L) at = width - L;
    const int64_t rest = width - at;
    const int64_t full = (rest + L - 1) / L;
    const int64_t take = full < Most ? full : Most;
    const int64_t size = rest < take * L ? rest : take * L;
    switch (take) {
#define GK_BLOCK(n)                                             \
  case n:                                                       \
    if constexpr (n <= Most) body(at, size, Int<L>(), Int<n>()); \
    break;
      GK_BLOCK(1) GK_BLOCK(2) GK_BLOCK(3) GK_BLOCK(4) GK_BLOCK(5) GK_BLOCK(6) GK_BLOCK(7) GK_BLOCK(8)
      GK_BLOCK(9) GK_BLOCK(10) GK_BLOCK(11) GK_BLOCK(12) GK_BLOCK(13) GK_BLOCK(14) GK_BLOCK(15)
      GK_BLOCK(16)
#undef GK_BLOCK
    }
    at += size;
  }
}

}  // namespace GK_ISA
