// One sequence through the layers, a step a call. What a pass over a batch sets up each time (layout, room, sources,
// states moved to padded rows and back) is set up once here and stays; the step itself is Direction's, so that its bits
// are those of a whole pass. A network of a few dozen units spends more time on the former than on the latter: with 8
// units a step took 420 ns before this and 120 ns with it (Zen 3, AVX2, bench/native/step.cpp).
#pragma once

#include "sequence/stack.hpp"

LSTMCORE_BEGIN_NAMESPACE

/// After construction nothing is allocated, locked or thrown. The stack and the weights must outlive it.
template <class T>
class Stepping {
 public:
  /// options: initial states are not taken from there, see set_state(); input_mean and input_scale are.
  Stepping(const Stack<T>& stack, const PackedWeights<T>& packed, const ForwardOptions<T>& options)
      : stack_(stack), packed_(packed), options_(options) {
    const StackShape& shape = stack.shape();
    options_.n_threads = 1;
    x_.resize(static_cast<std::size_t>(shape.input));
    if (!shape.cell.blocks()) {
      const std::int64_t one = 1;
      const void* const data = x_.data();
      const Sequences step{&data, &one, 1, shape.input};
      options_.initial = nullptr;
      workspace_.layout.assign(&one, 1);
      stack.builder(options_).forward(step, packed, nullptr, false, workspace_);
      for (const DirectionPass<T>& pass : workspace_.passes) {
        std::fill_n(pass.out[0], padded<T>(shape.output), T{0});
        if (!pass.general && !shape.int8 && shape.cell.feedback == 0 && shape.cell.heads == 1) plan(pass);
      }
      return;
    }
    for (std::size_t s = 0; s < shape.cell.states + 1; ++s) {
      states_.emplace_back(static_cast<std::size_t>(shape.layers * shape.state_width(s)));
      pointers_.push_back(states_.back().data());
    }
    options_.initial = pointers_.data();
    options_.final_state = pointers_.data();
    for (int k = 0; k < 2; ++k) run(x_.data());  // two steps grow every buffer to its final size
    for (std::vector<T>& values : states_) std::fill(values.begin(), values.end(), T{0});
  }
  Stepping(const Stepping&) = delete;
  Stepping& operator=(const Stepping&) = delete;

  /// x: [I] → h of the last layer, padded to whole packs. Denormals are the caller's to flush.
  const T* run(const T* x) noexcept {
    const StackShape& shape = stack_.shape();
    if (shape.cell.blocks()) {
      const void* const data = x;
      const std::int64_t one = 1;
      stack_.forward({&data, &one, 1, shape.input}, nullptr, &packed_, options_, workspace_);
      return workspace_.out.back()[0];
    }
    if (!plans_.empty()) return run_plans(x);
    standardise(x);
    for (std::size_t layer = 0; layer < workspace_.passes.size(); ++layer) {
      DirectionPass<T>& pass = workspace_.passes[layer];
      if (shape.bf16) workspace_.round_input(static_cast<std::int64_t>(layer), Member{});
      Direction<T>::forward(pass, {Member{}, &barrier_});
      std::copy_n(pass.out[0], padded<T>(shape.output), const_cast<T*>(pass.h0[0]));
      if (!pass.keeps_states) continue;
      for (std::size_t s = 0; s < shape.cell.states; ++s) {
        std::copy_n(pass.record[s][0], padded<T>(shape.hidden), pass.state[s][0]);
      }
    }
    return workspace_.out.back()[0];
  }

  /// State `index` (0: h) of one layer, state_width(index) elements.
  void state(std::size_t index, std::int64_t layer, T* to) const noexcept {
    const auto [from, every] = place(index, layer);
    const std::int64_t width = stack_.shape().state_width(index);
    for (std::int64_t k = 0; k < width; ++k) to[k] = from[k * every];
  }
  void set_state(std::size_t index, std::int64_t layer, const T* from) noexcept {
    const auto [at, every] = place(index, layer);
    T* const to = const_cast<T*>(at);
    const std::int64_t width = stack_.shape().state_width(index);
    if (every > 1) std::fill_n(to, width * every, T{0});
    if (!stack_.shape().cell.blocks()) std::fill(to + width * every, to + padded<T>(width * every), T{0});
    for (std::int64_t k = 0; k < width; ++k) to[k * every] = from[k];
  }

 private:
  /// Where a state lies, and the distance of its elements: what units of a block share is kept with the first of them.
  std::pair<const T*, std::int64_t> place(std::size_t index, std::int64_t layer) const noexcept {
    const StackShape& shape = stack_.shape();
    const std::int64_t width = shape.state_width(index);
    if (shape.cell.blocks()) return {states_[index].data() + layer * width, 1};
    const DirectionPass<T>& pass = workspace_.passes[static_cast<std::size_t>(layer)];
    if (index == 0) return {plans_.empty() ? pass.h0[0] : pass.out[0], 1};
    return {pass.state[index - 1][0], shape.hidden / width};
  }

  /// Numbers that products read in bf16.
  struct Rounding {
    const T* from = nullptr;
    std::int64_t count = 0;
    T* to = nullptr;
  };

  const T* run_plans(const T* x) noexcept {
    if (options_.input_mean != nullptr || stack_.shape().bf16) {
      standardise(x);
    } else {
      plans_.front().products[0].a = x;
    }
    for (const Plan& layer : plans_) {
      for (int k = 0; k < layer.rounded; ++k) {
        const Rounding& r = layer.roundings[static_cast<std::size_t>(k)];
        bf16::round_row(r.from, r.count, r.to);
      }
      for (int k = 0; k < layer.count; ++k) layer.products[static_cast<std::size_t>(k)].run();
      layer.cell(layer.block);
    }
    return workspace_.out.back()[0];
  }

  /// A layer's step in a few calls. Tried: both products in one, whose sums stay in registers (5% slower at 8 units,
  /// 10% at 16 and 32), and with the second one the cell as well (no faster): the first product runs while the step
  /// before is still at its activations.
  struct Plan {
    std::array<Rounding, 2> roundings;
    int rounded = 0;
    std::array<SingleProduct<T>, 3> products;
    int count = 0;
    ForwardBlock<T> block{};
    void (*cell)(const ForwardBlock<T>&) noexcept = nullptr;
  };

  void plan(const DirectionPass<T>& pass) {
    const Member::Range blocks{0, blocks_of<T>(pass.hidden())};
    Plan layer;
    const auto add = [&layer](const SingleProduct<T>& product) {
      if (product.product != nullptr) layer.products[static_cast<std::size_t>(layer.count++)] = product;
    };
    for (int s = 0; s < pass.segment_count; ++s) {
      add(Direction<T>::single_input(pass, s, 0, blocks, pass.gates[0]));
    }
    std::array<Source<T>, 2> source;
    sources(pass, 0, source);
    source[0].h = source[0].fed = pass.out.read();  // h stays where it is: all products come before the first new one
    if (pass.shape->bf16) {
      const std::size_t index = plans_.size();
      const Rows<const T> x = index == 0 ? workspace_.x : workspace_.out[index - 1].read();
      const Rows<T>& rounded = workspace_.masked[index];
      layer.roundings[static_cast<std::size_t>(layer.rounded++)] = {x.data, rounded.stride, rounded.data};
    }
    if (pass.rounds_fed()) {
      source[0].fed = pass.fed.read();
      layer.roundings[static_cast<std::size_t>(layer.rounded++)] = {pass.out.data, padded<T>(pass.shape->output),
                                                                    pass.fed.data};
    }
    add(Direction<T>::single_recurrent(pass, 0, pass.gates, source[0], 0, blocks, layer.block));
    layer.cell = pass.kernels->forward;
    plans_.push_back(layer);
  }

  void standardise(const T* x) noexcept {
    if (options_.input_mean == nullptr) {
      std::copy(x, x + x_.size(), x_.begin());
      return;
    }
    for (std::size_t k = 0; k < x_.size(); ++k) {  // in double, as Stack::gather_input does
      x_[k] = static_cast<T>((static_cast<double>(x[k]) - options_.input_mean[k]) * options_.input_scale[k]);
    }
  }

  const Stack<T>& stack_;
  const PackedWeights<T>& packed_;
  ForwardOptions<T> options_;
  StackWorkspace<T> workspace_;
  std::vector<Plan> plans_;  ///< a layer each, or none: then each step goes through Direction
  SpinBarrier barrier_;
  std::vector<T> x_;
  // Of layers that are blocks, which keep their states in the caller's form.
  std::vector<std::vector<T>> states_;
  std::vector<void*> pointers_;
};

LSTMCORE_END_NAMESPACE
