// What a pass in training leaves for backward, as the facade hands it on.
#pragma once

#include "engine/engine.hpp"

#include <vector>

LSTMCORE_BEGIN_NAMESPACE

template <class Workspace>
class TapeOf final : public engine::TapeEngine {
 public:
  std::int64_t sequences() const noexcept override { return static_cast<std::int64_t>(recorded.size()); }
  const std::vector<std::int64_t>& lengths() const noexcept override { return recorded; }

  Workspace workspace;
  std::vector<std::int64_t> recorded;  ///< lengths of the sequences
};

LSTMCORE_END_NAMESPACE
