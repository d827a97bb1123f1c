// A pass over long sequences in windows of time: BPTT with checkpoints (Chen et al. 2016).
//
// The forward pass keeps the states at the start of each window and nothing else; the backward pass runs each window
// forward again from there, recording it, and then backward. Memory is that of one window and of the states between
// windows, for one more forward pass: a third more work. With a reverse direction a window would need the future, so
// that only forward networks can be cut.
#pragma once

#include "sequence/stack.hpp"

#include <numeric>

LSTMCORE_BEGIN_NAMESPACE

template <class T>
class WindowedPass {
 public:
  using Workspace = StackWorkspace<T>;

  /// One window: sequences [0, active) in the order of falling length, from step `first` on.
  struct Window {
    std::int64_t first = 0;
    std::int64_t active = 0;
    std::vector<std::int64_t> lengths;  ///< inside the window
  };

  /// Cuts the batch into windows of `steps` steps. x must live until backward() is done.
  void assign(const StackShape& shape, const Sequences& x, std::int64_t steps) {
    x_ = x;
    data_.assign(x.data, x.data + x.count);
    lengths_.assign(x.lengths, x.lengths + x.count);
    order_.resize(lengths_.size());
    std::iota(order_.begin(), order_.end(), std::int64_t{0});
    std::stable_sort(order_.begin(), order_.end(), [this](std::int64_t a, std::int64_t b) {
      return lengths_[static_cast<std::size_t>(a)] > lengths_[static_cast<std::size_t>(b)];
    });
    windows_.clear();
    const std::int64_t longest = length(0);
    for (std::int64_t first = 0; first < longest; first += steps) {
      Window window;
      window.first = first;
      for (std::int64_t n = 0; n < x.count && length(n) > first; ++n) {
        window.lengths.push_back(std::min(steps, length(n) - first));
        ++window.active;
      }
      windows_.push_back(std::move(window));
    }
    start_.assign(windows_.size(), {});
    const std::size_t states = shape.cell.states + 1;
    for (std::size_t w = 1; w < windows_.size(); ++w) allocate(shape, windows_[w].active, states, start_[w]);
  }

  std::int64_t sequences() const noexcept { return static_cast<std::int64_t>(order_.size()); }
  /// Of sorted sequence n, and its place in the caller's batch.
  std::int64_t length(std::int64_t n) const noexcept { return lengths_[static_cast<std::size_t>(original(n))]; }
  std::int64_t original(std::int64_t n) const noexcept { return order_[static_cast<std::size_t>(n)]; }

  /// visit(window, layout, out): after each window, its outputs. False when cancelled.
  template <class Visit>
  bool forward(const Stack<T>& stack, const T* parameters, const ForwardOptions<T>& options, Workspace& ws,
               Visit&& visit) {
    Buffers last;
    for (std::size_t w = 0; w < windows_.size(); ++w) {
      allocate(stack.shape(), windows_[w].active, stack.shape().cell.states + 1, last);
      if (!run(stack, parameters, options, w, last.mutable_pointers(), ws)) return false;
      if (w + 1 < windows_.size())
        hand_over(stack.shape(), last, windows_[w].active, start_[w + 1], windows_[w + 1].active);
      visit(windows_[w], ws.layout, ws.out.back().read());
    }
    ws.recorded = false;
    return true;
  }

  /// fill(window, layout, d_out, member): gradient of a window's outputs. gradient: of all of the stack's parameters.
  /// cut: truncated BPTT, nothing flows from a window to the one before. False when cancelled.
  template <class Fill>
  bool backward(const Stack<T>& stack, const T* parameters, const ForwardOptions<T>& options,
                const BackwardOptions<T>& back, bool cut, Workspace& ws, Fill&& fill) {
    const std::int64_t count = total_count(stack.tensors());
    const std::size_t states = stack.shape().cell.states + 1;
    std::vector<T> part(static_cast<std::size_t>(count));
    std::fill_n(back.gradient, count, T{0});
    Buffers d_final;
    Buffers d_initial;
    for (std::size_t w = windows_.size(); w-- > 0;) {
      const Window& window = windows_[w];
      if (!run(stack, parameters, options, w, nullptr, ws)) return false;
      BackwardOptions<T> step = back;
      step.gradient = part.data();
      if (w + 1 < windows_.size() && !cut) {
        allocate(stack.shape(), window.active, states, d_final);
        hand_over(stack.shape(), d_initial, windows_[w + 1].active, d_final, window.active);
        step.d_final = d_final.pointers();
      }
      allocate(stack.shape(), window.active, states, d_initial);
      step.d_initial = d_initial.mutable_pointers();
      if (!stack.backward(parameters, step, ws,
                          [&](Rows<T> d_out, Member member) { fill(window, ws.layout, d_out, member); })) {
        return false;
      }
      for (std::int64_t k = 0; k < count; ++k) back.gradient[k] += part[static_cast<std::size_t>(k)];
    }
    return true;
  }

 private:
  /// One [L, N, width] array a state.
  struct Buffers {
    std::vector<std::vector<T>> values;
    std::vector<const void*> read;
    std::vector<void*> write;

    const void* const* pointers() {
      read.clear();
      for (const std::vector<T>& one : values) read.push_back(one.data());
      return read.data();
    }
    void* const* mutable_pointers() {
      write.clear();
      for (std::vector<T>& one : values) write.push_back(one.data());
      return write.data();
    }
  };

  static void allocate(const StackShape& shape, std::int64_t sequences, std::size_t states, Buffers& buffers) {
    buffers.values.resize(states);
    for (std::size_t s = 0; s < states; ++s) {
      buffers.values[s].assign(static_cast<std::size_t>(shape.layers * sequences * shape.state_width(s)), T{0});
    }
  }

  /// The first sequences of `from` (of `given` sequences) to `to` (of `wanted`); zeros for those that `from` lacks.
  static void hand_over(const StackShape& shape, const Buffers& from, std::int64_t given, Buffers& to,
                        std::int64_t wanted) {
    for (std::size_t s = 0; s < from.values.size(); ++s) {
      const std::int64_t width = shape.state_width(s);
      for (std::int64_t layer = 0; layer < shape.layers; ++layer) {
        std::copy_n(from.values[s].data() + layer * given * width, std::min(given, wanted) * width,
                    to.values[s].data() + layer * wanted * width);
      }
    }
  }

  /// One window forward, recorded, from the states at its start.
  bool run(const Stack<T>& stack, const T* parameters, const ForwardOptions<T>& options, std::size_t w,
           void* const* final_state, Workspace& ws) {
    const Window& window = windows_[w];
    std::vector<const void*> data(static_cast<std::size_t>(window.active));
    for (std::int64_t n = 0; n < window.active; ++n) {
      data[static_cast<std::size_t>(n)] =
          static_cast<const T*>(data_[static_cast<std::size_t>(original(n))]) + window.first * x_.features;
    }
    ForwardOptions<T> step = options;
    step.record = true;
    step.sequence_seed = options.dropout_seed;
    step.dropout_seed = mix(options.dropout_seed, 0x77696e646f770000U + w);
    step.initial = w == 0 ? nullptr : start_[w].pointers();
    step.final_state = final_state;
    return stack.forward({data.data(), window.lengths.data(), window.active, x_.features}, parameters, nullptr, step,
                         ws);
  }

  Sequences x_;
  std::vector<const void*> data_;
  std::vector<std::int64_t> lengths_, order_;
  std::vector<Window> windows_;
  std::vector<Buffers> start_;  ///< states at the start of each window but the first
};

LSTMCORE_END_NAMESPACE
