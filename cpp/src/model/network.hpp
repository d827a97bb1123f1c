// Preprocessing → recurrent layers → pooling → dense head: the network that a Model holds.
#pragma once

#include "base/pool.hpp"
#include "model/head.hpp"
#include "model/init.hpp"
#include "model/tensors.hpp"

LSTMCORE_BEGIN_NAMESPACE

template <class T>
class Network {
 public:
  using Scalar = T;
  using Packed = PackedWeights<T>;

  struct Workspace {
    StackWorkspace<T> stack;
    std::vector<T> pooled, d_pooled, head, scores, d_scores;
    std::vector<std::int32_t> arg_max;
  };

  explicit Network(const ModelConfig& config)
      : config_(config),
        stack_(config.recurrent),
        pooling_(config.pooling, stack_.shape().directions, stack_.shape().output),
        head_(config.outputs, stack_.shape().directions, stack_.shape().output),
        tensors_(network_tensors(config)) {
    parameters_.resize(static_cast<std::size_t>(total_count(tensors_)));
    initialise(tensors_, stack_.shape(), config.recurrent.seed, parameters_.data());
    const auto inputs = static_cast<std::size_t>(config.recurrent.input_size);
    const auto outputs = static_cast<std::size_t>(config.outputs);
    set_preprocessing(std::vector<double>(inputs, 0.0), std::vector<double>(inputs, 1.0),
                      std::vector<double>(outputs, 0.0), std::vector<double>(outputs, 1.0));
    parameters_changed();
  }

  const ModelConfig& config() const noexcept { return config_; }
  const std::vector<TensorInfo>& tensors() const noexcept { return tensors_; }
  std::int64_t parameter_count() const noexcept { return static_cast<std::int64_t>(parameters_.size()); }
  T* parameters() noexcept { return parameters_.data(); }
  const T* parameters() const noexcept { return parameters_.data(); }
  const std::vector<double>& output_mean() const noexcept { return output_mean_; }
  const std::vector<double>& output_scale() const noexcept { return output_scale_; }

  /// Predictions pack the weights again when next needed; streams keep those that they were made with.
  void parameters_changed() {
    const PackedGuard guard(*this);
    packed_.reset();
  }

  void set_preprocessing(const std::vector<double>& input_mean, const std::vector<double>& input_scale,
                         const std::vector<double>& output_mean, const std::vector<double>& output_scale) {
    input_mean_ = input_mean;
    input_scale_ = input_scale;
    output_mean_ = output_mean;
    output_scale_ = output_scale;
    const auto differs = [](const std::vector<double>& v, double from) {
      return std::any_of(v.begin(), v.end(), [from](double x) { return x != from; });
    };
    standardises_ = differs(input_mean_, 0.0) || differs(input_scale_, 1.0);
  }

  /// Linear outputs of the head [N, K], recorded for backward when training. False when cancelled.
  bool forward(const Sequences& x, Workspace& ws, T* scores, bool training, std::uint64_t dropout_seed, int n_threads,
               CancelToken* cancel) const {
    ForwardOptions<T> options = forward_options(x, n_threads);
    options.record = training;
    options.dropout_seed = dropout_seed;
    options.cancel = cancel;
    if (!stack_.forward(x, parameters_.data(), nullptr, options, ws.stack)) return false;
    ws.head.resize(static_cast<std::size_t>(head_.packed_size()));
    pack_head(ws.head.data());
    head_forward(ws, ws.head.data(), training, [&](std::int64_t n, const T* row) {
      std::copy_n(row, config_.outputs, scores + ws.stack.layout.original(n) * config_.outputs);
    });
    return true;
  }

  /// Gradient of the last forward with training == true. False when cancelled.
  bool backward(Workspace& ws, const T* d_scores, T* gradient, std::int64_t bptt_steps, int n_threads,
                CancelToken* cancel) const {
    const BatchLayout& layout = ws.stack.layout;
    const std::int64_t n = layout.sequences();
    const std::int64_t k = config_.outputs;
    ws.d_scores.resize(static_cast<std::size_t>(n * k));
    for (std::int64_t i = 0; i < n; ++i) std::copy_n(d_scores + layout.original(i) * k, k, ws.d_scores.data() + i * k);
    ws.d_pooled.resize(ws.pooled.size());
    const std::int64_t width = pooling_.width();
    const Rows<const T> pooled{ws.pooled.data(), width};
    const Rows<T> d_pooled{ws.d_pooled.data(), width};
    {
      const FlushDenormals guard;
      head_.backward(parameters_.data() + head_w(), n, ws.d_scores.data(), pooled, gradient + head_w(),
                     gradient + head_b(), d_pooled);
    }
    BackwardOptions<T> options;
    options.gradient = gradient;
    options.bptt_steps = bptt_steps;
    options.n_threads = stack_.threads_for(layout.rows(), n_threads);
    options.cancel = cancel;
    return stack_.backward(parameters_.data(), options, ws.stack, [&](Rows<T> d_out, Member member) {
      pooling_.backward(layout, {d_pooled.data, width}, ws.arg_max.data(), d_out, member);
    });
  }

  /// out: [N, K] after activation and output scaling.
  void predict(const Sequences& x, T* out, int n_threads) const {
    const auto workspace = pool_.borrow();
    const std::shared_ptr<const PackedModel> packed = packed_model();
    // Sequences of like length together, so that threads are evenly loaded, and few enough to bound memory.
    constexpr std::int64_t kRows = 1 << 15;
    std::vector<std::int64_t> order(static_cast<std::size_t>(x.count));
    std::iota(order.begin(), order.end(), std::int64_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::int64_t a, std::int64_t b) { return x.lengths[a] > x.lengths[b]; });
    std::vector<const void*> data;
    std::vector<std::int64_t> lengths;
    for (std::size_t first = 0; first < order.size();) {
      data.clear();
      lengths.clear();
      std::int64_t rows = 0;
      std::size_t last = first;
      while (last < order.size() && (last == first || rows + x.lengths[order[last]] <= kRows)) {
        data.push_back(x.data[order[last]]);
        lengths.push_back(x.lengths[order[last]]);
        rows += lengths.back();
        ++last;
      }
      const Sequences part{data.data(), lengths.data(), static_cast<std::int64_t>(data.size()), x.features};
      stack_.forward(part, parameters_.data(), &packed->weights, forward_options(part, n_threads), workspace->stack);
      head_forward(*workspace, packed->head.data(), false, [&](std::int64_t n, T* row) {
        // The part is sorted already, so that its layout keeps the order.
        finish(row, out + order[first + static_cast<std::size_t>(n)] * config_.outputs);
      });
      first = last;
    }
  }

  /// Weights in the order of the kernels; immutable, so that streams and predictions share them.
  struct PackedModel {
    Packed weights;
    std::vector<T> head;
  };

  std::shared_ptr<const PackedModel> packed_model() const {
    const PackedGuard guard(*this);
    if (packed_ == nullptr) {
      auto fresh = std::make_shared<PackedModel>();
      stack_.pack(parameters_.data(), fresh->weights);
      fresh->head.resize(static_cast<std::size_t>(head_.packed_size()));
      pack_head(fresh->head.data());
      packed_ = std::move(fresh);
    }
    return packed_;
  }

  /// Linear outputs → what predict() returns for one sequence.
  void finish(T* scores, T* out) const noexcept {
    if (config_.activation == Activation::softmax) {
      softmax(config_.outputs, scores);
      std::copy_n(scores, config_.outputs, out);
      return;
    }
    for (std::int64_t k = 0; k < config_.outputs; ++k) {
      const auto i = static_cast<std::size_t>(k);
      out[k] = static_cast<T>(static_cast<double>(scores[k]) / output_scale_[i] + output_mean_[i]);
    }
  }

  const Stack<T>& stack() const noexcept { return stack_; }
  const PoolingOverTime<T>& pooling() const noexcept { return pooling_; }
  const DenseHead<T>& head() const noexcept { return head_; }

  ForwardOptions<T> forward_options(const Sequences& x, int n_threads) const noexcept {
    ForwardOptions<T> options;
    if (standardises_) {
      options.input_mean = input_mean_.data();
      options.input_scale = input_scale_.data();
    }
    std::int64_t rows = 0;
    for (std::int64_t n = 0; n < x.count; ++n) rows += x.lengths[n];
    options.n_threads = stack_.threads_for(rows, n_threads > 0 ? n_threads : config_.recurrent.n_threads);
    return options;
  }

 private:
  /// Holds packed_lock_; a shared pointer that a fork may have cut in half is begun anew, its memory left alone.
  class PackedGuard {
   public:
    explicit PackedGuard(const Network& network) noexcept : network_(network) {
      if (network.packed_lock_.lock()) new (&network.packed_) std::shared_ptr<const PackedModel>();
    }
    ~PackedGuard() { network_.packed_lock_.unlock(); }
    PackedGuard(const PackedGuard&) = delete;
    PackedGuard& operator=(const PackedGuard&) = delete;

   private:
    const Network& network_;
  };

  std::int64_t head_w() const noexcept { return tensors_[tensors_.size() - 2].offset; }
  std::int64_t head_b() const noexcept { return tensors_.back().offset; }

  void pack_head(T* packed) const noexcept {
    head_.pack(parameters_.data() + head_w(), parameters_.data() + head_b(), packed);
  }

  /// visit(n, scores of sorted sequence n).
  template <class Visit>
  void head_forward(Workspace& ws, const T* head, bool record, Visit&& visit) const {
    const FlushDenormals guard;
    const std::int64_t n = ws.stack.layout.sequences();
    const std::int64_t width = pooling_.width();
    ws.pooled.resize(static_cast<std::size_t>(n * width));
    if (record && config_.pooling == Pooling::max) ws.arg_max.resize(ws.pooled.size());
    const Rows<T> out = ws.stack.out.back();
    pooling_.forward(ws.stack.layout, {out.data, out.stride}, {ws.pooled.data(), width},
                     record && config_.pooling == Pooling::max ? ws.arg_max.data() : nullptr);
    const std::int64_t stride = head_.stride();
    ws.scores.resize(static_cast<std::size_t>(n * stride));
    head_.forward(head, n, {ws.pooled.data(), width}, {ws.scores.data(), stride});
    for (std::int64_t i = 0; i < n; ++i) visit(i, ws.scores.data() + i * stride);
  }

  ModelConfig config_;
  Stack<T> stack_;
  PoolingOverTime<T> pooling_;
  DenseHead<T> head_;
  std::vector<TensorInfo> tensors_;
  std::vector<T> parameters_;
  std::vector<double> input_mean_, input_scale_, output_mean_, output_scale_;
  bool standardises_ = false;
  mutable Pool<Workspace> pool_;
  mutable ForkSafeLock packed_lock_;
  mutable std::shared_ptr<const PackedModel> packed_;
};

LSTMCORE_END_NAMESPACE
