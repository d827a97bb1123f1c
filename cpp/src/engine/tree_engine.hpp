// TreeEngine for one element type.
#pragma once

#include "base/packed_from.hpp"
#include "base/pool.hpp"
#include "engine/engine.hpp"
#include "model/tree_init.hpp"
#include "sequence/tree_gradients.hpp"

LSTMCORE_BEGIN_NAMESPACE

/// Memory of a pass; kept for the next one.
template <class T>
struct TreeWorkspace {
  TreeLayout layout;
  std::vector<TreeRun> runs;
  TreePass<T> pass;
  Arena arena;
  typename TreeGradients<T>::Edges edges;

  Arena packed;  ///< weights, packed from `packed_from`
  TreeTensors<T> expanded;
  TreePanels<T> panels, back;
  PackedFrom<T> packed_from;

  bool recorded = false;
};

template <class T>
class TreeTapeOf final : public engine::TreeTapeEngine {
 public:
  std::int64_t nodes() const noexcept override { return workspace.layout.rows(); }
  TreeWorkspace<T> workspace;
};

template <class T>
class TreeLayer final : public engine::TreeEngine {
 public:
  using Workspace = TreeWorkspace<T>;

  explicit TreeLayer(const TreeConfig& config)
      : config_(config),
        shape_(config),
        tensors_(tree_tensors(shape_)),
        gates_(TreeLstm::kGateNames.begin(), TreeLstm::kGateNames.end()),
        parameters_(static_cast<std::size_t>(shape_.offsets()[3])) {
    initialise(shape_, config.seed, parameters_.data());
  }

  const TreeConfig& config() const noexcept override { return config_; }
  void set_threads(int n_threads) noexcept override { config_.n_threads = n_threads; }
  const std::vector<std::string>& gates() const noexcept override { return gates_; }
  const std::vector<TensorInfo>& tensors() const noexcept override { return tensors_; }
  void* parameters() noexcept override { return parameters_.data(); }
  std::unique_ptr<engine::TreeTapeEngine> make_tape() const override { return std::make_unique<TreeTapeOf<T>>(); }

  void forward(const Forest& forest, void* h, void* c, engine::TreeTapeEngine* tape) const override {
    if (tape != nullptr) {
      run_forward(forest, static_cast<T*>(h), static_cast<T*>(c), static_cast<TreeTapeOf<T>*>(tape)->workspace);
      static_cast<TreeTapeOf<T>*>(tape)->workspace.recorded = true;
    } else {
      const auto workspace = pool_.borrow();
      run_forward(forest, static_cast<T*>(h), static_cast<T*>(c), *workspace);
    }
  }

  void backward(engine::TreeTapeEngine& tape, const void* dh, const void* dc, void* dx, void* gradient) const override {
    Workspace& ws = static_cast<TreeTapeOf<T>&>(tape).workspace;
    if (!ws.recorded) {
      throw std::invalid_argument(
          "tape: its recording was used up by an earlier backward(); run forward() with the tape again");
    }
    ws.recorded = false;
    TreePass<T>& pass = ws.pass;
    const std::int64_t rows = ws.layout.rows();
    const std::int64_t internals = ws.layout.internals();
    const std::int64_t width = pass.width();
    const int threads = threads_for(ws.layout);
    pass.user = {};
    pass.user.dh = static_cast<const T*>(dh);
    pass.user.dc = static_cast<const T*>(dc);
    pass.user.dx = static_cast<T*>(dx);
    ws.back = TreePacking<T>::allocate_backward(shape_, dx != nullptr, ws.arena);
    pass.back = &ws.back;
    pass.dh = take(ws.arena, rows, width);
    pass.dc = take(ws.arena, rows, width);
    if (!shape_.nary()) pass.d_sum = take(ws.arena, internals, width);
    pass.scratch_size = std::max(TreeLevels<T>::scratch(shape_), TreeGradients<T>::scratch(shape_)) + kSlack;
    pass.scratch = ws.arena.template take<T>(threads * pass.scratch_size);
    const TreeTensors<T> gradients = TreeExpansion<T>::allocate(shape_, ws.arena);
    TreeGradients<T>::prepare(pass, ws.edges);
    TreeLevels<T>::plan(shape_, ws.layout, threads, ws.runs);

    SpinBarrier team;
    parallel(threads, [&](Member member) {
      TreePacking<T>::pack_backward(shape_, ws.expanded, ws.back, member);
      team.wait(member.size);
      TreeLevels<T>::backward(pass, ws.runs, team, member);
      TreeLevels<T>::input_gradient(pass, member);
      TreeGradients<T>::weights(pass, ws.edges, gradients, pass.scratch + member.id * pass.scratch_size, member);
      team.wait(member.size);
      TreeExpansion<T>::gather(shape_, gradients, static_cast<T*>(gradient), member);
    });
  }

 private:
  /// Elements between the scratch of two threads.
  static constexpr std::int64_t kSlack = static_cast<std::int64_t>(Arena::kAlignment);

  static Rows<T> take(Arena& arena, std::int64_t rows, std::int64_t columns) {
    return {arena.take<T>(rows * columns), columns};
  }

  int threads_for(const TreeLayout& layout) const noexcept {
    constexpr double kProductsPerThread = 750'000;  // about 20 µs, four times the cost of waking a thread that spins
    const double products = static_cast<double>(layout.rows()) * static_cast<double>(4 * shape_.hidden * shape_.input) +
                            static_cast<double>(layout.edges()) * static_cast<double>(shape_.child_products());
    const int useful = static_cast<int>(std::min(1024.0, products / kProductsPerThread));
    return std::clamp(useful, 1, std::max(1, usable_threads(config_.n_threads)));
  }

  bool same_weights(Workspace& ws) const {
    if (ws.packed_from.same(parameters_.data(), total_count(tensors_), 0)) return true;
    if (ws.panels.nodes_W.data == nullptr) {
      ws.packed.reset();
      ws.expanded = TreeExpansion<T>::allocate(shape_, ws.packed);
      ws.panels = TreePacking<T>::allocate_forward(shape_, ws.packed);
    }
    return false;
  }

  void run_forward(const Forest& forest, T* h, T* c, Workspace& ws) const {
    ws.recorded = false;
    ws.layout.assign(forest.parents, forest.positions, forest.count, shape_.arity);
    const bool pack = !same_weights(ws);
    const std::int64_t rows = ws.layout.rows();
    const std::int64_t internals = ws.layout.internals();
    const int threads = threads_for(ws.layout);
    ws.arena.reset();
    TreePass<T>& pass = ws.pass;
    pass = {};
    pass.shape = &shape_;
    pass.user.x = static_cast<const T*>(forest.x);
    pass.user.h = h;
    pass.user.c = c;
    pass.layout = &ws.layout;
    pass.panels = &ws.panels;
    pass.nodes_b = ws.expanded.nodes_b;
    pass.forget_b = ws.expanded.forget_b;
    const std::int64_t width = pass.width();
    pass.x = take(ws.arena, rows, shape_.input);
    pass.gates = take(ws.arena, rows, 3 * width);
    pass.forget_x = take(ws.arena, internals, width);
    pass.forget = take(ws.arena, ws.layout.slots(), width);
    pass.h = take(ws.arena, rows, width);
    pass.c = take(ws.arena, rows, width);
    if (!shape_.nary()) pass.sum = take(ws.arena, internals, width);
    pass.scratch_size = TreeLevels<T>::scratch(shape_) + kSlack;
    pass.scratch = ws.arena.template take<T>(threads * pass.scratch_size);
    TreeLevels<T>::plan(shape_, ws.layout, threads, ws.runs);

    SpinBarrier team;
    parallel(threads, [&](Member member) {
      if (pack) {
        TreeExpansion<T>::expand(shape_, ws.packed_from.copy(), ws.expanded, member);
        team.wait(member.size);
        TreePacking<T>::pack_forward(shape_, ws.expanded, ws.panels, member);
        team.wait(member.size);
      }
      TreeLevels<T>::input(pass, member);
      team.wait(member.size);
      TreeLevels<T>::forward(pass, ws.runs, team, member);
    });
    if (pack) ws.packed_from.packed();
  }

  TreeConfig config_;
  TreeShape shape_;
  std::vector<TensorInfo> tensors_;
  std::vector<std::string> gates_;
  std::vector<T> parameters_;
  mutable Pool<Workspace> pool_;
};

LSTMCORE_END_NAMESPACE
