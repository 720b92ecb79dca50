// Dropout, with a ReLU before it or not, and the backward of both in one. One pass over memory:
// masks are drawn again instead of being stored.
#include "dropout.h"

#include "parallel.h"
#include "random.h"

namespace GK_ISA {
namespace {

// elements of one task; even, since two elements share a random word
constexpr int64_t kTask = 1 << 16;

// Calls body(first, last) for all elements in parallel.
template <class F>
void in_tasks(int64_t count, int threads, const F& body) {
  parallel((count + kTask - 1) / kTask, threads, [&](int64_t i) {
    const int64_t first = i * kTask;
    body(first, first + kTask < count ? first + kTask : count);
  });
}

// Writes a vector; `past` the caches where the result is too large to stay in them.
template <int L, class T>
GK_INLINE void put(T* p, vec<acc_t<T>, L> value, bool past) {
  past ? stream<L>(p, value) : store<L>(p, value);
}

// A mask of 32 bits, as wide as the accumulator.
template <class A, int L>
auto widened(vec<int32_t, L> mask) {
  if constexpr (sizeof(A) == 8)
    return __builtin_convertvector(mask, vec<int64_t, L>);
  else
    return mask;
}

template <class T, bool Relu>
void drop(const DropoutArgs& args, int64_t first, int64_t last) {
  typedef acc_t<T> A;
  constexpr int L = kLanes<T>;
  const T* x = static_cast<const T*>(args.x);
  T* out = static_cast<T*>(args.out);
  const A scale = static_cast<A>(args.scale);
  const uint32_t top = static_cast<uint32_t>(args.below - 1);
  const bool past = streams(out, 64, args.count * sizeof(T));
  int64_t at = first;
  for (; at + L <= last; at += L) {
    const auto bits = random_bits_of_elements<L / 2>(args.seed, at / 2);
    auto keep = widened<A, L>(bits <= top);
    vec<A, L> value = load<L>(x + at);
    // not value > 0: nan stays, as in torch's relu
    if (Relu) keep &= ~(value <= A(0));
    put<L>(out + at, keep ? value * scale : vec<A, L>{}, past);
  }
  if (past) end_stream();
  for (; at < last; ++at) {
    const uint64_t word = random_word(args.seed, at / 2);
    const uint32_t bits = static_cast<uint32_t>(at % 2 ? word : word >> 32);
    const A value = load_one(x + at);
    const bool keep = bits <= top && !(Relu && value <= A(0));
    store_one(out + at, keep ? value * scale : A(0));
  }
}

template <class T>
void dropout_typed(const DropoutArgs& args) {
  in_tasks(args.count, args.threads, [&](int64_t first, int64_t last) {
    if (args.below == 0)
      std::memset(static_cast<T*>(args.out) + first, 0, (last - first) * sizeof(T));
    else
      args.relu ? drop<T, true>(args, first, last) : drop<T, false>(args, first, last);
  });
}

template <class T>
void backward_typed(const DropoutArgs& args) {
  typedef acc_t<T> A;
  constexpr int L = kLanes<T>;
  const T *dy = static_cast<const T*>(args.x), *y = static_cast<const T*>(args.y);
  T* out = static_cast<T*>(args.out);
  const A scale = static_cast<A>(args.scale);
  const bool past = streams(out, 64, args.count * sizeof(T));
  in_tasks(args.count, args.threads, [&](int64_t first, int64_t last) {
    int64_t at = first;
    for (; at + L <= last; at += L)
      put<L>(out + at, load<L>(y + at) <= A(0) ? vec<A, L>{} : load<L>(dy + at) * scale, past);
    if (past) end_stream();
    for (; at < last; ++at)
      store_one(out + at, load_one(y + at) <= A(0) ? A(0) : load_one(dy + at) * scale);
  });
}

}  // namespace

void dropout(const DropoutArgs& args) {
  if (args.dtype == kFloat)
    dropout_typed<float>(args);
  else if (args.dtype == kDouble)
    dropout_typed<double>(args);
  else
    dropout_typed<bf16>(args);
}

void relu_dropout_backward(const DropoutArgs& args) {
  if (args.dtype == kFloat)
    backward_typed<float>(args);
  else if (args.dtype == kDouble)
    backward_typed<double>(args);
  else
    backward_typed<bf16>(args);
}

}  // namespace GK_ISA
