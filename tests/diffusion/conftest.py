"""The oracle of the sampler tests: diagonal Gaussian data, for which everything is known.

With `z_0 ~ N(m, v)`: `z_t ~ N(alpha m, alpha² v + sigma²)`, the best denoiser is linear, and the
probability-flow map keeps `(z_t - alpha m) / sd_t` constant, coordinate by coordinate.
"""

import types

import numpy as np
import pytest

from cdjax.core.types import Prediction
from cdjax.diffusion.schedule import coefficients

MEAN = np.array([0.7, -0.4, 0.0], np.float32)
VARIANCE = np.array([0.09, 0.6, 2.5], np.float32)


def make_denoise_fn(schedule):
  """The optimal denoiser for `[B, 3]`."""
  def denoise_fn(z_t, t):
    alpha, sigma = coefficients(schedule, t, z_t.ndim)
    total = alpha**2 * VARIANCE + sigma**2
    residual = z_t - alpha * MEAN
    return Prediction(x0=MEAN + alpha * VARIANCE / total * residual, eps=sigma / total * residual)
  return denoise_fn


def flow(schedule, z, t_from, t_to):
  """Closed-form probability flow between two time steps; None is the clean end."""
  def moments(t):
    if t is None:
      return MEAN, np.sqrt(VARIANCE)
    alpha = schedule.sqrt_alphas_cumprod[t]
    sigma = schedule.sqrt_one_minus_alphas_cumprod[t]
    return alpha * MEAN, np.sqrt(alpha**2 * VARIANCE + sigma**2)
  mean_from, sd_from = moments(t_from)
  mean_to, sd_to = moments(t_to)
  return mean_to + sd_to * (z - mean_from) / sd_from


def rms(a):
  """Root mean square."""
  return float(np.sqrt(np.mean(np.square(a))))


def order(num_steps, errors):
  """Order of convergence: minus the slope of log error over log steps."""
  return -np.polyfit(np.log(num_steps), np.log(errors), 1)[0]


@pytest.fixture
def gaussian():
  return types.SimpleNamespace(mean=MEAN, variance=VARIANCE, make_denoise_fn=make_denoise_fn,
                               flow=flow, rms=rms, order=order)
