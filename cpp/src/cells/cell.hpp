// The cell contract.
//
// A cell is a struct of constants, over the defaults of CellDefaults, and two function templates over the value type V
// (a scalar, a SIMD pack, a CUDA thread's float), one under the other, that work on one unit (or one pack of units) at
// one time step:
//
//   kName, kSource                 registry name; author and year
//   kGates, kGateNames             row blocks of W, R and b, in order
//   kStates, kStateNames           states carried besides h ("h" comes first in kStateNames)
//   forward (CellForward<V, Cell>&)    reads gate (pre-activations), h_previous, previous; writes gate (what backward
//                                      wants, as a rule the activations), next, h
//   backward(CellBackward<V, Cell>&)   reads what forward left, dh, d_state (of next); writes d_gate (of the
//                                      pre-activations), d_state (of previous) and dh_previous, the direct path to h₋
//                                      only: the driver adds Rᵀ·d_gate
//
// What else a cell may be, and then reads or writes, stands at CellDefaults.
//
// Units whose weights are zero (padding of the last pack) must keep h, states and gradients at zero or harmless finite
// values; every cell whose h is a bounded function of its gates does.
#pragma once

#include "math/functions.hpp"

#include <array>

LSTMCORE_BEGIN_NAMESPACE

/// Where the other factor of a per-unit vector's product comes from.
enum class VectorInput { h_previous, previous_state, next_state };

/// Vector k multiplies an h or a state, element by element, in the pre-activation of one gate.
struct VectorTerm {
  int gate;
  VectorInput input;
  int state;  ///< index of the state
};

struct CellDefaults {
  static constexpr int kStates = 0;
  static constexpr std::array<const char*, 1> kStateNames = {"h"};
  /// Vectors of one weight a unit, as peepholes: s.vector. kVectorName is their tensor's name.
  static constexpr int kVectors = 0;
  static constexpr const char* kVectorName = "";
  static constexpr std::array<VectorTerm, 0> kVectorTerms = {};
  /// Whether R exists.
  static constexpr bool kRecurrent = true;
  /// R·h₋ (and a bias bR of its own) reaches the cell apart from W·x + b: s.recurrent, s.d_recurrent.
  static constexpr bool kSeparate = false;
  /// The last so many states feed the gates through a matrix as h does: columns of R behind those of h, or, where a
  /// name is given, a tensor of their own for all gates but the candidate "g".
  static constexpr int kFeedback = 0;
  static constexpr const char* kFeedbackName = "";
  /// The last gate's R reads reset ⊙ h₋, where forward's first part, reset(), computes reset (GRU, reset-before).
  static constexpr bool kResetBefore = false;
  /// Errors reach the weights of a step, but flow back in time through states only (Hochreiter & Schmidhuber 1997).
  static constexpr bool kTruncated = false;
  /// W·x and R·h₋ are layer-normalised (Ba et al. 2016); gates of one group are normalised together.
  static constexpr bool kNormalised = false;
  static constexpr std::array<int, 4> kNormGroups = {0, 0, 0, 0};
  /// State 0 is normalised before the output: forward leaves h alone, output_forward makes it; output_backward comes
  /// before backward, which finds the gradient of the output gate's activation in s.dh. kOutputGate: its index.
  static constexpr bool kNormalisedState = false;
  static constexpr int kOutputGate = 0;
  /// Gates that the units of one memory cell block share, where the cell has blocks.
  static constexpr std::array<bool, 4> kSharedGates = {};
  /// s.keep multiplies a candidate (recurrent dropout).
  static constexpr bool kHasCandidate = false;
};

template <class V, class Cell>
struct CellForward {
  std::array<V, Cell::kGates> gate;
  std::array<V, Cell::kSeparate ? Cell::kGates : 0> recurrent;
  std::array<V, Cell::kVectors> vector;
  V h_previous;
  V h_fed;  ///< what enters R: h_previous under its dropout mask
  std::array<V, Cell::kStates> previous;
  std::array<V, Cell::kStates> next;
  V keep;
  V h;
};

template <class V, class Cell>
struct CellBackward {
  std::array<V, Cell::kGates> gate;
  std::array<V, Cell::kSeparate ? Cell::kGates : 0> recurrent;
  std::array<V, Cell::kVectors> vector;
  V h_previous;
  V h_fed;
  V h;
  std::array<V, Cell::kStates> previous;
  std::array<V, Cell::kStates> next;
  V keep;
  V dh;
  std::array<V, Cell::kStates> d_state;
  std::array<V, Cell::kGates> d_gate;
  std::array<V, Cell::kSeparate ? Cell::kGates : 0> d_recurrent;
  V dh_previous;
  V dh_fed;  ///< of h_fed, element-wise paths only
};

LSTMCORE_END_NAMESPACE
