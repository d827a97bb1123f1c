// The driver of <lstmcore/decoder.hpp>: the layers of a Stack with attention between their steps, forward and backward.
//
// Where a step needs what the one before made at the top (attention before the step, input feeding, sampled tokens),
// each thread takes some sequences through all steps and meets nobody. Otherwise the layers run over all steps at once
// (Stack), and attention follows over all rows.
#pragma once

#include "sequence/attention_scores.hpp"
#include "sequence/decoder_workspace.hpp"
#include "sequence/stack.hpp"

LSTMCORE_BEGIN_NAMESPACE

template <class T>
class AttentionDecoder {
 public:
  using Workspace = DecoderWorkspace<T>;
  using Scores = AttentionScores<T>;
  using Pass = DirectionPass<T>;
  using Range = Member::Range;

  /// parameters: the stack's.
  AttentionDecoder(const Stack<T>& stack, const T* parameters) noexcept : stack_(stack), parameters_(parameters) {}

  /// options: record, seeds and threads; states are those of `in` and `out`.
  void forward(const DecoderConfig& config, const DecoderWeights& weights, const DecoderInput& in,
               const DecoderOutput& out, ForwardOptions<T> options, Workspace& ws) const {
    options.initial = in.initial;
    options.final_state = out.final_state;
    ws.prepare(config, weights, in, shape().output);
    if (ws.stepped) {
      forward_steps(weights, in, options, ws);
    } else {
      forward_whole(weights, in, options, ws);
    }
    parallel(options.n_threads, [&](Member member) { ws.scatter(in, out, member); });
  }

  void backward(const DecoderWeights& weights, const T* d_outputs, const DecoderGradients& to,
                BackwardOptions<T> options, Workspace& ws) const {
    options.gradient = static_cast<T*>(to.layers);
    options.d_initial = to.initial;
    ws.prepare_backward(weights, d_outputs, shape());
    if (ws.stepped) {
      backward_steps(to, options, ws);
    } else {
      backward_whole(options, ws);
    }
    T* const scratch = ws.arena.template take<T>(ws.scratch_size() * options.n_threads);
    parallel(options.n_threads,
             [&](Member member) { ws.gradients(to, scratch + member.id * ws.scratch_size(), member); });
  }

 private:
  const StackShape& shape() const noexcept { return stack_.shape_; }
  static bool additive(const Workspace& ws) noexcept { return ws.config.attention == Attention::additive; }
  static bool attends(const Workspace& ws) noexcept { return ws.config.attention != Attention::none; }

  // ---- forward

  void forward_whole(const DecoderWeights& weights, const DecoderInput& in, const ForwardOptions<T>& options,
                     Workspace& ws) const {
    const BatchLayout& layout = ws.run.layout;
    const std::int64_t M = ws.config.embedding;
    T* const embedded = ws.arena.template take<T>(layout.rows() * M);
    ws.pointers.resize(static_cast<std::size_t>(in.count));
    T* at = embedded;
    for (std::int64_t n = 0; n < in.count; ++n) {
      ws.pointers[static_cast<std::size_t>(n)] = at;
      for (std::int64_t t = 0; t < in.lengths[n]; ++t, at += M) embed(weights, in.tokens[n * in.steps + t], M, at);
    }
    const std::vector<const void*> x(ws.pointers.begin(), ws.pointers.end());
    stack_.forward({x.data(), in.lengths, in.count, M}, parameters_, nullptr, options, ws.run);
    const Rows<const T> h = ws.run.out.back().read();
    ws.set_outputs();
    if (!attends(ws)) return;
    parallel(options.n_threads, [&](Member member) {
      const std::int64_t first = layout.boundary(member.id, member.size);
      for (std::int64_t t = 0; t < layout.steps(); ++t) {
        const std::int64_t last = std::min(layout.active(t), layout.boundary(member.id + 1, member.size));
        if (first >= last) break;
        attend(t, {first, last}, h.from(layout.row(t, first)), ws);
        project(t, {first, last}, ws);
      }
    });
  }

  void forward_steps(const DecoderWeights& weights, const DecoderInput& in, const ForwardOptions<T>& options,
                     Workspace& ws) const {
    StackWorkspace<T>& run = ws.run;
    run.recorded = false;
    run.arena.reset();
    const bool pack = !stack_.same_weights(parameters_, options, run);
    stack_.builder(options).forward({}, run.own, parameters_, true, run);
    ws.set_outputs();
    typename Stack<T>::Crew crew;
    parallel(options.n_threads, [&](Member member) {
      if (pack) stack_.pack_own(crew, run, member);
      if (options.record) {
        stack_.fill_masks(options, run, member);
        for (std::int64_t layer = 0; layer < shape().layers; ++layer) {
          if (run.mask[static_cast<std::size_t>(layer)].data != nullptr) {
            stack_.mask_input(options, layer, run, member, false);
          }
        }
      }
      crew.team.wait(member.size);
      const BatchLayout& layout = run.layout;
      const std::int64_t first = layout.boundary(member.id, member.size);
      for (std::int64_t t = 0; t < layout.steps(); ++t) {
        const std::int64_t last = std::min(layout.active(t), layout.boundary(member.id + 1, member.size));
        if (first >= last) break;
        step(t, {first, last}, weights, in, ws);
      }
      crew.team.wait(member.size);
      if (options.final_state != nullptr) stack_.scatter_final(options, run, member);
    });
    if (pack) run.packed_from.packed();
    run.recorded = options.record;
    run.zero_state = options.initial == nullptr;
  }

  void step(std::int64_t t, Range own, const DecoderWeights& weights, const DecoderInput& in, Workspace& ws) const {
    const BatchLayout& layout = ws.run.layout;
    const DecoderConfig& config = ws.config;
    const std::int64_t row = layout.row(t, own.begin);
    const std::int64_t E = additive(ws) ? config.value_width : 0;
    if (additive(ws)) attend(t, own, ws.hidden_before(t, own.begin), ws);
    for (std::int64_t n = own.begin; n < own.end; ++n) {
      T* const x = const_cast<T*>(ws.run.x[layout.row(t, n)]);
      embed(weights, ws.tokens[static_cast<std::size_t>(layout.row(t, n))], config.embedding, x);
      std::copy_n(ws.context[additive(ws) ? layout.row(t, n) : 0], E, x + config.embedding);
      if (config.input_feeding) {
        const T* const before = t > 0 ? ws.output[layout.row(t - 1, n)] : ws.first_output[n];
        std::copy_n(before, ws.width, x + config.embedding + E);
      }
    }
    for (std::int64_t layer = 0; layer < shape().layers; ++layer) {
      mask_rows(layer, {row, row + own.end - own.begin}, ws.run);
      Direction<T>::forward_step(ws.run.pass(shape(), layer, 0), t, own.begin, own.end);
    }
    if (attends(ws)) {
      if (!additive(ws)) attend(t, own, ws.hidden.from(row), ws);
      project(t, own, ws);
    }
    if (in.sample != nullptr && t + 1 < layout.steps()) sample(t + 1, own, weights, in, ws);
  }

  static void embed(const DecoderWeights& weights, std::int32_t token, std::int64_t M, T* to) noexcept {
    std::copy_n(static_cast<const T*>(weights.table) + token * M, M, to);
  }

  static void mask_rows(std::int64_t layer, Range rows, StackWorkspace<T>& run) noexcept {
    const auto l = static_cast<std::size_t>(layer);
    const Rows<T>& mask = run.mask[l];
    if (mask.data == nullptr) return;
    const Rows<const T> from = layer == 0 ? run.x : run.out[l - 1].read();
    for (std::int64_t row = rows.begin; row < rows.end; ++row) {
      for (std::int64_t k = 0; k < mask.stride; ++k) run.masked[l][row][k] = from[row][k] * mask[row][k];
    }
  }

  /// Contexts of step t; h: of the first of these sequences.
  static void attend(std::int64_t t, Range own, Rows<const T> h, Workspace& ws) noexcept {
    const std::int64_t row = ws.run.layout.row(t, own.begin);
    const std::int64_t count = own.end - own.begin;
    Rows<const T> query = h;
    if (additive(ws)) {
      const Rows<T> to = ws.query.from(row);
      rows_times_panels<T>(Start::zero, count, h.data, h.stride, ws.query_panels, 0, ws.query_panels.count(), to.data,
                           to.stride);
      query = to.read();
    }
    for (std::int64_t i = 0; i < count; ++i) {
      const auto source = ws.source(own.begin + i);
      T* const weights = ws.weights[row + i];
      if (additive(ws)) {
        Scores::additive(source.steps, ws.keys.stride, ws.keys.from(source.first).read(), query[i], ws.score, weights);
      } else {
        Scores::product(source.steps, ws.keys.stride, ws.keys.from(source.first).read(), query[i], weights);
      }
      Scores::softmax(source.steps, weights);
      Scores::weighted_sum(source.steps, ws.values.stride, weights, ws.values.from(source.first).read(),
                           ws.context[row + i]);
    }
  }

  /// o = tanh(W_o [c; h])
  static void project(std::int64_t t, Range own, Workspace& ws) noexcept {
    const std::int64_t row = ws.run.layout.row(t, own.begin);
    const std::int64_t count = own.end - own.begin;
    T* const to = ws.output[row];
    const Panels<T>&context = ws.context_panels, &hidden = ws.hidden_panels;
    rows_times_panels<T>(Start::zero, count, ws.context[row], ws.context.stride, context, 0, context.count(), to,
                         ws.output.stride);
    rows_times_panels<T>(Start::sum, count, ws.hidden[row], ws.hidden.stride, hidden, 0, hidden.count(), to,
                         ws.output.stride);
    for (std::int64_t k = 0; k < count * ws.output.stride; k += kLanes<T>) store(to + k, math::tanh(load(to + k)));
  }

  /// Tokens of step t that the head chooses.
  static void sample(std::int64_t t, Range own, const DecoderWeights& weights, const DecoderInput& in, Workspace& ws) {
    const auto* const W = static_cast<const T*>(weights.head_w);
    const auto* const b = static_cast<const T*>(weights.head_b);
    const BatchLayout& layout = ws.run.layout;
    const std::int64_t last = std::min(own.end, layout.active(t));
    for (std::int64_t n = own.begin; n < last; ++n) {
      const std::int64_t at = layout.original(n) * in.steps + t;
      if (in.sample[at] == 0) continue;
      const T* const o = ws.output[layout.row(t - 1, n)];
      std::int32_t best = 0;
      T highest = -std::numeric_limits<T>::infinity();
      for (std::int64_t k = 0; k < ws.config.tokens; ++k) {
        const T score = dot(ws.width, o, W + k * ws.width) + b[k];
        if (score > highest) {
          highest = score;
          best = static_cast<std::int32_t>(k);
        }
      }
      ws.tokens[static_cast<std::size_t>(layout.row(t, n))] = best;
      in.tokens[at] = best;
    }
  }

  // ---- backward

  void backward_whole(const BackwardOptions<T>& given, Workspace& ws) const {
    const BatchLayout& layout = ws.run.layout;
    BackwardOptions<T> options = given;
    T* at = ws.arena.template take<T>(layout.rows() * ws.config.embedding);
    ws.pointers.assign(static_cast<std::size_t>(layout.sequences()), nullptr);
    ws.d_embedded.resize(static_cast<std::size_t>(layout.rows()));
    for (std::int64_t n = 0; n < layout.sequences(); ++n) {
      ws.pointers[static_cast<std::size_t>(layout.original(n))] = at;
      for (std::int64_t t = 0; t < layout.length(n); ++t, at += ws.config.embedding) {
        ws.d_embedded[static_cast<std::size_t>(layout.row(t, n))] = at;
      }
    }
    const std::vector<void*> dx(ws.pointers.begin(), ws.pointers.end());
    options.dx = dx.data();
    stack_.backward(parameters_, options, ws.run, [&](Rows<T> d_top, Member member) {
      const Range own{layout.boundary(member.id, member.size), layout.boundary(member.id + 1, member.size)};
      ws.clear(own);
      for (std::int64_t t = layout.steps() - 1; t >= 0; --t) {
        const Range running{own.begin, std::min(own.end, layout.active(t))};
        if (running.begin < running.end) top_back(t, running, d_top, ws);
      }
    });
  }

  void backward_steps(const DecoderGradients& to, const BackwardOptions<T>& given, Workspace& ws) const {
    StackWorkspace<T>& run = ws.run;
    const BatchLayout& layout = run.layout;
    const std::int64_t rows = layout.rows();
    BackwardOptions<T> options = given;
    run.recorded = false;
    std::array<Rows<T>, 2> d_out{};
    for (std::size_t i = 0; i < (shape().layers > 1 ? 2U : 1U); ++i)
      d_out[i] = ws.take(rows, padded<T>(shape().output));
    const Rows<T> dx = ws.take(rows, padded<T>(shape().input));
    const Rows<T> gates = ws.take(layout.sequences(), run.passes.front().gate_width());
    ws.d_embedded.resize(static_cast<std::size_t>(rows));
    for (std::int64_t row = 0; row < rows; ++row) ws.d_embedded[static_cast<std::size_t>(row)] = dx[row];
    void* wanted = dx.data;
    options.dx = &wanted;  // only looked at for null: rows of dx are written here
    const typename Stack<T>::BackwardRoom room = stack_.prepare_backward(options, d_out, run);
    typename Stack<T>::Crew crew;
    parallel(options.n_threads, [&](Member member) {
      stack_.pack_back(parameters_, crew, run, member);
      const Range own{layout.boundary(member.id, member.size), layout.boundary(member.id + 1, member.size)};
      ws.clear(own);
      crew.team.wait(member.size);
      for (std::int64_t t = layout.steps() - 1; t >= 0; --t) {
        const Range running{own.begin, std::min(own.end, layout.active(t))};
        if (running.begin < running.end) step_back(t, running, d_out, dx, gates, ws);
      }
      if (additive(ws)) {  // the first query was the initial h
        const Pass& top = run.passes.back();
        for (std::int64_t n = own.begin; n < own.end; ++n) add_scaled(ws.carry.stride, T{1}, ws.carry[n], top.dh[n]);
      }
      crew.team.wait(member.size);
      for (std::int64_t layer = shape().layers - 1; layer >= 0; --layer) {
        if (member.id == 0) LayerGradients<T>::find_previous(run.pass(shape(), layer, 0), room.previous[0]);
        crew.team.wait(member.size);
        stack_.layer_gradients(layer, options, room.previous, room.scratch_of(member), crew, run, member);
        crew.team.wait(member.size);
      }
      if (member.id != 0) return;
      stack_.finish_initial(run);
      if (to.initial != nullptr) stack_.scatter_initial(to.initial, run);
      if (shape().learns_initial_state) stack_.learned_gradient(options.gradient, run);
    });
  }

  void step_back(std::int64_t t, Range own, const std::array<Rows<T>, 2>& d_out, Rows<T> dx, Rows<T> gates,
                 Workspace& ws) const {
    StackWorkspace<T>& run = ws.run;
    const DecoderConfig& config = ws.config;
    const std::int64_t row = run.layout.row(t, own.begin);
    const Range rows{row, row + own.end - own.begin};
    top_back(t, own, d_out[0], ws);
    for (std::int64_t layer = shape().layers - 1; layer >= 0; --layer) {
      const Pass& pass = run.pass(shape(), layer, 0);
      Direction<T>::backward_step(pass, t, own.begin, own.end);
      const Rows<T> below = layer > 0 ? d_out[static_cast<std::size_t>((shape().layers - layer) % 2)] : dx;
      LayerGradients<T>::input_of_step(pass, below, rows, gates.from(own.begin));
      const Rows<T>& mask = run.mask[static_cast<std::size_t>(layer)];
      for (std::int64_t r = rows.begin; mask.data != nullptr && r < rows.end; ++r) {
        for (std::int64_t k = 0; k < mask.stride; ++k) below[r][k] *= mask[r][k];
      }
    }
    const std::int64_t E = additive(ws) ? config.value_width : 0;
    for (std::int64_t n = own.begin; n < own.end; ++n) {
      const T* const d = dx[run.layout.row(t, n)] + config.embedding;
      if (config.input_feeding) std::copy_n(d + E, ws.width, ws.d_feed[n]);
      if (!additive(ws)) continue;
      add_scaled(E, T{1}, d, ws.d_context[n]);
      attend_back(t, n, ws.d_query[run.layout.row(t, n)], ws);
    }
    if (!additive(ws)) return;
    const Panels<T>& back = ws.query_back;
    rows_times_panels<T>(Start::zero, own.end - own.begin, ws.d_query[row], ws.d_query.stride, back, 0, back.count(),
                         ws.carry[own.begin], ws.carry.stride);
  }

  /// From gradients of o to those of h, in d_top, and with attention of the contexts; those of attention after the step
  /// go on to keys, values and h.
  static void top_back(std::int64_t t, Range own, Rows<T> d_top, Workspace& ws) noexcept {
    const BatchLayout& layout = ws.run.layout;
    const std::int64_t row = layout.row(t, own.begin);
    const std::int64_t count = own.end - own.begin;
    const Rows<T> d_o = attends(ws) ? ws.d_projected : d_top;
    for (std::int64_t n = own.begin; n < own.end; ++n) {
      T* const d = d_o[layout.row(t, n)];
      std::copy_n(ws.d_outputs + (layout.original(n) * ws.steps + t) * ws.width, ws.width, d);
      std::fill(d + ws.width, d + padded<T>(ws.width), T{0});
      if (ws.config.input_feeding) add_scaled(ws.width, T{1}, ws.d_feed[n], d);
      if (!attends(ws)) continue;
      const T* const o = ws.output[layout.row(t, n)];
      for (std::int64_t k = 0; k < d_o.stride; k += kLanes<T>) {
        store(d + k, load(d + k) * math::tanh_derivative(load(o + k)));
      }
    }
    if (!attends(ws)) return;
    const Panels<T>&context = ws.context_back, &hidden = ws.hidden_back;
    rows_times_panels<T>(Start::zero, count, d_o[row], d_o.stride, context, 0, context.count(), ws.d_context[own.begin],
                         ws.d_context.stride);
    rows_times_panels<T>(Start::zero, count, d_o[row], d_o.stride, hidden, 0, hidden.count(), d_top[row], d_top.stride);
    for (std::int64_t n = own.begin; n < own.end; ++n) {
      T* const d = d_top[layout.row(t, n)];
      if (additive(ws)) {
        add_scaled(ws.carry.stride, T{1}, ws.carry[n], d);
      } else {
        attend_back(t, n, d, ws);
      }
    }
  }

  /// dq: gradient of the query; written with additive attention, added to else.
  static void attend_back(std::int64_t t, std::int64_t n, T* dq, Workspace& ws) noexcept {
    const std::int64_t row = ws.run.layout.row(t, n);
    const auto source = ws.source(n);
    T* const slopes = ws.slopes[n];
    const Rows<const T> keys = ws.keys.from(source.first).read();
    const Rows<T> d_keys = ws.d_keys.from(source.first);
    Scores::weights_back(source.steps, ws.values.stride, ws.weights[row], ws.values.from(source.first).read(),
                         ws.d_context[n], ws.d_values.from(source.first), slopes);
    if (additive(ws)) {
      Scores::additive_back(source.steps, keys.stride, keys, ws.query[row], ws.score, slopes, dq, d_keys,
                            ws.d_score[n]);
    } else {
      Scores::product_back(source.steps, keys.stride, keys, ws.hidden[row], slopes, dq, d_keys);
    }
  }

  const Stack<T>& stack_;
  const T* parameters_;
};

LSTMCORE_END_NAMESPACE
