#include <lstmcore/build_info.hpp>

#include "engine/engine.hpp"

namespace lstmcore {

BuildInfo build_info() {
  const engine::Engine& engine = engine::current();
  BuildInfo info;
  info.version = LSTMCORE_VERSION;
  info.isa = engine.isa();
  info.isas_built = engine::engines_built();
  info.isas_usable = engine::engines_usable();
  info.openmp = engine.openmp();
  info.eigen_version = engine.eigen_version();
#if defined(__clang__)
  info.compiler = "clang " __clang_version__;
#else
  info.compiler = "gcc " __VERSION__;
#endif
  return info;
}

}  // namespace lstmcore
