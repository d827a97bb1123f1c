// One stream: a network fed step by step. After construction nothing is allocated, locked or thrown.
#pragma once

#include "model/network.hpp"
#include "sequence/stepping.hpp"

LSTMCORE_BEGIN_NAMESPACE

template <class T>
class Stream {
 public:
  using Net = Network<T>;

  explicit Stream(const Net& network)
      : network_(network),
        packed_(network.packed_model()),
        stepping_(network.stack(), packed_->weights, options(network)),
        carried_(static_cast<std::size_t>(network.pooling().carried())),
        pooled_(static_cast<std::size_t>(network.pooling().width())),
        scratch_(static_cast<std::size_t>(network.pooling().scratch())),
        scores_(static_cast<std::size_t>(network.head().stride())) {
    for_states([&](std::size_t s, std::int64_t layer, std::int64_t width) {
      initial_.emplace_back(static_cast<std::size_t>(width));
      if (!network.stack().shape().learns_initial_state) return;
      const SlotTensors& slot = network.stack().slots()[static_cast<std::size_t>(layer)];
      std::copy_n(network.parameters() + slot.initial[s], width, initial_.back().data());
    });
    // Two steps grow every buffer to its final size.
    const std::vector<T> x(static_cast<std::size_t>(network.config().recurrent.input_size));
    std::vector<T> out(static_cast<std::size_t>(network.config().outputs));
    step(x.data(), out.data());
    step(x.data(), out.data());
    reset();
  }

  void reset() noexcept {
    auto from = initial_.begin();
    for_states(
        [&](std::size_t s, std::int64_t layer, std::int64_t) { stepping_.set_state(s, layer, (from++)->data()); });
    network_.pooling().start(carried_.data());
    steps_ = 0;
  }

  void step(const T* x, T* out) noexcept {
    const FlushDenormals guard;
    const T* const h = stepping_.run(x);
    const T* const packed = packed_->top.data();
    const PoolingOverTime<T>& pooling = network_.pooling();
    pooling.add(packed + network_.pooling_at(), h, steps_, carried_.data(), scratch_.data());
    ++steps_;
    const T* pooled = h;
    if (pooling.kind() != Pooling::last && pooling.kind() != Pooling::none) {
      pooling.finish(carried_.data(), steps_, pooled_.data());
      pooled = pooled_.data();
    }
    network_.head().forward(packed, 1, {pooled, pooling.width()}, {scores_.data(), network_.head().stride()}, head_,
                            false, 0);
    network_.finish(scores_.data(), out);
  }

  /// States in order, then what the pooling carries, without padding, then the number of steps.
  std::vector<double> values() const {
    std::vector<double> all;
    std::vector<T> values;
    for_states([&](std::size_t s, std::int64_t layer, std::int64_t width) {
      values.resize(static_cast<std::size_t>(width));
      stepping_.state(s, layer, values.data());
      all.insert(all.end(), values.begin(), values.end());
    });
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
    std::vector<T> values;
    for_states([&](std::size_t s, std::int64_t layer, std::int64_t width) {
      values.resize(static_cast<std::size_t>(width));
      read(values.data(), values.size());
      stepping_.set_state(s, layer, values.data());
    });
    network_.pooling().for_carried([&](std::int64_t first, std::int64_t count) {
      read(carried_.data() + first, static_cast<std::size_t>(count));
    });
    steps_ = static_cast<std::int64_t>(*from);
  }

 private:
  static ForwardOptions<T> options(const Net& network) noexcept {
    const std::int64_t one = 1;
    return network.forward_options({nullptr, &one, 1, network.config().recurrent.input_size}, 1);
  }

  /// visit(state, layer, width), of each state in order and all layers.
  template <class Visit>
  void for_states(Visit&& visit) const {
    const StackShape& shape = network_.stack().shape();
    for (std::size_t s = 0; s < shape.cell.states + 1; ++s) {
      for (std::int64_t layer = 0; layer < shape.layers; ++layer) visit(s, layer, shape.state_width(s));
    }
  }

  const Net& network_;
  std::shared_ptr<const typename Net::PackedModel> packed_;
  Stepping<T> stepping_;
  std::vector<std::vector<T>> initial_;  ///< of every state and layer
  std::vector<T> carried_, pooled_, scratch_, scores_;
  typename Head<T>::Memory head_;
  std::int64_t steps_ = 0;
};

LSTMCORE_END_NAMESPACE
