// RecurrentEngine for one cell and one element type.
#pragma once

#include "base/pool.hpp"
#include "cells/registry.hpp"
#include "engine/tape.hpp"
#include "model/init.hpp"
#include "sequence/attention_decoder.hpp"
#include "sequence/single_steps.hpp"

#include <atomic>

LSTMCORE_BEGIN_NAMESPACE

/// Steps of `count` sequences; borrows the layers and keeps their weights as they were when it was made.
template <class T>
class RecurrentSteps final : public engine::StepsEngine {
 public:
  RecurrentSteps(const Stack<T>& stack, const T* parameters, std::int64_t count, int n_threads)
      : stack_(stack), count_(count), n_threads_(n_threads) {
    stack_.pack(parameters, packed_);
  }

  void step(const void* x, void* const* state, void* y) override {
    steps_.run(stack_, {&packed_}, x, count_, state, y, n_threads_);
  }

 private:
  const Stack<T>& stack_;
  typename Stack<T>::Packed packed_;
  SingleSteps<T> steps_;
  std::int64_t count_;
  int n_threads_;
};

template <class T>
class RecurrentLayers final : public engine::RecurrentEngine {
 public:
  using Tape = TapeOf<StackWorkspace<T>>;

  explicit RecurrentLayers(const RecurrentConfig& config)
      : config_(config), stack_(config), parameters_(static_cast<std::size_t>(total_count(stack_.tensors()))) {
    initialise(stack_.tensors(), stack_.shape(), config.seed, parameters_.data());
  }

  const RecurrentConfig& config() const noexcept override { return config_; }
  void set_n_threads(int n_threads) noexcept override { config_.n_threads = n_threads; }
  const std::vector<std::string>& gates() const noexcept override { return stack_.shape().cell.gate_names; }
  const std::vector<std::string>& states() const noexcept override { return stack_.shape().cell.state_names; }
  std::int64_t state_width(std::size_t index) const noexcept override { return stack_.shape().state_width(index); }
  std::int64_t output_width() const noexcept override { return stack_.shape().directions * stack_.shape().output; }
  std::int64_t layers() const noexcept override { return stack_.shape().layers; }
  const std::vector<TensorInfo>& tensors() const noexcept override { return stack_.tensors(); }
  void* parameters() noexcept override { return parameters_.data(); }
  void set_settled(bool settled) noexcept override { settled ? settled_.settle() : settled_.open(); }
  std::unique_ptr<engine::TapeEngine> make_tape() const override { return std::make_unique<Tape>(); }

  void forward(const Sequences& x, const void* const* initial, void* const* y, void* const* final_state,
               engine::TapeEngine* tape) const override {
    ForwardOptions<T> options;
    options.initial = initial;
    options.y = y;
    options.final_state = final_state;
    options.weights = settled_.number();
    options.n_threads = threads(x);
    if (tape == nullptr) {
      const auto workspace = pool_.borrow();
      stack_.forward(x, parameters_.data(), nullptr, options, *workspace);
      return;
    }
    auto& recording = static_cast<Tape&>(*tape);
    recording.recorded.assign(x.lengths, x.lengths + x.count);
    options.record = true;
    options.dropout_seed = mix(config_.seed, dropout_draws_.fetch_add(1, std::memory_order_relaxed));
    stack_.forward(x, parameters_.data(), nullptr, options, recording.workspace);
  }

  void backward(engine::TapeEngine& tape, const void* const* dy, const void* const* d_final, void* const* dx,
                void* const* d_initial, void* gradient) const override {
    auto& recording = static_cast<Tape&>(tape);
    StackWorkspace<T>& ws = recording.workspace;
    if (!ws.recorded) {
      throw std::invalid_argument(
          "tape: its recording was used up by an earlier backward(); run forward() with the tape again");
    }
    BackwardOptions<T> options;
    options.d_final = d_final;
    options.dx = dx;
    options.d_initial = d_initial;
    options.gradient = static_cast<T*>(gradient);
    options.n_threads = stack_.threads_for(ws.layout.rows(), config_.n_threads);
    stack_.backward(parameters_.data(), options, ws,
                    [&](Rows<T> d_out, Member member) { gather_output_gradient(dy, d_out, ws.layout, member); });
  }

  void step(const void* x, std::int64_t count, void* const* state, void* y) const override {
    steps_.borrow()->run(stack_, {nullptr, parameters_.data(), settled_.number()}, x, count, state, y,
                         config_.n_threads);
  }

  std::unique_ptr<engine::StepsEngine> make_steps(std::int64_t count) const override {
    return std::make_unique<RecurrentSteps<T>>(stack_, parameters_.data(), count, config_.n_threads);
  }

  std::unique_ptr<engine::TapeEngine> make_decoder_tape() const override {
    return std::make_unique<TapeOf<DecoderWorkspace<T>>>();
  }

  void decode(const DecoderConfig& config, const DecoderWeights& weights, const DecoderInput& input,
              const DecoderOutput& output, engine::TapeEngine* tape) const override {
    const AttentionDecoder<T> decoder(stack_, parameters_.data());
    ForwardOptions<T> options;
    options.weights = settled_.number();
    options.n_threads = threads({nullptr, input.lengths, input.count, 0});
    if (tape == nullptr) {
      const auto workspace = decoders_.borrow();
      decoder.forward(config, weights, input, output, options, *workspace);
      return;
    }
    auto& recording = static_cast<TapeOf<DecoderWorkspace<T>>&>(*tape);
    recording.recorded.assign(input.lengths, input.lengths + input.count);
    options.record = true;
    options.dropout_seed = mix(config_.seed, dropout_draws_.fetch_add(1, std::memory_order_relaxed));
    decoder.forward(config, weights, input, output, options, recording.workspace);
  }

  void decode_backward(engine::TapeEngine& tape, const DecoderWeights& weights, const void* d_outputs,
                       const DecoderGradients& gradients) const override {
    DecoderWorkspace<T>& ws = static_cast<TapeOf<DecoderWorkspace<T>>&>(tape).workspace;
    if (!ws.run.recorded) {
      throw std::invalid_argument(
          "tape: its recording was used up by an earlier decode_backward(); run decode() with the tape again");
    }
    BackwardOptions<T> options;
    options.n_threads = stack_.threads_for(ws.run.layout.rows(), config_.n_threads);
    AttentionDecoder<T>(stack_, parameters_.data())
        .backward(weights, static_cast<const T*>(d_outputs), gradients, options, ws);
  }

 private:
  int threads(const Sequences& x) const noexcept {
    std::int64_t rows = 0;
    for (std::int64_t n = 0; n < x.count; ++n) rows += x.lengths[n];
    return stack_.threads_for(rows, config_.n_threads);
  }

  void gather_output_gradient(const void* const* dy, Rows<T> d_out, const BatchLayout& layout,
                              Member member) const noexcept {
    const StackShape& shape = stack_.shape();
    const Member::Range range = member.share(layout.sequences());
    const std::int64_t distance = padded<T>(shape.output);
    for (std::int64_t n = range.begin; n < range.end; ++n) {
      const T* from = dy == nullptr ? nullptr : static_cast<const T*>(dy[layout.original(n)]);
      for (std::int64_t t = 0; t < layout.length(n); ++t) {
        T* to = d_out[layout.row(t, n)];
        std::fill_n(to, d_out.stride, T{0});
        if (from == nullptr) continue;
        for (int direction = 0; direction < shape.directions; ++direction, from += shape.output) {
          std::copy_n(from, shape.output, to + direction * distance);
        }
      }
    }
  }

  RecurrentConfig config_;
  Stack<T> stack_;
  std::vector<T> parameters_;
  Settled settled_;
  mutable Pool<StackWorkspace<T>> pool_;
  mutable Pool<SingleSteps<T>> steps_;
  mutable Pool<DecoderWorkspace<T>> decoders_;
  mutable std::atomic<std::uint64_t> dropout_draws_{0};
};

LSTMCORE_END_NAMESPACE
