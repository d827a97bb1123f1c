// ModelEngine, StreamEngine and TrainerEngine for one cell and one element type.
#pragma once

#include "cells/registry.hpp"
#include "engine/engine.hpp"
#include "model/stream.hpp"
#include "train/trainer.hpp"

LSTMCORE_BEGIN_NAMESPACE

template <class T>
class ModelStream final : public engine::StreamEngine {
 public:
  explicit ModelStream(const Network<T>& network) : stream_(network) {}
  void reset() noexcept override { stream_.reset(); }
  void step(const void* x, void* out) noexcept override {
    stream_.step(static_cast<const T*>(x), static_cast<T*>(out));
  }
  std::vector<double> values() const override { return stream_.values(); }
  void set_values(const std::vector<double>& values) override { stream_.set_values(values); }

 private:
  Stream<T> stream_;
};

template <class T>
class ModelTrainer final : public engine::TrainerEngine {
 public:
  ModelTrainer(Network<T>& network, const TrainerConfig& config) : loop_(network, config) {}
  double step(const Sequences& x, const Targets& y, const Cancel& cancel) override { return loop_.step(x, y, cancel); }
  EpochResult run_epoch(const Sequences& x, const Targets& y, const Cancel& cancel) override {
    return loop_.run_epoch(x, y, cancel);
  }
  double evaluate(const Sequences& x, const Targets& y) const override { return loop_.evaluate(x, y); }
  void report(double monitored) override { loop_.report(monitored); }
  void set_mask(std::vector<std::uint8_t> mask) override { loop_.set_mask(std::move(mask)); }
  double gradient(const Sequences& x, const Targets& y, void* gradient, const Cancel& cancel) override {
    return loop_.gradient(x, y, static_cast<T*>(gradient), cancel);
  }

 private:
  TrainerLoop<Network<T>> loop_;
};

template <class T>
class ModelNetwork final : public engine::ModelEngine {
 public:
  explicit ModelNetwork(const ModelConfig& config) : network_(config) {}

  const ModelConfig& config() const noexcept override { return network_.config(); }
  const std::vector<std::string>& gates() const noexcept override { return cell().gate_names; }
  const std::vector<std::string>& states() const noexcept override { return cell().state_names; }
  const std::vector<TensorInfo>& tensors() const noexcept override { return network_.tensors(); }
  void* parameters() noexcept override { return network_.parameters(); }
  void parameters_changed() override { network_.parameters_changed(); }
  void read_int8(const TensorInfo& tensor, std::int8_t* integers, float* scales) const noexcept override {
    network_.read_int8(tensor, integers, scales);
  }
  void set_preprocessing(const std::vector<double>& input_mean, const std::vector<double>& input_scale,
                         const std::vector<double>& output_mean, const std::vector<double>& output_scale) override {
    network_.set_preprocessing(input_mean, input_scale, output_mean, output_scale);
  }
  void predict(const Sequences& x, void* out, int n_threads) const override {
    network_.predict(x, static_cast<T*>(out), n_threads);
  }
  std::unique_ptr<engine::StreamEngine> make_stream() const override {
    return std::make_unique<ModelStream<T>>(network_);
  }
  std::unique_ptr<engine::TrainerEngine> make_trainer(const TrainerConfig& config) override {
    return std::make_unique<ModelTrainer<T>>(network_, config);
  }

 private:
  const CellSpec& cell() const noexcept { return network_.stack().shape().cell; }

  Network<T> network_;
};

LSTMCORE_END_NAMESPACE
