// Every engine lives in a namespace of its own, so that even a static link of two of them keeps them apart.
#pragma once

#ifndef LSTMCORE_ENGINE_ISA
#error "LSTMCORE_ENGINE_ISA names the engine that a source is compiled for (baseline, avx2, avx512, neon)"
#endif

#define LSTMCORE_STRINGIFY_(x) #x
#define LSTMCORE_STRINGIFY(x) LSTMCORE_STRINGIFY_(x)
#define LSTMCORE_ENGINE_NAME LSTMCORE_STRINGIFY(LSTMCORE_ENGINE_ISA)

// NOLINTBEGIN(bugprone-macro-parentheses): a namespace name cannot stand in parentheses
#define LSTMCORE_BEGIN_NAMESPACE \
  namespace lstmcore {           \
  inline namespace LSTMCORE_ENGINE_ISA {
#define LSTMCORE_END_NAMESPACE \
  }                            \
  }
// NOLINTEND(bugprone-macro-parentheses)
