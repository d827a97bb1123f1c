// The façade of an engine: everything numerical, built once per instruction set as a shared library of its own
// and reached only through these interfaces. liblstmcore checks arguments before they get here; an engine trusts them.
#pragma once

#include <lstmcore/build_info.hpp>
#include <lstmcore/conv.hpp>
#include <lstmcore/crf.hpp>
#include <lstmcore/ctc.hpp>
#include <lstmcore/decoder.hpp>
#include <lstmcore/dense.hpp>
#include <lstmcore/edge.hpp>
#include <lstmcore/language.hpp>
#include <lstmcore/trainer.hpp>
#include <lstmcore/tree.hpp>

#include <memory>

namespace lstmcore::engine {

class TapeEngine {
 public:
  virtual ~TapeEngine() = default;
  virtual std::int64_t sequences() const noexcept = 0;
  virtual const std::vector<std::int64_t>& lengths() const noexcept = 0;
};

/// Single steps of a number of sequences, with weights packed once.
class StepsEngine {
 public:
  virtual ~StepsEngine() = default;
  virtual void step(const void* x, void* const* state, void* y) = 0;
};

class RecurrentEngine {
 public:
  virtual ~RecurrentEngine() = default;
  virtual const RecurrentConfig& config() const noexcept = 0;
  virtual void set_n_threads(int n_threads) noexcept = 0;
  virtual const std::vector<std::string>& gates() const noexcept = 0;
  virtual const std::vector<std::string>& states() const noexcept = 0;
  virtual std::int64_t state_width(std::size_t index) const noexcept = 0;
  virtual std::int64_t output_width() const noexcept = 0;
  virtual std::int64_t layers() const noexcept = 0;
  virtual const std::vector<TensorInfo>& tensors() const noexcept = 0;
  virtual void* parameters() noexcept = 0;
  /// Whether nobody writes parameters() until the next call.
  virtual void set_settled(bool settled) noexcept = 0;
  virtual std::unique_ptr<TapeEngine> make_tape() const = 0;
  virtual void forward(const Sequences& x, const void* const* initial, void* const* y, void* const* final_state,
                       TapeEngine* tape) const = 0;
  virtual void backward(TapeEngine& tape, const void* const* dy, const void* const* d_final, void* const* dx,
                        void* const* d_initial, void* gradient) const = 0;
  virtual void step(const void* x, std::int64_t count, void* const* state, void* y) const = 0;
  /// For the weights as they are now.
  virtual std::unique_ptr<StepsEngine> make_steps(std::int64_t count) const = 0;
  // As a decoder, with tapes of its own.
  virtual std::unique_ptr<TapeEngine> make_decoder_tape() const = 0;
  virtual void decode(const DecoderConfig& config, const DecoderWeights& weights, const DecoderInput& input,
                      const DecoderOutput& output, TapeEngine* tape) const = 0;
  virtual void decode_backward(TapeEngine& tape, const DecoderWeights& weights, const void* d_outputs,
                               const DecoderGradients& gradients) const = 0;
};

class TreeTapeEngine {
 public:
  virtual ~TreeTapeEngine() = default;
  virtual std::int64_t nodes() const noexcept = 0;
};

class TreeEngine {
 public:
  virtual ~TreeEngine() = default;
  virtual const TreeConfig& config() const noexcept = 0;
  virtual void set_threads(int n_threads) noexcept = 0;
  virtual const std::vector<std::string>& gates() const noexcept = 0;
  virtual const std::vector<TensorInfo>& tensors() const noexcept = 0;
  virtual void* parameters() noexcept = 0;
  virtual std::unique_ptr<TreeTapeEngine> make_tape() const = 0;
  virtual void forward(const Forest& forest, void* h, void* c, TreeTapeEngine* tape) const = 0;
  virtual void backward(TreeTapeEngine& tape, const void* dh, const void* dc, void* dx, void* gradient) const = 0;
};

class ConvEngine {
 public:
  virtual ~ConvEngine() = default;
  virtual const ConvConfig& config() const noexcept = 0;
  virtual int n_threads() const noexcept = 0;
  virtual void set_n_threads(int n_threads) noexcept = 0;
  virtual const std::vector<std::string>& gates() const noexcept = 0;
  virtual const std::vector<std::string>& states() const noexcept = 0;
  virtual const std::vector<TensorInfo>& tensors() const noexcept = 0;
  virtual void* parameters() noexcept = 0;
  virtual std::unique_ptr<TapeEngine> make_tape() const = 0;
  virtual void forward(const Sequences& x, const void* const* initial, void* const* y, void* const* final_state,
                       TapeEngine* tape) const = 0;
  virtual void backward(TapeEngine& tape, const void* const* dy, const void* const* d_final, void* const* dx,
                        void* const* d_initial, void* gradient) const = 0;
  virtual void step(const void* x, std::int64_t count, void* const* state, void* y) const = 0;
};

class StreamEngine {
 public:
  virtual ~StreamEngine() = default;
  virtual void reset() noexcept = 0;
  virtual void step(const void* x, void* out) noexcept = 0;
  virtual std::vector<double> values() const = 0;
  virtual void set_values(const std::vector<double>& values) = 0;
};

class TrainerEngine {
 public:
  virtual ~TrainerEngine() = default;
  virtual double step(const Sequences& x, const Targets& y, const Cancel& cancel) = 0;
  virtual EpochResult run_epoch(const Sequences& x, const Targets& y, const Cancel& cancel) = 0;
  virtual double evaluate(const Sequences& x, const Targets& y) const = 0;
  virtual void report(double monitored) = 0;
  virtual void set_mask(std::vector<std::uint8_t> mask) = 0;
  virtual double gradient(const Sequences& x, const Targets& y, void* gradient, const Cancel& cancel) = 0;
};

class OptimiserEngine {
 public:
  virtual ~OptimiserEngine() = default;
  virtual std::int64_t steps() const noexcept = 0;
  virtual double step(void* parameters, void* gradient) = 0;
  virtual double penalty(const void* parameters) const noexcept = 0;
  virtual double learning_rate() const noexcept = 0;
  virtual void epoch_finished() noexcept = 0;
  virtual void report(double monitored) noexcept = 0;
};

/// Heads that label steps; no state of their own.
class LabellingEngine {
 public:
  virtual void dense_forward(const DenseLayer& layer, const void* x, std::int64_t rows, void* y,
                             int n_threads) const = 0;
  virtual void dense_backward(const DenseLayer& layer, const void* x, std::int64_t rows, const void* dy, void* dx,
                              void* dw, void* db, int n_threads) const = 0;
  virtual void crf_loss(const Sequences& emissions, const CrfScores& scores, const std::int32_t* labels,
                        const double* weights, double* losses, const CrfGradient* gradient, int n_threads) const = 0;
  virtual void crf_marginals(const Sequences& emissions, const CrfScores& scores, void* const* marginals,
                             double* log_partition, int n_threads) const = 0;
  virtual void crf_decode(const Sequences& emissions, const CrfScores& scores, std::int32_t* labels,
                          double* path_scores, int n_threads) const = 0;
  virtual void ctc_loss(const Sequences& logits, const std::int32_t* labels, const std::int64_t* counts,
                        std::int64_t blank, const double* weights, double* losses, void* const* gradient,
                        int n_threads) const = 0;
  virtual void ctc_greedy(const Sequences& logits, std::int64_t blank, std::int32_t* labels,
                          std::int64_t* counts) const = 0;
  virtual std::vector<std::vector<CtcHypothesis>> ctc_beam(const Sequences& logits, std::int64_t blank,
                                                           std::int64_t width, const CtcScore& score) const = 0;

 protected:
  ~LabellingEngine() = default;
};

/// Embeddings, softmax over many symbols, generation; no state of their own.
class LanguageEngine {
 public:
  virtual void embed(const Embedding& embedding, const std::int32_t* codes, std::int64_t count, void* rows) const = 0;
  virtual void embed_backward(const Embedding& embedding, const std::int32_t* codes, std::int64_t count,
                              const void* rows, void* gradient, int n_threads) const = 0;
  virtual double softmax_loss(const DenseLayer& layer, const void* x, std::int64_t rows, const std::int32_t* labels,
                              double* losses, const SoftmaxGradient* gradient, int n_threads) const = 0;
  virtual double sampled_softmax_loss(const DenseLayer& layer, const void* x, std::int64_t rows,
                                      const std::int32_t* labels, const SampledSymbols& samples, double* losses,
                                      const SoftmaxGradient* gradient, int n_threads) const = 0;
  virtual void log_probabilities(const OutputParts& output, const void* x, std::int64_t rows, std::int64_t inputs,
                                 void* out, int n_threads) const = 0;
  virtual std::vector<std::vector<std::int32_t>> generate(const RecurrentEngine& layers, const Embedding& embedding,
                                                          const OutputParts& output,
                                                          const std::vector<std::int32_t>& first, void* const* state,
                                                          std::int64_t length, const SamplingOptions& options,
                                                          const Cancel& cancel) const = 0;

 protected:
  ~LanguageEngine() = default;
};

class ModelEngine {
 public:
  virtual ~ModelEngine() = default;
  virtual const ModelConfig& config() const noexcept = 0;
  virtual const std::vector<std::string>& gates() const noexcept = 0;
  virtual const std::vector<std::string>& states() const noexcept = 0;
  virtual const std::vector<TensorInfo>& tensors() const noexcept = 0;
  virtual void* parameters() noexcept = 0;
  virtual void parameters_changed() = 0;
  virtual void read_int8(const TensorInfo& tensor, std::int8_t* integers, float* scales) const noexcept = 0;
  virtual void set_preprocessing(const std::vector<double>& input_mean, const std::vector<double>& input_scale,
                                 const std::vector<double>& output_mean, const std::vector<double>& output_scale) = 0;
  virtual void predict(const Sequences& x, void* out, int n_threads) const = 0;
  virtual std::unique_ptr<StreamEngine> make_stream() const = 0;
  virtual std::unique_ptr<TrainerEngine> make_trainer(const TrainerConfig& config) = 0;
};

class EdgeStateEngine {
 public:
  virtual ~EdgeStateEngine() = default;
  virtual void reset() noexcept = 0;
  virtual void step(const float* x, void* out) noexcept = 0;
  virtual std::unique_ptr<EdgeStateEngine> copy() const = 0;
  virtual std::vector<unsigned char> bytes() const = 0;
};

class EdgeEngine {
 public:
  virtual ~EdgeEngine() = default;
  virtual EdgeMemory memory() const noexcept = 0;
  virtual void run(const Sequences& x, void* out, int n_threads) const = 0;
  virtual void quantise(const float* x, void* activations) const noexcept = 0;
  virtual std::unique_ptr<EdgeStateEngine> make_state() const = 0;
};

class Engine {
 public:
  virtual const char* isa() const noexcept = 0;
  virtual bool openmp() const noexcept = 0;
  virtual const char* eigen_version() const noexcept = 0;
  virtual const std::vector<CellInfo>& cells() const = 0;
  /// The tensors of a model, without making it.
  virtual std::vector<TensorInfo> tensors(const ModelConfig& config) const = 0;
  virtual std::unique_ptr<RecurrentEngine> make_recurrent(const RecurrentConfig& config) const = 0;
  virtual std::unique_ptr<ConvEngine> make_conv(const ConvConfig& config) const = 0;
  virtual std::unique_ptr<ModelEngine> make_model(const ModelConfig& config) const = 0;
  /// tensors: one after another from offset 0 on.
  virtual std::unique_ptr<OptimiserEngine> make_optimiser(const TrainerConfig& config, Dtype dtype,
                                                          const std::vector<TensorInfo>& tensors) const = 0;
  virtual std::unique_ptr<TreeEngine> make_tree(const TreeConfig& config) const = 0;
  virtual const LabellingEngine& labelling(Dtype dtype) const = 0;
  virtual const LanguageEngine& language(Dtype dtype) const = 0;
  /// program: checked, and outlives what is made.
  virtual std::unique_ptr<EdgeEngine> make_edge(const EdgeProgram& program) const = 0;

 protected:
  ~Engine() = default;
};

/// The engine in use, loaded on first call (dispatch.cpp).
const Engine& current();
/// Names of the engines beside this library, and of those that can run here.
std::vector<std::string> engines_built();
std::vector<std::string> engines_usable();

}  // namespace lstmcore::engine

/// The one symbol that an engine library exports.
extern "C" LSTMCORE_API const lstmcore::engine::Engine* lstmcore_engine_v1();
