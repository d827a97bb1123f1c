// Long short-term memory with a forget gate (Gers, Schmidhuber & Cummins 2000).
//
//   i = σ(W_i x + R_i h₋ + b_i)    f = σ(W_f x + R_f h₋ + b_f)
//   g = tanh(W_g x + R_g h₋ + b_g) o = σ(W_o x + R_o h₋ + b_o)
//   c = f ⊙ c₋ + i ⊙ g             h = o ⊙ tanh(c)
#pragma once

#include "cells/cell.hpp"

LSTMCORE_BEGIN_NAMESPACE

struct Lstm {
  static constexpr const char* kName = "lstm";
  static constexpr const char* kSource = "Gers, Schmidhuber & Cummins 2000";
  static constexpr int kGates = 4;
  static constexpr int kStates = 1;
  static constexpr std::array<const char*, 4> kGateNames = {"i", "f", "g", "o"};
  static constexpr std::array<const char*, 2> kStateNames = {"h", "c"};

  template <class V>
  static void forward(CellForward<V, kGates, kStates>& s) noexcept {
    auto& [i, f, g, o] = s.gate;
    i = math::logistic(i);
    f = math::logistic(f);
    g = math::tanh(g);
    o = math::logistic(o);
    const V c = f * s.previous[0] + i * g;
    s.next[0] = c;
    s.h = o * math::tanh(c);
  }

  template <class V>
  static void backward(CellBackward<V, kGates, kStates>& s) noexcept {
    const auto& [i, f, g, o] = s.gate;
    const V tanh_c = math::tanh(s.next[0]);  // cheaper to compute again than to store and load
    const V dc = s.d_state[0] + s.dh * o * math::tanh_derivative(tanh_c);
    s.d_gate[0] = dc * g * math::logistic_derivative(i);
    s.d_gate[1] = dc * s.previous[0] * math::logistic_derivative(f);
    s.d_gate[2] = dc * i * math::tanh_derivative(g);
    s.d_gate[3] = s.dh * tanh_c * math::logistic_derivative(o);
    s.d_state[0] = dc * f;
    s.dh_previous = V{};
  }
};

LSTMCORE_END_NAMESPACE
