// The cell contract.
//
// A cell is a struct of constants and two function templates over the value type V (a scalar, a SIMD pack, a CUDA
// thread's float), one under the other, that work on one unit (or one pack of units) at one time step:
//
//   kName, kSource                 registry name; author and year
//   kGates, kGateNames             row blocks of W, R and b, in order
//   kStates, kStateNames           element-wise states carried besides h ("h" comes first in kStateNames)
//   forward (CellForward<V,…>&)    reads gate (pre-activations), h_previous, previous; writes gate (activations), next,
//   h backward(CellBackward<V,…>&)   reads activations, states, dh, d_state (of next); writes d_gate (of the
//   pre-activations),
//                                  d_state (of previous), and dh_previous: the direct path only, since the driver adds
//                                  Rᵀ·d_gate
//
// All units whose weights are zero (padding of the last pack) must keep h, states and gradients at zero or harmless
// finite values; every cell whose h is a bounded function of its gates does.
#pragma once

#include "math/functions.hpp"

#include <array>

LSTMCORE_BEGIN_NAMESPACE

template <class V, int kGates, int kStates>
struct CellForward {
  std::array<V, kGates> gate;
  V h_previous;
  std::array<V, kStates> previous;
  std::array<V, kStates> next;
  V h;
};

template <class V, int kGates, int kStates>
struct CellBackward {
  std::array<V, kGates> gate;
  V h_previous;
  V h;
  std::array<V, kStates> previous;
  std::array<V, kStates> next;
  V dh;
  std::array<V, kStates> d_state;
  std::array<V, kGates> d_gate;
  V dh_previous;
};

LSTMCORE_END_NAMESPACE
