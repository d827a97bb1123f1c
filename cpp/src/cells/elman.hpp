// Simple recurrent network (Elman 1990): h = φ(W x + R h₋ + b), φ = tanh or max(·, 0).
#pragma once

#include "cells/cell.hpp"

LSTMCORE_BEGIN_NAMESPACE

enum class ElmanNonlinearity { tanh, relu };

template <ElmanNonlinearity kNonlinearity>
struct Elman {
  static constexpr const char* kName = "elman";
  static constexpr const char* kSource = "Elman 1990";
  static constexpr int kGates = 1;
  static constexpr int kStates = 0;
  static constexpr std::array<const char*, 1> kGateNames = {"a"};
  static constexpr std::array<const char*, 1> kStateNames = {"h"};

  template <class V>
  static void forward(CellForward<V, kGates, kStates>& s) noexcept {
    if constexpr (kNonlinearity == ElmanNonlinearity::tanh) {
      s.h = math::tanh(s.gate[0]);
    } else {
      s.h = math::relu(s.gate[0]);
    }
    s.gate[0] = s.h;
  }

  template <class V>
  static void backward(CellBackward<V, kGates, kStates>& s) noexcept {
    if constexpr (kNonlinearity == ElmanNonlinearity::tanh) {
      s.d_gate[0] = s.dh * math::tanh_derivative(s.h);
    } else {
      s.d_gate[0] = s.dh * math::relu_derivative(s.h);
    }
    s.dh_previous = V{};
  }
};

LSTMCORE_END_NAMESPACE
