// Rows shared out by their edges, the same for any number of threads.
#pragma once
#include <cstdint>
#include <cstdlib>

#include "common.h"

#if defined(_OPENMP)
#include <omp.h>
#endif

namespace GK_ISA {

// A row of so many slots or more is cut into pieces of this length, so that one hub cannot keep the
// other threads waiting. The cut does not depend on the threads: the bits do not either.
constexpr int64_t kPiece = 16384;
// how far ahead rows are fetched into the second-level cache, in slots
constexpr int64_t kAhead = 32;
constexpr int64_t kRowCost = 4;

// Working memory, given back with its scope.
template <class T>
struct Memory {
  T* const at;

  explicit Memory(int64_t count, bool zeros = false)
      : at(static_cast<T*>(!count ? nullptr
                           : zeros ? std::calloc(static_cast<size_t>(count), sizeof(T))
                                   : std::malloc(static_cast<size_t>(count) * sizeof(T)))) {
    if (count && !at) out_of_memory();
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() { std::free(at); }
  operator T*() const { return at; }
};

template <class F>
inline void parallel(int64_t tasks, int threads, const F& task) {
#if defined(_OPENMP)
  if (threads > 1 && tasks > 1) {
    int failed = 0;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (int64_t i = 0; i < tasks; ++i) {
      // nothing may leave the region but through its end; memory is all that can be wanting
      try {
        task(i);
      } catch (...) {
        __atomic_store_n(&failed, 1, __ATOMIC_RELAXED);
      }
    }
    if (failed) out_of_memory();
    return;
  }
#endif
  for (int64_t i = 0; i < tasks; ++i) task(i);
}

// the first row r for which slots before it and kRowCost for each row before it reach `work`
inline int64_t row_at(const int64_t* ptr, int64_t rows, int64_t work) {
  int64_t low = 0, high = rows;
  while (low < high) {
    int64_t mid = low + (high - low) / 2;
    if (ptr[mid] + kRowCost * mid < work)
      low = mid + 1;
    else
      high = mid;
  }
  return low;
}

// the row that holds slot `slot`
inline int64_t row_of(const int64_t* ptr, int64_t rows, int64_t slot) {
  int64_t low = 0, high = rows;
  while (high - low > 1) {
    int64_t mid = low + (high - low) / 2;
    if (ptr[mid] <= slot)
      low = mid;
    else
      high = mid;
  }
  return low;
}

// Hubs: rows of at least kPiece slots. Every such row holds a multiple of kPiece.
struct Hubs {
  struct Piece {
    int64_t row, begin, end;
    bool first;
  };
  Piece* pieces = nullptr;
  int64_t count = 0;

  Hubs(const int64_t* ptr, int64_t rows) {
    const int64_t slots = rows ? ptr[rows] : 0;
    int64_t room = 0, last = -1;
    for (int64_t at = 0; at < slots; at += kPiece) {
      const int64_t row = row_of(ptr, rows, at);
      const int64_t begin = ptr[row], end = ptr[row + 1];
      if (row == last || end - begin < kPiece) continue;
      last = row;
      for (int64_t piece = begin; piece < end; piece += kPiece) {
        if (count == room) {
          room = room ? 2 * room : 64;
          Piece* grown = static_cast<Piece*>(std::realloc(pieces, room * sizeof(Piece)));
          if (!grown) {
            std::free(pieces);
            out_of_memory();
          }
          pieces = grown;
        }
        pieces[count++] = {row, piece, piece + kPiece < end ? piece + kPiece : end, piece == begin};
      }
    }
  }
  Hubs(const Hubs&) = delete;
  Hubs& operator=(const Hubs&) = delete;
  ~Hubs() { std::free(pieces); }
};

inline bool is_hub(const int64_t* ptr, int64_t row) { return ptr[row + 1] - ptr[row] >= kPiece; }

// Calls body(first, last) for ranges of rows of about equal work, in parallel. `width`: numbers for
// each slot. What is done in some ten microseconds is not shared out: to wait for the other threads
// takes as long, and where others use the processor very much longer.
template <class F>
inline void parallel_rows(const int64_t* ptr, int64_t rows, int threads, const F& body,
                          int64_t width = 16) {
  const int64_t work = rows ? ptr[rows] + kRowCost * rows : 0;
  const int64_t least = (int64_t{1} << 17) / (width > 16 ? width : 16);
  int64_t chunks = work / (least > 64 ? least : 64);
  if (chunks > 32 * static_cast<int64_t>(threads)) chunks = 32 * static_cast<int64_t>(threads);
  if (chunks < 1) chunks = 1;
  parallel(chunks, threads, [&](int64_t i) {
    // 128-bit products are not needed: work / chunks * i loses less than a chunk
    const int64_t share = work / chunks;
    const int64_t first = i ? row_at(ptr, rows, share * i) : 0;
    const int64_t last = i + 1 == chunks ? rows : row_at(ptr, rows, share * (i + 1));
    if (first < last) body(first, last);
  });
}

}  // namespace GK_ISA
