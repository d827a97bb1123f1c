// Every cell: what its options are, and which type they select. An option that changes the equations selects another
// type at compile time; one that changes sizes only (proj_size, heads, block_size) is the drivers' business.
#pragma once

#include "cells/elman.hpp"
#include "cells/gru.hpp"
#include "cells/indrnn.hpp"
#include "cells/lstm.hpp"
#include "cells/lstm1997.hpp"
#include "cells/minimal.hpp"
#include "cells/mlstm.hpp"
#include "cells/slstm.hpp"

#include <lstmcore/recurrent.hpp>

#include <stdexcept>

LSTMCORE_BEGIN_NAMESPACE

inline OptionInfo choice(std::vector<std::string> names) {
  OptionInfo info;
  for (std::string& name : names) info.allowed.emplace_back(std::move(name));
  info.initial = info.allowed.front();
  return info;
}
inline OptionInfo flag(bool initial) { return {initial, {Option(initial), Option(!initial)}, 0, {}}; }
inline OptionInfo size(std::int64_t initial) { return {initial, {}, initial, {}}; }

template <class Cell>
CellInfo describe(std::map<std::string, OptionInfo> options = {}) {
  return {Cell::kName,
          {Cell::kGateNames.begin(), Cell::kGateNames.end()},
          {Cell::kStateNames.begin(), Cell::kStateNames.end()},
          std::move(options),
          Cell::kSource,
          Cell::kHasCandidate,
          true};
}

inline const std::vector<CellInfo>& cell_registry() {
  static const std::vector<std::string> variants = {"vanilla", "NIG", "NFG", "NOG", "NIAF", "NOAF", "CIFG", "FGR"};
  static const std::vector<std::string> peephole_variants = [] {
    std::vector<std::string> all = variants;
    all.emplace_back("NP");
    return all;
  }();
  static const std::vector<CellInfo> registry = {
      describe<Elman<Nonlinearity::tanh>>({{"nonlinearity", choice({"tanh", "relu"})}, {"layer_norm", flag(false)}}),
      describe<Lstm1997<false, false>>(
          {{"block_size", size(1)}, {"gate_recurrence", flag(false)}, {"gradient", choice({"full", "truncated"})}}),
      describe<Lstm<>>({{"variant", choice(variants)}, {"proj_size", size(0)}, {"layer_norm", flag(false)}}),
      describe<Peephole<>>(
          {{"variant", choice(peephole_variants)}, {"proj_size", size(0)}, {"layer_norm", flag(false)}}),
      describe<GruResetAfter<false>>({{"reset_after", flag(true)}, {"layer_norm", flag(false)}}),
      describe<Slstm<false>>({{"heads", size(1)}, {"forget_activation", choice({"sigmoid", "exponential"})}}),
      {Mlstm::kName,
       {Mlstm::kGateNames.begin(), Mlstm::kGateNames.end()},
       {Mlstm::kStateNames.begin(), Mlstm::kStateNames.end()},
       {{"heads", size(1)}, {"forget_activation", choice({"sigmoid", "exponential"})}, {"chunk_size", size(0)}},
       Mlstm::kSource,
       Mlstm::kHasCandidate,
       false},
      {"xlstm",
       {},
       {"h", "C", "c", "n", "m", "conv"},
       {{"blocks", {std::string("ms"), {}, 0, "ms"}},
        {"heads", size(1)},
        {"forget_activation", choice({"sigmoid", "exponential"})},
        {"chunk_size", size(0)}},
       Mlstm::kSource,
       false,
       false},
      describe<MinLstm>(),
      describe<MinGru>(),
      describe<IndRnn<Nonlinearity::relu>>({{"nonlinearity", choice({"relu", "tanh"})}}),
  };
  return registry;
}

/// Cells whose layers are more than one step's equations over time (sequence/blocks/): visit_cell() knows nothing of
/// them.
inline bool is_block_cell(const std::string& name) noexcept { return name == Mlstm::kName || name == "xlstm"; }

inline const CellInfo& cell_info(const std::string& name) {
  for (const CellInfo& info : cell_registry()) {
    if (info.name == name) return info;
  }
  throw std::logic_error("cell '" + name + "' is not registered");
}

/// Value of an option, its default when it was not given.
template <class Value>
Value option_of(const std::string& cell, const Options& options, const std::string& name) {
  const auto found = options.find(name);
  return std::get<Value>(found != options.end() ? found->second : cell_info(cell).options.at(name).initial);
}

namespace registry_detail {

template <bool kPeephole, class Visitor>
auto visit_lstm(const std::string& variant, bool layer_norm, Visitor&& visitor) {
  using V = LstmVariant;
  if (layer_norm) return visitor(LstmFamily<V::vanilla, kPeephole, true>{});
  if (variant == "NIG") return visitor(LstmFamily<V::nig, kPeephole, false>{});
  if (variant == "NFG") return visitor(LstmFamily<V::nfg, kPeephole, false>{});
  if (variant == "NOG") return visitor(LstmFamily<V::nog, kPeephole, false>{});
  if (variant == "NIAF") return visitor(LstmFamily<V::niaf, kPeephole, false>{});
  if (variant == "NOAF") return visitor(LstmFamily<V::noaf, kPeephole, false>{});
  if (variant == "CIFG") return visitor(LstmFamily<V::cifg, kPeephole, false>{});
  if (variant == "FGR") return visitor(LstmFamily<V::fgr, kPeephole, false>{});
  return visitor(LstmFamily<V::vanilla, kPeephole, false>{});
}

}  // namespace registry_detail

/// Calls visitor(Cell{}) with the cell type that name and options select. Both have been checked against
/// cell_registry().
template <class Visitor>
auto visit_cell(const std::string& name, const Options& options, Visitor&& visitor) {
  const auto flag_of = [&](const char* option) { return option_of<bool>(name, options, option); };
  const auto text_of = [&](const char* option) { return option_of<std::string>(name, options, option); };
  if (name == "lstm") {
    return registry_detail::visit_lstm<false>(text_of("variant"), flag_of("layer_norm"), visitor);
  }
  if (name == "peephole") {
    const std::string variant = text_of("variant");
    if (variant == "NP") return visitor(Lstm<>{});
    return registry_detail::visit_lstm<true>(variant, flag_of("layer_norm"), visitor);
  }
  if (name == "elman") {
    const bool relu = text_of("nonlinearity") == "relu";
    if (flag_of("layer_norm")) {
      return relu ? visitor(Elman<Nonlinearity::relu, true>{}) : visitor(Elman<Nonlinearity::tanh, true>{});
    }
    return relu ? visitor(Elman<Nonlinearity::relu>{}) : visitor(Elman<Nonlinearity::tanh>{});
  }
  if (name == "lstm1997") {
    const bool truncated = text_of("gradient") == "truncated";
    if (flag_of("gate_recurrence"))
      return truncated ? visitor(Lstm1997<true, true>{}) : visitor(Lstm1997<true, false>{});
    return truncated ? visitor(Lstm1997<false, true>{}) : visitor(Lstm1997<false, false>{});
  }
  if (name == "gru") {
    if (!flag_of("reset_after")) return visitor(GruResetBefore{});
    return flag_of("layer_norm") ? visitor(GruResetAfter<true>{}) : visitor(GruResetAfter<false>{});
  }
  if (name == "slstm") {
    return text_of("forget_activation") == "exponential" ? visitor(Slstm<true>{}) : visitor(Slstm<false>{});
  }
  if (name == "min_lstm") return visitor(MinLstm{});
  if (name == "min_gru") return visitor(MinGru{});
  if (name == "indrnn") {
    return text_of("nonlinearity") == "tanh" ? visitor(IndRnn<Nonlinearity::tanh>{})
                                             : visitor(IndRnn<Nonlinearity::relu>{});
  }
  throw std::logic_error("cell '" + name + "' is registered but not dispatched");
}

LSTMCORE_END_NAMESPACE
