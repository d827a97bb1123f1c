// Initial weights of a tree layer, by the rules of model/init.hpp.
//
//   W   uniform, Glorot & Bengio 2010, gate by gate
//   U   one random orthogonal block for every gate and, with positions, every child that it reads
//   b   0, except 1 for the forget gate
#pragma once

#include "model/init.hpp"
#include "sequence/tree_weights.hpp"

LSTMCORE_BEGIN_NAMESPACE

template <class T>
void initialise(const TreeShape& shape, std::uint64_t seed, T* parameters) {
  const std::int64_t hidden = shape.hidden;
  const auto tensors = tree_tensors(shape);
  const auto seed_of = [&](std::size_t tensor) { return mix(seed, init_detail::stream_of(tensors[tensor].name)); };

  Rng rng(seed_of(0));
  init_detail::glorot_uniform(shape.input, hidden, tensors[0].count(), rng, parameters + tensors[0].offset);

  std::vector<T> block(static_cast<std::size_t>(hidden * hidden));
  const std::int64_t across = shape.fed() / hidden;
  for (std::int64_t gate = 0; gate < 3 + shape.forgets(); ++gate) {
    for (std::int64_t k = 0; k < across; ++k) {
      Rng block_rng(mix(seed_of(1), static_cast<std::uint64_t>(gate * across + k)));
      random_orthogonal(hidden, hidden, block_rng, block.data());
      T* to = parameters + tensors[1].offset + gate * hidden * shape.fed() + k * hidden;
      for (std::int64_t j = 0; j < hidden; ++j) std::copy_n(block.data() + j * hidden, hidden, to + j * shape.fed());
    }
  }

  T* b = parameters + tensors[2].offset;
  std::fill_n(b, 4 * hidden, T(0));
  std::fill_n(b + static_cast<std::int64_t>(TreeLstm::kForgetGate) * hidden, hidden, T(1));
}

LSTMCORE_END_NAMESPACE
