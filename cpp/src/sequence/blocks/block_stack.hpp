// Layers of blocks: the mLSTM and xLSTM side of a Stack (sequence/stack.hpp), which deals with all other cells itself.
// One direction after the other, each with all threads: a block's parallel parts are whole rows and whole heads.
#pragma once

#include "sequence/blocks/memory_block.hpp"
#include "sequence/blocks/mlstm_layer.hpp"
#include "sequence/blocks/scalar_block.hpp"
#include "sequence/masks.hpp"
#include "sequence/workspace.hpp"

LSTMCORE_BEGIN_NAMESPACE

template <class T>
class BlockStack {
 public:
  using Workspace = StackWorkspace<T>;

  BlockStack(const RecurrentConfig& config, const StackShape& shape) : shape_(shape), dropout_(config.dropout) {
    std::vector<BlockTensors> tensors;
    recurrent_tensors(shape, nullptr, &tensors);
    for (std::int64_t slot = 0; slot < shape.slots(); ++slot) {
      const BlockSizes sizes = shape.block_sizes(slot / shape.directions);
      const BlockTensors& at = tensors[static_cast<std::size_t>(slot)];
      switch (sizes.kind) {
        case 'm':
          blocks_.push_back(std::make_unique<MemoryBlock<T>>(shape_, sizes, at));
          break;
        case 's':
          blocks_.push_back(std::make_unique<ScalarBlock<T>>(shape_, sizes, at));
          break;
        default:
          blocks_.push_back(std::make_unique<MlstmLayer<T>>(shape_, sizes, at));
          break;
      }
      packed_at_.push_back(packed_size_);
      packed_size_ += blocks_.back()->packed_size();
    }
  }

  std::int64_t packed_size() const noexcept { return packed_size_; }
  void pack(const T* parameters, T* packed, Member member) const noexcept {
    for (std::size_t slot = 0; slot < blocks_.size(); ++slot) {
      blocks_[slot]->pack(parameters, packed + packed_at_[slot], member);
    }
  }

  double flops_per_row() const noexcept {
    double flops = 0;
    for (const auto& block : blocks_) flops += block->flops_per_row();
    return flops;
  }

  /// Room for a pass; ws.x must be there.
  void prepare(const ForwardOptions<T>& options, const T* packed, Workspace& ws) const {
    const std::int64_t rows = ws.layout.rows();
    const std::int64_t pp = padded<T>(shape_.output);
    const std::int64_t width = shape_.directions * pp;
    ws.out.assign(static_cast<std::size_t>(shape_.layers), {});
    ws.mask.assign(static_cast<std::size_t>(shape_.layers), {});
    ws.block_passes.assign(blocks_.size(), {});
    if (ws.blocks.size() != blocks_.size()) {
      ws.blocks.clear();
      for (const auto& block : blocks_) ws.blocks.push_back(block->make_memory());
    }
    for (std::size_t slot = 0; slot < blocks_.size(); ++slot) {
      const auto layer = slot / static_cast<std::size_t>(shape_.directions);
      const auto direction = static_cast<int>(slot % static_cast<std::size_t>(shape_.directions));
      if (direction == 0) ws.out[layer] = take_rows<T>(ws.arena, rows, width);
      BlockPass<T>& pass = ws.block_passes[slot];
      pass.layout = &ws.layout;
      pass.shape = &shape_;
      pass.reverse = shape_.runs_backwards(direction);
      pass.record = options.record;
      pass.slot = static_cast<std::int64_t>(slot);
      pass.packed = packed + packed_at_[slot];
      pass.x = layer == 0 ? ws.x : ws.out[layer - 1].read();
      pass.out = ws.out[layer].columns(direction * pp);
      pass.initial = options.initial;
      pass.final_state = options.final_state;
      const BlockSizes sizes = shape_.block_sizes(static_cast<std::int64_t>(layer));
      const std::size_t masks = sizes.kind == 's' ? 2 : sizes.kind == 'm' || !sizes.last ? 1 : 0;
      for (std::size_t which = 0; options.record && dropout_ > 0 && which < masks; ++which) {
        pass.mask[which] = take_rows<T>(ws.arena, rows, pp).read();
      }
      blocks_[slot]->prepare(pass, options.n_threads, ws.arena, *ws.blocks[slot]);
    }
  }

  /// This member's share of the dropout masks.
  void fill_masks(const ForwardOptions<T>& options, Workspace& ws, Member member) const noexcept {
    const auto kept = static_cast<T>(1.0 / (1.0 - dropout_));
    for (const BlockPass<T>& pass : ws.block_passes) {
      for (std::size_t which = 0; which < pass.mask.size(); ++which) {
        const Rows<const T>& mask = pass.mask[which];
        if (mask.data == nullptr) continue;
        const auto index = 2 * pass.slot + static_cast<std::int64_t>(which);
        fill_mask(mask_stream(options.dropout_seed, MaskUse::dropout, index), dropout_, T{0}, kept, pass.rows(),
                  shape_.output, Rows<T>{const_cast<T*>(mask.data), mask.stride}, member);
      }
    }
  }

  void forward(std::int64_t layer, Workspace& ws, const Group& group) const noexcept {
    for (std::size_t slot = first(layer); slot < first(layer + 1); ++slot) {
      blocks_[slot]->forward(ws.block_passes[slot], *ws.blocks[slot], group);
    }
    if (layer + 1 == shape_.layers) clear_unused(ws, &BlockPass<T>::final_state, group.member);
  }

  void prepare_backward(const T* parameters, const BackwardOptions<T>& options, const std::array<Rows<T>, 2>& d_out,
                        Rows<T> dx, Workspace& ws) const {
    std::int64_t scratch = 0;
    for (const auto& block : blocks_) scratch = std::max(scratch, block->scratch_size());
    scratch += kLanes<T>;
    T* const room = ws.arena.template take<T>(scratch * options.n_threads);
    for (std::size_t slot = 0; slot < blocks_.size(); ++slot) {
      const std::int64_t layer = static_cast<std::int64_t>(slot) / shape_.directions;
      const auto direction = static_cast<int>(static_cast<std::int64_t>(slot) % shape_.directions);
      BlockPass<T>& pass = ws.block_passes[slot];
      const auto above = static_cast<std::size_t>((shape_.layers - 1 - layer) % 2);
      pass.parameters = parameters;
      pass.gradient = options.gradient;
      pass.d_out = d_out[above].columns(direction * padded<T>(shape_.output)).read();
      pass.dx = layer > 0 ? d_out[1 - above] : dx;
      pass.dx_start = direction == 0 ? Start::zero : Start::sum;
      pass.d_final = options.d_final;
      pass.d_initial = options.d_initial;
      pass.bptt_steps = options.bptt_steps;
      pass.scratch = room;
      pass.scratch_size = scratch;
      blocks_[slot]->prepare_backward(pass, options.n_threads, ws.arena, *ws.blocks[slot]);
    }
  }

  void backward(std::int64_t layer, Workspace& ws, const Group& group) const noexcept {
    for (std::size_t slot = first(layer); slot < first(layer + 1); ++slot) {
      blocks_[slot]->backward(ws.block_passes[slot], *ws.blocks[slot], group);
    }
    if (layer == 0) clear_unused(ws, &BlockPass<T>::d_initial, group.member);
  }

 private:
  std::size_t first(std::int64_t layer) const noexcept { return static_cast<std::size_t>(layer * shape_.directions); }

  /// Zeros where a block has no part of a state, or less than the widest block.
  void clear_unused(Workspace& ws, void* const* BlockPass<T>::* states, Member member) const noexcept {
    if (member.id != 0) return;
    for (std::size_t slot = 0; slot < blocks_.size(); ++slot) {
      const BlockPass<T>& pass = ws.block_passes[slot];
      if (pass.*states == nullptr) continue;
      for (std::size_t s = 0; s <= shape_.cell.states; ++s) {
        const std::int64_t used = blocks_[slot]->state_used(s);
        for (std::int64_t n = 0; n < ws.layout.sequences(); ++n) {
          std::fill_n(pass.state(pass.*states, s, n) + used, shape_.state_width(s) - used, T{0});
        }
      }
    }
  }

  const StackShape& shape_;
  double dropout_;
  std::vector<std::unique_ptr<Block<T>>> blocks_;
  std::vector<std::int64_t> packed_at_;
  std::int64_t packed_size_ = 0;
};

LSTMCORE_END_NAMESPACE
