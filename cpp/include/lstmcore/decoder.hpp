// The decoder of an encoder-decoder network: recurrent layers that read tokens and look at a source while they step.
//
// Beside the letters of types.hpp: V tokens, M numbers of an embedded token, P width of h (the layer's output), S steps
// of a source, E width of its values, A width of its keys.
//
//   before-attention (additive):  c_t = attend(h_{t−1});  h_t = layers([x_t; c_t; (o_{t−1})]);  o_t = tanh(W_o [c_t;
//   h_t]) after-attention (dot):        h_t = layers([x_t; (o_{t−1})]);  c_t = attend(h_t);  o_t = tanh(W_o [c_t; h_t])
//   none:                         h_t = layers([x_t; (o_{t−1})]);  o_t = h_t
//
// h is that of the last layer; o_{t−1} enters with input feeding only.
#pragma once

#include <lstmcore/recurrent.hpp>

namespace lstmcore {

enum class Attention {
  none,
  additive,  ///< score(h, k) = vᵀ tanh(W_q h + k), before the step (Bahdanau, Cho & Bengio 2015)
  dot        ///< score(h, k) = hᵀ k, after the step (Luong, Pham & Manning 2015); their "general" has k = W_a · values
};

struct DecoderConfig {
  Attention attention = Attention::none;
  bool input_feeding = false;    ///< o of the step before is read too (Luong, Pham & Manning 2015)
  std::int64_t tokens = 0;       ///< V ≥ 1
  std::int64_t embedding = 0;    ///< M ≥ 1
  std::int64_t value_width = 0;  ///< E; 0 without attention
  std::int64_t key_width = 0;    ///< A; with dot it is P, without attention 0
};

/// Weights beside those of the layers; borrowed memory of the layer's dtype.
struct DecoderWeights {
  const void* table = nullptr;   ///< [V, M]
  const void* query = nullptr;   ///< W_q [A, P]; additive
  const void* score = nullptr;   ///< v [A]; additive
  const void* output = nullptr;  ///< W_o [P, E + P]; with attention
  const void* head_w = nullptr;  ///< [V, P]; where tokens are sampled
  const void* head_b = nullptr;  ///< [V]
};

/// N sequences of tokens and what they look at; borrowed memory.
struct DecoderInput {
  std::int32_t* tokens = nullptr;                ///< [N, T]: what each step reads; sampled ones are written over
  const std::int64_t* lengths = nullptr;         ///< [N], 1 … T
  std::int64_t count = 0, steps = 0;             ///< N, T
  const void* values = nullptr;                  ///< [sources, S, E]
  const void* keys = nullptr;                    ///< [sources, S, A]
  const std::int64_t* source_lengths = nullptr;  ///< [sources], 1 … S
  std::int64_t sources = 0, source_steps = 0;    ///< S
  const std::int64_t* owners = nullptr;          ///< [N]: whose source; null: sequence n has source n
  const void* const* initial = nullptr;          ///< states as Recurrent::forward takes them
  const void* initial_output = nullptr;          ///< [N, P]: o before the first step; null: zeros
  /// [N, T] or null: where not 0, and not at the first step, the token is replaced by what the head finds most probable
  /// after the step before (scheduled sampling; Bengio, Vinyals, Jaitly & Shazeer 2015).
  const std::uint8_t* sample = nullptr;
};

struct DecoderOutput {
  void* outputs = nullptr;             ///< o: [N, T, P]; zero past a sequence's length
  void* const* final_state = nullptr;  ///< as Recurrent::forward writes them, or null
  void* weights = nullptr;             ///< [N, T, S], or null; zero where there is no step
};

/// All written; `layers` has the layer's parameter_count() elements, the others the shapes of what they belong to.
struct DecoderGradients {
  void* layers = nullptr;
  void* table = nullptr;
  void* query = nullptr;
  void* score = nullptr;
  void* output = nullptr;
  void* values = nullptr;
  void* keys = nullptr;
  void* const* initial = nullptr;
};

/// What a forward pass in training saves. Movable; reusable for later passes.
class LSTMCORE_API DecoderTape {
 public:
  DecoderTape() noexcept;
  ~DecoderTape();
  DecoderTape(DecoderTape&&) noexcept;
  DecoderTape& operator=(DecoderTape&&) noexcept;
  explicit operator bool() const noexcept { return impl_ != nullptr; }

 private:
  friend struct DecoderAccess;
  std::unique_ptr<engine::TapeEngine> impl_;
  const void* owner_ = nullptr;  ///< the engine that recorded
  DecoderConfig config_;
};

/// Runs N sequences through `layer`, whose input_size is M, + E with additive attention, + P with input feeding. Its
/// cell must run step by step and in one direction, forwards. tape: records for decode_backward() and applies the
/// layer's dropout; owners must then be null. Throws std::invalid_argument naming what does not fit. May run at once
/// from several threads; results do not depend on the number of the layer's threads.
LSTMCORE_API void decode(const Recurrent& layer, const DecoderConfig& config, const DecoderWeights& weights,
                         const DecoderInput& input, const DecoderOutput& output, DecoderTape* tape = nullptr);

/// Gradients of a scalar loss after decode(…, &tape), weights being unchanged. d_outputs: [N, T, P]; what lies past a
/// sequence's length is not read. None flows through the choice of a sampled token, nor to initial_output.
LSTMCORE_API void decode_backward(const Recurrent& layer, DecoderTape& tape, const DecoderWeights& weights,
                                  const void* d_outputs, const DecoderGradients& gradients);

}  // namespace lstmcore
