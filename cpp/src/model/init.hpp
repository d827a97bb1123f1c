// Initial weights.
//
//   W_*     input weights [G·H, I], of convolutions [G·H, C, k, k]: uniform in ±√(6 / (fan_in + fan_out)) with fan_in =
//   I and fan_out = H, gate by gate
//           (Glorot & Bengio 2010, eq. 16); of convolutions C·k² and H·k²
//   R_*     recurrent weights [G·H, H]: each gate's block (with heads: each head's) a random orthogonal matrix (Saxe,
//   McClelland & Ganguli 2014) b_*     0, except 1 for a forget gate "f", so that a new network remembers (Gers,
//   Schmidhuber & Cummins 2000;
//           Jozefowicz, Zaremba & Sutskever 2015)
//   RG_*, proj_*   as W_* with the matrix's own fans;   u_*: uniform in [0, 1] (Li et al. 2018);   ln_* gains: 1
//   P_*, bR_*, ln_c_b_* and learned initial states "…0_*": 0
//   head_W  [K, width]: as W_* with fan_in = width and fan_out = K
//   head_W_l* of the head's hidden layers [size, width]: normal with variance 1/width for selu (LeCun et al. 1998;
//           Klambauer et al. 2017), uniform in ±√(6/width) for relu (He et al. 2015), as W_* for tanh
//   pool_W, pool_K, pool_V  as W_* with the matrix's own fans;  pool_v: likewise, fan_out = 1
//   pool_Q  normal with standard deviation 0.02, as the authors' layers have it (Ramsauer et al. 2021)
//   head_b, head_b_l*, pool_b: 0
//   mLSTM and xLSTM (as the authors have it, Beck et al. 2024): W as above with zeros for i and f, W_if 0; biases of f
//           evenly from 3 to 6 over the heads (exponential forget gate: 0), of i and all others 0; W_in, W_up, W_q,
//           W_k, W_v, W_mlp_up as W_* with the matrix's own fans; W_down, W_mlp_down normal with deviation 2/(L√H)
//           (Wang & Komatsuzaki 2021); conv uniform in ±½; norm gains and skip 1
//
// Every tensor, and every gate's block of R, draws from a stream of its own that is named by the tensor, so a layer's
// weights do not depend on how many layers follow. One seed gives the same weights on every run and for any number of
// threads; W and the head are the same bits on every engine, and R agrees between engines to rounding in double
// (engines with fused multiply-add round the reflections below once less), which the cast to float nearly always hides.
#pragma once

#include "base/namespace.hpp"
#include "base/rng.hpp"
#include "math/pack.hpp"
#include "sequence/shape.hpp"

#include <lstmcore/model.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <vector>

LSTMCORE_BEGIN_NAMESPACE

namespace init_detail {

/// Stream number of a tensor: FNV-1a hash of its name (Fowler, Noll & Vo).
inline std::uint64_t stream_of(const std::string& name) noexcept {
  std::uint64_t hash = 0xCBF29CE484222325u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  return hash;
}

template <class T>
void glorot_uniform(std::int64_t fan_in, std::int64_t fan_out, std::int64_t count, Rng& rng, T* weights) {
  const double bound = std::sqrt(6.0 / static_cast<double>(fan_in + fan_out));
  for (std::int64_t k = 0; k < count; ++k) weights[k] = static_cast<T>(rng.symmetric(bound));
}

/// Householder vectors v_0 … v_{m−1} of random reflections I − v vᵀ in n, n − 1, … dimensions, and signs.
/// Vector s has n − s elements, for the dimensions s … n − 1.
struct Reflections {
  std::vector<double> vectors;
  std::vector<std::size_t> first;  // of vector s in `vectors`
  std::vector<double> sign;

  Reflections(std::size_t n, std::size_t m, Rng& rng) {
    vectors.reserve(m * n);
    for (std::size_t s = 0; s < m; ++s) {
      first.push_back(vectors.size());
      double square = 0.0;
      for (std::size_t i = s; i < n; ++i) {
        vectors.push_back(rng.normal());
        square += vectors.back() * vectors.back();
      }
      double* v = vectors.data() + first[s];
      const bool negative = v[0] < 0.0;
      if (n - s == 1) {  // one dimension left: the sign alone is random
        v[0] = 0.0;
        sign.push_back(negative ? -1.0 : 1.0);
        continue;
      }
      // The reflection that sends v to ∓‖v‖ e_0, the sign chosen so that nothing cancels.
      const double norm = std::sqrt(square);
      const double scale = 1.0 / std::sqrt(norm * (norm + std::abs(v[0])));
      v[0] += negative ? -norm : norm;
      for (std::size_t i = 0; i < n - s; ++i) v[i] *= scale;
      sign.push_back(negative ? 1.0 : -1.0);
    }
  }
};

}  // namespace init_detail

/// Fills block [rows, cols] with orthonormal columns, or orthonormal rows where rows < cols, uniform over all such
/// matrices (Haar measure): the product of random reflections (Stewart 1980, theorem 3.3), equal in law to the Q of a
/// Gaussian matrix's QR decomposition with signs corrected (Mezzadri 2007), at a third of the work and with no loss of
/// orthogonality to begin with.
template <class T>
void random_orthogonal(std::int64_t rows, std::int64_t cols, Rng& rng, T* block) {
  const auto n = static_cast<std::size_t>(std::max(rows, cols));
  const auto m = static_cast<std::size_t>(std::min(rows, cols));
  const bool transposed = rows < cols;
  const init_detail::Reflections reflections(n, m, rng);

  // Columns are independent under reflections from the left: a tile of columns stays in cache while all reflections
  // pass over it, each as two loops along the tile that need no reduction across lanes. As packs, for GCC 12 does not
  // find them by itself: 6 times faster at H = 512 with AVX2.
  constexpr std::size_t tile = 16, lanes = kLanes<double>, packs = tile / lanes;
  std::vector<double> work(n * tile);
  for (std::size_t column = 0; column < m; column += tile) {
    const std::size_t last = std::min(column + tile, m) - 1;
    std::fill(work.begin(), work.end(), 0.0);
    for (std::size_t j = column; j <= last; ++j) work[j * tile + (j - column)] = reflections.sign[j];
    // Column j begins as ±e_j, which reflections of later dimensions than j leave alone.
    for (std::size_t s = last + 1; s-- > 0;) {
      const double* v = reflections.vectors.data() + reflections.first[s];
      double* q = work.data() + s * tile;
      Pack<double> projection[packs] = {};
      for (std::size_t i = 0; i < n - s; ++i) {
        for (std::size_t k = 0; k < packs; ++k) projection[k] += v[i] * load(q + i * tile + k * lanes);
      }
      for (std::size_t i = 0; i < n - s; ++i) {
        for (std::size_t k = 0; k < packs; ++k) {
          double* at = q + i * tile + k * lanes;
          store(at, load(at) - v[i] * projection[k]);
        }
      }
    }
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = column; j <= last; ++j) {
        block[transposed ? j * n + i : i * m + j] = static_cast<T>(work[i * tile + (j - column)]);
      }
    }
  }
}

/// Initial weights of all tensors of a network, as told at the head of this file.
/// parameters: the flat buffer that the tensors' offsets refer to.
/// Throws std::logic_error for a tensor that has no rule: a new kind of tensor needs a line here.
/// Of the tensors that only mLSTM and xLSTM have, or have otherwise. False: the general rules apply.
template <class T>
bool initialise_block(const std::string& kind, const TensorInfo& tensor, const StackShape& shape, Rng& rng,
                      std::uint64_t tensor_seed, T* values) {
  const std::int64_t cols = tensor.shape.size() > 1 ? tensor.shape[1] : 1;
  const std::int64_t heads = shape.cell.heads;
  const std::int64_t hidden = shape.hidden;
  const bool plain = shape.cell.pattern == "M";
  const auto forget_bias = [&](T* bias) {
    for (std::int64_t head = 0; head < heads && !shape.cell.exponential_forget; ++head) {
      bias[head] = static_cast<T>(3.0 + 3.0 * static_cast<double>(head) /
                                            static_cast<double>(std::max<std::int64_t>(1, heads - 1)));
    }
  };
  if (kind == "W" && plain) {
    init_detail::glorot_uniform(cols, hidden, tensor.count(), rng, values);
    std::fill_n(values + 3 * hidden * cols, 2 * heads * cols, T(0));
  } else if (kind == "b" && plain) {
    std::fill_n(values, tensor.count(), T(0));
    forget_bias(values + 3 * hidden + heads);
  } else if (kind == "b_if") {
    std::fill_n(values, tensor.count(), T(0));
    forget_bias(values + heads);
  } else if (kind == "W_if" || kind == "conv_b" || kind == "b_in") {
    std::fill_n(values, tensor.count(), T(0));
  } else if (kind == "b") {  // i, f, z, o of an sLSTM
    for (std::int64_t row = 0; row < tensor.count(); ++row) values[row] = row / hidden == 1 ? T(1) : T(0);
  } else if (kind == "R") {
    const std::int64_t part = hidden / heads;
    for (std::int64_t gate = 0; gate < 4; ++gate) {
      Rng block_rng(mix(tensor_seed, static_cast<std::uint64_t>(gate)));
      for (std::int64_t head = 0; head < heads; ++head) {
        random_orthogonal(part, part, block_rng, values + (gate * hidden + head * part) * part);
      }
    }
  } else if (kind == "W_in" || kind == "W_up" || kind == "W_q" || kind == "W_k" || kind == "W_v" ||
             kind == "W_mlp_up") {
    init_detail::glorot_uniform(cols, kind == "W_q" || kind == "W_k" || kind == "W_v" ? cols : tensor.shape[0],
                                tensor.count(), rng, values);
  } else if (kind == "W_down" || kind == "W_mlp_down") {
    const double deviation = 2.0 / (static_cast<double>(shape.layers) * std::sqrt(static_cast<double>(hidden)));
    for (std::int64_t k = 0; k < tensor.count(); ++k) values[k] = static_cast<T>(deviation * rng.normal());
  } else if (kind == "conv") {
    for (std::int64_t k = 0; k < tensor.count(); ++k) values[k] = static_cast<T>(rng.symmetric(0.5));
  } else if (kind == "norm" || kind == "norm_h" || kind == "norm_mlp" || kind == "norm_out" || kind == "skip") {
    std::fill_n(values, tensor.count(), T(1));
  } else {
    return false;
  }
  return true;
}

template <class T>
void initialise(const std::vector<TensorInfo>& tensors, const StackShape& shape, std::uint64_t seed, T* parameters,
                HeadActivation head = HeadActivation::selu) {
  const std::vector<std::string>& gates = shape.cell.gate_names;
  // f(gate, its name, first row, rows) for the row blocks of W, R and b.
  const auto for_gates = [&](auto&& f) {
    std::int64_t row = 0;
    for (std::size_t gate = 0; gate < gates.size(); ++gate) {
      const std::int64_t rows = shape.user_gate_rows(static_cast<int>(gate));
      f(gate, gates[gate], row, rows);
      row += rows;
    }
  };
  for (const TensorInfo& tensor : tensors) {
    T* values = parameters + tensor.offset;
    const std::uint64_t tensor_seed = mix(seed, init_detail::stream_of(tensor.name));
    Rng rng(tensor_seed);
    const std::string kind = tensor.name.substr(0, tensor.name.rfind("_l"));
    std::int64_t cols = tensor.shape.size() > 1 ? tensor.shape[1] : 1;
    std::int64_t taps = 1;  // of a convolution: its window is part of a row
    if (kind == "W" || kind == "R") {
      for (std::size_t axis = 2; axis < tensor.shape.size(); ++axis) taps *= tensor.shape[axis];
      cols *= taps;
    }
    const auto normal = [&](double deviation) {
      for (std::int64_t k = 0; k < tensor.count(); ++k) values[k] = static_cast<T>(deviation * rng.normal());
    };
    if (shape.cell.blocks() && initialise_block(kind, tensor, shape, rng, tensor_seed, values)) continue;
    if (kind == "head_W" && tensor.name != "head_W" && head == HeadActivation::selu) {
      normal(1.0 / std::sqrt(static_cast<double>(cols)));
    } else if (kind == "head_W" && tensor.name != "head_W" && head == HeadActivation::relu) {
      init_detail::glorot_uniform(cols, 0, tensor.count(), rng, values);
    } else if (kind == "head_W" || kind == "pool_W" || kind == "pool_K" || kind == "pool_V") {
      init_detail::glorot_uniform(cols, tensor.shape.at(0), tensor.count(), rng, values);
    } else if (kind == "pool_v") {
      init_detail::glorot_uniform(tensor.count(), 1, tensor.count(), rng, values);
    } else if (kind == "pool_Q") {
      normal(0.02);
    } else if (kind == "head_b" || kind == "pool_b") {
      std::fill_n(values, tensor.count(), T(0));
    } else if (kind == "W") {
      init_detail::glorot_uniform(cols, shape.hidden * taps, tensor.count(), rng, values);
    } else if (kind == "R") {
      for_gates([&](std::size_t gate, const std::string&, std::int64_t row, std::int64_t rows) {
        Rng block_rng(mix(tensor_seed, gate));
        // Heads: one orthogonal block each.
        for (std::int64_t head = 0; head < shape.cell.heads; ++head) {
          const std::int64_t part = rows / shape.cell.heads;
          random_orthogonal(part, cols, block_rng, values + (row + head * part) * cols);
        }
      });
    } else if (kind == "b") {
      for_gates([&](std::size_t, const std::string& name, std::int64_t row, std::int64_t rows) {
        std::fill_n(values + row, rows, name == "f" ? T(1) : T(0));
      });
    } else if (kind == "RG" || kind == "proj") {
      init_detail::glorot_uniform(cols, tensor.shape.at(0), tensor.count(), rng, values);
    } else if (kind == "u") {
      for (std::int64_t k = 0; k < tensor.count(); ++k) values[k] = static_cast<T>((1.0 + rng.symmetric(1.0)) / 2.0);
    } else if (kind == "ln_x" || kind == "ln_r" || kind == "ln_c") {
      std::fill_n(values, tensor.count(), T(1));
    } else if (kind == "P" || kind == "bR" || kind == "ln_c_b" || kind.back() == '0') {
      std::fill_n(values, tensor.count(), T(0));
    } else {
      throw std::logic_error("no initial weights are defined for tensor " + tensor.name);
    }
  }
}

LSTMCORE_END_NAMESPACE
