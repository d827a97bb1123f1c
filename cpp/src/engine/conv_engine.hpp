// ConvEngine for one element type.
#pragma once

#include "base/pool.hpp"
#include "engine/tape.hpp"
#include "model/init.hpp"
#include "sequence/conv_stack.hpp"

#include <atomic>

LSTMCORE_BEGIN_NAMESPACE

template <class T>
class ConvLayers final : public engine::ConvEngine {
 public:
  explicit ConvLayers(const ConvConfig& config)
      : config_(config),
        n_threads_(config.n_threads),
        stack_(config),
        parameters_(static_cast<std::size_t>(total_count(stack_.tensors()))) {
    initialise(stack_.tensors(), stack_.shape().dense, config.seed, parameters_.data());
  }

  const ConvConfig& config() const noexcept override { return config_; }
  int n_threads() const noexcept override { return n_threads_.load(std::memory_order_relaxed); }
  void set_n_threads(int n_threads) noexcept override { n_threads_.store(n_threads, std::memory_order_relaxed); }
  const std::vector<std::string>& gates() const noexcept override { return stack_.shape().dense.cell.gate_names; }
  const std::vector<std::string>& states() const noexcept override { return stack_.shape().dense.cell.state_names; }
  const std::vector<TensorInfo>& tensors() const noexcept override { return stack_.tensors(); }
  void* parameters() noexcept override { return parameters_.data(); }
  std::unique_ptr<engine::TapeEngine> make_tape() const override {
    return std::make_unique<TapeOf<ConvWorkspace<T>>>();
  }

  void forward(const Sequences& x, const void* const* initial, void* const* y, void* const* final_state,
               engine::TapeEngine* tape) const override {
    std::int64_t images = 0;
    for (std::int64_t n = 0; n < x.count; ++n) images += x.lengths[n];
    const int threads = stack_.threads_for(images, n_threads());
    if (tape == nullptr) {
      const auto workspace = pool_.borrow();
      stack_.forward(x, parameters_.data(), initial, y, final_state, false, threads, *workspace);
      return;
    }
    auto& recording = static_cast<TapeOf<ConvWorkspace<T>>&>(*tape);
    recording.recorded.assign(x.lengths, x.lengths + x.count);
    stack_.forward(x, parameters_.data(), initial, y, final_state, true, threads, recording.workspace);
  }

  void backward(engine::TapeEngine& tape, const void* const* dy, const void* const* d_final, void* const* dx,
                void* const* d_initial, void* gradient) const override {
    ConvWorkspace<T>& ws = static_cast<TapeOf<ConvWorkspace<T>>&>(tape).workspace;
    if (!ws.recorded) {
      throw std::invalid_argument(
          "tape: its recording was used up by an earlier backward(); run forward() with the tape again");
    }
    stack_.backward(parameters_.data(), dy, d_final, dx, d_initial, static_cast<T*>(gradient),
                    stack_.threads_for(ws.layout.rows(), n_threads()), ws);
  }

  void step(const void* x, std::int64_t count, void* const* state, void* y) const override {
    const auto workspace = steps_.borrow();
    const auto size = static_cast<std::size_t>(count);
    workspace->lengths.assign(size, 1);
    workspace->x.resize(size);
    workspace->y.resize(size);
    const std::int64_t inner = config_.height * config_.width;
    for (std::size_t n = 0; n < size; ++n) {
      workspace->x[n] = static_cast<const T*>(x) + static_cast<std::int64_t>(n) * config_.channels * inner;
      workspace->y[n] = static_cast<T*>(y) + static_cast<std::int64_t>(n) * config_.hidden_channels * inner;
    }
    const Sequences sequences{workspace->x.data(), workspace->lengths.data(), count, config_.channels * inner};
    // The state is read at the start and written at the end.
    stack_.forward(sequences, parameters_.data(), state, workspace->y.data(), state, false,
                   stack_.threads_for(count, n_threads()), workspace->stack);
  }

 private:
  struct StepWorkspace {
    ConvWorkspace<T> stack;
    std::vector<std::int64_t> lengths;
    std::vector<const void*> x;
    std::vector<void*> y;
  };

  ConvConfig config_;
  std::atomic<int> n_threads_;
  ConvStack<T> stack_;
  std::vector<T> parameters_;
  mutable Pool<ConvWorkspace<T>> pool_;
  mutable Pool<StepWorkspace> steps_;
};

LSTMCORE_END_NAMESPACE
