// Every cell, one line each. An option that changes the equations selects another cell type, at compile time.
#pragma once

#include "cells/elman.hpp"
#include "cells/lstm.hpp"

#include <lstmcore/recurrent.hpp>

#include <stdexcept>

LSTMCORE_BEGIN_NAMESPACE

template <class Cell>
CellInfo describe(std::map<std::string, std::vector<std::string>> options = {}) {
  return {Cell::kName,
          {Cell::kGateNames.begin(), Cell::kGateNames.end()},
          {Cell::kStateNames.begin(), Cell::kStateNames.end()},
          std::move(options),
          Cell::kSource};
}

inline const std::vector<CellInfo>& cell_registry() {
  static const std::vector<CellInfo> registry = {
      describe<Lstm>(),
      describe<Elman<ElmanNonlinearity::tanh>>({{"nonlinearity", {"tanh", "relu"}}}),
  };
  return registry;
}

/// Calls visitor(Cell{}) with the cell type that name and options select. Both have been checked against
/// cell_registry().
template <class Visitor>
auto visit_cell(const std::string& name, const Options& options, Visitor&& visitor) {
  if (name == Elman<ElmanNonlinearity::tanh>::kName) {
    const auto found = options.find("nonlinearity");
    const bool relu = found != options.end() && std::get<std::string>(found->second) == "relu";
    return relu ? visitor(Elman<ElmanNonlinearity::relu>{}) : visitor(Elman<ElmanNonlinearity::tanh>{});
  }
  if (name == Lstm::kName) return visitor(Lstm{});
  throw std::logic_error("cell '" + name + "' is registered but not dispatched");
}

LSTMCORE_END_NAMESPACE
