// Pooling over time: the outputs of the last layer become one vector per sequence.
#pragma once

#include "model/attention.hpp"
#include "model/hopfield.hpp"
#include "model/tensors.hpp"

#include <Eigen/Core>

#include <string>
#include <type_traits>

LSTMCORE_BEGIN_NAMESPACE

/// Memory as an Eigen array, for element-wise work.
template <class T>
using Elements =
    Eigen::Map<std::conditional_t<std::is_const_v<T>, const Eigen::Array<std::remove_const_t<T>, Eigen::Dynamic, 1>,
                                  Eigen::Array<T, Eigen::Dynamic, 1>>>;

/// last, mean, max: nothing to learn. [rows, D·Hp] → [N, D·Hp], in sorted order.
template <class T>
class SimplePooling {
 public:
  /// reversed: the only direction ends on the first step.
  SimplePooling(Pooling kind, int directions, std::int64_t hidden, bool reversed) noexcept
      : kind_(kind), directions_(directions), hidden_(hidden), reversed_(reversed) {}

  std::int64_t width() const noexcept { return directions_ * padded<T>(hidden_); }

  /// arg_max: [N, D·Hp] step of each maximum, for backward; may be null.
  void forward(const BatchLayout& layout, Rows<const T> out, Rows<T> pooled, std::int32_t* arg_max) const noexcept {
    for (std::int64_t n = 0; n < layout.sequences(); ++n) {
      T* to = pooled[n];
      if (kind_ == Pooling::last) {
        const std::int64_t hp = padded<T>(hidden_);
        for (int d = 0; d < directions_; ++d) {
          const std::int64_t t = last_step(d, layout.length(n));
          std::copy_n(out[layout.row(t, n)] + d * hp, hp, to + d * hp);
        }
        continue;
      }
      std::copy_n(out[layout.row(0, n)], width(), to);
      std::int32_t* at = arg_max == nullptr ? nullptr : arg_max + n * width();
      if (at != nullptr) std::fill_n(at, width(), 0);
      for (std::int64_t t = 1; t < layout.length(n); ++t) add(out[layout.row(t, n)], to, at, t);
      finish(layout.length(n), to);
    }
  }

  /// Gradient of this member's share of sequences: every row is written.
  void backward(const BatchLayout& layout, Rows<const T> d_pooled, const std::int32_t* arg_max, Rows<T> d_out,
                Member member) const noexcept {
    const std::int64_t hp = padded<T>(hidden_);
    const Member::Range range = member.share(layout.sequences());
    for (std::int64_t n = range.begin; n < range.end; ++n) {
      const T* from = d_pooled[n];
      const T share = T{1} / static_cast<T>(layout.length(n));
      for (std::int64_t t = 0; t < layout.length(n); ++t) {
        T* to = d_out[layout.row(t, n)];
        if (kind_ == Pooling::last) {
          for (int d = 0; d < directions_; ++d) {
            const bool ends_here = t == last_step(d, layout.length(n));
            for (std::int64_t i = d * hp; i < (d + 1) * hp; ++i) to[i] = ends_here ? from[i] : T{0};
          }
        } else if (kind_ == Pooling::mean) {
          Elements<T>(to, width()) = Elements<const T>(from, width()) * share;
        } else {
          for (std::int64_t i = 0; i < width(); ++i) to[i] = arg_max[n * width() + i] == t ? from[i] : T{0};
        }
      }
    }
  }

  /// forward() over a window of time that begins at step `first`: goes on with what is pooled; finish() ends it.
  void forward_window(const BatchLayout& layout, std::int64_t first, Rows<const T> out, Rows<T> pooled,
                      std::int32_t* arg_max) const noexcept {
    for (std::int64_t n = 0; n < layout.sequences(); ++n) {
      std::int32_t* at = arg_max == nullptr ? nullptr : arg_max + n * width();
      for (std::int64_t t = kind_ == Pooling::last ? layout.length(n) - 1 : 0; t < layout.length(n); ++t) {
        const T* const h = out[layout.row(t, n)];
        if (first + t > 0 && kind_ != Pooling::last) {
          add(h, pooled[n], at, first + t);
          continue;
        }
        std::copy_n(h, width(), pooled[n]);
        if (at != nullptr) std::fill_n(at, width(), 0);
      }
    }
  }

  /// backward() over such a window. length(n): of the whole sequence.
  template <class Length>
  void backward_window(const BatchLayout& layout, std::int64_t first, Length&& length, Rows<const T> d_pooled,
                       const std::int32_t* arg_max, Rows<T> d_out, Member member) const noexcept {
    const Member::Range range = member.share(layout.sequences());
    for (std::int64_t n = range.begin; n < range.end; ++n) {
      const T* from = d_pooled[n];
      const T share = T{1} / static_cast<T>(length(n));
      for (std::int64_t t = 0; t < layout.length(n); ++t) {
        T* to = d_out[layout.row(t, n)];
        for (std::int64_t i = 0; i < width(); ++i) {
          if (kind_ == Pooling::mean) {
            to[i] = from[i] * share;
          } else {
            const bool here =
                kind_ == Pooling::last ? first + t == length(n) - 1 : arg_max[n * width() + i] == first + t;
            to[i] = here ? from[i] : T{0};
          }
        }
      }
    }
  }

  /// One more step of a stream or sequence into what has been pooled so far (not for `last`).
  void add(const T* h, T* pooled, std::int32_t* arg_max, std::int64_t t) const noexcept {
    if (kind_ == Pooling::mean) {
      Elements<T>(pooled, width()) += Elements<const T>(h, width());
    } else {
      for (std::int64_t i = 0; i < width(); ++i) {
        if (h[i] > pooled[i]) {
          pooled[i] = h[i];
          if (arg_max != nullptr) arg_max[i] = static_cast<std::int32_t>(t);
        }
      }
    }
  }

  /// What a sum over `length` steps becomes.
  void finish(std::int64_t length, T* pooled) const noexcept {
    if (kind_ != Pooling::mean) return;
    Elements<T>(pooled, width()) *= T{1} / static_cast<T>(length);
  }

 private:
  /// The step on which a direction ends.
  std::int64_t last_step(int direction, std::int64_t length) const noexcept {
    return reversed_ || direction == 1 ? 0 : length - 1;
  }

  Pooling kind_;
  int directions_;
  std::int64_t hidden_;
  bool reversed_;
};

/// Any pooling: [rows, D·Pp] → [N, groups·padded(group_width)], in sorted order.
template <class T>
class PoolingOverTime {
 public:
  struct Memory {
    std::vector<std::int32_t> arg_max;
    typename AttentionPooling<T>::Memory attention;
    typename HopfieldPooling<T>::Memory hopfield;
  };

  /// tensors: those of the whole network.
  PoolingOverTime(const ModelConfig& config, const StackShape& shape, const std::vector<TensorInfo>& tensors)
      : kind_(config.pooling),
        groups_(pooled_groups(config, shape)),
        group_width_(pooled_width(config, shape)),
        simple_(config.pooling, shape.directions, shape.output, shape.reversed),
        attention_(pooling_size(config, shape), shape.directions, shape.output,
                   {offset_of(tensors, "pool_W"), offset_of(tensors, "pool_b"), offset_of(tensors, "pool_v")}),
        hopfield_(pooling_size(config, shape), shape.directions, shape.output, config.pooling_patterns,
                  config.pooling_updates, config.pooling_beta,
                  {offset_of(tensors, "pool_Q"), offset_of(tensors, "pool_K"), offset_of(tensors, "pool_V")}) {}

  Pooling kind() const noexcept { return kind_; }
  std::int64_t groups() const noexcept { return groups_; }
  std::int64_t group_width() const noexcept { return group_width_; }
  /// Elements of a pooled vector.
  std::int64_t width() const noexcept { return groups_ * padded<T>(group_width_); }

  std::int64_t packed_size() const noexcept {
    if (kind_ == Pooling::attention) return attention_.packed_size();
    return kind_ == Pooling::hopfield ? hopfield_.packed_size() : 0;
  }

  void pack(const T* parameters, T* packed) const noexcept {
    if (kind_ == Pooling::attention) attention_.pack(parameters, packed);
    if (kind_ == Pooling::hopfield) hopfield_.pack(parameters, packed);
  }

  /// record: backward will follow.
  void forward(const BatchLayout& layout, Rows<const T> out, const T* packed, Rows<T> pooled, Memory& memory,
               bool record, int n_threads) const {
    if (kind_ == Pooling::attention) {
      attention_.forward(layout, out, packed, pooled, memory.attention, record, n_threads);
    } else if (kind_ == Pooling::hopfield) {
      hopfield_.forward(layout, out, packed, pooled, memory.hopfield, record, n_threads);
    } else {
      const bool steps = record && kind_ == Pooling::max;
      if (steps) memory.arg_max.resize(static_cast<std::size_t>(layout.sequences() * width()));
      simple_.forward(layout, out, pooled, steps ? memory.arg_max.data() : nullptr);
    }
  }

  /// Gradients of the pooling's tensors, and what backward() needs; d_pooled with zeros in the padding. Uses up what
  /// forward recorded.
  void prepare_backward(const T* parameters, const BatchLayout& layout, Rows<const T> out, Rows<const T> pooled,
                        Rows<const T> d_pooled, T* gradient, Memory& memory, int n_threads) const {
    if (kind_ == Pooling::attention) {
      attention_.prepare_backward(parameters, layout, out, pooled, d_pooled, gradient, memory.attention, n_threads);
    } else if (kind_ == Pooling::hopfield) {
      hopfield_.prepare_backward(parameters, layout, out, d_pooled, gradient, memory.hopfield, n_threads);
    }
  }

  /// Gradient of the outputs: this member's share of rows; every row is written.
  void backward(const BatchLayout& layout, Rows<const T> d_pooled, const Memory& memory, Rows<T> d_out,
                Member member) const noexcept {
    if (kind_ == Pooling::attention) {
      attention_.backward(layout, d_pooled, memory.attention, d_out, member);
    } else if (kind_ == Pooling::hopfield) {
      hopfield_.backward(layout, memory.hopfield, d_out, member);
    } else {
      simple_.backward(layout, d_pooled, memory.arg_max.data(), d_out, member);
    }
  }

  /// last, mean and max, which can be pooled window by window.
  const SimplePooling<T>& simple() const noexcept { return simple_; }

  // --- streaming: what is carried from step to step, as one vector --------------------------------------------------

  std::int64_t carried() const noexcept {
    if (kind_ == Pooling::attention) return attention_.carried();
    return kind_ == Pooling::hopfield ? hopfield_.carried() : simple_.width();
  }
  /// Elements of scratch that add() needs.
  std::int64_t scratch() const noexcept { return 2 * std::max(attention_.ap(), hopfield_.ap()); }

  void start(T* state) const noexcept {
    if (kind_ == Pooling::attention) {
      attention_.start(state);
    } else if (kind_ == Pooling::hopfield) {
      hopfield_.start(state);
    } else {
      std::fill_n(state, simple_.width(), T{0});
    }
  }

  /// h of step t into the state.
  void add(const T* packed, const T* h, std::int64_t t, T* state, T* scratch) const noexcept {
    if (kind_ == Pooling::attention) {
      attention_.add(packed, h, state, scratch);
    } else if (kind_ == Pooling::hopfield) {
      hopfield_.add(packed, h, state, scratch);
    } else if (t == 0 || kind_ == Pooling::last || kind_ == Pooling::none) {
      std::copy_n(h, simple_.width(), state);
    } else {
      simple_.add(h, state, nullptr, t);
    }
  }

  /// The pooled vector of `steps` steps.
  void finish(const T* state, std::int64_t steps, T* pooled) const noexcept {
    if (kind_ == Pooling::attention) {
      attention_.finish(state, pooled);
    } else if (kind_ == Pooling::hopfield) {
      hopfield_.finish(state, pooled);
    } else {
      std::copy_n(state, simple_.width(), pooled);
      simple_.finish(steps, pooled);
    }
  }

  /// visit(first, count) for the parts of the state that are no padding.
  template <class Visit>
  void for_carried(Visit&& visit) const {
    // Per group a vector, for attention and hopfield followed by two numbers.
    const std::int64_t extra = kind_ == Pooling::attention || kind_ == Pooling::hopfield ? 2 : 0;
    const std::int64_t pitch = padded<T>(group_width_) + extra;
    for (std::int64_t group = 0; group < groups_; ++group) {
      visit(group * pitch, group_width_);
      if (extra > 0) visit(group * pitch + padded<T>(group_width_), extra);
    }
  }

 private:
  Pooling kind_;
  std::int64_t groups_;
  std::int64_t group_width_;
  SimplePooling<T> simple_;
  AttentionPooling<T> attention_;  ///< of use for its kind only, like hopfield_
  HopfieldPooling<T> hopfield_;
};

LSTMCORE_END_NAMESPACE
