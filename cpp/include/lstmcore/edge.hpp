// Quantised networks: the desktop's side of the edge runtime (C99, lstmcore_edge.h), which it runs itself, so that a
// prediction here is what the device computes, bit for bit.
#pragma once

#include <lstmcore/types.hpp>

#include <memory>
#include <string>
#include <vector>

namespace lstmcore {

/// Of activations: int8, int16 (weights are int8 all the same) or float32.
enum class EdgeKind { int8, int16, float32 };

enum class EdgeStorage { int8, int4, sparse, float32 };

/// Rows and columns in the runtime's order and packing, both padded to a multiple of four (see lstmcore_edge.h, which
/// says what each field means; the names are the same).
struct EdgeMatrix {
  EdgeStorage storage = EdgeStorage::int8;
  std::int64_t rows = 0, columns = 0;  ///< padded
  std::vector<std::int8_t> weights;    ///< packed; int4: two in each
  std::vector<float> float_weights;    ///< of float32
  std::vector<std::int32_t> bias, multiplier;
  std::vector<float> float_bias;
  std::vector<std::uint32_t> block_starts;   ///< of sparse
  std::vector<std::uint16_t> block_columns;  ///< of sparse
  std::int64_t shift = 0;
  std::int64_t first_blocks = 0, first_shift = 0;
};

/// One direction of one layer.
struct EdgeLayer {
  std::string cell;                  ///< "elman", "lstm", "gru", "gru_reset_before", "slstm"
  std::vector<std::string> options;  ///< "coupled", "peepholes", "relu", "exponential_forget"
  std::int64_t inputs = 0, hidden = 0;
  std::vector<EdgeMatrix> matrices;
  std::vector<std::int16_t> peepholes;  ///< empty: none
  std::vector<float> float_peepholes;
  std::vector<std::int16_t> initial_h, initial_cells;  ///< empty: zeros
  std::vector<float> float_initial_h, float_initial_cells;
  std::vector<std::int32_t> initial_stabilisers;
  std::int64_t limit = 127, output_multiplier = 127, output_shift = 15, cell_bits = 12, peephole_bits = 12;
};

struct EdgeDense {
  EdgeMatrix matrix;
  std::int64_t outputs = 0;
  std::string activation = "linear";  ///< "linear" (the last one), "relu", "tanh", "selu"
  std::int64_t limit = 127, output_multiplier = 0, output_shift = 15;
};

struct EdgeProgram {
  EdgeKind kind = EdgeKind::int8;
  std::int64_t directions = 1;
  std::string pooling = "last";  ///< "last", "mean", "max", "none"
  std::vector<EdgeLayer> layers;
  std::vector<EdgeDense> dense;
  std::vector<float> centre, scale;  ///< [I]
  std::int64_t input_limit = 127;
};

/// Memory that a device needs, in bytes.
struct EdgeMemory {
  std::int64_t state = 0, scratch = 0, weights = 0;
  std::int64_t buffer_per_step = 0;  ///< of a whole sequence in both directions
};

/// Caller-owned state and scratch of one stream.
class LSTMCORE_API EdgeState {
 public:
  ~EdgeState();
  EdgeState(EdgeState&&) noexcept;
  EdgeState& operator=(EdgeState&&) noexcept;
  void reset() noexcept;
  EdgeState copy() const;  ///< at the same point, independent
  /// Every byte that outlives a step: activations, cells, stabilisers, pooled, steps.
  std::vector<unsigned char> bytes() const;

 private:
  friend class EdgeModel;
  EdgeState();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

class LSTMCORE_API EdgeModel {
 public:
  /// Checks everything that the runtime relies on, sums that could overflow included. Throws std::invalid_argument.
  explicit EdgeModel(EdgeProgram program);
  ~EdgeModel();
  EdgeModel(EdgeModel&&) noexcept;
  EdgeModel& operator=(EdgeModel&&) noexcept;

  const EdgeProgram& program() const noexcept;
  std::int64_t inputs() const noexcept;
  std::int64_t outputs() const noexcept;
  EdgeMemory memory() const noexcept;

  /// x: [N] sequences [T_n, I] of float32 as measured. out: int32 (float for float32) [N, K], with pooling none
  /// [T_n, K] of one sequence after the other. n_threads 0: OMP_NUM_THREADS or the number of cores; results are the
  /// same for any. Safe from several threads at once.
  void run(const Sequences& x, void* out, int n_threads = 0) const;

  /// x [I] float32 to activations (int8, int16 or float).
  void quantise(const float* x, void* activations) const noexcept;

  EdgeState make_state() const;
  /// One step; x [I] float32 as measured, out [K]. Models with one direction only: otherwise std::invalid_argument.
  void step(const float* x, EdgeState& state, void* out) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lstmcore
