// A step of some sequences whose states are the caller's, and what it needs from call to call.
#pragma once

#include "base/denormals.hpp"
#include "sequence/stepping.hpp"

LSTMCORE_BEGIN_NAMESPACE

template <class T>
class SingleSteps {
 public:
  using Packed = PackedWeights<T>;

  /// Where weights are: packed by the caller for good, or parameters that may have changed since the last call.
  struct Weights {
    const Packed* packed = nullptr;
    const T* parameters = nullptr;
    std::uint64_t number = 0;  ///< Settled::number() of the parameters
  };

  /// x: [count, I]; y: [count, D·P]; state: read at the start, written at the end.
  void run(const Stack<T>& stack, const Weights& weights, const void* x, std::int64_t count, void* const* state,
           void* y, int n_threads) {
    const Packed& packed = weights.packed != nullptr ? *weights.packed : own(stack, weights);
    const int threads = stack.threads_for(count, n_threads);
    if (count == 1 && threads == 1) {
      run_one(stack, packed, static_cast<const T*>(x), state, static_cast<T*>(y));
    } else {
      run_all(stack, packed, x, count, state, y, threads);
    }
  }

 private:
  const Packed& own(const Stack<T>& stack, const Weights& weights) {
    if (!packed_from_.same(weights.parameters, total_count(stack.tensors()), weights.number)) {
      stack.pack(packed_from_.copy(), own_);
      packed_from_.packed();
    }
    return own_;
  }

  /// As a stream: all but the copies of its states is there from the call before.
  void run_one(const Stack<T>& stack, const Packed& packed, const T* x, void* const* state, T* y) {
    if (stream_ == nullptr) stream_ = std::make_unique<Stepping<T>>(stack, packed, ForwardOptions<T>{});
    const StackShape& shape = stack.shape();
    const auto for_states = [&](auto&& visit) {
      for (std::size_t s = 0; s < shape.cell.states + 1; ++s) {
        T* at = static_cast<T*>(state[s]);
        for (std::int64_t layer = 0; layer < shape.layers; ++layer, at += shape.state_width(s)) visit(s, layer, at);
      }
    };
    const FlushDenormals guard;
    for_states([&](std::size_t s, std::int64_t layer, const T* from) { stream_->set_state(s, layer, from); });
    std::copy_n(stream_->run(x), shape.output, y);
    for_states([&](std::size_t s, std::int64_t layer, T* to) { stream_->state(s, layer, to); });
  }

  /// As a pass over sequences of one step.
  void run_all(const Stack<T>& stack, const Packed& packed, const void* x, std::int64_t count, void* const* state,
               void* y, int threads) {
    const StackShape& shape = stack.shape();
    lengths_.assign(static_cast<std::size_t>(count), 1);
    x_.resize(lengths_.size());
    y_.resize(lengths_.size());
    for (std::size_t n = 0; n < lengths_.size(); ++n) {
      x_[n] = static_cast<const T*>(x) + static_cast<std::int64_t>(n) * shape.input;
      y_[n] = static_cast<T*>(y) + static_cast<std::int64_t>(n) * shape.directions * shape.output;
    }
    ForwardOptions<T> options;
    options.initial = state;
    options.y = y_.data();
    options.final_state = state;
    options.n_threads = threads;
    stack.forward({x_.data(), lengths_.data(), count, shape.input}, nullptr, &packed, options, workspace_);
  }

  PackedFrom<T> packed_from_;
  Packed own_;
  std::unique_ptr<Stepping<T>> stream_;
  StackWorkspace<T> workspace_;
  std::vector<std::int64_t> lengths_;
  std::vector<const void*> x_;
  std::vector<void*> y_;
};

LSTMCORE_END_NAMESPACE
