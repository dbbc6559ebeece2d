"""What a network's output means: noise, v, or the clean sample; and the forward process.

With `z_t = alpha z_0 + sigma eps` and `v = alpha eps - sigma z_0` (Salimans & Ho 2022,
arXiv:2202.00512): `z_0 = alpha z_t - sigma v`, `eps = sigma z_t + alpha v`. These divide by
nothing, so v is defined at both ends. From eps, `z_0 = (z_t - sigma eps) / alpha` does not exist
where alpha is 0: eps-prediction with zero terminal SNR is an error.
"""

from collections.abc import Callable

import jax.numpy as jnp

from cdjax.core.types import Array, Prediction
from cdjax.diffusion.schedule import Schedule, coefficients

PREDICTIONS = ("v", "eps", "x0")

# `denoise_fn(z_t, t)`: z_t `[B, ...]`, t `[B]` int32 in 0..T-1. All that samplers know of a model.
DenoiseFn = Callable[[Array, Array], Prediction]


def check_prediction(kind: str, schedule: Schedule) -> None:
  """Raises ValueError for an unknown kind, or for "eps" where the schedule ends without signal."""
  if kind not in PREDICTIONS:
    raise ValueError(f"prediction={kind!r}; expected one of {sorted(PREDICTIONS)}")
  if kind == "eps" and schedule.zero_terminal_snr:
    raise ValueError(
        "prediction='eps' with zero_terminal_snr=True: at t = T-1 the noise says nothing about the "
        "clean sample; use prediction='v' (or 'x0'), or zero_terminal_snr=False")


def q_sample(x0: Array, eps: Array, t: Array, schedule: Schedule) -> Array:
  """`z_t = alpha_t x0 + sigma_t eps`, of x0's shape `[B, ...]`; t is `[B]` or scalar."""
  alpha, sigma = coefficients(schedule, t, x0.ndim)
  return alpha * x0 + sigma * eps


def target_for(x0: Array, eps: Array, t: Array, schedule: Schedule, kind: str) -> Array:
  """What the network should output for `z_t = q_sample(x0, eps, t)`; of x0's shape."""
  check_prediction(kind, schedule)
  if kind == "v":
    alpha, sigma = coefficients(schedule, t, x0.ndim)
    return alpha * eps - sigma * x0
  return eps if kind == "eps" else x0


def predict_from(output: Array, z_t: Array, t: Array, schedule: Schedule,
                 kind: str) -> Prediction:
  """Reads a network's output as a clean sample and a noise, in float32.

  Args:
    output: `[B, ...]`, the network's output for z_t.
    z_t: `[B, ...]`.
    t: `[B]` or scalar int32.
    schedule: the schedule.
    kind: one of `PREDICTIONS`.

  Returns:
    `Prediction(x0, eps)` with `z_t = alpha x0 + sigma eps`.

  Raises:
    ValueError: unknown kind, or "eps" on a schedule with zero terminal SNR.
  """
  check_prediction(kind, schedule)
  alpha, sigma = coefficients(schedule, t, z_t.ndim)
  output, z_t = output.astype(jnp.float32), z_t.astype(jnp.float32)
  if kind == "v":
    return Prediction(x0=alpha * z_t - sigma * output, eps=sigma * z_t + alpha * output)
  if kind == "eps":
    return Prediction(x0=(z_t - sigma * output) / alpha, eps=output)
  return Prediction(x0=output, eps=(z_t - alpha * output) / sigma)


def output_from(prediction: Prediction, t: Array, schedule: Schedule, kind: str) -> Array:
  """The inverse of `predict_from`: the output of that kind which gives this prediction."""
  return target_for(prediction.x0, prediction.eps, t, schedule, kind)
