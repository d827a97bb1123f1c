// A trained network: recurrent layers, pooling over time, dense head; and the file that holds it.
#pragma once

#include <lstmcore/recurrent.hpp>

namespace lstmcore {

namespace engine {
class ModelEngine;
}

/// How the outputs h_t of the last layer (D·P wide; P: H, or the projection's size) become one vector per sequence.
/// last: final step of the forward direction and, of the reverse direction, the step it ends on (the first).
/// attention: Σ_t p_t h_t with p = softmax_t(v·tanh(W h_t + b)), additive attention (Bahdanau, Cho & Bengio 2015; with
/// a
///   learned v: Yang et al. 2016, eq. 5–7; Lin et al. 2017).
/// hopfield: Hopfield pooling (Ramsauer et al. 2021, "Hopfield Networks is All You Need"): with keys k_t = K h_t and
/// values
///   V h_t, each of S learned patterns q is replaced `pooling_updates` times by Σ_t p_t k_t, p = softmax_t(β q·k_t)
///   (eq. 3), then reads Σ_t p_t V h_t (eq. 10); the pooled vector is S·A wide. One head; without the layer norms,
///   biases and output projection of the authors' layers.
/// none: no pooling; the head gives outputs at every step. Such a model predicts and streams; Trainer refuses it.
enum class Pooling { last, mean, max, attention, hopfield, none };

/// What the head applies to its linear output.
enum class Activation { identity, softmax };

/// What hidden layers of the head apply to theirs. selu: scaled exponential linear units (Klambauer et al. 2017).
enum class HeadActivation { selu, relu, tanh };

/// dynamic_int8: W and R of the recurrent layers are 8-bit integers with a scale for each row, and what they are
/// multiplied with, x_t and h_{t−1}, is rounded to 8 bits by a scale for each sequence and step, found as it comes.
/// Sums are exact, everything else is float32. For prediction: such a model cannot be trained.
enum class Quantization { none, dynamic_int8 };

struct ModelConfig {
  RecurrentConfig recurrent;
  Pooling pooling = Pooling::last;
  Activation activation = Activation::identity;
  std::int64_t outputs = 1;  ///< K

  // Of pooling attention and hopfield; with the others they must be left as they are.
  std::int64_t pooling_size = 0;  ///< A: width of the scores of attention, of keys and values of hopfield; 0: D·P
  // Of pooling hopfield.
  std::int64_t pooling_patterns = 1;  ///< S: learned patterns, from 1
  double pooling_beta = 0.0;          ///< β, above 0; 0: 1/√A
  std::int64_t pooling_updates = 1;   ///< of the patterns before the read-out, 0 … 100; streams need 0

  std::vector<std::int64_t> head_sizes;  ///< units of each hidden layer of the head, from the pooled vector on
  HeadActivation head_activation = HeadActivation::selu;
  /// Probability in [0, 1) of dropping each output of the hidden layers in training: alpha dropout for selu (Klambauer
  /// et al. 2017), plain dropout for the others. Needs head_sizes.
  double head_dropout = 0.0;

  /// dynamic_int8: cells elman, lstm, peephole, gru and slstm in float32, without layer normalisation, projection,
  /// reset before the product, variant FGR and zoneout. parameters() then are the floats that the integers stand for,
  /// and parameters_changed() rounds what was written there.
  Quantization quantization = Quantization::none;
};

/// Whether a tensor of such a model consists of 8-bit integers: W and R of every recurrent layer.
inline bool in_int8(const ModelConfig& config, const std::string& tensor) {
  return config.quantization == Quantization::dynamic_int8 &&
         (tensor.compare(0, 3, "W_l") == 0 || tensor.compare(0, 3, "R_l") == 0);
}

/// Such a tensor: element [r, c] is scales[r] · integers[r, c], exactly. A row's integers reach 127 or −127, or the
/// row and its scale are zero.
struct Int8Matrix {
  std::vector<std::int8_t> integers;  ///< [rows, columns], −127 … 127
  std::vector<float> scales;          ///< [rows]
};

/// Caller-owned streaming state of one stream (N = 1); allocated once, reused for ever.
class LSTMCORE_API StreamState {
 public:
  ~StreamState();
  StreamState(StreamState&&) noexcept;
  StreamState& operator=(StreamState&&) noexcept;
  void reset() noexcept;  ///< back to the start of a sequence

 private:
  friend class Model;
  StreamState();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

class LSTMCORE_API Model {
 public:
  explicit Model(const ModelConfig& config);
  ~Model();
  Model(Model&&) noexcept;
  Model& operator=(Model&&) noexcept;

  /// Reads a model file. Throws ModelFileError for anything that is not a whole, consistent model,
  /// including outputs that differ from the test vector stored in the file.
  static Model load(const std::string& path);
  /// Writes atomically: the file is either the old one or the whole new one.
  /// metadata: extra JSON texts kept beside the architecture ("estimator", "classes", …).
  void save(const std::string& path, const std::map<std::string, std::string>& metadata = {}) const;
  const std::map<std::string, std::string>& metadata() const noexcept;  ///< as loaded

  const ModelConfig& config() const noexcept;
  const std::vector<std::string>& gates() const noexcept;
  const std::vector<std::string>& states() const noexcept;

  /// The tensors that a model of this architecture has, without making it. Throws as the constructor does.
  static std::vector<TensorInfo> tensors_of(const ModelConfig& config);

  /// Recurrent tensors; those of the pooling, attention: "pool_W" [A, D·P], "pool_b" [A], "pool_v" [A], hopfield:
  /// "pool_Q" [S, A], "pool_K" [A, D·P], "pool_V" [A, D·P]; those of the head's hidden layers, "head_W_l0" [size, width
  /// of the pooled vector], "head_b_l0" [size], "head_W_l1", …; "head_W" [K, width of the last] and "head_b" [K].
  const std::vector<TensorInfo>& tensors() const noexcept;
  std::int64_t parameter_count() const noexcept;
  void* parameters() noexcept;
  const void* parameters() const noexcept;
  /// Must follow writes through parameters() and precede the next prediction.
  void parameters_changed();
  /// The integers of a tensor; std::invalid_argument for one that has none, see in_int8().
  Int8Matrix int8_matrix(const std::string& tensor) const;

  /// Preprocessing, always float64: x → (x − input_mean)·input_scale per feature, and the inverse of
  /// y → (y − output_mean)·output_scale on predictions of identity heads. [I], [I], [K], [K]; zeros and ones when new.
  void set_preprocessing(const std::vector<double>& input_mean, const std::vector<double>& input_scale,
                         const std::vector<double>& output_mean, const std::vector<double>& output_scale);
  const std::vector<double>& input_mean() const noexcept;
  const std::vector<double>& input_scale() const noexcept;
  const std::vector<double>& output_mean() const noexcept;
  const std::vector<double>& output_scale() const noexcept;

  /// out: [N, K], with pooling none [T_n, K] of one sequence after the other; probabilities for softmax heads. Safe
  /// from several threads at once. n_threads 0: the config's.
  void predict(const Sequences& x, void* out, int n_threads = 0) const;

  /// Streaming, one stream, D = 1 only, and not with pooling hopfield unless pooling_updates is 0: make_state() throws
  /// std::invalid_argument. step() allocates nothing, takes no lock and throws nothing.
  /// x: [I], out: [K] (what predict() would return for the sequence so far; with pooling none, for its last step).
  StreamState make_state() const;
  void step(const void* x, StreamState& state, void* out) const noexcept;
  /// The recurrent part of a stream's state: one [L·H] array per name in states(); and the pooling part:
  /// last value, sum or maximum [P], for attention and per pattern of hopfield the weighted sum, the largest score and
  /// the sum of weights relative to it; and the number of steps so far.
  std::vector<double> state_values(const StreamState& state) const;
  void set_state_values(StreamState& state, const std::vector<double>& values) const;

 private:
  friend class Trainer;
  Model();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lstmcore
