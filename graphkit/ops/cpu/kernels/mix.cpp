// Channels mixed by a softmax of their own gates, forward and backward in one pass over memory each.
// The channels of kRows rows are brought to the first-level cache, all scores are computed, so that
// the exponentials fill whole vectors, and then the rows. Sums over rows are kept for each task,
// whose rows do not depend on the threads, and joined in their order.
#include "mix.h"

#include "dot.h"
#include "exp.h"
#include "parallel.h"

namespace GK_ISA {
namespace {

// rows that are worked on at once: lanes of the widest vector, on every instruction set
constexpr int kRows = 16;
// rows of one task
constexpr int64_t kTask = 512;
constexpr int kMost = 4;

// One number for each row of each channel.
template <class A>
struct Table {
  A at[kMost][kRows] = {};
};

// Calls body(column, Int<lanes>) for vectors that cover [0, width) once, the last ones shorter.
template <class A, class F>
GK_INLINE void each_column(int64_t width, const F& body) {
  constexpr int L = kLanes<A>;
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

inline float root(float x) { return __builtin_sqrtf(x); }
inline double root(double x) { return __builtin_sqrt(x); }

// not inlined where they are called: one copy serves all
template <class A>
__attribute__((noinline)) A dot(const A* a, const A* b, int64_t width) {
  return column_sum<A>(width, [&](int64_t c, auto lanes) {
    constexpr int L = decltype(lanes)::value;
    return load<L>(a + c) * load<L>(b + c);
  });
}

template <class A>
__attribute__((noinline)) A total(const A* a, int64_t width) {
  return column_sum<A>(
      width, [&](int64_t c, auto lanes) { return load<decltype(lanes)::value>(a + c); });
}

// The parameters, and what is the same for every dtype of the rows.
template <class A>
struct Mix {
  static constexpr int L = kLanes<A>;
  typedef vec<A, L> V;

  const MixArgs& args;
  const A *att, *shift, *mix;
  const int64_t width;
  const int channels;
  const A scale;
  // what is below it is cut off: all channels' or the structure channel's alone
  const A floor;

  explicit Mix(const MixArgs& a)
      : args(a),
        att(static_cast<const A*>(a.att)),
        shift(static_cast<const A*>(a.shift)),
        mix(static_cast<const A*>(a.mix)),
        width(a.width),
        channels(a.structure ? 4 : 3),
        scale(static_cast<A>(a.scale)),
        floor(a.relu ? A(0) : -A(__builtin_inf())) {}

  bool norm() const { return args.eps >= 0; }
  A floor_of(int k) const { return k == 3 ? A(0) : floor; }

  // numbers of the channels of one row, and of what a task adds to the parameters' gradients
  int64_t size() const { return channels * width; }
  int64_t sums() const { return channels * (width + 1 + channels); }

  // The channels of a row with mean 0 and variance 1, and the factors that made them so.
  void normalise(A* row, int r, Table<A>& by) const {
    for (int k = 0; k < channels; ++k) {
      A* of = row + k * width;
      const A mean = total(of, width) / static_cast<A>(width);
      each_column<A>(width, [&](int64_t c, auto lanes) {
        constexpr int N = decltype(lanes)::value;
        store<N>(of + c, vec<A, N>(load<N>(of + c) - mean));
      });
      const A square = dot(of, of, width) / static_cast<A>(width);
      const A factor = A(1) / root(square + static_cast<A>(args.eps));
      each_column<A>(width, [&](int64_t c, auto lanes) {
        constexpr int N = decltype(lanes)::value;
        store<N>(of + c, vec<A, N>(load<N>(of + c) * factor));
      });
      by.at[k][r] = factor;
    }
  }

  // Scores become gates, and gates weights.
  void weigh(Table<A>& gate, Table<A>& weight) const {
    for (int at = 0; at < kRows; at += L) {
      V logit[kMost] = {};
      for (int k = 0; k < channels; ++k) {
        const V open = A(1) / (A(1) + exp_of<A, L>(-load<L>(gate.at[k] + at)));
        store<L>(gate.at[k] + at, open);
        for (int j = 0; j < channels; ++j) logit[j] += open * mix[k * channels + j];
      }
      V most = logit[0];
      for (int k = 1; k < channels; ++k) most = logit[k] > most ? logit[k] : most;
      V all{};
      for (int k = 0; k < channels; ++k) {
        logit[k] = exp_of<A, L>(logit[k] - most);
        all += logit[k];
      }
      for (int k = 0; k < channels; ++k) store<L>(weight.at[k] + at, V(logit[k] / all));
    }
  }

  // Sums over rows, as so many partial sums as there are rows at once.
  struct Partial {
    A lane[kRows] = {};

    void add(int at, V value) { store<L>(lane + at, V(load<L>(lane + at) + value)); }
    A sum() {
      for (int half = kRows / 2; half; half /= 2)
        for (int i = 0; i < half; ++i) lane[i] += lane[i + half];
      return lane[0];
    }
  };

  struct Partials {
    Partial shift[kMost], mix[kMost * kMost];
  };

  // The gradients of weights become those of scores.
  void through_gates(const Table<A>& gate, const Table<A>& weight, Table<A>& slope,
                     Partials& sums) const {
    for (int at = 0; at < kRows; at += L) {
      V mean{}, to_logit[kMost];
      for (int k = 0; k < channels; ++k)
        mean += load<L>(weight.at[k] + at) * load<L>(slope.at[k] + at);
      for (int k = 0; k < channels; ++k)
        to_logit[k] = load<L>(weight.at[k] + at) * (load<L>(slope.at[k] + at) - mean);
      for (int j = 0; j < channels; ++j) {
        const V open = load<L>(gate.at[j] + at);
        V d{};
        for (int k = 0; k < channels; ++k) {
          sums.mix[j * channels + k].add(at, V(open * to_logit[k]));
          d += to_logit[k] * mix[j * channels + k];
        }
        d = d * open * (A(1) - open);
        sums.shift[j].add(at, d);
        store<L>(slope.at[j] + at, d);
      }
    }
  }

  // sum = the channels of a row under its weights
  template <int N>
  GK_INLINE vec<A, N> mixed(const A* row, const Table<A>& weight, int r, int64_t c) const {
    vec<A, N> sum = weight.at[0][r] * load<N>(row + c);
    for (int k = 1; k < channels; ++k) sum += weight.at[k][r] * load<N>(row + k * width + c);
    return sum;
  }
};

// Rows in memory, of the dtype T.
template <class T>
struct Stored {
  typedef acc_t<T> A;

  const Mix<A>& m;
  const MixArgs& a;
  const int64_t width;

  explicit Stored(const Mix<A>& mix) : m(mix), a(mix.args), width(mix.width) {}

  // The channels of row r.
  void take(int64_t r, A* to) const {
    const T* low = static_cast<const T*>(a.low) + r * a.low_stride;
    const T* rest = static_cast<const T*>(a.rest) + r * a.rest_stride;
    const T* structure = static_cast<const T*>(a.structure);
    const A floor = m.floor;
    // not v > 0: nan stays, as in torch's relu
    const auto cut = [](auto v, A at) { return v < at ? decltype(v){} + at : v; };
    each_column<A>(width, [&](int64_t c, auto lanes) {
      constexpr int N = decltype(lanes)::value;
      store<N>(to + c, cut(load<N>(low + c), floor));
      store<N>(to + width + c, cut(vec<A, N>(load<N>(rest + c) - load<N>(low + width + c)), floor));
      store<N>(to + 2 * width + c, cut(load<N>(rest + width + c), floor));
      if (structure)
        store<N>(to + 3 * width + c, cut(load<N>(structure + r * width + c), A(0)));
    });
  }

  // Takes `count` rows from r on, and their normalised channels to `normed` if there are such.
  void take_all(int64_t r, int count, A* rows, A* normed, Table<A>& by) const {
    for (int i = 0; i < count; ++i) {
      take(r + i, rows + i * m.size());
      if (!m.norm()) continue;
      std::memcpy(normed + i * m.size(), rows + i * m.size(), m.size() * sizeof(A));
      m.normalise(normed + i * m.size(), i, by);
    }
  }

  void forward(int64_t first, int64_t last) const {
    T* out = static_cast<T*>(a.out);
    A *weights = static_cast<A*>(a.weights), *gates = static_cast<A*>(a.gates);
    const int K = m.channels;
    const bool past = streams(out, width * sizeof(T), a.rows * width * sizeof(T));
    const A least = a.final_relu ? A(0) : -A(__builtin_inf());
    const Memory<A> memory((m.norm() ? 2 : 1) * kRows * m.size());
    A *rows = memory, *normed = m.norm() ? rows + kRows * m.size() : rows;
    for (int64_t at = first; at < last; at += kRows) {
      const int count = static_cast<int>(last - at < kRows ? last - at : kRows);
      Table<A> gate, weight, by;
      take_all(at, count, rows, normed, by);
      for (int r = 0; r < count; ++r)
        for (int k = 0; k < K; ++k) {
          const A score = dot(normed + r * m.size() + k * width, m.att + k * width, width);
          gate.at[k][r] = m.shift ? score + m.shift[k] : score;
        }
      m.weigh(gate, weight);
      for (int r = 0; r < count; ++r) {
        for (int k = 0; k < K; ++k) {
          gates[(at + r) * K + k] = gate.at[k][r];
          weights[(at + r) * K + k] = weight.at[k][r];
        }
        const A* row = rows + r * m.size();
        T* to = out + (at + r) * width;
        each_column<A>(width, [&](int64_t c, auto lanes) {
          constexpr int N = decltype(lanes)::value;
          vec<A, N> sum = m.template mixed<N>(row, weight, r, c);
          sum = sum < least ? vec<A, N>{} + least : sum;
          put<N>(to + c, vec<A, N>(sum * m.scale), past);
        });
      }
    }
    if (past) end_stream();
  }

  // `means` are those of the vectors; `sums` is where the task adds up.
  void backward(int64_t first, int64_t last, const A* means, A* sums) const {
    const T* dy = static_cast<const T*>(a.dy);
    const A *weights = static_cast<const A*>(a.weights), *gates = static_cast<const A*>(a.gates);
    const A* dweights = static_cast<const A*>(a.dweights);
    const int K = m.channels;
    const int64_t bytes = width * sizeof(T);
    const bool past = streams(a.dlow, bytes, 2 * a.rows * bytes) &&
                      streams(a.drest, bytes, 2 * a.rows * bytes) &&
                      (K == 3 || streams(a.dstructure, bytes, 2 * a.rows * bytes));
    const Memory<A> memory((m.norm() ? 2 : 1) * kRows * m.size() + kRows * width);
    A *rows = memory, *normed = m.norm() ? rows + kRows * m.size() : rows;
    A* slopes = memory + (m.norm() ? 2 : 1) * kRows * m.size();
    typename Mix<A>::Partials partial;
    for (int64_t at = first; at < last; at += kRows) {
      const int count = static_cast<int>(last - at < kRows ? last - at : kRows);
      Table<A> gate, weight, slope, by, bare;
      take_all(at, count, rows, normed, by);
      for (int r = 0; r < count; ++r) {
        const A* row = rows + r * m.size();
        for (int k = 0; k < K; ++k) {
          gate.at[k][r] = gates[(at + r) * K + k];
          weight.at[k][r] = weights[(at + r) * K + k];
        }
        A* arrived = slopes + r * width;
        arrive(dy + (at + r) * a.dy_stride, row, weight, r, arrived);
        for (int k = 0; k < K; ++k) {
          slope.at[k][r] = dot(arrived, row + k * width, width);
          if (dweights) slope.at[k][r] += dweights[(at + r) * K + k];
          if (m.norm())
            bare.at[k][r] = dot(normed + r * m.size() + k * width, m.att + k * width, width) /
                            static_cast<A>(width);
        }
      }
      m.through_gates(gate, weight, slope, partial);
      for (int r = 0; r < count; ++r) {
        A* row = rows + r * m.size();
        for (int k = 0; k < K; ++k)
          leave(row + k * width, normed + r * m.size() + k * width, slopes + r * width,
                weight.at[k][r], slope.at[k][r], by.at[k][r], bare.at[k][r], means[k],
                m.floor_of(k), m.att + k * width, sums + k * width);
        give(at + r, row, past);
      }
    }
    if (past) end_stream();
    for (int k = 0; k < K; ++k) sums[K * width + k] = partial.shift[k].sum();
    for (int i = 0; i < K * K; ++i) sums[K * width + K + i] = partial.mix[i].sum();
  }

  // The gradient of a row's mixed channels: that of the result, where the last ReLU lets it through.
  void arrive(const T* from, const A* row, const Table<A>& weight, int r, A* to) const {
    // what is cut off at 0 itself needs no mask: where the sum of a row is 0, so are its channels
    const bool masked = a.final_relu && !a.relu;
    each_column<A>(width, [&](int64_t c, auto lanes) {
      constexpr int N = decltype(lanes)::value;
      typedef vec<A, N> W;
      W g = m.scale * load<N>(from + c);
      if (masked) g = m.template mixed<N>(row, weight, r, c) <= A(0) ? W{} : g;
      store<N>(to + c, g);
    });
  }

  // A channel of a row becomes its gradient; what it says of its vector is added to `sum`.
  void leave(A* channel, const A* normed, const A* slope, A weight, A step, A by, A bare, A mean,
             A floor, const A* vector, A* sum) const {
    const bool norm = m.norm();
    each_column<A>(width, [&](int64_t c, auto lanes) {
      constexpr int N = decltype(lanes)::value;
      typedef vec<A, N> W;
      const W value = load<N>(channel + c), seen = load<N>(normed + c), to = load<N>(vector + c);
      W d = weight * load<N>(slope + c);
      d += norm ? W(step * by * (to - mean - seen * bare)) : W(step * to);
      store<N>(sum + c, W(load<N>(sum + c) + step * seen));
      store<N>(channel + c, value <= floor ? W{} : d);
    });
  }

  void give(int64_t r, const A* row, bool past) const {
    T* dlow = static_cast<T*>(a.dlow) + r * 2 * width;
    T* drest = static_cast<T*>(a.drest) + r * 2 * width;
    T* dstructure = static_cast<T*>(a.dstructure);
    each_column<A>(width, [&](int64_t c, auto lanes) {
      constexpr int N = decltype(lanes)::value;
      typedef vec<A, N> W;
      const W high = load<N>(row + width + c);
      put<N>(dlow + c, load<N>(row + c), past);
      put<N>(dlow + width + c, W(-high), past);
      put<N>(drest + c, high, past);
      put<N>(drest + width + c, load<N>(row + 2 * width + c), past);
      if (dstructure) put<N>(dstructure + r * width + c, load<N>(row + 3 * width + c), past);
    });
  }
};

// Calls body(task, first row, last row) for all tasks in parallel.
template <class F>
void in_tasks(const MixArgs& args, const F& body) {
  parallel((args.rows + kTask - 1) / kTask, args.threads, [&](int64_t i) {
    const int64_t first = i * kTask;
    body(i, first, first + kTask < args.rows ? first + kTask : args.rows);
  });
}

template <class T>
void forward_typed(const MixArgs& args) {
  const Mix<acc_t<T>> mix(args);
  const Stored<T> stored(mix);
  in_tasks(args, [&](int64_t, int64_t first, int64_t last) { stored.forward(first, last); });
}

template <class T>
void backward_typed(const MixArgs& args) {
  typedef acc_t<T> A;
  const Mix<A> mix(args);
  const Stored<T> stored(mix);
  const int K = mix.channels;
  const int64_t tasks = (args.rows + kTask - 1) / kTask, count = mix.sums(), width = args.width;
  const Memory<A> sums(tasks * count, true);
  A means[kMost] = {};
  for (int k = 0; k < K; ++k)
    means[k] = total(mix.att + k * width, width) / static_cast<A>(width);
  in_tasks(args, [&](int64_t task, int64_t first, int64_t last) {
    stored.backward(first, last, means, sums + task * count);
  });
  for (int64_t task = 1; task < tasks; ++task)
    for (int64_t i = 0; i < count; ++i) sums[i] += sums[task * count + i];
  const auto give = [&](void* to, int64_t from, int64_t size) {
    tasks ? std::memcpy(to, sums + from, size * sizeof(A)) : std::memset(to, 0, size * sizeof(A));
  };
  give(args.datt, 0, K * width);
  give(args.dshift, K * width, K);
  give(args.dmix, K * width + K, K * K);
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
