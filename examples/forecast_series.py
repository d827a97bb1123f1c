"""Forecasts of a monthly series with a prediction interval, and how good they would have been.

Needs: pip install "lstmcore[sklearn]"; the picture of forecast_series.py forecast.png needs matplotlib.
"""

import sys

import numpy as np

from lstmcore import SequenceForecaster, backtest

rng = np.random.default_rng(0)
months = np.arange(240)
holidays = (rng.random(252) < 0.1).astype(float)  # known ahead
demand = 100 + 0.3 * months + 12 * np.sin(2 * np.pi * months / 12) + 20 * holidays[:240] + rng.normal(0, 3, 240)

# One step at a time: the next month's forecast has its holiday at hand, and the months after it follow.
forecaster = SequenceForecaster(
    window=24,
    horizon=12,
    strategy="recursive",
    loss="gaussian",
    calibrate=True,  # intervals from the errors on months that were held out
    hidden_size=16,
    learning_rate_init=1e-2,
    max_iter=30,
    n_jobs=1,
    random_state=0,
)
forecaster.fit(demand[:228], future=holidays[:240])
low, high = forecaster.predict_interval(coverage=0.8).T
for month, mean, a, b in zip(months[228:], forecaster.predict(), low, high, strict=True):
    print(f"month {month}: {mean:6.1f}  80 %: {a:6.1f} to {b:6.1f}   came: {demand[month]:6.1f}")
if len(sys.argv) > 1:
    forecaster.plot_forecast(actual=demand[228:]).figure.savefig(sys.argv[1], dpi=100)

# The year is over: its observations move the forecast on, without training.
forecaster.update(demand[228:], future=holidays[228:252])
print("next year:", forecaster.predict().round(1))

result = backtest(forecaster, demand, future=holidays[:240], n_origins=3, season_length=12)
print(f"MASE {result.mase:.3f}, seasonal naive {result.naive_mase:.3f}")
