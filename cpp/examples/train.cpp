// Trains a classifier from C++: which of the first two steps of a noisy sequence was the higher one?
//
//   train [model.safetensors]        (where to save the model; run_model reads it)
#include <lstmcore/lstmcore.hpp>

#include <cstdio>
#include <random>
#include <vector>

int main(int argc, char** argv) {
  constexpr std::int64_t kSequences = 512;
  constexpr std::int64_t kSteps = 30;
  std::mt19937 random(1);
  std::uniform_real_distribution<float> uniform(0.0F, 1.0F);
  std::vector<float> x(kSequences * kSteps);
  std::vector<std::int32_t> labels(kSequences);
  std::vector<const void*> data(kSequences);
  const std::vector<std::int64_t> lengths(kSequences, kSteps);
  for (float& value : x) value = uniform(random);
  for (std::size_t n = 0; n < kSequences; ++n) {
    data[n] = x.data() + n * kSteps;
    labels[n] = x[n * kSteps] > x[n * kSteps + 1] ? 1 : 0;
  }
  const lstmcore::Sequences sequences{data.data(), lengths.data(), kSequences, 1};

  lstmcore::ModelConfig config;
  config.recurrent.cell = "lstm";
  config.recurrent.input_size = 1;
  config.recurrent.hidden_size = 24;
  config.activation = lstmcore::Activation::softmax;
  config.outputs = 2;
  lstmcore::Model model(config);

  lstmcore::TrainerConfig training;
  training.loss = lstmcore::Loss::cross_entropy;
  training.learning_rate = 0.01;
  training.clip_norm = 1.0;
  lstmcore::Trainer trainer(model, training);
  lstmcore::Targets targets;
  targets.labels = labels.data();
  // For tens of epochs nothing seems to happen; then it is learnt within a few.
  double loss = 1.0;
  for (int epoch = 1; epoch <= 300 && loss > 0.1; ++epoch) {
    loss = trainer.run_epoch(sequences, targets).loss;
    if (epoch % 10 == 0) std::printf("epoch %d: loss %.4f\n", epoch, loss);
  }

  std::vector<float> probabilities(kSequences * 2);
  model.predict(sequences, probabilities.data());
  int right = 0;
  for (std::size_t n = 0; n < kSequences; ++n) {
    right += (probabilities[2 * n + 1] > probabilities[2 * n] ? 1 : 0) == labels[n] ? 1 : 0;
  }
  if (argc > 1) model.save(argv[1]);
  std::printf("accuracy %.3f\n", static_cast<double>(right) / kSequences);
  return right > kSequences * 9 / 10 ? 0 : 1;
}
