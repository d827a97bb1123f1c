// An exported network for C++17: std::array in, std::array out. Nothing is allocated, locked or thrown, so it may run
// on an audio thread; an object is one stream and holds all of its memory.
//
//   #include "vowels.h"
//   #include "lstmcore_edge.hpp"
//
//   lstmcore::edge::Network<vowels_traits> network;
//   const auto out = network.step(features);        // std::array as measured, to std::array of outputs
//
// A network of both directions has run() alone, which needs the whole sequence.
#pragma once

#include "lstmcore_edge.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace lstmcore::edge {

// Traits is NAME_traits of the exported header NAME.h.
template <class Traits>
class Network {
  template <class T, class = void>
  struct Streams : std::false_type {};
  template <class T>
  struct Streams<T, std::void_t<decltype(&T::step)>> : std::true_type {};

 public:
  using Activation = typename Traits::Activation;  // std::int8_t, std::int16_t or float
  using Output = typename Traits::Output;          // std::int32_t in Q16, or float

  static constexpr std::size_t inputs = Traits::inputs;
  static constexpr std::size_t outputs = Traits::outputs;
  // Whether there is step(): one direction.
  static constexpr bool streams = Streams<Traits>::value;

  using Features = std::array<float, inputs>;          // as measured
  using Activations = std::array<Activation, inputs>;  // as the network reads them
  using Outputs = std::array<Output, outputs>;

  Network() noexcept { reset(); }

  // Back to the start of a sequence.
  void reset() noexcept { Traits::reset(&state_); }

  // Activation = round((x − centre)·scale), saturated; with floating point.
  static Activations quantise(const Features& x) noexcept {
    Activations q{};
    Traits::quantise(x.data(), q.data());
    return q;
  }

  // One time step of features as measured: the outputs for the sequence so far.
  Outputs step(const Features& x) noexcept { return step_quantised(quantise(x)); }
  // The same of activations, without floating point for integer networks.
  Outputs step_quantised(const Activations& x) noexcept {
    static_assert(streams, "a network of both directions needs whole sequences: run()");
    Outputs out{};
    Traits::step(&state_, &scratch_, x.data(), out.data());
    return out;
  }
  // One time step whose outputs nobody needs: saves the head.
  void advance(const Features& x) noexcept {
    static_assert(streams, "a network of both directions needs whole sequences: run()");
    Traits::step(&state_, &scratch_, quantise(x).data(), nullptr);
  }

  // A whole sequence of at least one step, continuing from the state (both directions: from the start). The outputs
  // after its last step; of a network with outputs at every step std::array<Outputs, Steps>. What it needs for a while
  // is on the stack: the sequence as activations and, for both directions, the outputs of a layer.
  template <std::size_t Steps>
  auto run(const std::array<Features, Steps>& x) noexcept {
    std::array<Activations, Steps> q{};
    std::transform(x.begin(), x.end(), q.begin(), quantise);
    return run_quantised(q);
  }
  template <std::size_t Steps>
  auto run_quantised(const std::array<Activations, Steps>& x) noexcept {
    static_assert(Steps > 0 && Steps <= UINT32_MAX, "expected at least one step");
    static_assert(sizeof(Activations) == inputs * sizeof(Activation), "rows must follow each other");
    static_assert(sizeof(Outputs) == outputs * sizeof(Output), "rows must follow each other");
    constexpr auto steps = static_cast<std::uint32_t>(Steps);
    std::array<Outputs, Traits::every_step ? Steps : 1> out{};
    if constexpr (streams) {
      Traits::run(&state_, &scratch_, x.front().data(), steps, out.front().data());
    } else {
      constexpr std::size_t count = Traits::buffer_count(steps);
      alignas(4) std::array<Activation, (count > 0 ? count : 1)> buffer{};
      Traits::run(&state_, &scratch_, x.front().data(), steps, buffer.data(), count, out.front().data());
    }
    if constexpr (Traits::every_step) {
      return out;
    } else {
      return out.front();
    }
  }

  // The largest of the outputs, the first of equals.
  static std::size_t argmax(const Outputs& out) noexcept {
    return static_cast<std::size_t>(std::max_element(out.begin(), out.end()) - out.begin());
  }

  // Outputs of a classifier to probabilities: std::uint16_t in Q15 (of 32768), or float.
  static auto softmax(const Outputs& out) noexcept {
    constexpr std::uint32_t count = static_cast<std::uint32_t>(outputs);
    if constexpr (std::is_same_v<Output, float>) {
      std::array<float, outputs> probabilities{};
      lstmcore_edge_softmax_float(out.data(), count, probabilities.data());
      return probabilities;
    } else {
      std::array<std::uint16_t, outputs> probabilities{};
      lstmcore_edge_softmax(out.data(), count, probabilities.data());
      return probabilities;
    }
  }

  // What the state and the scratch take, in bytes.
  static constexpr std::size_t memory = sizeof(typename Traits::State) + sizeof(typename Traits::Scratch);

 private:
  typename Traits::State state_{};
  typename Traits::Scratch scratch_{};
};

}  // namespace lstmcore::edge
