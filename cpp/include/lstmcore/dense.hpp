// A dense layer over many rows, such as all steps of a batch: what a head of one's own begins with.
#pragma once

#include <lstmcore/types.hpp>

namespace lstmcore {

/// y = x Wᵀ + b. Borrowed memory, row-major, all of one type.
struct DenseLayer {
  const void* w = nullptr;   ///< [outputs, inputs]
  const void* b = nullptr;   ///< [outputs]
  std::int64_t inputs = 0;   ///< from 1
  std::int64_t outputs = 0;  ///< from 1
};

/// x: [rows, inputs] → y: [rows, outputs]. n_threads: 0 for all cores; results do not depend on it.
/// Throws std::invalid_argument.
LSTMCORE_API void dense_forward(Dtype dtype, const DenseLayer& layer, const void* x, std::int64_t rows, void* y,
                                int n_threads = 0);

/// Gradients from dy [rows, outputs]: dx [rows, inputs] or nullptr, dw [outputs, inputs], db [outputs]; all
/// overwritten.
LSTMCORE_API void dense_backward(Dtype dtype, const DenseLayer& layer, const void* x, std::int64_t rows, const void* dy,
                                 void* dx, void* dw, void* db, int n_threads = 0);

}  // namespace lstmcore
