"""Which time steps are trained, how heavily, and the training loss."""

import jax
import jax.numpy as jnp
import numpy as np

from cdjax.core.types import Array
from cdjax.diffusion.prediction import check_prediction, target_for
from cdjax.diffusion.schedule import Schedule

# Unfloored, min-SNR weighs v-prediction by 0 at t = T-1 with zero terminal SNR: exactly where
# sampling starts, and what the network says there would be left to chance.
MIN_WEIGHT = 0.1


def _uniform(snr: np.ndarray, prediction: str, gamma: float) -> np.ndarray:
  """1 on the error of the network's own output."""
  del prediction, gamma
  return np.ones_like(snr)


def _min_snr(snr: np.ndarray, prediction: str, gamma: float) -> np.ndarray:
  """Hang et al. 2023: min(SNR, gamma) on the error of x0, carried over to the output's space."""
  clipped = np.minimum(snr, gamma)
  if prediction == "v":  # |v error|² = (SNR + 1) |x0 error|²
    return clipped / (snr + 1.0)
  if prediction == "eps":  # |eps error|² = SNR |x0 error|²; 1 where SNR -> 0
    return clipped / np.maximum(snr, 1e-20)
  return clipped


WEIGHTINGS = {"uniform": _uniform, "min_snr": _min_snr}


def loss_weights(schedule: Schedule, prediction: str, *, weighting: str = "uniform",
                 min_snr_gamma: float = 5.0) -> np.ndarray:
  """Weight of the squared error of the network's output at each time step.

  Args:
    schedule: the schedule.
    prediction: what the network outputs, one of `PREDICTIONS`.
    weighting: "uniform" or "min_snr" (Hang et al., arXiv:2303.09556, section 3.4), floored at
      `MIN_WEIGHT`.
    min_snr_gamma: gamma of the latter.

  Returns:
    `[T]` float32, positive everywhere.

  Raises:
    ValueError: unknown weighting or prediction, or one that the schedule forbids.
  """
  if weighting not in WEIGHTINGS:
    raise ValueError(f"loss_weighting={weighting!r}; expected one of {sorted(WEIGHTINGS)}")
  check_prediction(prediction, schedule)
  alphas_cumprod = np.asarray(schedule.alphas_cumprod, np.float64)
  snr = alphas_cumprod / np.asarray(schedule.sqrt_one_minus_alphas_cumprod, np.float64) ** 2
  weights = WEIGHTINGS[weighting](snr, prediction, min_snr_gamma)
  return np.maximum(weights, MIN_WEIGHT).astype(np.float32)


def sample_timesteps(key: jax.Array, batch_size: int, num_timesteps: int) -> jax.Array:
  """One time step an example, `[B]` int32: uniform for each, stratified over the batch.

  One random offset shared by B equal strata (Kingma et al. 2021, arXiv:2107.00630, appendix I.1),
  in random order: the spread of the loss from step to step falls, its mean stays.
  """
  key_offset, key_order = jax.random.split(key)
  u = (jnp.arange(batch_size) + jax.random.uniform(key_offset)) / batch_size
  t = jnp.minimum((u * num_timesteps).astype(jnp.int32), num_timesteps - 1)
  return jax.random.permutation(key_order, t)


def diffusion_loss(output: Array, x0: Array, eps: Array, t: Array, *, schedule: Schedule,
                   prediction: str = "v", weighting: str = "uniform",
                   min_snr_gamma: float = 5.0, element_weights: Array | float = 1.0) -> Array:
  """Weighted mean squared error of the network's output for `z_t = q_sample(x0, eps, t)`.

  Args:
    output: `[B, ...]`.
    x0: clean sample, `[B, ...]`.
    eps: the noise in z_t, `[B, ...]`.
    t: `[B]` int32.
    schedule: the schedule.
    prediction: what the output means, one of `PREDICTIONS`.
    weighting: of `loss_weights`.
    min_snr_gamma: of `loss_weights`.
    element_weights: >= 0, broadcast to an example's elements; constants do not move the optimum.

  Returns:
    `[B]`: mean over an example's elements, times the weight of its t.
  """
  weights = loss_weights(schedule, prediction, weighting=weighting, min_snr_gamma=min_snr_gamma)
  target = target_for(x0, eps, t, schedule, prediction)
  square = element_weights * (output.astype(jnp.float32) - target) ** 2
  return square.reshape(square.shape[0], -1).mean(-1) * jnp.asarray(weights)[t]


def class_balancing(output: Array, other: Array, t: Array, *, num_timesteps: int,
                    commitment: float, element_weights: Array | float = 1.0) -> Array:
  """The regulariser of class-balancing diffusion: what one class has learnt, others may use.

  `t/T (|output − sg(other)|² + γ |sg(output) − other|²)`, sg stopping the gradient: the prediction
  for the image's own class and that for a class drawn from a balanced set stay alike, the more the
  noisier.

  Args:
    output: of the noise in z_t, as the paper's networks predict it, under the image's own
      condition, `[B, ...]`.
    other: for the same z_t under a class drawn alike for all, `[B, ...]`.
    t: `[B]` int32.
    num_timesteps: T.
    commitment: γ.
    element_weights: as of `diffusion_loss`.

  Returns:
    `[B]`: mean over an example's elements, without the paper's τ.

  References:
    Qin et al., "Class-Balancing Diffusion Models", arXiv:2305.00562; there τ = 1 and
    γ = 1/4.
  """
  stop = jax.lax.stop_gradient
  apart = lambda a, b: (element_weights * (a - b) ** 2).reshape(len(a), -1).mean(-1)
  output, other = output.astype(jnp.float32), other.astype(jnp.float32)
  return t / num_timesteps * (apart(output, stop(other)) + commitment * apart(stop(output), other))
