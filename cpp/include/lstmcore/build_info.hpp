// What this library was built with and which engine it runs.
#pragma once

#include <lstmcore/types.hpp>

namespace lstmcore {

struct BuildInfo {
  std::string version;
  std::string isa;                       ///< instruction set of the engine in use
  std::vector<std::string> isas_built;   ///< engines beside this library
  std::vector<std::string> isas_usable;  ///< of those, what this CPU and operating system can run
  bool openmp = false;
  bool cuda = false;
  std::string eigen_version;
  std::string compiler;
};

/// Loads the engine if that has not happened yet. Throws std::runtime_error when LSTMCORE_ISA names
/// an engine that does not exist or that this CPU cannot run.
LSTMCORE_API BuildInfo build_info();

}  // namespace lstmcore
