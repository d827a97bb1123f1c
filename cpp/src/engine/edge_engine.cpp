// EdgeEngine: the C99 runtime, compiled with this engine's flags, over a checked program.
#include "base/threads.hpp"
#include "engine/factories.hpp"

#include "lstmcore_edge.h"

#include <algorithm>
#include <cstring>

LSTMCORE_BEGIN_NAMESPACE

namespace {

std::uint32_t narrow(std::int64_t value) noexcept { return static_cast<std::uint32_t>(value); }
std::int64_t padded_to_four(std::int64_t count) noexcept { return (count + 3) / 4 * 4; }

template <class T>
const T* pointer(const std::vector<T>& values) noexcept {
  return values.empty() ? nullptr : values.data();
}

bool has(const EdgeLayer& layer, const char* option) noexcept {
  return std::find(layer.options.begin(), layer.options.end(), option) != layer.options.end();
}

lstmcore_edge_product product_of(EdgeStorage storage, EdgeKind kind) noexcept {
  const bool wide = kind == EdgeKind::int16;
  switch (storage) {
    case EdgeStorage::int4:
      return wide ? lstmcore_edge_product_int16_int4 : lstmcore_edge_product_int8_int4;
    case EdgeStorage::sparse:
      return wide ? lstmcore_edge_product_int16_sparse : lstmcore_edge_product_int8_sparse;
    case EdgeStorage::float32:
      return lstmcore_edge_product_float;
    case EdgeStorage::int8:
      break;
  }
  return wide ? lstmcore_edge_product_int16 : lstmcore_edge_product_int8;
}

struct CellEntry {
  const char* name;
  lstmcore_edge_cell integer, real;
};
constexpr CellEntry kCells[] = {
    {"elman", lstmcore_edge_elman, lstmcore_edge_elman_float},
    {"lstm", lstmcore_edge_lstm, lstmcore_edge_lstm_float},
    {"gru", lstmcore_edge_gru, lstmcore_edge_gru_float},
    {"gru_reset_before", lstmcore_edge_gru_reset_before, lstmcore_edge_gru_reset_before_float},
    {"slstm", lstmcore_edge_slstm, lstmcore_edge_slstm_float},
};

/// The program as the runtime's structs; they point into the program, which must outlive them.
class Tables {
 public:
  explicit Tables(const EdgeProgram& program) : kind_(program.kind) {
    std::size_t matrices = 0;
    for (const EdgeLayer& layer : program.layers) matrices += layer.matrices.size();
    matrices_.reserve(matrices);
    narrow_.reserve(program.layers.size());
    layers_.reserve(program.layers.size());
    for (const EdgeLayer& layer : program.layers) add(layer);
    dense_.reserve(program.dense.size());
    std::int64_t widest_hidden = 0;
    for (std::size_t l = 0; l < program.dense.size(); ++l) {
      const bool last = l + 1 == program.dense.size();
      add(program.dense[l], last);
      if (!last) widest_hidden = std::max(widest_hidden, program.dense[l].matrix.rows);
    }
    const EdgeLayer& top = program.layers.back();
    model_.layers = layers_.data();
    model_.dense = dense_.data();
    model_.centre = program.centre.data();
    model_.scale = program.scale.data();
    model_.directions = narrow(program.directions);
    model_.layer_count = narrow(static_cast<std::int64_t>(program.layers.size()) / program.directions);
    model_.dense_count = narrow(static_cast<std::int64_t>(program.dense.size()));
    model_.inputs = narrow(static_cast<std::int64_t>(program.centre.size()));
    model_.outputs = narrow(program.dense.back().outputs);
    model_.kind = static_cast<std::uint32_t>(program.kind);
    model_.input_limit = static_cast<std::int32_t>(program.input_limit);
    model_.pooled_width = narrow(padded_to_four(program.directions * top.hidden));
    for (const lstmcore_edge_layer& layer : layers_) model_.next_width = std::max(model_.next_width, layer.h_width);
    model_.scratch_count = std::max(model_.next_width, model_.pooled_width) + narrow(2 * padded_to_four(widest_hidden));
    const bool real = kind_ == EdgeKind::float32;
    if (program.pooling == "mean") {
      model_.pooling = LSTMCORE_EDGE_MEAN;
      model_.pool = real ? lstmcore_edge_mean_float : lstmcore_edge_mean;
      model_.finish = real ? lstmcore_edge_mean_finish_float : lstmcore_edge_mean_finish;
    } else if (program.pooling == "max") {
      model_.pooling = LSTMCORE_EDGE_MAX;
      model_.pool = real ? lstmcore_edge_max_float : lstmcore_edge_max;
      model_.finish = real ? lstmcore_edge_max_finish_float : lstmcore_edge_max_finish;
    } else {
      model_.pooling = program.pooling == "none" ? LSTMCORE_EDGE_NONE : LSTMCORE_EDGE_LAST;
    }
  }
  Tables(const Tables&) = delete;
  Tables& operator=(const Tables&) = delete;

  const lstmcore_edge_model& model() const noexcept { return model_; }
  std::size_t activation_size() const noexcept { return std::size_t{1} << model_.kind; }
  std::size_t cell_size() const noexcept { return kind_ == EdgeKind::float32 ? 4 : 2; }
  /// Bytes of what the pooling carries.
  std::size_t pooled_size() const noexcept {
    if (model_.pool == nullptr) return 0;
    const std::size_t mean = kind_ == EdgeKind::float32 ? sizeof(float) : sizeof(std::int64_t);
    return model_.pooled_width * (model_.pooling == LSTMCORE_EDGE_MEAN ? mean : activation_size());
  }

 private:
  lstmcore_edge_matrix table(const EdgeMatrix& matrix) const noexcept {
    lstmcore_edge_matrix result{};
    result.product = product_of(matrix.storage, kind_);
    result.weights = matrix.storage == EdgeStorage::float32 ? static_cast<const void*>(matrix.float_weights.data())
                                                            : matrix.weights.data();
    result.bias = pointer(matrix.bias);
    result.multiplier = pointer(matrix.multiplier);
    result.float_bias = pointer(matrix.float_bias);
    result.starts = pointer(matrix.block_starts);
    result.columns = pointer(matrix.block_columns);
    result.groups = narrow(matrix.rows / 4);
    result.blocks = narrow(matrix.columns / 4);
    result.shift = narrow(matrix.shift);
    result.first_blocks = narrow(matrix.first_blocks);
    result.first_shift = narrow(matrix.first_shift);
    return result;
  }

  void add(const EdgeLayer& layer) {
    lstmcore_edge_layer result{};
    const bool real = kind_ == EdgeKind::float32;
    for (const CellEntry& entry : kCells) {
      if (layer.cell == entry.name) result.cell = real ? entry.real : entry.integer;
    }
    result.matrices = matrices_.data() + matrices_.size();
    for (const EdgeMatrix& matrix : layer.matrices) matrices_.push_back(table(matrix));
    result.peepholes = pointer(layer.peepholes);
    result.float_peepholes = pointer(layer.float_peepholes);
    narrow_.emplace_back(layer.initial_h.begin(), layer.initial_h.end());
    if (real) {
      result.initial_h = pointer(layer.float_initial_h);
      result.initial_cells = pointer(layer.float_initial_cells);
    } else {
      result.initial_h = kind_ == EdgeKind::int8 ? static_cast<const void*>(pointer(narrow_.back()))
                                                 : static_cast<const void*>(pointer(layer.initial_h));
      result.initial_cells = pointer(layer.initial_cells);
      result.initial_stabilisers = pointer(layer.initial_stabilisers);
    }
    result.inputs = narrow(layer.inputs);
    result.hidden = narrow(layer.hidden);
    result.x_width = narrow(padded_to_four(layer.inputs));
    result.h_width = narrow(padded_to_four(layer.hidden));
    const bool slstm = layer.cell == "slstm";
    std::uint32_t columns = layer.cell == "elman" ? 0 : 1;
    if (slstm) columns = real ? 3 : 2;
    if (real && layer.cell == "gru") columns = 0;
    result.cell_width = columns * result.h_width;
    result.stabiliser_width = slstm && !real ? result.h_width : 0;
    result.activations_at = model_.activation_count;
    result.cells_at = model_.cell_count;
    result.stabilisers_at = model_.stabiliser_count;
    model_.activation_count += result.x_width + result.h_width;
    model_.cell_count += result.cell_width;
    model_.stabiliser_count += result.stabiliser_width;
    result.limit = static_cast<std::int32_t>(layer.limit);
    result.output_multiplier = static_cast<std::int32_t>(layer.output_multiplier);
    result.output_shift = narrow(layer.output_shift);
    result.cell_bits = narrow(layer.cell_bits);
    result.peephole_bits = narrow(layer.peephole_bits);
    constexpr std::pair<const char*, std::uint32_t> flags[] = {
        {"coupled", LSTMCORE_EDGE_COUPLED},
        {"peepholes", LSTMCORE_EDGE_PEEPHOLES},
        {"relu", LSTMCORE_EDGE_RELU},
        {"exponential_forget", LSTMCORE_EDGE_EXPONENTIAL_FORGET},
    };
    for (const auto& [name, bit] : flags) result.options |= has(layer, name) ? bit : 0;
    layers_.push_back(result);
  }

  void add(const EdgeDense& dense, bool last) {
    lstmcore_edge_dense result{};
    const bool real = kind_ == EdgeKind::float32;
    if (last) {
      result.apply = real ? lstmcore_edge_output_float : lstmcore_edge_output;
    } else {
      result.apply = real ? lstmcore_edge_hidden_float : lstmcore_edge_hidden;
    }
    result.matrix = table(dense.matrix);
    result.outputs = narrow(dense.outputs);
    if (dense.activation == "relu") result.activation = LSTMCORE_EDGE_RELU_DENSE;
    if (dense.activation == "tanh") result.activation = LSTMCORE_EDGE_TANH;
    if (dense.activation == "selu") result.activation = LSTMCORE_EDGE_SELU;
    result.limit = static_cast<std::int32_t>(dense.limit);
    result.output_multiplier = static_cast<std::int32_t>(dense.output_multiplier);
    result.output_shift = narrow(dense.output_shift);
    dense_.push_back(result);
  }

  EdgeKind kind_;
  std::vector<lstmcore_edge_matrix> matrices_;
  std::vector<std::vector<std::int8_t>> narrow_;  // initial activations of kind int8
  std::vector<lstmcore_edge_layer> layers_;
  std::vector<lstmcore_edge_dense> dense_;
  lstmcore_edge_model model_{};
};

/// The runtime's memory for one stream.
class State final : public engine::EdgeStateEngine {
 public:
  explicit State(const Tables& tables)
      : tables_(tables),
        activations_(tables.model().activation_count * tables.activation_size()),
        cells_(tables.model().cell_count * tables.cell_size()),
        pooled_(tables.pooled_size()),
        stabilisers_(tables.model().stabiliser_count),
        scratch_(tables.model().scratch_count * tables.activation_size()),
        x_(tables.model().inputs * tables.activation_size()) {
    attach();
    reset();
  }
  State(const State& other)
      : tables_(other.tables_),
        activations_(other.activations_),
        cells_(other.cells_),
        pooled_(other.pooled_),
        stabilisers_(other.stabilisers_),
        scratch_(other.scratch_),
        x_(other.x_),
        steps_(other.steps_) {
    attach();
  }
  State& operator=(const State&) = delete;

  void reset() noexcept override {
    std::fill(pooled_.begin(), pooled_.end(), static_cast<unsigned char>(0));
    lstmcore_edge_reset(&tables_.model(), &memory_);
  }
  void step(const float* x, void* out) noexcept override {
    lstmcore_edge_quantise(&tables_.model(), x, x_.data());
    lstmcore_edge_step(&tables_.model(), &memory_, x_.data(), out);
  }
  std::unique_ptr<EdgeStateEngine> copy() const override { return std::make_unique<State>(*this); }
  std::vector<unsigned char> bytes() const override {
    std::vector<unsigned char> all(activations_);
    all.insert(all.end(), cells_.begin(), cells_.end());
    append(all, stabilisers_.data(), stabilisers_.size() * sizeof(std::int32_t));
    all.insert(all.end(), pooled_.begin(), pooled_.end());
    append(all, &steps_, sizeof(steps_));
    return all;
  }

  const lstmcore_edge_memory& memory() const noexcept { return memory_; }

 private:
  void attach() noexcept {
    memory_.activations = activations_.data();
    memory_.cells = cells_.data();
    memory_.stabilisers = stabilisers_.data();
    memory_.pooled = pooled_.empty() ? nullptr : pooled_.data();
    memory_.steps = pooled_.empty() ? nullptr : &steps_;
    memory_.scratch = scratch_.data();
  }
  static void append(std::vector<unsigned char>& to, const void* from, std::size_t bytes) {
    const auto* first = static_cast<const unsigned char*>(from);
    to.insert(to.end(), first, first + bytes);
  }

  const Tables& tables_;
  // Bytes of operator new, aligned for any type; C sees its own types in them.
  std::vector<unsigned char> activations_, cells_, pooled_;
  std::vector<std::int32_t> stabilisers_;
  std::vector<unsigned char> scratch_, x_;
  std::uint32_t steps_ = 0;
  lstmcore_edge_memory memory_{};
};

class Edge final : public engine::EdgeEngine {
 public:
  explicit Edge(const EdgeProgram& program) : tables_(program) {}

  EdgeMemory memory() const noexcept override {
    const lstmcore_edge_model& model = tables_.model();
    EdgeMemory result;
    result.state = static_cast<std::int64_t>(model.activation_count * tables_.activation_size() +
                                             model.cell_count * tables_.cell_size() + model.stabiliser_count * 4U +
                                             tables_.pooled_size() + (model.pool != nullptr ? 4U : 0U));
    result.scratch = static_cast<std::int64_t>(model.scratch_count * tables_.activation_size());
    result.buffer_per_step =
        static_cast<std::int64_t>(lstmcore_edge_buffer_count(&model, 1) * tables_.activation_size());
    return result;
  }

  void run(const Sequences& x, void* out, int n_threads) const override {
    const lstmcore_edge_model& model = tables_.model();
    const bool every = model.pooling == LSTMCORE_EDGE_NONE;
    std::vector<std::int64_t> first(static_cast<std::size_t>(x.count));
    std::int64_t rows = 0, steps = 0, longest = 0;
    for (std::int64_t n = 0; n < x.count; ++n) {
      first[static_cast<std::size_t>(n)] = rows;
      rows += every ? x.lengths[n] : 1;
      steps += x.lengths[n];
      longest = std::max(longest, x.lengths[n]);
    }
    // A region of its own is worth it from about 50 µs of work on.
    const std::int64_t work = steps * (model.activation_count + model.outputs) * 64;
    const int threads =
        work < 1'000'000 ? 1 : static_cast<int>(std::min<std::int64_t>(usable_threads(n_threads), x.count));
    // All memory is taken before the region: what it throws must not cross a thread.
    const std::size_t buffer = lstmcore_edge_buffer_count(&model, narrow(longest));
    std::vector<std::unique_ptr<State>> states;
    std::vector<std::vector<unsigned char>> inputs(static_cast<std::size_t>(threads)), buffers(inputs.size());
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      states.push_back(std::make_unique<State>(tables_));
      inputs[i].resize(static_cast<std::size_t>(longest) * model.inputs * tables_.activation_size());
      buffers[i].resize(buffer * tables_.activation_size());
    }
    std::atomic<std::int64_t> next{0};
    parallel(threads, [&](Member member) {
      const KeepDenormals as_on_the_device;
      const auto i = static_cast<std::size_t>(member.id);
      for (std::int64_t n = next.fetch_add(1); n < x.count; n = next.fetch_add(1)) {
        const std::int64_t length = x.lengths[n];
        const auto* from = static_cast<const float*>(x.data[n]);
        const std::size_t row = model.inputs * tables_.activation_size();
        for (std::int64_t t = 0; t < length; ++t) {
          lstmcore_edge_quantise(&model, from + t * model.inputs, inputs[i].data() + static_cast<std::size_t>(t) * row);
        }
        states[i]->reset();
        unsigned char* const to = static_cast<unsigned char*>(out) +
                                  static_cast<std::size_t>(first[static_cast<std::size_t>(n)]) * model.outputs * 4U;
        lstmcore_edge_run(&model, &states[i]->memory(), inputs[i].data(), narrow(length), buffers[i].data(), buffer,
                          to);
      }
    });
  }

  void quantise(const float* x, void* activations) const noexcept override {
    lstmcore_edge_quantise(&tables_.model(), x, activations);
  }
  std::unique_ptr<engine::EdgeStateEngine> make_state() const override { return std::make_unique<State>(tables_); }

 private:
  Tables tables_;
};

}  // namespace

std::unique_ptr<engine::EdgeEngine> make_edge(const EdgeProgram& program) { return std::make_unique<Edge>(program); }

LSTMCORE_END_NAMESPACE
