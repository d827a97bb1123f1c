// A plain mLSTM layer (cell "mlstm"): projections of x, the matrix memories, an output gate.
#pragma once

#include "sequence/blocks/head_memories.hpp"

LSTMCORE_BEGIN_NAMESPACE

template <class T>
class MlstmLayer final : public Block<T> {
 public:
  MlstmLayer(const StackShape& shape, const BlockSizes& sizes, const BlockTensors& at)
      : hidden_(sizes.hidden),
        tensors_(at),
        memories_(sizes.hidden, sizes.heads, shape.cell.chunk, shape.cell.exponential_forget, shape.cell.state("C"),
                  shape.cell.state("n"), shape.cell.state("m")) {
    const std::int64_t width = sizes.input / sizes.groups;
    std::int64_t row = 0;
    for (std::size_t part = 0; part < kParts; ++part) {
      const std::int64_t rows = part == kGates ? 2 * sizes.heads : sizes.hidden;
      parts_.push_back(
          {Dense<T>(rows, sizes.groups, width), tensors_.W + row * sizes.input, tensors_.b + row, packed_size_});
      row += rows;
      packed_size_ += parts_.back().dense.packed_size();
    }
  }

  std::int64_t packed_size() const noexcept override { return packed_size_; }
  void pack(const T* parameters, T* packed, Member member) const noexcept override {
    for (const Part& part : parts_) {
      part.dense.pack(parameters + part.w, parameters + part.b, packed + part.packed, member);
    }
  }
  std::int64_t scratch_size() const noexcept override { return parts_[0].dense.scratch(); }
  std::int64_t state_used(std::size_t s) const noexcept override { return s == 0 ? hidden_ : memories_.state_used(s); }
  double flops_per_row() const noexcept override {
    double flops = memories_.flops_per_row();
    for (const Part& part : parts_) {
      flops += 2.0 * static_cast<double>(part.dense.outputs()) * static_cast<double>(part.dense.depth());
    }
    return flops;
  }

  std::unique_ptr<BlockMemory> make_memory() const override { return std::make_unique<Memory>(); }

  void prepare(const BlockPass<T>& pass, int n_threads, Arena& arena, BlockMemory& memory) const override {
    auto& m = static_cast<Memory&>(memory);
    memories_.prepare(pass, n_threads, arena, m.heads);
    m.o = take_rows<T>(arena, pass.rows(), padded<T>(hidden_));
  }

  void prepare_backward(const BlockPass<T>& pass, int n_threads, Arena& arena, BlockMemory& memory) const override {
    auto& m = static_cast<Memory&>(memory);
    memories_.prepare_backward(pass, n_threads, arena, m.heads);
    m.d_o = take_rows<T>(arena, pass.rows(), padded<T>(hidden_));
    m.d_h = take_rows<T>(arena, pass.rows(), padded<T>(hidden_));
    m.back.resize(parts_.size());
    for (std::size_t part = 0; pass.dx.data != nullptr && part < parts_.size(); ++part) {
      m.back[part] = arena.take<T>(parts_[part].dense.back_size());
    }
  }

  void forward(const BlockPass<T>& pass, BlockMemory& memory, const Group& group) const noexcept override {
    auto& m = static_cast<Memory&>(memory);
    if (gives_up(group)) return;
    const Member::Range rows = group.member.share(pass.rows(), 12);
    for (std::size_t part = 0; part < kParts; ++part) {
      parts_[part].dense.forward(pass.packed + parts_[part].packed, rows.end - rows.begin, pass.x.from(rows.begin),
                                 output(m, part).from(rows.begin));
    }
    memories_.clear_padding(m.heads, rows);
    group.wait();
    memories_.forward(pass, m.heads, group.member);
    group.wait();
    for_packs<T>(rows, padded<T>(hidden_), [&](std::int64_t row, std::int64_t j) {
      const Pack<T> o = math::logistic(load(m.o[row] + j));
      store(m.o[row] + j, o);
      store(pass.out[row] + j, o * load(m.heads.h[row] + j));
    });
    clear_padding(pass.out, rows);
    if (pass.final_state != nullptr) {
      group.wait();
      const Member::Range range = group.member.share(pass.sequences());
      for (std::int64_t n = range.begin; n < range.end; ++n) {
        std::copy_n(pass.out[pass.row(pass.layout->length(n) - 1, n)], hidden_, pass.state(pass.final_state, 0, n));
      }
    }
    if (pass.mask[0].data == nullptr) return;
    group.wait();
    for_packs<T>(rows, padded<T>(hidden_), [&](std::int64_t row, std::int64_t j) {
      store(pass.out[row] + j, load(pass.out[row] + j) * load(pass.mask[0][row] + j));
    });
  }

  void backward(const BlockPass<T>& pass, BlockMemory& memory, const Group& group) const noexcept override {
    auto& m = static_cast<Memory&>(memory);
    if (gives_up(group)) return;
    const std::int64_t hp = padded<T>(hidden_);
    const Member::Range rows = group.member.share(pass.rows(), 12);
    memories_.clear_gradient_padding(m.heads, rows);
    for (std::size_t part = 0; pass.dx.data != nullptr && part < kParts; ++part) {
      parts_[part].dense.pack_back(pass.parameters + parts_[part].w, m.back[part], group.member);
    }
    for_packs<T>(rows, hp, [&](std::int64_t row, std::int64_t j) {
      const Pack<T> d = load(pass.d_out[row] + j);
      store(m.d_h[row] + j, pass.mask[0].data == nullptr ? d : d * load(pass.mask[0][row] + j));
    });
    group.wait();
    if (pass.d_final != nullptr) {
      const Member::Range range = group.member.share(pass.sequences());
      for (std::int64_t n = range.begin; n < range.end; ++n) {
        T* const to = m.d_h[pass.row(pass.layout->length(n) - 1, n)];
        const T* const d = pass.state(pass.d_final, 0, n);
        for (std::int64_t j = 0; j < hidden_; ++j) to[j] += d[j];
      }
      group.wait();
    }
    for_packs<T>(rows, hp, [&](std::int64_t row, std::int64_t j) {
      const Pack<T> o = load(m.o[row] + j);
      const Pack<T> d = load(m.d_h[row] + j);
      store(m.d_o[row] + j, d * load(m.heads.h[row] + j) * math::logistic_derivative(o));
      store(m.heads.dh[row] + j, d * o);
    });
    group.wait();
    memories_.backward(pass, m.heads, group.member);
    if (pass.d_initial != nullptr) {
      const Member::Range range = group.member.share(pass.sequences());
      for (std::int64_t n = range.begin; n < range.end; ++n) {
        std::fill_n(pass.state(pass.d_initial, 0, n), hidden_, T{0});  // h feeds nothing
      }
    }
    group.wait();
    for (std::size_t part = 0; part < kParts; ++part) {
      const Part& of = parts_[part];
      const Rows<const T> d = gradient(m, part);
      of.dense.weight_gradient(pass.rows(), d, pass.x, pass.gradient + of.w, pass.gradient + of.b,
                               pass.scratch_of(group.member), group.member);
      if (pass.dx.data == nullptr) continue;
      of.dense.input_gradient(part == 0 ? pass.dx_start : Start::sum, m.back[part], rows.begin, rows.end, d, pass.dx);
    }
    group.wait();
  }

 private:
  static constexpr std::size_t kParts = 5, kGates = 3;  // q, k, v, (i, f), o: as the rows of W
  struct Part {
    Dense<T> dense;
    std::int64_t w, b, packed;
  };
  struct Memory final : BlockMemory {
    typename HeadMemories<T>::Memory heads;
    Rows<T> o, d_o, d_h;
    std::vector<T*> back;
  };

  Rows<T> output(const Memory& m, std::size_t part) const noexcept {
    if (part < kGates) return m.heads.qkv.columns(static_cast<std::int64_t>(part) * memories_.group());
    return part == kGates ? m.heads.gates : m.o;
  }
  Rows<const T> gradient(const Memory& m, std::size_t part) const noexcept {
    if (part < kGates) return m.heads.d_qkv.columns(static_cast<std::int64_t>(part) * memories_.group()).read();
    return (part == kGates ? m.heads.d_gates : m.d_o).read();
  }
  void clear_padding(Rows<T> rows, Member::Range range) const noexcept {
    for (std::int64_t row = range.begin; row < range.end; ++row) {
      std::fill(rows[row] + hidden_, rows[row] + padded<T>(hidden_), T{0});
    }
  }

  std::int64_t hidden_;
  BlockTensors tensors_;
  HeadMemories<T> memories_;
  std::vector<Part> parts_;
  std::int64_t packed_size_ = 0;
};

LSTMCORE_END_NAMESPACE
