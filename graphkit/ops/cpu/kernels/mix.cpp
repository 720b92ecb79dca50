// Channels mixed by a softmax of their own gates, forward and backward in one pass over memory each.
// Scores of kRows rows are computed first, so that the exponentials fill whole vectors; the rows are
// then read again from the first-level cache. Sums over rows are kept for each task, whose rows do
// not depend on the threads, and joined in their order.
#include "mix.h"

#include "dot.h"
#include "exp.h"
#include "parallel.h"

namespace GK_ISA {
namespace {

// rows whose gates are worked on at once: lanes of the widest vector, on every instruction set
constexpr int kRows = 16;
// rows of one task
constexpr int64_t kTask = 512;

// Calls body(column, Int<lanes>) for vectors that cover [0, width) once, the last ones shorter.
template <class T, class F>
GK_INLINE void each_column(int64_t width, const F& body) {
  constexpr int L = kLanes<T>;
  int64_t c = 0;
  for (; c + L <= width; c += L) body(c, Int<L>());
  if (L > 8 && width - c >= 8) body(c, Int<(L > 8 ? 8 : 1)>()), c += 8;
  if (L > 4 && width - c >= 4) body(c, Int<(L > 4 ? 4 : 1)>()), c += 4;
  if (L > 2 && width - c >= 2) body(c, Int<(L > 2 ? 2 : 1)>()), c += 2;
  if (L > 1 && width - c >= 1) body(c, Int<1>());
}

// Writes a vector; `past` the caches where the result is too large to stay in them.
template <int L, class T>
GK_INLINE void put(T* p, vec<acc_t<T>, L> value, bool past) {
  past ? stream<L>(p, value) : store<L>(p, value);
}

template <class T, int K, bool Relu>
struct Mix {
  typedef acc_t<T> A;
  static constexpr int L = kLanes<T>;
  typedef vec<A, L> V;

  const MixArgs& a;
  const A *att, *shift, *mix;
  const int64_t width;
  const bool norm;

  explicit Mix(const MixArgs& args)
      : a(args),
        att(static_cast<const A*>(args.att)),
        shift(static_cast<const A*>(args.shift)),
        mix(static_cast<const A*>(args.mix)),
        width(args.width),
        norm(args.eps >= 0) {}

  A shift_of(int k) const { return shift ? shift[k] : A(0); }

  // The channels of one row.
  struct Row {
    const T *low, *rest, *structure;
    int64_t width;

    template <int k, int Lanes>
    GK_INLINE vec<A, Lanes> channel(int64_t c) const {
      vec<A, Lanes> v;
      if constexpr (k == 0)
        v = load<Lanes>(low + c);
      else if constexpr (k == 1)
        v = load<Lanes>(rest + c) - load<Lanes>(low + width + c);
      else if constexpr (k == 2)
        v = load<Lanes>(rest + width + c);
      else
        v = load<Lanes>(structure + c);
      // not v > 0: nan stays, as in torch's relu
      if (Relu || k == 3) v = v < A(0) ? vec<A, Lanes>{} : v;
      return v;
    }
  };

  Row row(int64_t r) const {
    const T* structure = static_cast<const T*>(a.structure);
    return {static_cast<const T*>(a.low) + r * a.low_stride,
            static_cast<const T*>(a.rest) + r * a.rest_stride,
            structure ? structure + r * width : nullptr, width};
  }

  // Calls body(Int<k>) for every channel.
  template <class F>
  GK_INLINE static void each_channel(const F& body) {
    body(Int<0>());
    body(Int<1>());
    body(Int<2>());
    if constexpr (K == 4) body(Int<3>());
  }

  // Mean and reciprocal deviation of a channel, for the norm.
  template <int k>
  GK_INLINE void spread(const Row& from, A& mean, A& by) const {
    const A m = column_sum<T>(width, [&](int64_t c, auto lanes) {
                  return from.template channel<k, decltype(lanes)::value>(c);
                }) /
                static_cast<A>(width);
    const A square = column_sum<T>(width, [&](int64_t c, auto lanes) {
      const auto off = from.template channel<k, decltype(lanes)::value>(c) - m;
      return off * off;
    });
    mean = m;
    by = A(1) / root(square / static_cast<A>(width) + static_cast<A>(a.eps));
  }

  static float root(float x) { return __builtin_sqrtf(x); }
  static double root(double x) { return __builtin_sqrt(x); }

  // The product of a channel, normalised if asked for, with its vector.
  template <int k>
  GK_INLINE A score(const Row& from, A mean, A by) const {
    const A* vector = att + k * width;
    const A sum = column_sum<T>(width, [&](int64_t c, auto lanes) {
      constexpr int Lanes = decltype(lanes)::value;
      return (from.template channel<k, Lanes>(c) - mean) * load<Lanes>(vector + c);
    });
    return by * sum;
  }

  template <int k>
  GK_INLINE A plain_score(const Row& from) const {
    const A* vector = att + k * width;
    return column_sum<T>(width, [&](int64_t c, auto lanes) {
      constexpr int Lanes = decltype(lanes)::value;
      return from.template channel<k, Lanes>(c) * load<Lanes>(vector + c);
    });
  }

  void forward(int64_t first, int64_t last) const {
    T* out = static_cast<T*>(a.out);
    A *weights = static_cast<A*>(a.weights), *gates = static_cast<A*>(a.gates);
    const bool past = streams(out, width * sizeof(T), a.rows * width * sizeof(T));
    const A scale = static_cast<A>(a.scale);
    for (int64_t at = first; at < last; at += kRows) {
      const int count = static_cast<int>(last - at < kRows ? last - at : kRows);
      A gate[K][kRows] = {}, weight[K][kRows];
      for (int r = 0; r < count; ++r) {
        const Row from = row(at + r);
        each_channel([&](auto channel) {
          constexpr int k = decltype(channel)::value;
          A mean = 0, by = 1;
          if (norm) spread<k>(from, mean, by);
          const A bare = norm ? score<k>(from, mean, by) : plain_score<k>(from);
          gate[k][r] = bare + shift_of(k);
        });
      }
      weigh(gate, weight);
      for (int r = 0; r < count; ++r)
        for (int k = 0; k < K; ++k) {
          gates[(at + r) * K + k] = gate[k][r];
          weights[(at + r) * K + k] = weight[k][r];
        }
      for (int r = 0; r < count; ++r) {
        const Row from = row(at + r);
        T* to = out + (at + r) * width;
        each_column<T>(width, [&](int64_t c, auto lanes) {
          constexpr int Lanes = decltype(lanes)::value;
          vec<A, Lanes> sum = mixed<Lanes>(from, weight, r, c);
          if (a.final_relu) sum = sum < A(0) ? vec<A, Lanes>{} : sum;
          sum *= scale;
          put<Lanes>(to + c, sum, past);
        });
      }
    }
    if (past) end_stream();
  }

  template <int Lanes>
  GK_INLINE vec<A, Lanes> mixed(const Row& from, const A (&weight)[K][kRows], int r,
                                int64_t c) const {
    vec<A, Lanes> sum = weight[0][r] * from.template channel<0, Lanes>(c);
    sum += weight[1][r] * from.template channel<1, Lanes>(c);
    sum += weight[2][r] * from.template channel<2, Lanes>(c);
    if constexpr (K == 4) sum += weight[3][r] * from.template channel<3, Lanes>(c);
    return sum;
  }

  // Scores become gates, and gates weights.
  GK_INLINE void weigh(A (&gate)[K][kRows], A (&weight)[K][kRows]) const {
    for (int at = 0; at < kRows; at += L) {
      V logit[K];
      for (int k = 0; k < K; ++k) {
        const V open = A(1) / (A(1) + exp_of<A, L>(-load<L>(gate[k] + at)));
        store<L>(gate[k] + at, open);
        for (int j = 0; j < K; ++j)
          logit[j] = k ? V(logit[j] + open * mix[k * K + j]) : V(open * mix[k * K + j]);
      }
      V most = logit[0];
      for (int k = 1; k < K; ++k) most = logit[k] > most ? logit[k] : most;
      V total{};
      for (int k = 0; k < K; ++k) {
        logit[k] = exp_of<A, L>(logit[k] - most);
        total += logit[k];
      }
      for (int k = 0; k < K; ++k) store<L>(weight[k] + at, logit[k] / total);
    }
  }

  // What a task adds to the gradients of the parameters: vectors, shifts, mixing matrix.
  int64_t sums() const { return K * width + K + K * K; }

  // Sums over rows, as so many partial sums as there are rows at once.
  struct Partial {
    A lane[kRows] = {};

    GK_INLINE void add(int at, V value) { store<L>(lane + at, V(load<L>(lane + at) + value)); }
    A sum() const {
      A part[kRows];
      std::memcpy(part, lane, sizeof part);
      for (int half = kRows / 2; half; half /= 2)
        for (int i = 0; i < half; ++i) part[i] += part[i + half];
      return part[0];
    }
  };

  void backward(int64_t first, int64_t last, const A* means, A* sums) const {
    const T* dy = static_cast<const T*>(a.dy);
    const A *weights = static_cast<const A*>(a.weights), *gates = static_cast<const A*>(a.gates);
    const A* dweights = static_cast<const A*>(a.dweights);
    const A scale = static_cast<A>(a.scale);
    // what is not negative before the last ReLU passes it
    const bool masked = a.final_relu && !Relu;
    const int64_t bytes = width * sizeof(T);
    const bool past = streams(a.dlow, bytes, 2 * a.rows * bytes) &&
                      streams(a.drest, bytes, 2 * a.rows * bytes) &&
                      (K == 3 || streams(a.dstructure, bytes, 2 * a.rows * bytes));
    A* datt = sums;
    Partial dshift[K], dmix[K * K];
    for (int64_t at = first; at < last; at += kRows) {
      const int count = static_cast<int>(last - at < kRows ? last - at : kRows);
      A gate[K][kRows] = {}, weight[K][kRows] = {}, dweight[K][kRows] = {};
      A mean[K][kRows], by[K][kRows], bare[K][kRows];
      for (int r = 0; r < count; ++r) {
        const Row from = row(at + r);
        const T* slope = dy + (at + r) * a.dy_stride;
        for (int k = 0; k < K; ++k) {
          gate[k][r] = gates[(at + r) * K + k];
          weight[k][r] = weights[(at + r) * K + k];
        }
        each_channel([&](auto channel) {
          constexpr int k = decltype(channel)::value;
          const A product = column_sum<T>(width, [&](int64_t c, auto lanes) {
            constexpr int Lanes = decltype(lanes)::value;
            return arriving<Lanes>(from, weight, slope, masked, r, c) *
                   from.template channel<k, Lanes>(c);
          });
          dweight[k][r] = scale * product;
          if (dweights) dweight[k][r] += dweights[(at + r) * K + k];
          if (!norm) return;
          spread<k>(from, mean[k][r], by[k][r]);
          bare[k][r] = score<k>(from, mean[k][r], by[k][r]) / static_cast<A>(width);
        });
      }
      // from here on dweight is the gradient of a score
      for (int lane = 0; lane < kRows; lane += L)
        through_gates(lane, gate, weight, dweight, dshift, dmix);
      for (int r = 0; r < count; ++r) {
        const Row from = row(at + r);
        const T* slope = dy + (at + r) * a.dy_stride;
        T* dlow = static_cast<T*>(a.dlow) + (at + r) * 2 * width;
        T* drest = static_cast<T*>(a.drest) + (at + r) * 2 * width;
        T* dstructure = K == 4 ? static_cast<T*>(a.dstructure) + (at + r) * width : nullptr;
        each_column<T>(width, [&](int64_t c, auto lanes) {
          constexpr int Lanes = decltype(lanes)::value;
          typedef vec<A, Lanes> W;
          const W g = scale * arriving<Lanes>(from, weight, slope, masked, r, c);
          each_channel([&](auto channel) {
            constexpr int k = decltype(channel)::value;
            const W value = from.template channel<k, Lanes>(c);
            const W vector = load<Lanes>(att + k * width + c);
            A* into = datt + k * width + c;
            W d = weight[k][r] * g;
            if (norm) {
              const W z = (value - mean[k][r]) * by[k][r];
              const A step = dweight[k][r] * by[k][r];
              d += step * (vector - means[k] - z * bare[k][r]);
              store<Lanes>(into, W(load<Lanes>(into) + dweight[k][r] * z));
            } else {
              d += dweight[k][r] * vector;
              store<Lanes>(into, W(load<Lanes>(into) + dweight[k][r] * value));
            }
            if (Relu || k == 3) d = value <= A(0) ? W{} : d;
            if constexpr (k == 0) {
              put<Lanes>(dlow + c, d, past);
            } else if constexpr (k == 1) {
              put<Lanes>(dlow + width + c, W(-d), past);
              put<Lanes>(drest + c, d, past);
            } else if constexpr (k == 2) {
              put<Lanes>(drest + width + c, d, past);
            } else {
              put<Lanes>(dstructure + c, d, past);
            }
          });
        });
      }
    }
    if (past) end_stream();
    for (int k = 0; k < K; ++k) sums[K * width + k] = dshift[k].sum();
    for (int i = 0; i < K * K; ++i) sums[K * width + K + i] = dmix[i].sum();
  }

  // The gradient of the result before its scale, where the last ReLU lets it through.
  template <int Lanes>
  GK_INLINE vec<A, Lanes> arriving(const Row& from, const A (&weight)[K][kRows], const T* slope,
                                   bool masked, int r, int64_t c) const {
    const vec<A, Lanes> g = load<Lanes>(slope + c);
    if (!masked) return g;
    return mixed<Lanes>(from, weight, r, c) <= A(0) ? vec<A, Lanes>{} : g;
  }

  // The gradients of weights become those of scores.
  GK_INLINE void through_gates(int at, const A (&gate)[K][kRows], const A (&weight)[K][kRows],
                               A (&slope)[K][kRows], Partial (&dshift)[K],
                               Partial (&dmix)[K * K]) const {
    V mean{};
    for (int k = 0; k < K; ++k) mean += load<L>(weight[k] + at) * load<L>(slope[k] + at);
    V dlogit[K];
    for (int k = 0; k < K; ++k)
      dlogit[k] = load<L>(weight[k] + at) * (load<L>(slope[k] + at) - mean);
    for (int j = 0; j < K; ++j) {
      const V open = load<L>(gate[j] + at);
      V d{};
      for (int k = 0; k < K; ++k) {
        dmix[j * K + k].add(at, open * dlogit[k]);
        d += dlogit[k] * mix[j * K + k];
      }
      d = d * open * (A(1) - open);
      dshift[j].add(at, d);
      store<L>(slope[j] + at, d);
    }
  }
};

// Calls body(Mix) of the right type.
template <class T, class F>
void typed(const MixArgs& args, const F& body) {
  if (args.structure)
    args.relu ? body(Mix<T, 4, true>(args)) : body(Mix<T, 4, false>(args));
  else
    args.relu ? body(Mix<T, 3, true>(args)) : body(Mix<T, 3, false>(args));
}

template <class F>
void in_tasks(const MixArgs& args, const F& body) {
  parallel((args.rows + kTask - 1) / kTask, args.threads, [&](int64_t i) {
    const int64_t first = i * kTask;
    body(i, first, first + kTask < args.rows ? first + kTask : args.rows);
  });
}

template <class T>
void forward_typed(const MixArgs& args) {
  typed<T>(args, [&](const auto& mix) {
    in_tasks(args, [&](int64_t, int64_t first, int64_t last) { mix.forward(first, last); });
  });
}

template <class T>
void backward_typed(const MixArgs& args) {
  typedef acc_t<T> A;
  typed<T>(args, [&](const auto& mix) {
    const int K = args.structure ? 4 : 3;
    const int64_t tasks = (args.rows + kTask - 1) / kTask, count = mix.sums(), width = args.width;
    const Memory<A> sums(tasks * count, true);
    A means[4] = {};
    for (int k = 0; k < K; ++k)
      means[k] = column_sum<A>(width, [&](int64_t c, auto lanes) {
                   return load<decltype(lanes)::value>(mix.att + k * width + c);
                 }) /
                 static_cast<A>(width);
    in_tasks(args, [&](int64_t task, int64_t first, int64_t last) {
      mix.backward(first, last, means, sums + task * count);
    });
    A* total = sums;
    for (int64_t task = 1; task < tasks; ++task)
      for (int64_t i = 0; i < count; ++i) total[i] += sums[task * count + i];
    const auto give = [&](void* to, int64_t from, int64_t size) {
      tasks ? std::memcpy(to, total + from, size * sizeof(A)) : std::memset(to, 0, size * sizeof(A));
    };
    give(args.datt, 0, K * width);
    give(args.dshift, K * width, K);
    give(args.dmix, K * width + K, K * K);
  });
}

}  // namespace

void mix(const MixArgs& args) {
  if (args.dtype == kFloat)
    forward_typed<float>(args);
  else if (args.dtype == kDouble)
    forward_typed<double>(args);
  else
    forward_typed<bf16>(args);
}

void mix_backward(const MixArgs& args) {
  if (args.dtype == kFloat)
    backward_typed<float>(args);
  else if (args.dtype == kDouble)
    backward_typed<double>(args);
  else
    backward_typed<bf16>(args);
}

}  // namespace GK_ISA
