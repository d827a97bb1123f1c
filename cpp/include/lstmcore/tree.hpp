// Long short-term memory over trees (Tai, Socher & Manning 2015): forward and backpropagation through structure.
#pragma once

#include <lstmcore/types.hpp>

#include <memory>

namespace lstmcore {

namespace engine {
class TreeEngine;
class TreeTapeEngine;
}  // namespace engine

enum class TreeKind {
  child_sum,  ///< any number of children, their order does not matter
  nary        ///< at most `arity` children, each position with weights of its own
};

struct TreeConfig {
  TreeKind kind = TreeKind::child_sum;
  std::int64_t input_size = 0;   ///< I ≥ 1
  std::int64_t hidden_size = 0;  ///< H ≥ 1
  std::int64_t arity = 0;        ///< A: positions for children, ≥ 1 (nary); 0 (child_sum)
  Dtype dtype = Dtype::float32;
  std::uint64_t seed = 0;  ///< of the initial weights
  int n_threads = 0;       ///< upper bound; 0: OMP_NUM_THREADS, else all cores
};

/// M nodes of one tree or of many; borrowed memory. Nodes may stand in any order.
struct Forest {
  const void* x = nullptr;                  ///< [M, I], row-major
  const std::int64_t* parents = nullptr;    ///< [M]: index of each node's parent, −1 for a root
  const std::int64_t* positions = nullptr;  ///< nary: [M], 0 … A−1 among the parent's children, −1 for a root;
                                            ///< nullptr: siblings stand in the order of their indices
  std::int64_t count = 0;                   ///< M ≥ 1
  std::int64_t features = 0;                ///< I
};

/// What a forward pass in training saves for `backward`. Movable; reusable for later passes.
class LSTMCORE_API TreeTape {
 public:
  TreeTape() noexcept;
  ~TreeTape();
  TreeTape(TreeTape&&) noexcept;
  TreeTape& operator=(TreeTape&&) noexcept;
  explicit operator bool() const noexcept { return impl_ != nullptr; }
  std::int64_t nodes() const noexcept;  ///< M of the recorded pass

 private:
  friend class TreeRecurrent;
  std::unique_ptr<engine::TreeTapeEngine> impl_;
  const engine::TreeEngine* owner_ = nullptr;  ///< who recorded
};

/// One layer over trees. Weights live in one flat buffer that the caller may read and write between calls. All methods
/// taking `const` may run at once from several threads. Results do not depend on the number of threads.
class LSTMCORE_API TreeRecurrent {
 public:
  /// Throws std::invalid_argument naming the field, the value found and what is allowed.
  explicit TreeRecurrent(const TreeConfig& config);
  ~TreeRecurrent();
  TreeRecurrent(TreeRecurrent&&) noexcept;
  TreeRecurrent& operator=(TreeRecurrent&&) noexcept;

  const TreeConfig& config() const noexcept;
  /// Another upper bound for threads, as TreeConfig::n_threads. Not while another call runs.
  void set_threads(int n_threads);
  const std::vector<std::string>& gates() const noexcept;  ///< row order of W and b: i, f, u, o

  /// "W" [4·H, I] and "b" [4·H], rows i, f, u, o, and "U": child_sum [4·H, H], rows i, f, u, o; nary
  /// [(3 + A)·H, A·H], rows i, f_1 … f_A, u, o (block f_k: the forget gate of child k), columns: h of children 1 … A.
  const std::vector<TensorInfo>& tensors() const noexcept;
  std::int64_t parameter_count() const noexcept;
  void* parameters() noexcept;
  const void* parameters() const noexcept;

  /// States of all nodes. h: [M, H]; c: [M, H], or nullptr if not wanted. tape: records for backward.
  /// Throws std::invalid_argument naming the node for a parent that is no node, a cycle, too many children, or
  /// positions out of range or taken twice.
  void forward(const Forest& forest, void* h, void* c, TreeTape* tape = nullptr) const;

  /// Gradients of a scalar loss after forward(…, &tape); weights must not have changed in between.
  /// dh, dc: of every node's h and c, [M, H], or nullptr for zeros. dx: [M, I], written, or nullptr.
  /// gradient: parameter_count() elements, overwritten.
  void backward(TreeTape& tape, const void* dh, const void* dc, void* dx, void* gradient) const;

 private:
  std::unique_ptr<engine::TreeEngine> impl_;
};

}  // namespace lstmcore
