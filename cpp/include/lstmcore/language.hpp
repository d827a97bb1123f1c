// Parts of language models: embeddings, softmax over many symbols, and generation of symbols.
//
// Further shape letters: V symbols, E width of an embedding, R rows (all steps of a batch), S sampled symbols.
// Functions throw std::invalid_argument naming the argument. n_threads: 0 for all cores; results do not depend on it.
#pragma once

#include <lstmcore/dense.hpp>
#include <lstmcore/recurrent.hpp>
#include <lstmcore/trainer.hpp>

namespace lstmcore {

/// A row for each symbol; borrowed memory.
struct Embedding {
  const void* table = nullptr;  ///< [V, E]
  std::int64_t symbols = 0;     ///< V, from 1
  std::int64_t width = 0;       ///< E, from 1
};

/// rows [count, E]: those of the symbols codes [count].
LSTMCORE_API void embed(Dtype dtype, const Embedding& embedding, const std::int32_t* codes, std::int64_t count,
                        void* rows);

/// gradient [V, E], overwritten: the sum of each symbol's rows [count, E], in their order; 0 where it has none.
LSTMCORE_API void embed_backward(Dtype dtype, const Embedding& embedding, const std::int32_t* codes, std::int64_t count,
                                 const void* rows, void* gradient, int n_threads = 0);

/// Where gradients go, all overwritten.
struct SoftmaxGradient {
  double scale = 1.0;  ///< gradients are those of scale · Σ_r l_r
  void* x = nullptr;   ///< [R, H]
  void* w = nullptr;   ///< [V, H]
  void* b = nullptr;   ///< [V]
};

/// l_r = −log softmax(W x_r + b)[label_r]. layer: outputs V, inputs H. x: [R, H]. labels: [R], 0 … V − 1. losses: [R]
/// or nullptr. gradient: nullptr for none. Returns Σ_r l_r. Scores are kept for a block of rows at a time only, so
/// memory does not grow with R · V.
LSTMCORE_API double softmax_loss(Dtype dtype, const DenseLayer& layer, const void* x, std::int64_t rows,
                                 const std::int32_t* labels, double* losses, const SoftmaxGradient* gradient,
                                 int n_threads = 0);

/// Symbols drawn as wrong answers for all rows of a batch.
struct SampledSymbols {
  const std::int32_t* symbols = nullptr;       ///< [S], distinct
  std::int64_t count = 0;                      ///< S, from 1
  const double* log_expected = nullptr;        ///< [S]: log of the expected number of draws of each
  const double* label_log_expected = nullptr;  ///< [R]: the same of each row's label
};

/// Sampled softmax (Jean, Cho, Memisevic & Bengio 2015): the loss over the label and the sampled symbols alone, each
/// score less the logarithm of how often its symbol was to be expected among the samples; a sample that is the row's
/// own label is left out. Gradients are those of this loss. The rest as for softmax_loss().
LSTMCORE_API double sampled_softmax_loss(Dtype dtype, const DenseLayer& layer, const void* x, std::int64_t rows,
                                         const std::int32_t* labels, const SampledSymbols& samples, double* losses,
                                         const SoftmaxGradient* gradient, int n_threads = 0);

/// One piece of an output layer: scores = W (P x) + b, without P where there is none.
struct OutputPart {
  const void* projection = nullptr;  ///< [layer.inputs, H], or nullptr: then layer.inputs is H
  DenseLayer layer;
};

/// What a language model predicts from: one part with V outputs, or for an adaptive softmax (Grave et al. 2017) the
/// first part with the most frequent symbols and behind them one output for each further part, which has the rest.
using OutputParts = std::vector<OutputPart>;

/// How the next symbol is drawn from softmax(scores / temperature).
struct SamplingOptions {
  double temperature = 1.0;  ///< from 1e-6 on, or 0: always the most probable symbol
  std::int64_t top_k = 0;    ///< only the k most probable symbols (Fan, Lewis & Dauphin 2018); 0: all
  double top_p = 1.0;        ///< only the fewest symbols that reach this probability (Holtzman et al. 2020), in (0, 1]
  std::uint64_t seed = 0;    ///< stream n draws from its own sequence of random numbers
  std::vector<std::int32_t> forbidden;           ///< symbols that are never drawn
  std::vector<std::vector<std::int32_t>> stops;  ///< a text ends with the first of these that it has come to end with
};

/// Draws symbols, one after another, for N texts at once: embedding, a step of the layers, output, sampling.
///
/// first [N]: the symbol that each text goes on from; state: one pointer per state, [L, N, state_width], read and
/// overwritten. Returns the symbols drawn, at most `length` of each text, those of its stop included. Throws
/// Interrupted when cancelled. The layers must have one direction and E inputs; the first part reads their output.
LSTMCORE_API std::vector<std::vector<std::int32_t>> generate(const Recurrent& layers, const Embedding& embedding,
                                                             const OutputParts& output,
                                                             const std::vector<std::int32_t>& first, void* const* state,
                                                             std::int64_t length, const SamplingOptions& options,
                                                             const Cancel& cancel = {});

/// log p of all V symbols: x [R, H] → out [R, V].
LSTMCORE_API void log_probabilities(Dtype dtype, const OutputParts& output, const void* x, std::int64_t rows,
                                    std::int64_t inputs, void* out, int n_threads = 0);

}  // namespace lstmcore
