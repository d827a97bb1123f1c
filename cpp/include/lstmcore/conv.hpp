// A stack of convolutional recurrent layers over sequences of images (ConvLSTM, Shi et al. 2015).
//
// Shape letters besides those of types.hpp:  C channels   Y rows   X columns of an image
#pragma once

#include <lstmcore/recurrent.hpp>

namespace lstmcore {

namespace engine {
class ConvEngine;
}

/// The cells of `Recurrent` with convolutions in place of the products W·x and R·h: "same" padding with zeros,
/// stride 1. Peepholes are maps: one weight for each unit and pixel.
struct ConvConfig {
  std::string cell = "lstm";         ///< lstm, peephole or gru (reset after)
  std::int64_t channels = 0;         ///< C of the input, ≥ 1
  std::int64_t hidden_channels = 0;  ///< H, ≥ 1
  std::int64_t height = 0;           ///< Y, ≥ 1
  std::int64_t width = 0;            ///< X, ≥ 1
  std::int64_t kernel_size = 3;      ///< of all convolutions, odd
  std::int64_t dilation = 1;         ///< distance of taps in pixels, ≥ 1
  std::int64_t num_layers = 1;       ///< L ≥ 1; every layer but the first reads the H channels of the one below
  Dtype dtype = Dtype::float32;
  std::uint64_t seed = 0;  ///< of the initial weights
  int n_threads = 0;       ///< upper bound; 0: OMP_NUM_THREADS, else all cores
};

/// L layers of one convolutional cell. Sequences are [T, C, Y, X], states [L, N, H, Y, X]. Weights live in one flat
/// buffer that the caller may read and write between calls. All methods taking `const` may run at once from several
/// threads.
class LSTMCORE_API ConvRecurrent {
 public:
  /// Throws std::invalid_argument naming the field, the value found and what is allowed.
  explicit ConvRecurrent(const ConvConfig& config);
  ~ConvRecurrent();
  ConvRecurrent(ConvRecurrent&&) noexcept;
  ConvRecurrent& operator=(ConvRecurrent&&) noexcept;

  const ConvConfig& config() const noexcept;
  /// The upper bound for threads, of the config at first; the only thing that may change while passes run.
  int n_threads() const noexcept;
  /// Throws std::invalid_argument for a negative number. 0: OMP_NUM_THREADS, else all cores.
  void set_n_threads(int n_threads);
  const std::vector<std::string>& gates() const noexcept;   ///< row order of W, R and b
  const std::vector<std::string>& states() const noexcept;  ///< {"h", "c"} or {"h"}
  std::int64_t input_size() const noexcept;                 ///< C·Y·X: elements of a step of x
  std::int64_t output_size() const noexcept;                ///< H·Y·X: elements of a step of y, and of a state

  /// The tensors inside parameters(), for each layer: "W_l0" [G·H, C, k, k], "R_l0" [G·H, H, k, k], "b_l0" [G·H]; gru
  /// also "bR_l0" [G·H], peephole "P_l0" [3, H, Y, X].
  const std::vector<TensorInfo>& tensors() const noexcept;
  std::int64_t parameter_count() const noexcept;
  void* parameters() noexcept;
  const void* parameters() const noexcept;

  /// Runs N sequences; x.features = input_size(). Arguments as of Recurrent::forward(); y[n]: lengths[n] × [H, Y, X].
  void forward(const Sequences& x, const void* const* initial, void* const* y, void* const* final_state,
               Tape* tape = nullptr) const;

  /// Gradients of a scalar loss after forward(…, &tape), as Recurrent::backward(). dx == nullptr saves its convolution
  /// in the first layer.
  void backward(Tape& tape, const void* const* dy, const void* const* d_final, void* const* dx, void* const* d_initial,
                void* gradient) const;

  /// One step of N sequences; states are updated in place. x: [N, C, Y, X], y: [N, H, Y, X]. Equals forward() over the
  /// same steps to the last bit.
  void step(const void* x, std::int64_t count, void* const* state, void* y) const;

 private:
  std::unique_ptr<engine::ConvEngine> impl_;
};

}  // namespace lstmcore
