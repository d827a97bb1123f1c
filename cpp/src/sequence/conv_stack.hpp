// A stack of convolutional layers over a ragged batch: everything of a pass in one parallel region.
#pragma once

#include "base/packed_from.hpp"
#include "kernels/planes.hpp"
#include "sequence/conv_steps.hpp"

LSTMCORE_BEGIN_NAMESPACE

/// Reused from batch to batch.
template <class T>
struct ConvWorkspace {
  Arena arena;
  Arena packed;
  BatchLayout layout;
  Images<T> x;
  std::vector<ConvPass<T>> passes;
  std::vector<ConvWeights<T>> weights;
  PackedFrom<T> packed_from;  ///< the parameters that `weights` were packed from
  bool recorded = false;
};

template <class T>
class ConvStack {
 public:
  using Workspace = ConvWorkspace<T>;

  explicit ConvStack(const ConvConfig& config)
      : shape_(config), kernels_(kernels_of<T>(dense_config(config))), tensors_(conv_tensors(shape_, &at_)) {
    for (std::int64_t layer = 0; layer < shape_.dense.layers; ++layer) layers_.emplace_back(shape_, layer);
  }
  ConvStack(const ConvStack&) = delete;  // layers point to the shape
  ConvStack& operator=(const ConvStack&) = delete;

  const ConvShape& shape() const noexcept { return shape_; }
  const std::vector<TensorInfo>& tensors() const noexcept { return tensors_; }

  /// Threads worth waking for this many images.
  int threads_for(std::int64_t images, int requested) const noexcept {
    constexpr double kFlopsPerThread = 1.5e6;
    const StackShape& dense = shape_.dense;
    const double flops = 2.0 * static_cast<double>(images) * static_cast<double>(shape_.image.inner()) *
                         static_cast<double>(shape_.taps.count()) *
                         static_cast<double>(dense.gate_rows() * dense.layers) *
                         static_cast<double>(dense.layer_input(0) + dense.hidden);
    const int useful = static_cast<int>(std::min(1024.0, flops / kFlopsPerThread));
    return std::clamp(useful, 1, std::max(1, usable_threads(requested)));
  }

  void forward(const Sequences& x, const T* parameters, const void* const* initial, void* const* y,
               void* const* final_state, bool recording, int n_threads, Workspace& ws) const {
    ws.recorded = false;
    ws.arena.reset();
    ws.layout.assign(x.lengths, x.count);
    const bool pack = !same_weights(parameters, ws);
    prepare(recording, ws);
    std::int64_t scratch_size = 0;
    for (const ConvLayer<T>& layer : layers_) {
      scratch_size = std::max(scratch_size, ConvSteps<T>::forward_scratch(layer));
    }
    T* const scratch = take(ws.arena, scratch_size * n_threads);
    SpinBarrier team;
    parallel(n_threads, [&](Member member) {
      for (std::size_t l = 0; pack && l < layers_.size(); ++l) {
        layers_[l].pack(at_[l], ws.packed_from.copy(), ws.weights[l], member);
      }
      for_images(ws.layout, member, [&](std::int64_t t, std::int64_t n, std::int64_t row) {
        const T* const from = static_cast<const T*>(x.data[ws.layout.original(n)]);
        read_planes(from + t * shape_.dense.input * shape_.image.inner(), shape_.dense.input, ws.x, row);
        for (const ConvPass<T>& pass : ws.passes) {
          pass.out.clear_border(row);
          if (!recording) continue;
          pass.gates.clear_border(row);
          if (pass.recurrent.data != nullptr) pass.recurrent.clear_border(row);
        }
      });
      for_states(ws, member, [&](std::int64_t layer, std::size_t s, std::int64_t n, const Images<T>& images) {
        read_planes(state_of(initial, s, layer, n, ws.layout), shape_.dense.hidden, images, n);
      });
      team.wait(member.size);
      T* const own = scratch + member.id * scratch_size;
      for (std::size_t l = 0; l < layers_.size(); ++l) {
        steps(l, ws, team, member).forward(recording, own);
      }
      if (y != nullptr) {
        for_images(ws.layout, member, [&](std::int64_t t, std::int64_t n, std::int64_t row) {
          T* const to = static_cast<T*>(y[ws.layout.original(n)]);
          write_planes(ws.passes.back().out, row, shape_.dense.hidden, to + t * plane_size());
        });
      }
      if (final_state == nullptr) return;
      for_states(ws, member, [&](std::int64_t layer, std::size_t s, std::int64_t n, const Images<T>&) {
        const ConvPass<T>& pass = ws.passes[static_cast<std::size_t>(layer)];
        const std::int64_t last = ws.layout.row(ws.layout.length(n) - 1, n);
        T* const to = const_cast<T*>(state_of(final_state, s, layer, n, ws.layout));
        if (s == 0) {
          write_planes(pass.out, last, shape_.dense.hidden, to);
        } else if (recording) {
          write_planes(pass.record[s - 1], last, shape_.dense.hidden, to);
        } else {
          write_planes(pass.state[s - 1], n, shape_.dense.hidden, to);
        }
      });
    });
    if (pack) ws.packed_from.packed();
    ws.recorded = recording;
  }

  /// Uses the recording up.
  void backward(const T* parameters, const void* const* dy, const void* const* d_final, void* const* dx,
                void* const* d_initial, T* gradient, int n_threads, Workspace& ws) const {
    ws.recorded = false;
    prepare_backward(dx != nullptr, ws);
    std::int64_t scratch_size = 0;
    for (const ConvLayer<T>& layer : layers_) {
      scratch_size = std::max(scratch_size, ConvSteps<T>::backward_scratch(layer));
    }
    T* const scratch = take(ws.arena, scratch_size * n_threads);
    // Elements of taps that meet no pixel keep this.
    std::fill_n(gradient, total_count(tensors_), T{0});
    SpinBarrier team;
    parallel(n_threads, [&](Member member) {
      for (std::size_t l = 0; l < layers_.size(); ++l) {
        const ConvPass<T>& pass = ws.passes[l];
        layers_[l].pack_back(true, at_[l], parameters, pass.back_h, member);
        if (pass.d_input.data != nullptr) layers_[l].pack_back(false, at_[l], parameters, pass.back_x, member);
        if (pass.d_maps != nullptr) {
          const Member::Range range = member.share(maps_size());
          std::fill(pass.d_maps + range.begin, pass.d_maps + range.end, T{0});
        }
      }
      for_images(ws.layout, member, [&](std::int64_t t, std::int64_t n, std::int64_t row) {
        const T* const from = dy == nullptr ? nullptr : static_cast<const T*>(dy[ws.layout.original(n)]);
        read_planes(from == nullptr ? nullptr : from + t * plane_size(), shape_.dense.hidden, ws.passes.back().d_out,
                    row);
      });
      for_states(ws, member, [&](std::int64_t layer, std::size_t s, std::int64_t n, const Images<T>&) {
        const ConvPass<T>& pass = ws.passes[static_cast<std::size_t>(layer)];
        read_planes(state_of(d_final, s, layer, n, ws.layout), shape_.dense.hidden,
                    s == 0 ? pass.dh : pass.d_state[s - 1], n);
      });
      team.wait(member.size);
      for (std::size_t l = layers_.size(); l-- > 0;) {
        steps(l, ws, team, member).backward(scratch + member.id * scratch_size);
        finish(l, ws, gradient, member);
      }
      if (dx != nullptr) {
        for_images(ws.layout, member, [&](std::int64_t t, std::int64_t n, std::int64_t row) {
          T* const to = static_cast<T*>(dx[ws.layout.original(n)]);
          write_planes(ws.passes.front().d_input, row, shape_.dense.input,
                       to + t * shape_.dense.input * shape_.image.inner());
        });
      }
      if (d_initial == nullptr) return;
      for_states(ws, member, [&](std::int64_t layer, std::size_t s, std::int64_t n, const Images<T>&) {
        const ConvPass<T>& pass = ws.passes[static_cast<std::size_t>(layer)];
        write_planes(s == 0 ? pass.dh : pass.d_state[s - 1], n, shape_.dense.hidden,
                     const_cast<T*>(state_of(d_initial, s, layer, n, ws.layout)));
      });
    });
  }

 private:
  /// Room with slack behind it: kernels read whole packs, and tiles of outer products, past the last pixel.
  static T* take(Arena& arena, std::int64_t count) { return arena.take<T>(count + 4 * kLanes<T>); }

  std::int64_t hp() const noexcept { return padded<T>(shape_.dense.hidden); }
  std::int64_t plane_size() const noexcept { return shape_.dense.hidden * shape_.image.inner(); }
  std::int64_t maps_size() const noexcept {
    return static_cast<std::int64_t>(shape_.dense.cell.vectors) * hp() * shape_.image.inner();
  }

  ConvSteps<T> steps(std::size_t l, const Workspace& ws, SpinBarrier& team, Member member) const noexcept {
    return {layers_[l], shape_, kernels_, ws.layout, ws.passes[l], team, member};
  }

  Images<T> images(Arena& arena, std::int64_t count, std::int64_t channels, bool bordered) const {
    const std::int64_t pixels = bordered ? shape_.image.pixels() : shape_.image.inner();
    return {take(arena, count * pixels * channels), channels, &shape_.image, bordered};
  }

  /// Whether the workspace's packed weights were made from these parameters; if not, they are to be packed.
  bool same_weights(const T* parameters, Workspace& ws) const {
    if (ws.packed_from.same(parameters, total_count(tensors_), 0)) return true;
    if (!ws.weights.empty()) return false;
    std::vector<ConvWeights<T>> weights;
    ws.packed.reset();
    for (const ConvLayer<T>& layer : layers_) {
      ConvWeights<T> own;
      for (int f = 0; f < layer.forwards; ++f) {
        const auto i = static_cast<std::size_t>(f);
        own.forward[i] = take(ws.packed, layer.forward[i].weights_size());
        own.bias[i] = take(ws.packed, shape_.dense.gates * hp());
      }
      if (shape_.dense.cell.vectors > 0) own.maps = take(ws.packed, maps_size());
      weights.push_back(own);
    }
    ws.weights = std::move(weights);
    return false;
  }

  void prepare(bool recording, Workspace& ws) const {
    const std::int64_t rows = ws.layout.rows();
    const std::int64_t sequences = ws.layout.sequences();
    Arena& arena = ws.arena;
    ws.x = images(arena, rows, shape_.dense.input, true);
    ws.passes.assign(layers_.size(), ConvPass<T>{});
    for (std::size_t l = 0; l < layers_.size(); ++l) {
      ConvPass<T>& pass = ws.passes[l];
      pass.input = l == 0 ? ws.x : ws.passes[l - 1].out;
      pass.h0 = images(arena, sequences, hp(), true);
      pass.out = images(arena, rows, hp(), true);
      pass.weights = ws.weights[l];
      for (std::size_t s = 0; s < shape_.dense.cell.states; ++s) {
        pass.state[s] = images(arena, sequences, hp(), false);
        if (recording) pass.record[s] = images(arena, rows, hp(), false);
      }
      if (!recording) continue;
      pass.gates = images(arena, rows, shape_.dense.gates * hp(), true);
      if (layers_[l].forwards == 2) pass.recurrent = images(arena, rows, shape_.dense.gates * hp(), true);
    }
  }

  void prepare_backward(bool input_wanted, Workspace& ws) const {
    const std::int64_t rows = ws.layout.rows();
    const std::int64_t sequences = ws.layout.sequences();
    Arena& arena = ws.arena;
    ws.passes.back().d_out = images(arena, rows, hp(), false);
    for (std::size_t l = layers_.size(); l-- > 0;) {
      ConvPass<T>& pass = ws.passes[l];
      const ConvLayer<T>& layer = layers_[l];
      pass.back_h = take(arena, layer.back_h.weights_size());
      if (l > 0 || input_wanted) {
        pass.d_input = images(arena, rows, padded<T>(layer.input), false);
        pass.back_x = take(arena, layer.back_x.weights_size());
        if (l > 0) ws.passes[l - 1].d_out = pass.d_input;
      }
      pass.dh = images(arena, sequences, hp(), false);
      for (std::size_t s = 0; s < shape_.dense.cell.states; ++s) {
        pass.d_state[s] = images(arena, sequences, hp(), false);
      }
      if (shape_.dense.cell.vectors > 0) pass.d_maps = take(arena, maps_size());
      for (int g = 0; g < layer.forwards; ++g) {
        const auto i = static_cast<std::size_t>(g);
        pass.gradient[i] = take(arena, layer.gradient[i].scratch(sequences));
      }
    }
  }

  void finish(std::size_t l, const Workspace& ws, T* gradient, Member member) const {
    const ConvLayer<T>& layer = layers_[l];
    const ConvPass<T>& pass = ws.passes[l];
    const ConvTensors& at = at_[l];
    const auto row = [&](std::int64_t column) { return layer.user_row(column); };
    T* const W = gradient + at.W;
    T* const R = gradient + at.R;
    if (layer.forwards == 2) {
      layer.gradient[0].finish(pass.gradient[0], {W, nullptr}, gradient + at.b, row, member);
      layer.gradient[1].finish(pass.gradient[1], {R, nullptr}, gradient + at.bR, row, member);
    } else {
      layer.gradient[0].finish(pass.gradient[0], {W, R}, gradient + at.b, row, member);
    }
    if (pass.d_maps == nullptr || member.id != 0) return;
    layer.visit_maps([&](std::int64_t packed, std::int64_t user) {
      if (user >= 0) gradient[at.P + user] = pass.d_maps[packed];
    });
  }

  /// f(t, n, row) for this member's share of all images.
  template <class F>
  static void for_images(const BatchLayout& layout, Member member, F&& f) {
    const Member::Range range = member.share(layout.rows());
    for (std::int64_t t = 0; t < layout.steps(); ++t) {
      const std::int64_t first = std::max(range.begin, layout.offset(t));
      const std::int64_t last = std::min(range.end, layout.offset(t) + layout.active(t));
      for (std::int64_t row = first; row < last; ++row) f(t, row - layout.offset(t), row);
    }
  }

  /// f(layer, state, n, its initial images) for this member's share of all states; state 0 is h.
  template <class F>
  void for_states(const Workspace& ws, Member member, F&& f) const {
    const Member::Range range = member.share(ws.layout.sequences());
    for (std::int64_t layer = 0; layer < shape_.dense.layers; ++layer) {
      const ConvPass<T>& pass = ws.passes[static_cast<std::size_t>(layer)];
      for (std::size_t s = 0; s <= shape_.dense.cell.states; ++s) {
        for (std::int64_t n = range.begin; n < range.end; ++n) f(layer, s, n, s == 0 ? pass.h0 : pass.state[s - 1]);
      }
    }
  }

  /// State s of one sequence in the caller's [L, N, H, Y, X]; null without states.
  template <class Pointer>
  const T* state_of(Pointer states, std::size_t s, std::int64_t layer, std::int64_t n,
                    const BatchLayout& layout) const noexcept {
    if (states == nullptr) return nullptr;
    return static_cast<const T*>(states[s]) + (layer * layout.sequences() + layout.original(n)) * plane_size();
  }

  /// The caller's [channels, Y, X] → one image, its padding and border zero. planes == nullptr: zeros.
  void read_planes(const T* planes, std::int64_t channels, const Images<T>& to, std::int64_t index) const noexcept {
    const std::int64_t width = shape_.image.width;
    const std::int64_t inner = shape_.image.inner();
    if (to.bordered) to.clear_border(index);
    for (std::int64_t y = 0; y < shape_.image.height; ++y) {
      T* const line = to.pixel(index, y);
      if (planes == nullptr || channels < to.channels) std::fill_n(line, width * to.channels, T{0});
      if (planes == nullptr) continue;
      planes_to_pixels<T>(planes + y * width, inner, channels, width, line, to.channels);
    }
  }

  void write_planes(const Images<T>& from, std::int64_t index, std::int64_t channels, T* planes) const noexcept {
    const std::int64_t width = shape_.image.width;
    const std::int64_t inner = shape_.image.inner();
    for (std::int64_t y = 0; y < shape_.image.height; ++y) {
      pixels_to_planes<T>(from.pixel(index, y), from.channels, channels, width, planes + y * width, inner);
    }
  }

  ConvShape shape_;
  CellKernels<T> kernels_;
  std::vector<ConvTensors> at_;
  std::vector<TensorInfo> tensors_;
  std::vector<ConvLayer<T>> layers_;
};

LSTMCORE_END_NAMESPACE
