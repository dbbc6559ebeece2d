"""The oracle of these tests: diagonal Gaussian data, for which everything is known.

With `z_0 ~ N(m, v)`: `z_t ~ N(alpha m, alpha² v + sigma²)`, the best denoiser is linear, and the
probability-flow map keeps `(z_t - alpha m) / sd_t` constant, because it carries marginals into each
other along straight lines in that coordinate.
"""

import jax.numpy as jnp
import numpy as np

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
  """Closed-form probability flow between two time steps; `t_to=None` is the clean end."""
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
  return float(jnp.sqrt(jnp.mean(jnp.square(a))))
