// A forest forward, and backward through its structure: level by level, each level one product with U.
//
// Threads share the rows of a level and meet after it. Levels too small for that are taken by one thread, many in a row
// without meeting: a chain of 100,000 nodes has as many levels.
#pragma once

#include "kernels/pointwise.hpp"
#include "sequence/tree_layout.hpp"
#include "sequence/tree_weights.hpp"

LSTMCORE_BEGIN_NAMESPACE

/// The caller's arrays, in the order of nodes and without padding; those of the other direction, and absent ones, are
/// null.
template <class T>
struct TreeArrays {
  const T* x = nullptr;
  T* h = nullptr;
  T* c = nullptr;
  const T* dh = nullptr;
  const T* dc = nullptr;
  T* dx = nullptr;
};

/// Everything that a pass reads and writes. Rows are those of the layout; Hp: H in whole packs.
template <class T>
struct TreePass {
  const TreeShape* shape = nullptr;
  const TreeLayout* layout = nullptr;
  TreeArrays<T> user;
  const TreePanels<T>* panels = nullptr;
  const TreePanels<T>* back = nullptr;
  const T* nodes_b = nullptr;
  const T* forget_b = nullptr;

  Rows<T> x;         ///< [M, I]
  Rows<T> gates;     ///< [M, 3·Hp] i, u, o: pre-activations, activations; after backward gradients of the former
  Rows<T> forget_x;  ///< [internal, Hp] W_f x + b_f; after backward gradients
  Rows<T> forget;    ///< [slots, Hp] f of every edge; after backward gradients of their pre-activations
  Rows<T> h, c;      ///< [M, Hp]
  Rows<T> sum;       ///< [internal, Hp] h̃; child-sum only
  Rows<T> dh, dc;    ///< [M, Hp] what parents add to the caller's gradients; dc in the end all of it
  Rows<T> d_sum;     ///< [internal, Hp]; child-sum only

  /// Of each member, behind one another.
  T* scratch = nullptr;
  std::int64_t scratch_size = 0;

  std::int64_t width() const noexcept { return padded<T>(shape->hidden); }
};

/// Levels [first, last): one that is shared by all threads, or several that one thread takes.
struct TreeRun {
  std::int64_t first;
  std::int64_t last;
  bool shared;
};

template <class T>
class TreeLevels {
 public:
  using Pass = TreePass<T>;
  static constexpr int W = kLanes<T>;

  /// Elements of scratch that one member needs: rows of dx; N-ary, rows of one child's h and of all gates as well.
  static std::int64_t scratch(const TreeShape& shape) noexcept {
    const std::int64_t of_children = (1 + std::max<std::int64_t>(3, shape.forgets())) * padded<T>(shape.hidden);
    return kRowBlock * std::max(padded<T>(shape.input), shape.nary() ? of_children : 0);
  }

  static void plan(const TreeShape& shape, const TreeLayout& layout, int threads, std::vector<TreeRun>& runs) {
    // Meeting costs about 1 µs, and half of it is lost again to shares that are not equal.
    constexpr std::int64_t kProductsPerThread = 200'000;
    runs.clear();
    for (std::int64_t l = 0; l < layout.levels(); ++l) {
      const std::int64_t rows = layout.level(l).rows();
      const bool shared =
          threads > 1 && rows >= 4 * threads && rows * shape.child_products() >= kProductsPerThread * threads;
      if (!shared && !runs.empty() && !runs.back().shared) {
        runs.back().last = l + 1;
      } else {
        runs.push_back({l, l + 1, shared});
      }
    }
  }

  /// W x + b of this member's rows of the levels that are too small to do it one by one: one product for all of them.
  static void input(const Pass& pass, Member member) noexcept {
    const std::int64_t begin = first_bulk_row(*pass.layout);
    const Member::Range range = member.share(pass.layout->rows() - begin, 12);
    for (std::int64_t row = begin + range.begin; row < begin + range.end; row += kRowBlock) {
      input_rows(pass, row, std::min(kRowBlock, begin + range.end - row));
    }
  }

  static void forward(const Pass& pass, const std::vector<TreeRun>& runs, SpinBarrier& team, Member member) noexcept {
    const std::int64_t hidden = pass.shape->hidden;
    for (const TreeRun& run : runs) {
      for (std::int64_t l = run.first; l < run.last; ++l) {
        for_chunks(pass, l, run, member, [&](std::int64_t row, std::int64_t m) {
          if (!in_bulk(*pass.layout, l)) input_rows(pass, row, m);
          forward_rows(pass, l, row, m, member);
          for (std::int64_t r = row; r < row + m; ++r) {
            const std::int64_t to = pass.layout->node(r) * hidden;
            std::copy_n(pass.h[r], hidden, pass.user.h + to);
            if (pass.user.c != nullptr) std::copy_n(pass.c[r], hidden, pass.user.c + to);
          }
        });
      }
      team.wait(member.size);
    }
  }

  static void backward(const Pass& pass, const std::vector<TreeRun>& runs, SpinBarrier& team, Member member) noexcept {
    for (auto run = runs.rbegin(); run != runs.rend(); ++run) {
      for (std::int64_t l = run->last - 1; l >= run->first; --l) {
        for_chunks(pass, l, *run, member, [&](std::int64_t row, std::int64_t m) {
          backward_rows(pass, l, row, m, member);
          if (!in_bulk(*pass.layout, l)) input_gradient_rows(pass, row, m, member);
        });
      }
      team.wait(member.size);
    }
  }

  /// Gradient of x where input() made W x.
  static void input_gradient(const Pass& pass, Member member) noexcept {
    const std::int64_t begin = first_bulk_row(*pass.layout);
    const Member::Range range = member.share(pass.layout->rows() - begin, 12);
    for (std::int64_t row = begin + range.begin; row < begin + range.end; row += kRowBlock) {
      input_gradient_rows(pass, row, std::min(kRowBlock, begin + range.end - row), member);
    }
  }

 private:
  /// Whether the rows of a level go with those of other levels through W. Levels never grow towards the roots: a node
  /// has a child one level below.
  static bool in_bulk(const TreeLayout& layout, std::int64_t l) noexcept { return layout.level(l).rows() < kFewRows; }
  static std::int64_t first_bulk_row(const TreeLayout& layout) noexcept {
    std::int64_t l = layout.levels();
    while (l > 0 && in_bulk(layout, l - 1)) --l;
    return l == layout.levels() ? layout.rows() : layout.level(l).begin;
  }
  static constexpr std::int64_t kFewRows = 24;

  static void input_rows(const Pass& pass, std::int64_t row, std::int64_t m) noexcept {
    const TreeLayout& layout = *pass.layout;
    const std::int64_t columns = pass.shape->input;
    for (std::int64_t r = row; r < row + m; ++r)
      std::copy_n(pass.user.x + layout.node(r) * columns, columns, pass.x[r]);
    with_bias(m, pass.x.from(row), pass.panels->nodes_W, pass.nodes_b, pass.gates.from(row));
    const std::int64_t first = std::max(row, layout.leaves());
    if (first >= row + m) return;
    with_bias(row + m - first, pass.x.from(first), pass.panels->forget_W, pass.forget_b,
              pass.forget_x.from(layout.internal(first)));
  }

  static void input_gradient_rows(const Pass& pass, std::int64_t row, std::int64_t m, Member member) noexcept {
    if (pass.user.dx == nullptr) return;
    const TreeLayout& layout = *pass.layout;
    const std::int64_t columns = pass.shape->input;
    const Rows<T> d{scratch_of(pass, member), padded<T>(columns)};
    product(Start::zero, m, pass.gates.from(row), pass.back->nodes_W, d);
    const std::int64_t first = std::max(row, layout.leaves());
    if (first < row + m) {
      product(Start::sum, row + m - first, pass.forget_x.from(layout.internal(first)), pass.back->forget_W,
              d.from(first - row));
    }
    for (std::int64_t r = row; r < row + m; ++r) {
      std::copy_n(d[r - row], columns, pass.user.dx + layout.node(r) * columns);
    }
  }

  static T* scratch_of(const Pass& pass, Member member) noexcept {
    return pass.scratch + member.id * pass.scratch_size;
  }

  template <class Body>
  static void for_chunks(const Pass& pass, std::int64_t l, const TreeRun& run, Member member, Body&& body) noexcept {
    const TreeLevel& level = pass.layout->level(l);
    Member::Range range{0, level.rows()};
    if (run.shared) {
      range = member.share(level.rows(), 4);
    } else if (member.id != 0) {
      return;
    }
    for (std::int64_t row = level.begin + range.begin; row < level.begin + range.end; row += kRowBlock) {
      body(row, std::min(kRowBlock, level.begin + range.end - row));
    }
  }

  static void product(Start start, std::int64_t rows, Rows<T> a, const Panels<T>& b, Rows<T> to) noexcept {
    rows_times_panels<T>(start, rows, a.data, a.stride, b, 0, b.count(), to.data, to.stride);
  }
  static void with_bias(std::int64_t rows, Rows<T> a, const Panels<T>& b, const T* bias, Rows<T> to) noexcept {
    for (std::int64_t p = 0; p < b.count(); ++p) {
      panel_product<T>(b.packs(p), Start::bias, rows, b.depth, a.data, a.stride, b.panel(p), to.data + b.column(p),
                       to.stride, bias + b.column(p));
    }
  }

  /// Forget gates of all positions of internal nodes, a node a row (N-ary).
  static Rows<T> forget_rows(const Pass& pass, std::int64_t row) noexcept {
    const std::int64_t arity = pass.shape->arity;
    return {pass.forget[pass.layout->internal(row) * arity], arity * pass.width()};
  }

  static void forward_rows(const Pass& pass, std::int64_t l, std::int64_t row, std::int64_t m, Member member) noexcept {
    const TreeLevel& level = pass.layout->level(l);
    if (l > 0 && pass.shape->nary()) {
      children_forward(pass, row, m, member);
    } else if (l > 0) {
      const Rows<T> sum = pass.sum.from(pass.layout->internal(row));
      for (std::int64_t r = row; r < row + m; ++r) add_children(pass, r, sum[r - row]);
      product(Start::sum, m, sum, pass.panels->nodes_U[0], pass.gates.from(row));
    }
    for (std::int64_t r = row; r < row + m; ++r) {
      if (l > 0) edges_forward(pass, r);
      node_forward(pass, r, l > 0);
    }
    const std::int64_t edges = std::min(row + m, level.roots) - row;
    if (!pass.shape->nary() && edges > 0) {
      product(Start::zero, edges, pass.h.from(row), pass.panels->forget_U[0],
              pass.forget.from(level.first_edge + row - level.begin));
    }
  }

  static void add_children(const Pass& pass, std::int64_t row, T* sum) noexcept {
    const TreeChild* child = pass.layout->children_begin(row);
    const TreeChild* const last = pass.layout->children_end(row);
    const std::int64_t width = pass.width();
    std::copy_n(pass.h[child->row], width, sum);
    for (++child; child != last; ++child) {
      const T* h = pass.h[child->row];
      for (std::int64_t j = 0; j < width; j += W) store(sum + j, load(sum + j) + load(h + j));
    }
  }

  /// Which of m rows have a child at a position, asked for position by position.
  class AtPosition {
   public:
    AtPosition(const Pass& pass, std::int64_t row, std::int64_t m) noexcept : pass_(pass), row_(row), m_(m) {
      for (std::int64_t i = 0; i < m; ++i) next_[at(i)] = pass.layout->children_begin(row + i);
    }
    /// found(number among those that have one, number among the m rows, row of the child); returns how many.
    template <class Found>
    std::int64_t operator()(std::int64_t position, Found&& found) noexcept {
      std::int64_t count = 0;
      for (std::int64_t i = 0; i < m_; ++i) {
        const TreeChild*& child = next_[at(i)];
        const std::int64_t slot = pass_.layout->internal(row_ + i) * pass_.shape->arity + position;
        if (child != pass_.layout->children_end(row_ + i) && child->slot == slot) found(count++, i, (child++)->row);
      }
      return count;
    }

   private:
    static std::size_t at(std::int64_t i) noexcept { return static_cast<std::size_t>(i); }
    const Pass& pass_;
    std::int64_t row_, m_;
    std::array<const TreeChild*, kRowBlock> next_;
  };

  /// N-ary: U h, position by position, for the rows that have a child there. Where some have none, rows are moved
  /// together and back, which changes no bit of them.
  static void children_forward(const Pass& pass, std::int64_t row, std::int64_t m, Member member) noexcept {
    const std::int64_t width = pass.width();
    const std::int64_t hidden = pass.shape->hidden;
    const Rows<T> fed{scratch_of(pass, member), width};
    T* const together = fed[kRowBlock];
    const Rows<T> forget = forget_rows(pass, row);
    for (std::int64_t i = 0; i < m; ++i) std::fill_n(forget[i], forget.stride, T{0});
    std::array<std::int64_t, kRowBlock> index;
    AtPosition at_position(pass, row, m);
    for (std::int64_t k = 0; k < pass.shape->arity; ++k) {
      const std::int64_t count = at_position(k, [&](std::int64_t n, std::int64_t i, std::int64_t child) {
        index[static_cast<std::size_t>(n)] = i;
        std::copy_n(pass.h[child], hidden, fed[n]);
      });
      if (count == 0) continue;
      const auto add = [&](const Panels<T>& U, Rows<T> to, std::int64_t columns) {
        if (count == m) {
          product(Start::sum, m, fed, U, to);
          return;
        }
        const Rows<T> some{together, columns};
        for (std::int64_t n = 0; n < count; ++n) std::copy_n(to[index[static_cast<std::size_t>(n)]], columns, some[n]);
        product(Start::sum, count, fed, U, some);
        for (std::int64_t n = 0; n < count; ++n) std::copy_n(some[n], columns, to[index[static_cast<std::size_t>(n)]]);
      };
      add(pass.panels->nodes_U[static_cast<std::size_t>(k)], pass.gates.from(row), 3 * width);
      add(pass.panels->forget_U[static_cast<std::size_t>(k)], forget, forget.stride);
    }
  }

  /// N-ary: what the rows add to dh of their children. A child has one parent, so nobody else writes there.
  static void children_backward(const Pass& pass, std::int64_t row, std::int64_t m, Member member) noexcept {
    const std::int64_t width = pass.width();
    const Rows<T> d_h{scratch_of(pass, member), width};
    T* const together = d_h[kRowBlock];
    std::array<std::int64_t, kRowBlock> index;
    std::array<std::int64_t, kRowBlock> children;
    AtPosition at_position(pass, row, m);
    for (std::int64_t k = 0; k < pass.shape->arity; ++k) {
      const std::int64_t count = at_position(k, [&](std::int64_t n, std::int64_t i, std::int64_t child) {
        index[static_cast<std::size_t>(n)] = i;
        children[static_cast<std::size_t>(n)] = child;
      });
      if (count == 0) continue;
      const auto add = [&](Start start, const Panels<T>& U, Rows<T> from) {
        Rows<T> some = from;
        if (count < m) {
          some = {together, U.depth};
          for (std::int64_t n = 0; n < count; ++n) {
            std::copy_n(from[index[static_cast<std::size_t>(n)]], U.depth, some[n]);
          }
        }
        product(start, count, some, U, d_h);
      };
      add(Start::zero, pass.back->nodes_U[static_cast<std::size_t>(k)], pass.gates.from(row));
      add(Start::sum, pass.back->forget_U[static_cast<std::size_t>(k)], forget_rows(pass, row));
      for (std::int64_t n = 0; n < count; ++n) {
        std::copy_n(d_h[n], width, pass.dh[children[static_cast<std::size_t>(n)]]);
      }
    }
  }

  /// c of the row := Σ f_k ⊙ c_k.
  static void edges_forward(const Pass& pass, std::int64_t row) noexcept {
    const std::int64_t width = pass.width();
    const T* forget_x = pass.forget_x[pass.layout->internal(row)];
    T* c = pass.c[row];
    const TreeChild* const first = pass.layout->children_begin(row);
    const TreeChild* const last = pass.layout->children_end(row);
    for (const TreeChild* child = first; child != last; ++child) {
      edge_loop_forward(width, child == first, forget_x, pass.c[child->row], pass.forget[child->slot], c);
    }
  }
  static void edge_loop_forward(std::int64_t width, bool first, const T* forget_x, const T* c_child, T* forget,
                                T* c) noexcept {
    for (std::int64_t j = 0; j < width; j += W) {
      Pack<T> f = load(forget + j) + load(forget_x + j);
      const Pack<T> kept = TreeLstm::edge_forward(f, load(c_child + j));
      store(forget + j, f);
      store(c + j, first ? kept : load(c + j) + kept);
    }
  }

  static void node_forward(const Pass& pass, std::int64_t row, bool has_children) noexcept {
    unit_loop_forward(pass.width(), has_children, pass.gates[row], pass.c[row], pass.h[row]);
  }
  static void unit_loop_forward(std::int64_t width, bool has_children, T* gates, T* c, T* h) noexcept {
    for (std::int64_t j = 0; j < width; j += W) {
      TreeLstm::Node<Pack<T>> s;
      s.i = load(gates + j);
      s.u = load(gates + width + j);
      s.o = load(gates + 2 * width + j);
      s.c = has_children ? load(c + j) : Pack<T>{};
      TreeLstm::forward(s);
      store(gates + j, s.i);
      store(gates + width + j, s.u);
      store(gates + 2 * width + j, s.o);
      store(c + j, s.c);
      store(h + j, s.h);
    }
  }

  static void backward_rows(const Pass& pass, std::int64_t l, std::int64_t row, std::int64_t m,
                            Member member) noexcept {
    const TreeLayout& layout = *pass.layout;
    const TreeLevel& level = layout.level(l);
    const std::int64_t edges = std::min(row + m, level.roots) - row;
    if (!pass.shape->nary() && edges > 0) {
      for (std::int64_t r = row; r < row + edges; ++r) {
        std::copy_n(pass.d_sum[layout.internal(layout.parent(r))], pass.width(), pass.dh[r]);
      }
      product(Start::sum, edges, pass.forget.from(level.first_edge + row - level.begin), pass.back->forget_U[0],
              pass.dh.from(row));
    }
    for (std::int64_t r = row; r < row + m; ++r) {
      node_backward(pass, r, r < level.roots);
      if (l > 0) edges_backward(pass, r);
    }
    if (l == 0) return;
    if (pass.shape->nary()) {
      children_backward(pass, row, m, member);
    } else {
      product(Start::zero, m, pass.gates.from(row), pass.back->nodes_U[0], pass.d_sum.from(layout.internal(row)));
    }
  }

  static void node_backward(const Pass& pass, std::int64_t row, bool has_parent) noexcept {
    const std::int64_t width = pass.width();
    const std::int64_t hidden = pass.shape->hidden;
    T* const dh = pass.dh[row];
    T* const dc = pass.dc[row];
    const auto add = [&](const T* given, T* to) {
      if (!has_parent) std::fill_n(to, width, T{0});
      if (given == nullptr) return;
      given += pass.layout->node(row) * hidden;
      for (std::int64_t j = 0; j < hidden; ++j) to[j] += given[j];
    };
    add(pass.user.dh, dh);
    add(pass.user.dc, dc);
    unit_loop_backward(width, pass.gates[row], pass.c[row], dh, dc);
  }
  static void unit_loop_backward(std::int64_t width, T* gates, const T* c, const T* dh, T* dc) noexcept {
    for (std::int64_t j = 0; j < width; j += W) {
      TreeLstm::Node<Pack<T>> s;
      s.i = load(gates + j);
      s.u = load(gates + width + j);
      s.o = load(gates + 2 * width + j);
      s.c = load(c + j);
      TreeLstm::NodeGradient<Pack<T>> d;
      d.dh = load(dh + j);
      d.dc = load(dc + j);
      TreeLstm::backward(s, d);
      store(gates + j, d.d_i);
      store(gates + width + j, d.d_u);
      store(gates + 2 * width + j, d.d_o);
      store(dc + j, d.dc);
    }
  }

  static void edges_backward(const Pass& pass, std::int64_t row) noexcept {
    const std::int64_t width = pass.width();
    const std::int64_t internal = pass.layout->internal(row);
    const TreeChild* const first = pass.layout->children_begin(row);
    const TreeChild* const last = pass.layout->children_end(row);
    if (pass.shape->nary()) {  // forget gates of missing children: no gradient
      const TreeChild* child = first;
      for (std::int64_t slot = internal * pass.shape->arity; slot < (internal + 1) * pass.shape->arity; ++slot) {
        if (child != last && child->slot == slot) {
          ++child;
        } else {
          std::fill_n(pass.forget[slot], width, T{0});
        }
      }
    }
    const T* dc = pass.dc[row];
    T* d_forget_x = pass.forget_x[internal];
    for (const TreeChild* child = first; child != last; ++child) {
      // dc of the child is nobody else's: a node has one parent.
      edge_loop_backward(width, child == first, dc, pass.c[child->row], pass.forget[child->slot], pass.dc[child->row],
                         d_forget_x);
    }
  }
  static void edge_loop_backward(std::int64_t width, bool first, const T* dc, const T* c_child, T* forget, T* dc_child,
                                 T* d_forget_x) noexcept {
    for (std::int64_t j = 0; j < width; j += W) {
      Pack<T> f = load(forget + j);
      store(dc_child + j, TreeLstm::edge_backward(f, load(c_child + j), load(dc + j)));
      store(forget + j, f);
      store(d_forget_x + j, first ? f : load(d_forget_x + j) + f);
    }
  }
};

LSTMCORE_END_NAMESPACE
