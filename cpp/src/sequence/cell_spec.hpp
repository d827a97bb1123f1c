// What the drivers know of a cell: its constants and options as plain values, and its functions.
#pragma once

#include "cells/registry.hpp"
#include "kernels/pointwise.hpp"
#include "sequence/block_tensors.hpp"

#include <algorithm>

LSTMCORE_BEGIN_NAMESPACE

/// Constants of a cell type (see CellDefaults in cells/cell.hpp), and those of its options that are sizes.
struct CellSpec {
  int gates = 0;
  std::size_t states = 0;  ///< besides h
  std::size_t vectors = 0;
  std::size_t feedback = 0;
  bool recurrent = true, separate = false, reset_before = false, truncated = false;
  bool normalised = false, normalised_state = false;
  bool recurrent_bias = false;  ///< bR exists
  std::array<int, 4> norm_groups{};
  int output_gate = 0;
  std::array<VectorTerm, kMaxVectors> vector_terms{};
  std::string vector_name, feedback_name;
  std::vector<std::string> gate_names, state_names;

  std::int64_t projection = 0;  ///< width of h where it is projected, else 0
  std::int64_t heads = 1;
  std::int64_t block_size = 1;  ///< units that share the gates marked in `shared`
  std::array<bool, kMaxGates> shared{};

  // Layers that are blocks (sequence/blocks/): what kind each one is, over and over ('M': a plain mLSTM; 'm' and 's':
  // the blocks of xLSTM). Empty for all cells that run step by step.
  std::string pattern;
  std::int64_t chunk = 0;  ///< steps that the matrix memory takes at once
  bool exponential_forget = false;
  std::vector<std::int64_t> state_widths;

  bool blocks() const noexcept { return !pattern.empty(); }
  /// Index of a state by name; one that no state has where there is none of that name.
  std::size_t state(const char* name) const noexcept {
    return static_cast<std::size_t>(std::find(state_names.begin(), state_names.end(), name) - state_names.begin());
  }

  /// Whether the kernels' weights differ in shape from the user's, see sequence/expansion.hpp.
  bool expands() const noexcept { return block_size > 1 || feedback > 0 || heads > 1; }
  unsigned all_gates() const noexcept { return (1U << gates) - 1U; }
};

template <class Cell>
CellSpec describe_cell() {
  static_assert(Cell::kGates <= kMaxGates && Cell::kStates <= kMaxStates && Cell::kVectors <= kMaxVectors);
  CellSpec spec;
  spec.gates = Cell::kGates;
  spec.states = Cell::kStates;
  spec.vectors = Cell::kVectors;
  spec.feedback = Cell::kFeedback;
  spec.recurrent = Cell::kRecurrent;
  spec.separate = Cell::kSeparate;
  spec.recurrent_bias = Cell::kSeparate;
  spec.reset_before = Cell::kResetBefore;
  spec.truncated = Cell::kTruncated;
  spec.normalised = Cell::kNormalised;
  spec.normalised_state = Cell::kNormalisedState;
  spec.norm_groups = Cell::kNormGroups;
  spec.shared = Cell::kSharedGates;
  spec.output_gate = Cell::kOutputGate;
  std::copy(Cell::kVectorTerms.begin(), Cell::kVectorTerms.end(), spec.vector_terms.begin());
  spec.vector_name = Cell::kVectorName;
  spec.feedback_name = Cell::kFeedbackName;
  spec.gate_names.assign(Cell::kGateNames.begin(), Cell::kGateNames.end());
  spec.state_names.assign(Cell::kStateNames.begin(), Cell::kStateNames.end());
  return spec;
}

/// Steps of a chunk where the user leaves the choice, for heads of d units. Fastest forward and backward with AVX2
/// (bench/xlstm.py --only chunks; ms for T = 2048, 4 heads, chunks of 16, 32, 64, 128): d 16: 5.9 6.8 7.5 8.9;
/// d 32: 17.3 17.3 18.4 20.7; d 64: 56.0 54.7 55.1 58.2; d 128: 200 194 192 194.
constexpr std::int64_t chunk_for(std::int64_t d) noexcept { return d < 32 ? 16 : d > 128 ? 64 : d / 2; }

inline CellSpec block_spec(const RecurrentConfig& config) {
  const auto number = [&](const char* name) { return option_of<std::int64_t>(config.cell, config.cell_options, name); };
  const bool xlstm = config.cell == "xlstm";
  CellSpec spec;
  spec.recurrent = false;
  spec.pattern = xlstm ? option_of<std::string>(config.cell, config.cell_options, "blocks") : "M";
  spec.heads = number("heads");
  spec.exponential_forget =
      option_of<std::string>(config.cell, config.cell_options, "forget_activation") == "exponential";
  const bool has_s = spec.pattern.find('s') != std::string::npos;
  const bool has_m = spec.pattern.find_first_of("mM") != std::string::npos;
  const std::int64_t hidden = config.hidden_size;
  const std::int64_t inner = xlstm ? 2 * hidden : hidden;
  constexpr std::int64_t kLongest = std::int64_t{1} << 40;  // of any sequence, and far from overflow
  spec.chunk = number("chunk_size") > 0 ? std::min(number("chunk_size"), kLongest) : chunk_for(inner / spec.heads);
  const auto state = [&](const char* name, std::int64_t width) {
    spec.state_names.emplace_back(name);
    spec.state_widths.push_back(width);
  };
  state("h", hidden);
  if (has_m) state("C", inner * (inner / spec.heads));
  if (has_s) state("c", hidden);
  state("n", has_m ? inner : hidden);
  state("m", std::max(has_m ? spec.heads : 1, has_s ? hidden : 1));
  if (xlstm) state("conv", (kConvSteps - 1) * (has_m ? inner : hidden));
  spec.states = spec.state_names.size() - 1;
  if (!xlstm) spec.gate_names.assign(Mlstm::kGateNames.begin(), Mlstm::kGateNames.end());
  return spec;
}

inline CellSpec cell_spec(const RecurrentConfig& config) {
  if (is_block_cell(config.cell)) return block_spec(config);
  CellSpec spec =
      visit_cell(config.cell, config.cell_options, [](auto cell) { return describe_cell<decltype(cell)>(); });
  const auto& options = cell_info(config.cell).options;
  const auto size_of_option = [&](const char* name, std::int64_t otherwise) {
    return options.count(name) == 0 ? otherwise : option_of<std::int64_t>(config.cell, config.cell_options, name);
  };
  spec.projection = size_of_option("proj_size", 0);
  spec.heads = size_of_option("heads", 1);
  spec.block_size = size_of_option("block_size", 1);
  return spec;
}

template <class T>
CellKernels<T> kernels_of(const RecurrentConfig& config) {
  if (is_block_cell(config.cell)) return {};
  return visit_cell(config.cell, config.cell_options, [](auto cell) { return cell_kernels<decltype(cell), T>(); });
}

LSTMCORE_END_NAMESPACE
