// Finds the best engine that this CPU can run, and loads it.
//
// Engines lie beside this library, each with one exported symbol. RTLD_LOCAL keeps their symbols out of each other's
// sight and of the program's; they are never unloaded, since objects made by them may live until the process ends.

#include "cpu.hpp"
#include "engine/engine.hpp"

#include <algorithm>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#ifndef LSTMCORE_STATIC_ENGINE
#include <dlfcn.h>
#include <link.h>
#include <unistd.h>
#include <atomic>
#include <mutex>
#endif

namespace lstmcore::engine {

namespace {

/// "avx2, avx512", or "none".
std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text.empty() ? "none" : text;
}

bool contains(const std::vector<std::string>& names, const std::string& name) {
  for (const std::string& each : names) {
    if (each == name) return true;
  }
  return false;
}

/// The engine that the user asks for; empty: the best.
std::string wanted() {
  const char* value = std::getenv("LSTMCORE_ISA");
  return value == nullptr ? "" : value;
}

[[noreturn]] void refuse(const std::string& name, const std::string& reason) {
  throw std::runtime_error(
      "LSTMCORE_ISA=" + name + ": " + reason + ". Engines that can run here: " + joined(engines_usable()) +
      "; built: " + joined(engines_built()) + ". Set it to one of the former, or unset it to get the best one.");
}

}  // namespace

std::vector<std::string> engines_usable() {
  const cpu::Features features = cpu::detect();
  std::vector<std::string> usable;
  for (const std::string& name : engines_built()) {
    if (cpu::can_run(name, features)) usable.push_back(name);
  }
  return usable;
}

#ifdef LSTMCORE_STATIC_ENGINE

std::vector<std::string> engines_built() { return {LSTMCORE_STATIC_ENGINE}; }

const Engine& current() {
  static const Engine* const engine = [] {
    const std::string name = wanted();
    if (!name.empty() && name != LSTMCORE_STATIC_ENGINE) refuse(name, "this is a static build of one engine");
    if (engines_usable().empty()) {
      throw std::runtime_error("lstmcore was built for the instruction set " LSTMCORE_STATIC_ENGINE
                               " alone, which this CPU or operating system does not have. Build it with another "
                               "LSTMCORE_STATIC_ISA, or without to get a library that chooses at run time.");
    }
    return lstmcore_engine_v1();
  }();
  return *engine;
}

#else

namespace {

/// The engines this library was configured with, slowest first.
std::vector<std::string> configured() {
  std::vector<std::string> names;
  const std::string list = LSTMCORE_ENGINE_NAMES;
  for (std::size_t begin = 0; begin < list.size();) {
    const std::size_t comma = std::min(list.find(',', begin), list.size());
    names.push_back(list.substr(begin, comma - begin));
    begin = comma + 1;
  }
  return names;
}

/// Where this library lies: its folder as the loader saw it and, should the file be a symbolic link, the real one.
std::vector<std::string> folders() {
  static const char here = 0;
  std::vector<std::string> found;
  Dl_info info{};
#ifdef __GLIBC__
  // The path in Dl_info may be relative to a working directory that has changed since; the loader's own note is not.
  void* map = nullptr;
  char origin[PATH_MAX + 1] = {};
  if (dladdr1(&here, &info, &map, RTLD_DL_LINKMAP) != 0 && dlinfo(map, RTLD_DI_ORIGIN, origin) == 0) {
    found.emplace_back(origin);
  }
#endif
  if (dladdr(&here, &info) != 0 && info.dli_fname != nullptr) {
    if (char* real = realpath(info.dli_fname, nullptr)) {
      const std::string path = real;
      std::free(real);
      found.push_back(path.substr(0, path.rfind('/')));
    }
  }
  if (found.empty()) found.emplace_back(".");
  return found;
}

std::string file_name(const std::string& name) { return "liblstmcore_engine_" + name + ".so"; }

/// The engine's file, or empty.
std::string file_of(const std::string& name) {
  for (const std::string& folder : folders()) {
    const std::string path = folder + "/" + file_name(name);
    if (access(path.c_str(), R_OK) == 0) return path;
  }
  return "";
}

std::string chosen() {
  const std::vector<std::string> usable = engines_usable();
  const std::string name = wanted();
  if (name.empty()) {
    if (usable.empty()) {
      throw std::runtime_error("lstmcore found no engine that can run here. Looked for " +
                               file_name("{" + joined(configured()) + "}") + " in " + joined(folders()) +
                               "; of those, there are: " + joined(engines_built()) + ". Install lstmcore again.");
    }
    return usable.back();
  }
  if (!contains(configured(), name)) refuse(name, "there is no such engine");
  if (!contains(engines_built(), name)) refuse(name, file_name(name) + " is missing in " + joined(folders()));
  if (!contains(usable, name)) refuse(name, "this CPU or operating system cannot run it");
  return name;
}

const Engine* load() {
  const std::string name = chosen();
  const std::string path = file_of(name);
  const std::string again = ". Install lstmcore again, or set LSTMCORE_ISA to another engine.";
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* reason = dlerror();
    throw std::runtime_error("lstmcore could not load its engine " + path + ": " +
                             (reason == nullptr ? "no reason given" : reason) + again);
  }
  using Entry = const Engine* (*)();
  void* symbol = dlsym(library, "lstmcore_engine_v1");
  if (symbol == nullptr) {
    dlclose(library);
    throw std::runtime_error("lstmcore: " + path + " is not an engine of this version (no lstmcore_engine_v1)" + again);
  }
  Entry entry = nullptr;
  std::memcpy(&entry, &symbol, sizeof(entry));  // POSIX's way from an object pointer to a function pointer
  const Engine* engine = entry();
  if (name != engine->isa()) {
    throw std::runtime_error("lstmcore: " + path + " says that it is the engine " + engine->isa() + again);
  }
  return engine;
}

}  // namespace

std::vector<std::string> engines_built() {
  std::vector<std::string> built;
  for (const std::string& name : configured()) {
    if (!file_of(name).empty()) built.push_back(name);
  }
  return built;
}

const Engine& current() {
  // Not std::call_once: that of older libstdc++ deadlocks on the call after one that threw, and a user who
  // corrects LSTMCORE_ISA may try again.
  static std::atomic<const Engine*> loaded{nullptr};
  static std::mutex loading;
  const Engine* engine = loaded.load(std::memory_order_acquire);
  if (engine == nullptr) {
    const std::lock_guard<std::mutex> lock(loading);
    engine = loaded.load(std::memory_order_relaxed);
    if (engine == nullptr) {
      engine = load();
      loaded.store(engine, std::memory_order_release);
    }
  }
  return *engine;
}

#endif

}  // namespace lstmcore::engine
