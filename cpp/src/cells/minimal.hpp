// minLSTM and minGRU (Feng et al. 2024): gates from x only, so that nothing but an element-wise recurrence is left.
//
//   minLSTM  i = σ(a_i)   f = σ(a_f)   h = f / (i + f) ⊙ h₋ + i / (i + f) ⊙ a_g
//            i / (i + f) = σ(log i − log f), which stands when both gates are shut
//   minGRU   z = σ(a_z)   h = (1 − z) ⊙ h₋ + z ⊙ a_n        (z weighs the new value, other than in `gru`)
//
// On a CPU the recurrence runs along T as it stands: it streams through memory once, where a parallel scan would do so
// log T times.
#pragma once

#include "cells/cell.hpp"

LSTMCORE_BEGIN_NAMESPACE

struct MinLstm : CellDefaults {
  static constexpr const char* kName = "min_lstm";
  static constexpr const char* kSource = "Feng et al. 2024";
  static constexpr int kGates = 3;
  static constexpr std::array<const char*, 3> kGateNames = {"i", "f", "g"};
  static constexpr bool kRecurrent = false;
  static constexpr bool kHasCandidate = true;

  template <class V>
  static void forward(CellForward<V, MinLstm>& s) noexcept {
    const V share = share_of_input(s.gate[0], s.gate[1]);
    s.h = s.h_previous + share * (s.gate[2] * s.keep - s.h_previous);
  }

  template <class V>
  static void backward(CellBackward<V, MinLstm>& s) noexcept {
    const auto& [a_i, a_f, g] = s.gate;
    const V share = share_of_input(a_i, a_f);
    const V d_difference = s.dh * (g * s.keep - s.h_previous) * math::logistic_derivative(share);
    s.d_gate[0] = d_difference * math::logistic(-a_i);
    s.d_gate[1] = -d_difference * math::logistic(-a_f);
    s.d_gate[2] = s.dh * share * s.keep;
    s.dh_previous = s.dh * (constant<V>(1) - share);
    s.dh_fed = V{};
  }

 private:
  template <class V>
  static V share_of_input(V a_i, V a_f) noexcept {
    return math::logistic(math::log_logistic(a_i) - math::log_logistic(a_f));
  }
};

struct MinGru : CellDefaults {
  static constexpr const char* kName = "min_gru";
  static constexpr const char* kSource = "Feng et al. 2024";
  static constexpr int kGates = 2;
  static constexpr std::array<const char*, 2> kGateNames = {"z", "n"};
  static constexpr bool kRecurrent = false;
  static constexpr bool kHasCandidate = true;

  template <class V>
  static void forward(CellForward<V, MinGru>& s) noexcept {
    auto& [z, n] = s.gate;
    z = math::logistic(z);
    s.h = s.h_previous + z * (n * s.keep - s.h_previous);
  }

  template <class V>
  static void backward(CellBackward<V, MinGru>& s) noexcept {
    const auto& [z, n] = s.gate;
    s.d_gate[0] = s.dh * (n * s.keep - s.h_previous) * math::logistic_derivative(z);
    s.d_gate[1] = s.dh * z * s.keep;
    s.dh_previous = s.dh * (constant<V>(1) - z);
    s.dh_fed = V{};
  }
};

LSTMCORE_END_NAMESPACE
