// exp from plain products and sums: the same bits on every instruction set, within 1 unit in the
// last place of the true value. exp(-inf) is 0, a nan stays, what is too large becomes inf.
//
// x = n ln 2 + r with |r| <= ln 2 / 2, and exp(r) = 1 + r + r^2 P(r), P the minimax polynomial of
// the relative error (3e-9 for float, 4e-18 for double).
#pragma once
#include "simd.h"

namespace GK_ISA {

template <class A>
struct ExpOf;

template <>
struct ExpOf<float> {
  typedef uint32_t Bits;
  // beyond these all results are inf or 0
  static constexpr float kHigh = 89, kLow = -104.5f;
  // adding it rounds to a whole number, which the low bits then hold
  static constexpr float kRound = 12582912;
  // n times the first part of ln 2 is exact
  static constexpr float kLog2e = 1.44269504f, kLn2 = 0.693359375f, kLn2Rest = -2.1219444e-4f;
  static constexpr int kMantissa = 23, kBias = 127;
  static constexpr int kTerms = 5;
  static constexpr float kPoly[kTerms] = {1.3814540e-3f, 8.3687451e-3f, 4.16683908e-2f,
                                          1.66665204e-1f, 4.99999934e-1f};
};

template <>
struct ExpOf<double> {
  typedef uint64_t Bits;
  static constexpr double kHigh = 710, kLow = -746;
  static constexpr double kRound = 6755399441055744;
  static constexpr double kLog2e = 1.4426950408889634, kLn2 = 0.6931471805592082,
                          kLn2Rest = 7.371002565167799e-13;
  static constexpr int kMantissa = 52, kBias = 1023;
  static constexpr int kTerms = 10;
  static constexpr double kPoly[kTerms] = {
      2.5000018833187373e-8, 2.7630306250293600e-7, 2.7557586803895324e-6, 2.4801492949633869e-5,
      1.9841269505773775e-4, 1.3888888943759965e-3, 8.3333333334949773e-3, 4.1666666666529728e-2,
      1.6666666666666412e-1, 5.0000000000000107e-1};
};

template <class A, int L>
inline vec<A, L> exp_of(vec<A, L> x) {
  typedef ExpOf<A> C;
  typedef typename C::Bits Bits;
  x = x > C::kHigh ? vec<A, L>{} + C::kHigh : x;
  x = x < C::kLow ? vec<A, L>{} + C::kLow : x;
  const vec<A, L> shifted = x * C::kLog2e + C::kRound;
  const vec<A, L> n = shifted - C::kRound;
  const vec<A, L> r = (x - n * C::kLn2) - n * C::kLn2Rest;
  vec<A, L> p = vec<A, L>{} + C::kPoly[0];
#pragma GCC unroll 16
  for (int i = 1; i < C::kTerms; ++i) p = p * r + C::kPoly[i];
  const vec<A, L> y = 1 + (r * r * p + r);
  // 2^n as two factors, so that subnormal results are rounded once and large ones reach inf
  vec<Bits, L> whole;
  std::memcpy(&whole, &shifted, sizeof whole);
  const A round = C::kRound;
  Bits zero;
  std::memcpy(&zero, &round, sizeof zero);
  whole = whole - zero + Bits(2 * C::kBias);
  const vec<Bits, L> half = whole >> 1, rest = whole - half;
  const vec<Bits, L> bits1 = half << C::kMantissa, bits2 = rest << C::kMantissa;
  vec<A, L> scale1, scale2;
  std::memcpy(&scale1, &bits1, sizeof scale1);
  std::memcpy(&scale2, &bits2, sizeof scale2);
  return y * scale1 * scale2;
}

}  // namespace GK_ISA
