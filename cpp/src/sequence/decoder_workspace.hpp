// What a pass of sequence/attention_decoder.hpp reads, writes and leaves for backward, beside that of its layers.
#pragma once

#include "kernels/matrix.hpp"
#include "sequence/dense.hpp"
#include "sequence/workspace.hpp"

#include <lstmcore/decoder.hpp>

LSTMCORE_BEGIN_NAMESPACE

/// Rows are steps of sequences as in sequence/batch.hpp, [N] are sorted sequences, [sources] all steps of all sources
/// one after the other; columns are padded to whole packs.
template <class T>
struct DecoderWorkspace {
  struct Source {
    std::int64_t first, steps;
  };

  StackWorkspace<T> run;
  Arena arena;
  DecoderConfig config;
  bool stepped = false;
  std::int64_t width = 0;  ///< P
  std::int64_t steps = 0;  ///< T of the caller's arrays

  std::vector<Source> sources;           ///< of the caller's sources
  std::vector<std::int64_t> owners;      ///< [N]: which source
  std::vector<std::int32_t> tokens;      ///< rows
  std::vector<T*> pointers, d_embedded;  ///< by the caller's sequence; by row
  Rows<T> keys{}, values{};              ///< [sources]
  Rows<const T> first_output{};          ///< [N]: o before the first step
  Rows<T> weights{}, context{}, query{}, output{};
  Rows<const T> hidden{};  ///< h of the top layer
  T* score = nullptr;
  Panels<T> query_panels{}, context_panels{}, hidden_panels{};

  // backward
  const T* d_outputs = nullptr;
  std::vector<const T*> queries;                                ///< rows: h before the step
  Rows<T> d_keys{}, d_values{};                                 ///< [sources]
  Rows<T> d_projected{}, d_query{};                             ///< rows
  Rows<T> d_context{}, d_score{}, d_feed{}, carry{}, slopes{};  ///< [N]
  Panels<T> query_back{}, context_back{}, hidden_back{};

  Rows<T> take(std::int64_t rows, std::int64_t columns) { return {arena.template take<T>(rows * columns), columns}; }
  Source source(std::int64_t n) const noexcept {
    return sources[static_cast<std::size_t>(owners[static_cast<std::size_t>(n)])];
  }
  /// h of the top layer before step t, of sequence n and those after it.
  Rows<const T> hidden_before(std::int64_t t, std::int64_t n) const noexcept {
    return t == 0 ? run.passes.back().h0.from(n) : hidden.from(run.layout.row(t - 1, n));
  }

  void prepare(const DecoderConfig& with, const DecoderWeights& w, const DecoderInput& in, std::int64_t output_width) {
    config = with;
    width = output_width;
    steps = in.steps;
    stepped = config.input_feeding || config.attention == Attention::additive || in.sample != nullptr;
    arena.reset();
    run.layout.assign(in.lengths, in.count);
    const BatchLayout& layout = run.layout;
    const std::int64_t rows = layout.rows();
    tokens.resize(static_cast<std::size_t>(rows));
    owners.assign(static_cast<std::size_t>(in.count), 0);
    for (std::int64_t n = 0; n < in.count; ++n) {
      const std::int64_t own = layout.original(n);
      owners[static_cast<std::size_t>(n)] = in.owners != nullptr ? in.owners[own] : own;
      for (std::int64_t t = 0; t < layout.length(n); ++t) {
        tokens[static_cast<std::size_t>(layout.row(t, n))] = in.tokens[own * in.steps + t];
      }
    }
    const std::int64_t P = width;
    Rows<T> first = take(in.count, padded<T>(P));
    std::fill_n(first.data, in.count * first.stride, T{0});
    for (std::int64_t n = 0; in.initial_output != nullptr && n < in.count; ++n) {
      std::copy_n(static_cast<const T*>(in.initial_output) + layout.original(n) * P, P, first[n]);
    }
    first_output = first.read();
    if (config.attention == Attention::none) return;

    const std::int64_t E = config.value_width;
    const std::int64_t A = config.key_width;
    sources.clear();
    std::int64_t total = 0;
    for (std::int64_t s = 0; s < in.sources; ++s) {
      sources.push_back({total, in.source_lengths[s]});
      total += in.source_lengths[s];
    }
    values = gather(in.values, E, in, total);
    keys = in.keys == in.values ? values : gather(in.keys, A, in, total);
    weights = take(rows, padded<T>(in.source_steps));
    context = take(rows, padded<T>(E));
    output = take(rows, padded<T>(P));
    context_panels = panels(E, P);
    hidden_panels = panels(P, P);
    const T* const W = static_cast<const T*>(w.output);
    pack_panels_transposed<T>(context_panels, P, W, E + P);
    pack_panels_transposed<T>(hidden_panels, P, W + E, E + P);
    if (config.attention != Attention::additive) return;
    query = take(rows, padded<T>(A));
    query_panels = panels(P, A);
    pack_panels_transposed<T>(query_panels, A, static_cast<const T*>(w.query), P);
    score = arena.template take<T>(padded<T>(A));
    std::fill_n(score, padded<T>(A), T{0});
    std::copy_n(static_cast<const T*>(w.score), A, score);
  }

  /// Once the layers have room for theirs.
  void set_outputs() noexcept {
    hidden = run.out.back().read();
    if (config.attention == Attention::none) output = run.out.back();
  }

  void scatter(const DecoderInput& in, const DecoderOutput& out, Member member) const noexcept {
    const BatchLayout& layout = run.layout;
    const Member::Range range = member.share(layout.sequences());
    for (std::int64_t n = range.begin; n < range.end; ++n) {
      const std::int64_t own = layout.original(n);
      T* to = static_cast<T*>(out.outputs) + own * in.steps * width;
      for (std::int64_t t = 0; t < layout.length(n); ++t, to += width) std::copy_n(output[layout.row(t, n)], width, to);
      std::fill_n(to, (in.steps - layout.length(n)) * width, T{0});
      if (out.weights == nullptr) continue;
      const std::int64_t S = in.source_steps;
      T* scores = static_cast<T*>(out.weights) + own * in.steps * S;
      std::fill_n(scores, in.steps * S, T{0});
      for (std::int64_t t = 0; t < layout.length(n); ++t, scores += S) {
        std::copy_n(weights[layout.row(t, n)], source(n).steps, scores);
      }
    }
  }

  // ---- backward

  void prepare_backward(const DecoderWeights& w, const T* d_out, const StackShape& shape) {
    d_outputs = d_out;
    const std::int64_t rows = run.layout.rows();
    const std::int64_t N = run.layout.sequences();
    const std::int64_t P = shape.output;
    if (config.input_feeding) d_feed = take(N, padded<T>(P));
    if (config.attention == Attention::none) return;
    const std::int64_t E = config.value_width;
    const std::int64_t A = config.key_width;
    const std::int64_t total = sources.back().first + sources.back().steps;
    d_keys = take(total, keys.stride);
    d_values = take(total, values.stride);
    d_projected = take(rows, padded<T>(P));
    d_context = take(N, padded<T>(E));
    slopes = take(N, weights.stride);
    context_back = panels(P, E);
    hidden_back = panels(P, P);
    const T* const W = static_cast<const T*>(w.output);
    pack_panels<T>(context_back, E, W, E + P);
    pack_panels<T>(hidden_back, P, W + E, E + P);
    if (config.attention != Attention::additive) return;
    d_query = take(rows, padded<T>(A));
    d_score = take(N, padded<T>(A));
    carry = take(N, padded<T>(P));
    query_back = panels(A, P);
    pack_panels<T>(query_back, P, static_cast<const T*>(w.query), P);
    queries.resize(static_cast<std::size_t>(rows));
    for (std::int64_t t = 0; t < run.layout.steps(); ++t) {
      const Rows<const T> h = hidden_before(t, 0);
      for (std::int64_t n = 0; n < run.layout.active(t); ++n) {
        queries[static_cast<std::size_t>(run.layout.row(t, n))] = h[n];
      }
    }
  }

  /// What is added to, of a thread's own sequences; sequence n has source n of the caller.
  void clear(Member::Range own) const noexcept {
    for (std::int64_t n = own.begin; n < own.end; ++n) {
      for (const Rows<T>& rows : {d_score, d_feed, carry}) {
        if (rows.data != nullptr) std::fill_n(rows[n], rows.stride, T{0});
      }
      if (config.attention == Attention::none) continue;
      const Source from = source(n);
      std::fill_n(d_keys[from.first], from.steps * d_keys.stride, T{0});
      std::fill_n(d_values[from.first], from.steps * d_values.stride, T{0});
    }
  }

  /// Elements of scratch that one thread needs for gradients().
  std::int64_t scratch_size() const noexcept { return WeightGradient<T>::scratch(std::max(config.value_width, width)); }

  /// Gradients of all but the layers: this member's part, each a sum in the order of rows or sequences.
  void gradients(const DecoderGradients& to, T* scratch, Member member) const noexcept {
    const BatchLayout& layout = run.layout;
    const std::int64_t M = config.embedding;
    const Member::Range columns = member.share(M, kLanes<T>);
    auto* const table = static_cast<T*>(to.table);
    for (std::int64_t k = 0; k < config.tokens; ++k) {
      std::fill(table + k * M + columns.begin, table + k * M + columns.end, T{0});
    }
    for (std::int64_t row = 0; row < layout.rows(); ++row) {
      const auto at = static_cast<std::size_t>(row);
      add_scaled(columns.end - columns.begin, T{1}, d_embedded[at] + columns.begin,
                 table + tokens[at] * M + columns.begin);
    }
    if (config.attention == Attention::none) return;
    const std::int64_t E = config.value_width;
    const std::int64_t A = config.key_width;
    const std::int64_t P = width;
    std::array<GradientOperand<T>, 2> operands{};
    operands[0].rows = context.read();
    operands[0].columns = E;
    operands[0].gradient = static_cast<T*>(to.output);
    operands[1].rows = hidden;
    operands[1].columns = P;
    operands[1].gradient = static_cast<T*>(to.output) + E;
    operands[0].ld_gradient = operands[1].ld_gradient = E + P;
    const Member::Range units = member.share(padded<T>(P), WeightGradient<T>::kTileRows);
    WeightGradient<T>::run(layout.rows(), d_projected.read(), 1, P, units.begin, units.end, operands.data(), 2,
                           static_cast<T*>(nullptr), scratch);
    scatter(static_cast<T*>(to.values), d_values, E, member);
    scatter(static_cast<T*>(to.keys), d_keys, A, member);
    if (config.attention != Attention::additive) return;
    const Member::Range rows_of_query = member.share(padded<T>(A), WeightGradient<T>::kTileRows);
    GradientOperand<T> before;
    before.pointers = queries.data();
    before.columns = before.ld_gradient = P;
    before.gradient = static_cast<T*>(to.query);
    WeightGradient<T>::run(layout.rows(), d_query.read(), 1, A, rows_of_query.begin, rows_of_query.end, &before, 1,
                           static_cast<T*>(nullptr), scratch);
    if (member.id != 0) return;
    auto* const d_v = static_cast<T*>(to.score);
    std::fill_n(d_v, A, T{0});
    for (std::int64_t n = 0; n < layout.sequences(); ++n) add_scaled(A, T{1}, d_score[n], d_v);
  }

 private:
  Panels<T> panels(std::int64_t depth, std::int64_t columns) {
    const std::int64_t blocks = blocks_of<T>(columns);
    return {arena.template take<T>(Panels<T>::size(depth, blocks)), depth, blocks};
  }

  Rows<T> gather(const void* from, std::int64_t count, const DecoderInput& in, std::int64_t total) {
    const Rows<T> to = take(total, padded<T>(count));
    for (std::int64_t s = 0; s < in.sources; ++s) {
      const T* at = static_cast<const T*>(from) + s * in.source_steps * count;
      const Source& source = sources[static_cast<std::size_t>(s)];
      for (std::int64_t j = 0; j < source.steps; ++j, at += count) {
        T* const row = to[source.first + j];
        std::copy_n(at, count, row);
        std::fill(row + count, row + to.stride, T{0});
      }
    }
    source_steps_ = in.source_steps;
    return to;
  }

  void scatter(T* to, Rows<T> from, std::int64_t count, Member member) const noexcept {
    const Member::Range range = member.share(static_cast<std::int64_t>(sources.size()));
    for (std::int64_t s = range.begin; s < range.end; ++s) {
      const Source& source = sources[static_cast<std::size_t>(s)];
      T* at = to + s * source_steps_ * count;
      for (std::int64_t j = 0; j < source.steps; ++j, at += count) std::copy_n(from[source.first + j], count, at);
      std::fill_n(at, (source_steps_ - source.steps) * count, T{0});
    }
  }

  std::int64_t source_steps_ = 0;
};

LSTMCORE_END_NAMESPACE
