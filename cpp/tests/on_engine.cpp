// on_engine <isa> <program> [arguments]: runs the program on that engine; exit status 77 when this CPU cannot run it.
#include <lstmcore/build_info.hpp>

#include <unistd.h>
#include <algorithm>
#include <cstdio>
#include <cstdlib>

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: on_engine <isa> <program> [arguments]\n");
    return 2;
  }
  unsetenv("LSTMCORE_ISA");  // what the caller may have set for itself
  const std::vector<std::string> usable = lstmcore::build_info().isas_usable;
  if (std::find(usable.begin(), usable.end(), argv[1]) == usable.end()) {
    std::printf("skipped: this CPU cannot run the engine %s\n", argv[1]);
    return 77;
  }
  setenv("LSTMCORE_ISA", argv[1], 1);
  execv(argv[2], argv + 2);
  std::perror(argv[2]);
  return 1;
}
