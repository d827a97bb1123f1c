// A stack of recurrent layers: forward, backpropagation through time, and streaming steps.
#pragma once

#include <lstmcore/types.hpp>

#include <memory>

namespace lstmcore {

namespace engine {
class RecurrentEngine;
class TapeEngine;
}  // namespace engine

struct RecurrentConfig {
  std::string cell = "lstm";
  std::int64_t input_size = 0;   ///< I ≥ 1
  std::int64_t hidden_size = 0;  ///< H ≥ 1
  std::int64_t num_layers = 1;   ///< L ≥ 1
  bool bidirectional = false;    ///< D = 2; outputs of both directions concatenated
  bool reverse = false;          ///< D = 1: every layer reads each sequence from its end; y stays in the order of x
  double dropout = 0.0;          ///< on the outputs of every layer but the last, in [0, 1); training only

  /// One mask a sequence for all its steps, on each layer's input and on h where it enters R, in [0, 1); training only
  /// (Gal & Ghahramani 2016).
  double variational_dropout = 0.0;
  /// On the candidate (g, n or z) of each step, in [0, 1); training only (Semeniuta, Severyn & Barth 2016).
  double recurrent_dropout = 0.0;
  /// Probability that a unit's h, or its other states together, keep their value of the step before, in [0, 1); the
  /// expectation outside training (Krueger et al. 2017).
  double zoneout_hidden = 0.0, zoneout_cell = 0.0;
  /// The state that sequences start from where none is given is a parameter ("h0_l0", …) and not zero.
  bool learn_initial_state = false;

  Dtype dtype = Dtype::float32;
  /// bfloat16: with dtype float32, every cell but mlstm, xlstm and those whose gates feed back (peephole's FGR,
  /// lstm1997's gate_recurrence).
  Precision precision = Precision::same_as_dtype;
  std::uint64_t seed = 0;  ///< of the initial weights and of dropout
  int n_threads = 0;       ///< upper bound; 0: OMP_NUM_THREADS, else all cores
  Options cell_options;    ///< e.g. {"nonlinearity", "relu"} for elman
};

/// What a forward pass in training saves for `backward`. Movable; reusable for later passes.
class LSTMCORE_API Tape {
 public:
  Tape() noexcept;
  ~Tape();
  Tape(Tape&&) noexcept;
  Tape& operator=(Tape&&) noexcept;
  explicit operator bool() const noexcept { return impl_ != nullptr; }
  std::int64_t sequences() const noexcept;           ///< N of the recorded pass
  const std::vector<std::int64_t>& lengths() const;  ///< length of each recorded sequence

 private:
  friend class Recurrent;
  friend class ConvRecurrent;
  std::unique_ptr<engine::TapeEngine> impl_;
  const void* owner_ = nullptr;  ///< the engine that recorded
};

/// L layers × D directions of one cell. Weights live in one flat buffer that the caller may read and write between
/// calls. All methods taking `const` may run at once from several threads.
class LSTMCORE_API Recurrent {
 public:
  /// Throws std::invalid_argument naming the field, the value found and what is allowed.
  explicit Recurrent(const RecurrentConfig& config);
  ~Recurrent();
  Recurrent(Recurrent&&) noexcept;
  Recurrent& operator=(Recurrent&&) noexcept;

  const RecurrentConfig& config() const noexcept;
  /// Upper bound for threads from now on, 0: all cores; not while another call runs.
  void set_n_threads(int n_threads);
  std::int64_t directions() const noexcept { return config().bidirectional ? 2 : 1; }
  const std::vector<std::string>& gates() const noexcept;   ///< row order of W, R and b
  const std::vector<std::string>& states() const noexcept;  ///< e.g. {"h", "c"}
  std::int64_t state_width(
      std::size_t index) const noexcept;       ///< H, as a rule; of "h" the projection's, if there is one
  std::int64_t output_width() const noexcept;  ///< D·(width of "h")
  std::int64_t layers() const noexcept;        ///< L; for xlstm the number of blocks in all

  /// The tensors inside parameters(): "W_l0" [G·H, I], "R_l0" [G·H, H], "b_l0" [G·H], then what else the cell has
  /// (docs/cells.md), then "…_l0_reverse", "W_l1", …
  const std::vector<TensorInfo>& tensors() const noexcept;
  std::int64_t parameter_count() const noexcept;
  void* parameters() noexcept;
  const void* parameters() const noexcept;
  /// Says that nothing is written through what parameters() returned until it is called again (not the const one).
  /// Without it each forward() and step() compares all weights with those it has packed; with it the next one of a
  /// thread does, and those after it do not.
  void parameters_settled() noexcept;

  /// Runs N sequences.
  /// initial: one pointer per state, each [L·D, N, state_width]; nullptr: zeros, or the learned state. final_state: the
  /// same shapes, or nullptr. y[n]: lengths[n] × output_width() elements are written; nullptr: outputs are not wanted.
  /// tape: records for backward and applies dropout; nullptr: inference.
  void forward(const Sequences& x, const void* const* initial, void* const* y, void* const* final_state,
               Tape* tape = nullptr) const;

  /// Gradients of a scalar loss after forward(…, &tape); weights must not have changed in between.
  /// dy[n]: lengths[n] × output_width(), or dy == nullptr for zeros. d_final: gradient of the final states, or nullptr.
  /// dx[n]: written, or dx == nullptr. d_initial: written, or nullptr. gradient: parameter_count() elements,
  /// overwritten.
  void backward(Tape& tape, const void* const* dy, const void* const* d_final, void* const* dx, void* const* d_initial,
                void* gradient) const;

  /// One step of N sequences; states are updated in place. Needs D = 1.
  /// x: [N, I], y: [N, output_width()] (output of the last layer). Equals forward() over the same steps to the last
  /// bit, of mlstm and xlstm to rounding: forward() takes many steps at once there.
  void step(const void* x, std::int64_t count, void* const* state, void* y) const;

 private:
  friend class Model;
  friend struct RecurrentAccess;
  friend struct DecoderAccess;
  std::unique_ptr<engine::RecurrentEngine> impl_;
};

/// One option of a cell.
struct OptionInfo {
  Option initial;               ///< its default
  std::vector<Option> allowed;  ///< the default first; empty: any integer from `lowest`, or any text of `letters`
  std::int64_t lowest = 0;
  std::string letters;  ///< not empty: any text of 1 to 64 of these letters
};

/// One cell of the registry. Options may take gates away or add states: `Recurrent::gates()` tells those of a layer.
struct CellInfo {
  std::string name;
  std::vector<std::string> gates;
  std::vector<std::string> states;
  std::map<std::string, OptionInfo> options;
  std::string source;          ///< author and year
  bool has_candidate = false;  ///< recurrent_dropout has something to act on
  /// Runs step by step: variational dropout, zoneout and learned initial states apply.
  bool stepwise = true;
};

/// Every cell, in registry order.
LSTMCORE_API const std::vector<CellInfo>& cells();

}  // namespace lstmcore
