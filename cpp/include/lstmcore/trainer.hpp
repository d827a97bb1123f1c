// Training: losses, optimisers, schedules, and the loop over mini-batches.
#pragma once

#include <lstmcore/model.hpp>

#include <functional>
#include <vector>

namespace lstmcore {

enum class Loss { cross_entropy, squared, absolute, huber, quantile, gaussian };
enum class Solver { sgd, rmsprop, adam, adamw };
enum class Schedule { constant, step, cosine, plateau };

struct TrainerConfig {
  Loss loss = Loss::cross_entropy;
  double huber_delta = 1.0;
  /// quantile: levels in (0, 1), Q of them; output k·Q + q is the quantile of level q of number k.
  std::vector<double> quantiles;
  Solver solver = Solver::adam;
  double learning_rate = 1e-3;
  double momentum = 0.9;                                ///< sgd
  bool nesterov = false;                                ///< sgd
  double beta_1 = 0.9, beta_2 = 0.999, epsilon = 1e-8;  ///< adam, adamw
  double rho = 0.99;                                    ///< rmsprop
  double alpha = 0.0;  ///< L2 penalty on weights, not biases (½·α·‖w‖² added to the loss); adamw: decoupled decay
  Schedule schedule = Schedule::constant;
  std::int64_t epochs = 200;         ///< horizon of the cosine schedule
  double schedule_factor = 0.5;      ///< step and plateau: the rate is multiplied by this
  std::int64_t schedule_every = 10;  ///< step: each so many epochs; plateau: after so many epochs without progress
  double tolerance = 1e-4;           ///< plateau: what counts as progress
  double clip_norm = 0.0;            ///< global norm of the gradient; 0: off
  double clip_value = 0.0;           ///< every element; 0: off
  /// cross_entropy: share of the target spread over all classes, in [0, 1) (Szegedy et al. 2016); not in evaluate().
  double label_smoothing = 0.0;
  /// Upper bound for the norm of each row of every weight matrix after an update (Srivastava et al. 2014); 0: off.
  double max_norm = 0.0;
  /// η of Gaussian noise on the clipped gradient, with variance η / (1 + step)^0.55 (Neelakantan et al. 2015); 0: off.
  double gradient_noise = 0.0;
  /// Truncated BPTT: gradients flow back over windows of so many steps, states forward over all of them (Williams &
  /// Peng 1990); 0: whole sequences. Windows are counted from where a direction starts a sequence.
  std::int64_t bptt_steps = 0;
  /// BPTT with checkpoints along time (Chen et al. 2016): sequences are recorded in windows of so many steps, one at a
  /// time and for one more forward pass, so that memory does not grow with T; 0: off. A multiple of bptt_steps is used
  /// where both are set. Not for bidirectional networks, nor for poolings that need all steps at once.
  std::int64_t checkpoint_steps = 0;
  std::int64_t batch_size = 32;
  bool shuffle = true;  ///< length-bucketed
  std::uint64_t seed = 0;
  int n_threads = 0;
};

/// Targets of N sequences. Exactly one of labels and values is set.
struct Targets {
  const std::int32_t* labels = nullptr;  ///< [N] class index in 0 … K−1, for cross_entropy
  /// [N, K], for the other losses, before output scaling. quantile: every number Q times, once for each level;
  /// gaussian: every number twice, for its mean and its deviation.
  const double* values = nullptr;
  const double* weights = nullptr;  ///< [N] sample weight (class weight multiplied in), or nullptr for ones
};

struct EpochResult {
  double loss = 0.0;           ///< weighted mean over the sequences seen, penalty included
  double learning_rate = 0.0;  ///< used in this epoch
  std::int64_t sequences = 0;  ///< seen
  bool interrupted = false;    ///< cancel returned true
};

/// Polled about every 20 ms from the calling thread; true stops the work.
using Cancel = std::function<bool()>;

class LSTMCORE_API Trainer {
 public:
  /// The model must outlive the trainer.
  Trainer(Model& model, const TrainerConfig& config);
  ~Trainer();
  Trainer(Trainer&&) noexcept;
  Trainer& operator=(Trainer&&) noexcept;

  const TrainerConfig& config() const noexcept;

  /// One optimiser step on exactly these sequences; returns their mean loss before the step. Throws Interrupted.
  double step(const Sequences& x, const Targets& y, const Cancel& cancel = nullptr);

  /// One pass over the data in mini-batches. When interrupted the result says so and the weights are
  /// those after the last whole mini-batch.
  EpochResult run_epoch(const Sequences& x, const Targets& y, const Cancel& cancel = nullptr);

  /// Mean loss without dropout, penalty not included.
  double evaluate(const Sequences& x, const Targets& y) const;

  /// Reports the quantity that the plateau schedule watches (lower is better).
  void report(double monitored);

  /// For pruning: weights whose entry is 0 become 0 now and are so after every further step. One entry for each
  /// parameter; empty: all are free.
  void set_mask(std::vector<std::uint8_t> mask);

  /// Loss and gradient of one batch without an update; gradient: parameter_count() elements.
  double gradient(const Sequences& x, const Targets& y, void* gradient, const Cancel& cancel = nullptr);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lstmcore
