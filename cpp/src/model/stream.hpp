// One stream: a network fed step by step. After construction nothing is allocated, locked or thrown.
#pragma once

#include "model/network.hpp"

LSTMCORE_BEGIN_NAMESPACE

template <class T>
class Stream {
 public:
  using Net = Network<T>;

  explicit Stream(const Net& network)
      : network_(network),
        packed_(network.packed_model()),
        state_(network.stack().shape().cell.states + 1),
        pointers_(state_.size()),
        carried_(static_cast<std::size_t>(network.pooling().carried())),
        pooled_(static_cast<std::size_t>(network.pooling().width())),
        scratch_(static_cast<std::size_t>(network.pooling().scratch())),
        scores_(static_cast<std::size_t>(network.head().stride())),
        x_(static_cast<std::size_t>(network.config().recurrent.input_size)) {
    const StackShape& shape = network.stack().shape();
    for (std::size_t s = 0; s < state_.size(); ++s) {
      state_[s].resize(static_cast<std::size_t>(shape.layers * shape.state_width(s)));
      pointers_[s] = state_[s].data();
    }
    initial_ = state_;
    for (std::size_t s = 0; shape.learns_initial_state && s < state_.size(); ++s) {
      for (std::size_t slot = 0; slot < network.stack().slots().size(); ++slot) {
        const std::int64_t width = shape.state_width(s);
        std::copy_n(network.parameters() + network.stack().slots()[slot].initial[s], width,
                    initial_[s].data() + static_cast<std::int64_t>(slot) * width);
      }
    }
    // Two steps grow every buffer to its final size.
    std::vector<T> out(static_cast<std::size_t>(network.config().outputs));
    step(x_.data(), out.data());
    step(x_.data(), out.data());
    reset();
  }

  void reset() noexcept {
    for (std::size_t s = 0; s < state_.size(); ++s)
      std::copy(initial_[s].begin(), initial_[s].end(), state_[s].begin());
    network_.pooling().start(carried_.data());
    steps_ = 0;
  }

  void step(const T* x, T* out) noexcept {
    const void* data = x;
    const std::int64_t one = 1;
    const Sequences sequence{&data, &one, 1, network_.config().recurrent.input_size};
    ForwardOptions<T> options = network_.forward_options(sequence, 1);
    options.n_threads = 1;
    options.initial = pointers_.data();
    options.final_state = pointers_.data();
    network_.stack().forward(sequence, nullptr, &packed_->weights, options, workspace_);
    const FlushDenormals guard;
    const T* const packed = packed_->top.data();
    const PoolingOverTime<T>& pooling = network_.pooling();
    pooling.add(packed + network_.pooling_at(), workspace_.out.back()[0], steps_, carried_.data(), scratch_.data());
    ++steps_;
    pooling.finish(carried_.data(), steps_, pooled_.data());
    network_.head().forward(packed, 1, {pooled_.data(), pooling.width()}, {scores_.data(), network_.head().stride()},
                            head_, false, 0);
    network_.finish(scores_.data(), out);
  }

  /// States in order, then what the pooling carries, without padding, then the number of steps.
  std::vector<double> values() const {
    std::vector<double> all;
    for (const std::vector<T>& values : state_) all.insert(all.end(), values.begin(), values.end());
    network_.pooling().for_carried([&](std::int64_t first, std::int64_t count) {
      all.insert(all.end(), carried_.begin() + first, carried_.begin() + first + count);
    });
    all.push_back(static_cast<double>(steps_));
    return all;
  }

  void set_values(const std::vector<double>& all) {
    const double* from = all.data();
    const auto read = [&from](T* to, std::size_t count) {
      for (std::size_t i = 0; i < count; ++i) to[i] = static_cast<T>(*from++);
    };
    for (std::vector<T>& values : state_) read(values.data(), values.size());
    network_.pooling().for_carried([&](std::int64_t first, std::int64_t count) {
      read(carried_.data() + first, static_cast<std::size_t>(count));
    });
    steps_ = static_cast<std::int64_t>(*from);
  }

 private:
  const Net& network_;
  std::shared_ptr<const typename Net::PackedModel> packed_;
  StackWorkspace<T> workspace_;
  std::vector<std::vector<T>> state_, initial_;
  std::vector<void*> pointers_;
  std::vector<T> carried_, pooled_, scratch_, scores_, x_;
  typename Head<T>::Memory head_;
  std::int64_t steps_ = 0;
};

LSTMCORE_END_NAMESPACE
