// Preprocessing → recurrent layers → pooling → head: the network that a Model holds.
#pragma once

#include "base/pool.hpp"
#include "model/head.hpp"
#include "model/init.hpp"
#include "model/pooling.hpp"
#include "model/tensors.hpp"
#include "sequence/windows.hpp"

LSTMCORE_BEGIN_NAMESPACE

template <class T>
class Network {
 public:
  using Scalar = T;
  using Packed = PackedWeights<T>;

  struct Workspace {
    StackWorkspace<T> stack;
    WindowedPass<T> windows;
    bool windowed = false;      ///< the last pass was cut into windows
    ForwardOptions<T> options;  ///< of that pass
    std::vector<T> pooled, d_pooled, packed, scores, d_scores;
    typename PoolingOverTime<T>::Memory pooling;
    typename Head<T>::Memory head;
  };

  explicit Network(const ModelConfig& config)
      : config_(config),
        stack_(config.recurrent, config.quantization == Quantization::dynamic_int8),
        tensors_(network_tensors(config)),
        pooling_(config, stack_.shape(), tensors_),
        head_(config, pooling_.groups(), pooling_.group_width(), tensors_) {
    parameters_.resize(static_cast<std::size_t>(total_count(tensors_)));
    initialise(tensors_, stack_.shape(), config.recurrent.seed, parameters_.data(), config.head_activation);
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
    if constexpr (std::is_same_v<T, float>) {
      if (config_.quantization == Quantization::dynamic_int8) round_weights();
    }
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
    scales_outputs_ = differs(output_mean_, 0.0) || differs(output_scale_, 1.0);
  }

  /// Rounded rows as what they are made of. integers: [rows, columns]; scales: [rows].
  void read_int8(const TensorInfo& tensor, std::int8_t* integers, float* scales) const noexcept {
    if constexpr (std::is_same_v<T, float>) {
      const std::int64_t columns = tensor.shape[1];
      for (std::int64_t row = 0; row < tensor.shape[0]; ++row) {
        const float* const from = parameters_.data() + tensor.offset + row * columns;
        scales[row] = int8::row_scale(from, columns);
        for (std::int64_t k = 0; k < columns; ++k)
          integers[row * columns + k] = int8::row_integer(from[k], scales[row]);
      }
    }
  }

  /// Linear outputs of the head [N, K], recorded for backward when training. checkpoint_steps: windows of so many steps
  /// are recorded one at a time, by backward (sequence/windows.hpp); 0: all at once. False when cancelled.
  bool forward(const Sequences& x, Workspace& ws, T* scores, bool training, std::uint64_t dropout_seed,
               std::int64_t checkpoint_steps, int n_threads, CancelToken* cancel) const {
    ForwardOptions<T> options = forward_options(x, n_threads);
    options.record = training;
    options.dropout_seed = dropout_seed;
    options.cancel = cancel;
    ws.packed.resize(static_cast<std::size_t>(packed_size()));
    pack_top(ws.packed.data());
    ws.windowed =
        training && checkpoint_steps > 0 && *std::max_element(x.lengths, x.lengths + x.count) > checkpoint_steps;
    if (ws.windowed) return forward_windows(x, ws, scores, checkpoint_steps, options);
    if (!stack_.forward(x, parameters_.data(), nullptr, options, ws.stack)) return false;
    top_forward(ws, ws.packed.data(), training, dropout_seed, options.n_threads, [&](std::int64_t n, const T* row) {
      std::copy_n(row, config_.outputs, scores + ws.stack.layout.original(n) * config_.outputs);
    });
    return true;
  }

  /// Gradient of the last forward with training == true. False when cancelled.
  bool backward(Workspace& ws, const T* d_scores, T* gradient, std::int64_t bptt_steps, int n_threads,
                CancelToken* cancel) const {
    const BatchLayout& layout = ws.stack.layout;
    const std::int64_t n = ws.windowed ? ws.windows.sequences() : layout.sequences();
    const std::int64_t k = config_.outputs;
    ws.d_scores.resize(static_cast<std::size_t>(n * k));
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t original = ws.windowed ? ws.windows.original(i) : layout.original(i);
      std::copy_n(d_scores + original * k, k, ws.d_scores.data() + i * k);
    }
    ws.d_pooled.resize(ws.pooled.size());
    const std::int64_t width = pooling_.width();
    const Rows<const T> pooled{ws.pooled.data(), width};
    const Rows<T> d_pooled{ws.d_pooled.data(), width};
    {
      const FlushDenormals guard;
      head_.backward(parameters_.data(), n, {ws.d_scores.data(), k}, pooled, ws.head, gradient, d_pooled);
    }
    BackwardOptions<T> options;
    options.gradient = gradient;
    options.bptt_steps = bptt_steps;
    options.cancel = cancel;
    if (ws.windowed) {
      options.n_threads = ws.options.n_threads;
      ws.options.cancel = cancel;
      return ws.windows.backward(stack_, parameters_.data(), ws.options, options, bptt_steps > 0, ws.stack,
                                 [&](const auto& window, const BatchLayout& inside, Rows<T> d_out, Member member) {
                                   pooling_.simple().backward_window(
                                       inside, window.first, [&](std::int64_t i) { return ws.windows.length(i); },
                                       d_pooled.read(), ws.pooling.arg_max.data(), d_out, member);
                                 });
    }
    options.n_threads = stack_.threads_for(layout.rows(), n_threads);
    pooling_.prepare_backward(parameters_.data(), layout, ws.stack.out.back().read(), pooled, d_pooled.read(), gradient,
                              ws.pooling, options.n_threads);
    return stack_.backward(parameters_.data(), options, ws.stack, [&](Rows<T> d_out, Member member) {
      pooling_.backward(layout, d_pooled.read(), ws.pooling, d_out, member);
    });
  }

  /// out: [N, K] after activation and output scaling; with pooling none [T_n, K] of one sequence after the other.
  void predict(const Sequences& x, T* out, int n_threads) const {
    const auto workspace = pool_.borrow();
    const std::shared_ptr<const PackedModel> packed = packed_model();
    // Sequences of like length together, so that threads are evenly loaded, and few enough to bound memory.
    constexpr std::int64_t kRows = 1 << 15;
    std::vector<std::int64_t> order(static_cast<std::size_t>(x.count));
    std::iota(order.begin(), order.end(), std::int64_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::int64_t a, std::int64_t b) { return x.lengths[a] > x.lengths[b]; });
    const bool per_step = config_.pooling == Pooling::none;
    std::vector<std::int64_t> begin(per_step ? order.size() : 0);  // rows of out before each sequence
    for (std::size_t n = 1; n < begin.size(); ++n) begin[n] = begin[n - 1] + x.lengths[n - 1];
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
      const ForwardOptions<T> options = forward_options(part, n_threads);
      stack_.forward(part, parameters_.data(), &packed->weights, options, workspace->stack);
      if (per_step) {
        steps_forward(*workspace, packed->top.data(), [&](std::int64_t n, std::int64_t t, T* row) {
          finish(row, out + (begin[static_cast<std::size_t>(order[first + static_cast<std::size_t>(n)])] + t) *
                                config_.outputs);
        });
        first = last;
        continue;
      }
      top_forward(*workspace, packed->top.data(), false, 0, options.n_threads, [&](std::int64_t n, T* row) {
        // The part is sorted already, so that its layout keeps the order.
        finish(row, out + order[first + static_cast<std::size_t>(n)] * config_.outputs);
      });
      first = last;
    }
  }

  /// Weights in the order of the kernels; immutable, so that streams and predictions share them.
  struct PackedModel {
    Packed weights;
    std::vector<T> top;  ///< of head and pooling
  };

  std::shared_ptr<const PackedModel> packed_model() const {
    const PackedGuard guard(*this);
    if (packed_ == nullptr) {
      auto fresh = std::make_shared<PackedModel>();
      stack_.pack(parameters_.data(), fresh->weights);
      fresh->top.resize(static_cast<std::size_t>(packed_size()));
      pack_top(fresh->top.data());
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
      out[k] = !scales_outputs_ ? scores[k]
                                : static_cast<T>(static_cast<double>(scores[k]) / output_scale_[i] + output_mean_[i]);
    }
  }

  const Stack<T>& stack() const noexcept { return stack_; }
  const PoolingOverTime<T>& pooling() const noexcept { return pooling_; }
  const Head<T>& head() const noexcept { return head_; }
  /// Where PackedModel::top has the pooling's part; the head's is at its beginning.
  std::int64_t pooling_at() const noexcept { return head_.packed_size(); }

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

  /// Weights in 8 bits are kept as the floats that they stand for.
  void round_weights() noexcept {
    for (const TensorInfo& tensor : stack_.tensors()) {
      if (!in_int8(config_, tensor.name)) continue;
      const std::int64_t columns = tensor.shape[1];
      for (std::int64_t row = 0; row < tensor.shape[0]; ++row) {
        int8::round_row(parameters_.data() + tensor.offset + row * columns, columns);
      }
    }
  }

  std::int64_t packed_size() const noexcept { return head_.packed_size() + pooling_.packed_size(); }

  void pack_top(T* packed) const noexcept {
    head_.pack(parameters_.data(), packed);
    pooling_.pack(parameters_.data(), packed + pooling_at());
  }

  /// forward() in windows: pools as it goes and keeps no more than the states between them.
  bool forward_windows(const Sequences& x, Workspace& ws, T* scores, std::int64_t steps,
                       const ForwardOptions<T>& options) const {
    ws.options = options;
    ws.windows.assign(stack_.shape(), x, steps);
    const SimplePooling<T>& pooling = pooling_.simple();
    const std::int64_t width = pooling.width();
    const std::int64_t n = ws.windows.sequences();
    ws.pooled.resize(static_cast<std::size_t>(n * width));
    if (config_.pooling == Pooling::max) ws.pooling.arg_max.resize(ws.pooled.size());
    const Rows<T> pooled{ws.pooled.data(), width};
    std::int32_t* const arg_max = config_.pooling == Pooling::max ? ws.pooling.arg_max.data() : nullptr;
    const bool done = ws.windows.forward(stack_, parameters_.data(), options, ws.stack,
                                         [&](const auto& window, const BatchLayout& layout, Rows<const T> out) {
                                           const FlushDenormals guard;
                                           pooling.forward_window(layout, window.first, out, pooled, arg_max);
                                         });
    if (!done) return false;
    for (std::int64_t i = 0; i < n; ++i) pooling.finish(ws.windows.length(i), pooled[i]);
    head_forward(ws, ws.packed.data(), n, true, options.dropout_seed, [&](std::int64_t i, const T* row) {
      std::copy_n(row, config_.outputs, scores + ws.windows.original(i) * config_.outputs);
    });
    return true;
  }

  /// The head at every step. visit(n, t, scores of step t of sorted sequence n).
  template <class Visit>
  void steps_forward(Workspace& ws, const T* packed, Visit&& visit) const {
    const FlushDenormals guard;
    const BatchLayout& layout = ws.stack.layout;
    const std::int64_t stride = head_.stride();
    ws.scores.resize(static_cast<std::size_t>(layout.rows() * stride));
    head_.forward(packed, layout.rows(), ws.stack.out.back().read(), {ws.scores.data(), stride}, ws.head, false, 0);
    for (std::int64_t n = 0; n < layout.sequences(); ++n) {
      for (std::int64_t t = 0; t < layout.length(n); ++t) visit(n, t, ws.scores.data() + layout.row(t, n) * stride);
    }
  }

  /// Pooling and head. visit(n, scores of sorted sequence n).
  template <class Visit>
  void top_forward(Workspace& ws, const T* packed, bool training, std::uint64_t dropout_seed, int n_threads,
                   Visit&& visit) const {
    const FlushDenormals guard;
    const std::int64_t n = ws.stack.layout.sequences();
    const std::int64_t width = pooling_.width();
    ws.pooled.resize(static_cast<std::size_t>(n * width));
    pooling_.forward(ws.stack.layout, ws.stack.out.back().read(), packed + pooling_at(), {ws.pooled.data(), width},
                     ws.pooling, training, n_threads);
    head_forward(ws, packed, n, training, dropout_seed, visit);
  }

  /// The head over pooled vectors.
  template <class Visit>
  void head_forward(Workspace& ws, const T* packed, std::int64_t n, bool training, std::uint64_t dropout_seed,
                    Visit&& visit) const {
    const FlushDenormals guard;
    const std::int64_t width = pooling_.width();
    const std::int64_t stride = head_.stride();
    ws.scores.resize(static_cast<std::size_t>(n * stride));
    head_.forward(packed, n, {ws.pooled.data(), width}, {ws.scores.data(), stride}, ws.head, training, dropout_seed);
    for (std::int64_t i = 0; i < n; ++i) visit(i, ws.scores.data() + i * stride);
  }

  ModelConfig config_;
  Stack<T> stack_;
  std::vector<TensorInfo> tensors_;
  PoolingOverTime<T> pooling_;
  Head<T> head_;
  std::vector<T> parameters_;
  std::vector<double> input_mean_, input_scale_, output_mean_, output_scale_;
  bool standardises_ = false, scales_outputs_ = false;
  mutable Pool<Workspace> pool_;
  mutable ForkSafeLock packed_lock_;
  mutable std::shared_ptr<const PackedModel> packed_;
};

LSTMCORE_END_NAMESPACE
