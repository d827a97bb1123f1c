// Argument checks at the C++ border. Every message names the argument, what came and what was expected.
#pragma once

#include <lstmcore/conv.hpp>
#include <lstmcore/edge.hpp>
#include <lstmcore/trainer.hpp>

namespace lstmcore::checks {

/// Throws std::invalid_argument unless the config describes layers that can be built.
void check(const RecurrentConfig& config);
void check(const ConvConfig& config);
void check(const ModelConfig& config);
void check(const TrainerConfig& config);
/// data and lengths present, N ≥ 1, features as expected, every length ≥ 1.
void check(const Sequences& x, std::int64_t features);
/// Kind of target fits the loss, labels in range, numbers finite, weights finite and ≥ 0.
void check(const Targets& y, const TrainerConfig& config, const ModelConfig& model, std::int64_t count);

/// Everything that the edge runtime takes for granted: shapes, ranges, and sums that cannot overflow for any input.
void check(const EdgeProgram& program);

/// A size: 1 … 2³¹. A number of threads: 0 or more.
void check_size(const char* name, std::int64_t value);
void check_threads(int n);

[[noreturn]] void fail(const std::string& message);

}  // namespace lstmcore::checks
