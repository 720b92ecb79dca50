// Rows of a table by their numbers, as bytes: one kernel for every dtype.
#include "rows.h"

#include <cstring>

#include "parallel.h"
#include "simd.h"

namespace GK_ISA {
namespace {

constexpr int64_t kLine = 64;
// rows go through a buffer of so many bytes where whole lines are streamed that rows do not end at
constexpr int64_t kBuffer = 4096;
// bytes fetched ahead at most, a part of the second-level cache
constexpr int64_t kFetched = 1 << 17;
// bytes that are worth a thread
constexpr int64_t kShare = 1 << 17;

typedef vec<float, kBytes / 4> line_t;
constexpr int kVectors = static_cast<int>(kLine / kBytes);

// `to` is aligned to a line
GK_INLINE void stream_line(char* to, const char* from) {
  for (int v = 0; v < kVectors; ++v) {
    line_t value;
    std::memcpy(&value, from + v * kBytes, kBytes);
    stream<kBytes / 4>(reinterpret_cast<float*>(to + v * kBytes), value);
  }
}

GK_INLINE void copy(char* to, const char* from, int64_t bytes) {
  int64_t at = 0;
  for (; at + kLine <= bytes; at += kLine) std::memcpy(to + at, from + at, kLine);
  if (at == bytes) return;
  // the last line once more from its end, which is cheaper than a loop over what is left
  if (bytes >= kLine)
    std::memcpy(to + bytes - kLine, from + bytes - kLine, kLine);
  else
    std::memcpy(to + at, from + at, bytes - at);
}

template <class I>
struct Rows {
  const RowsArgs& a;
  const char* x;
  const I* index;
  char* out;
  int64_t ahead;

  explicit Rows(const RowsArgs& args)
      : a(args),
        x(static_cast<const char*>(args.x)),
        index(static_cast<const I*>(args.index)),
        out(static_cast<char*>(args.out)) {
    const int64_t fit = kFetched / (a.bytes > kLine ? a.bytes : kLine);
    ahead = fit > kAhead ? kAhead : fit > 2 ? fit : 2;
  }

  GK_INLINE const char* row(int64_t i) const { return x + static_cast<int64_t>(index[i]) * a.x_stride; }
  // from the line that a row begins in to the one that it ends in
  GK_INLINE void fetch(int64_t i) const {
    if (i + ahead >= a.rows) return;
    const char* p = row(i + ahead);
    const int64_t skew = reinterpret_cast<uintptr_t>(p) % kLine;
    prefetch_row(p - skew, a.bytes + skew);
  }

  // rows that are single numbers
  template <class T>
  void numbers(int64_t first, int64_t last) const {
    for (int64_t i = first; i < last; ++i) {
      fetch(i);
      std::memcpy(out + i * a.out_stride, row(i), sizeof(T));
    }
  }

  void copied(int64_t first, int64_t last) const {
    for (int64_t i = first; i < last; ++i) {
      fetch(i);
      copy(out + i * a.out_stride, row(i), a.bytes);
    }
  }

  // rows of whole lines, each on its own
  void streamed(int64_t first, int64_t last) const {
    for (int64_t i = first; i < last; ++i) {
      fetch(i);
      const char* from = row(i);
      char* to = out + i * a.out_stride;
      for (int64_t at = 0; at < a.bytes; at += kLine) stream_line(to + at, from + at);
    }
    end_stream();
  }

  // rows that stand one behind the other, of any length: `first` begins a line
  void packed(int64_t first, int64_t last) const {
    alignas(kLine) char buffer[kBuffer];
    char* to = out + first * a.bytes;
    int64_t held = 0;
    for (int64_t i = first; i < last; ++i) {
      fetch(i);
      const char* from = row(i);
      for (int64_t left = a.bytes; left > 0;) {
        const int64_t part = left < kBuffer - held ? left : kBuffer - held;
        copy(buffer + held, from, part);
        from += part;
        left -= part;
        held += part;
        if (held < kBuffer) continue;
        for (int64_t at = 0; at < kBuffer; at += kLine) stream_line(to + at, buffer + at);
        to += kBuffer;
        held = 0;
      }
    }
    int64_t at = 0;
    for (; at + kLine <= held; at += kLine) stream_line(to + at, buffer + at);
    std::memcpy(to + at, buffer + at, held - at);
    end_stream();
  }

  void some(int64_t first, int64_t last) const {
    const int64_t total = a.rows * a.out_stride;
    const bool past = !a.is_new;
    if (past && streams(out, a.bytes, total) && a.out_stride % kLine == 0)
      return streamed(first, last);
    if (past && streams(out, kLine, total) && a.bytes == a.out_stride) return packed(first, last);
    if (a.bytes == 8) return numbers<int64_t>(first, last);
    if (a.bytes == 4) return numbers<int32_t>(first, last);
    if (a.bytes == 1) return numbers<char>(first, last);
    copied(first, last);
  }
};

template <class I>
void take(const RowsArgs& args) {
  const Rows<I> rows(args);
  int64_t share = kShare / args.bytes;
  // few parts in new memory: two threads that touch one huge page first both clear it
  const int64_t parts = args.is_new ? 4 : 32;
  const int64_t least = args.rows / (parts * static_cast<int64_t>(args.threads) + 1);
  if (share < least) share = least;
  // parts begin where a line does, whatever the length of a row
  share = (share / kLine + 1) * kLine;
  parallel((args.rows + share - 1) / share, args.threads, [&](int64_t part) {
    const int64_t first = part * share;
    rows.some(first, first + share < args.rows ? first + share : args.rows);
  });
}

}  // namespace

void take_rows(const RowsArgs& args) {
  if (args.rows == 0 || args.bytes == 0) return;
  args.idx64 ? take<int64_t>(args) : take<int32_t>(args);
}

}  // namespace GK_ISA
