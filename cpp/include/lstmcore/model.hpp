// A trained network: recurrent layers, pooling over time, dense head; and the file that holds it.
#pragma once

#include <lstmcore/recurrent.hpp>

namespace lstmcore {

namespace engine {
class ModelEngine;
}

/// How the outputs of the last layer over time become one vector per sequence.
/// last: final step of the forward direction and, of the reverse direction, the step it ends on (the first).
enum class Pooling { last, mean, max };

/// What the head applies to its linear output.
enum class Activation { identity, softmax };

struct ModelConfig {
  RecurrentConfig recurrent;
  Pooling pooling = Pooling::last;
  Activation activation = Activation::identity;
  std::int64_t outputs = 1;  ///< K
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

  /// Recurrent tensors, then "head_W" [K, D·H] and "head_b" [K].
  const std::vector<TensorInfo>& tensors() const noexcept;
  std::int64_t parameter_count() const noexcept;
  void* parameters() noexcept;
  const void* parameters() const noexcept;
  /// Must follow writes through parameters() and precede the next prediction.
  void parameters_changed();

  /// Preprocessing, always float64: x → (x − input_mean)·input_scale per feature, and the inverse of
  /// y → (y − output_mean)·output_scale on predictions of identity heads. [I], [I], [K], [K]; zeros and ones when new.
  void set_preprocessing(const std::vector<double>& input_mean, const std::vector<double>& input_scale,
                         const std::vector<double>& output_mean, const std::vector<double>& output_scale);
  const std::vector<double>& input_mean() const noexcept;
  const std::vector<double>& input_scale() const noexcept;
  const std::vector<double>& output_mean() const noexcept;
  const std::vector<double>& output_scale() const noexcept;

  /// out: [N, K]; probabilities for softmax heads. Safe from several threads at once. n_threads 0: the config's.
  void predict(const Sequences& x, void* out, int n_threads = 0) const;

  /// Streaming, one stream, D = 1 only. step() allocates nothing, takes no lock and throws nothing.
  /// x: [I], out: [K] (what predict() would return for the sequence so far).
  StreamState make_state() const;
  void step(const void* x, StreamState& state, void* out) const noexcept;
  /// The recurrent part of a stream's state: one [L·H] array per name in states(); and the pooling part:
  /// sum or maximum [H] and the number of steps so far.
  std::vector<double> state_values(const StreamState& state) const;
  void set_state_values(StreamState& state, const std::vector<double>& values) const;

 private:
  friend class Trainer;
  Model();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lstmcore
