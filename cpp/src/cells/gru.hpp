// Gated recurrent unit (Cho et al. 2014).
//
//   r = σ(W_r x + b_r + R_r h₋ + bR_r)    z = σ(W_z x + b_z + R_z h₋ + bR_z)    h = (1 − z) ⊙ n + z ⊙ h₋
//   reset after:   n = tanh(W_n x + b_n + r ⊙ (R_n h₋ + bR_n))
//   reset before:  n = tanh(W_n x + b_n + R_n (r ⊙ h₋)), without bR
//
// Layer-normalised (Ba, Kiros & Hinton 2016): LN(W x) and LN(R h₋) in place of the products, r and z together, n alone.
#pragma once

#include "cells/cell.hpp"

LSTMCORE_BEGIN_NAMESPACE

struct GruBase : CellDefaults {
  static constexpr const char* kName = "gru";
  static constexpr const char* kSource = "Cho et al. 2014";
  static constexpr int kGates = 3;
  static constexpr std::array<const char*, 3> kGateNames = {"r", "z", "n"};
  static constexpr bool kHasCandidate = true;
};

template <bool kLayerNorm>
struct GruResetAfter : GruBase {
  static constexpr bool kSeparate = true;
  static constexpr bool kNormalised = kLayerNorm;
  static constexpr std::array<int, 4> kNormGroups = {0, 0, 1, 0};

  template <class V>
  static void forward(CellForward<V, GruResetAfter>& s) noexcept {
    auto& [r, z, n] = s.gate;
    r = math::logistic(r + s.recurrent[0]);
    z = math::logistic(z + s.recurrent[1]);
    n = math::tanh(n + r * s.recurrent[2]);
    const V kept = n * s.keep;
    s.h = z * (s.h_previous - kept) + kept;
  }

  template <class V>
  static void backward(CellBackward<V, GruResetAfter>& s) noexcept {
    const auto& [r, z, n] = s.gate;
    const V d_n = s.dh * (constant<V>(1) - z) * s.keep * math::tanh_derivative(n);
    const V d_r = d_n * s.recurrent[2] * math::logistic_derivative(r);
    const V d_z = s.dh * (s.h_previous - n * s.keep) * math::logistic_derivative(z);
    s.d_gate = {d_r, d_z, d_n};
    s.d_recurrent = {d_r, d_z, d_n * r};
    s.dh_previous = s.dh * z;
    s.dh_fed = V{};
  }
};

struct GruResetBefore : GruBase {
  static constexpr bool kResetBefore = true;

  /// The first part: r from its pre-activation, and what R_n reads.
  template <class V>
  static void reset(V& r, V h_fed, V& fed) noexcept {
    r = math::logistic(r);
    fed = r * h_fed;
  }

  template <class V>
  static void forward(CellForward<V, GruResetBefore>& s) noexcept {
    auto& [r, z, n] = s.gate;
    z = math::logistic(z);
    n = math::tanh(n);
    const V kept = n * s.keep;
    s.h = z * (s.h_previous - kept) + kept;
  }

  /// d_gate of r waits for reset_backward; r stays where it is.
  template <class V>
  static void backward(CellBackward<V, GruResetBefore>& s) noexcept {
    const auto& [r, z, n] = s.gate;
    s.d_gate[0] = r;
    s.d_gate[1] = s.dh * (s.h_previous - n * s.keep) * math::logistic_derivative(z);
    s.d_gate[2] = s.dh * (constant<V>(1) - z) * s.keep * math::tanh_derivative(n);
    s.dh_previous = s.dh * z;
    s.dh_fed = V{};
  }

  /// d_fed: gradient of r ⊙ h₋. r: activation in, gradient of its pre-activation out.
  template <class V>
  static void reset_backward(V& r, V h_fed, V d_fed, V& dh_fed) noexcept {
    dh_fed = d_fed * r;
    r = d_fed * h_fed * math::logistic_derivative(r);
  }
};

LSTMCORE_END_NAMESPACE
