"""Deterministic inversion: the noise `u = z_T` that a deterministic sampler turns into a sample."""

import jax
import jax.numpy as jnp

from cdjax.core.types import Array, Prediction
from cdjax.diffusion.prediction import DenoiseFn
from cdjax.diffusion.samplers import as_scanned, step_coefficients
from cdjax.diffusion.schedule import Schedule, timestep_grid


def invert(denoise_fn: DenoiseFn, z_0: Array, *, schedule: Schedule, num_steps: int,
           order: int = 1, refinements: int = 0, spacing: str = "log_snr", strength: float = 1.0,
           return_trajectory: bool = False):
  """Finds u with `sampler(denoise_fn, u) = z_0`, step by step from the clean end.

  A DDIM step from z_t down to z_s uses the prediction at `(z_t, t)`. Solved for z_t it is a fixed
  point, in either of two forms:

  * `z_t = alpha_t / alpha_s (z_s - sigma_s eps) + sigma_t eps`, which contracts where the signal
    dominates and is defined at the clean end (sigma_s = 0);
  * `z_t = sigma_t / sigma_s (z_s - alpha_s x0) + alpha_t x0`, which contracts where the noise
    dominates and is defined at alpha_t = 0.

  Each is used on its side of `alpha_t = sigma_t`. The iteration starts from the prediction of the
  step before (which alone is the usual DDIM inversion), so one evaluation a step already corrects
  it; each refinement evaluates once more and shrinks what is left by about the step in log SNR.

  With order 1 the result is the inverse of `ddim` on the same grid, discretisation error and all.
  With order 2 the predictions of both ends are averaged (trapezoid rule, in sigma/alpha or in
  alpha/sigma): the result is the inverse of the flow itself, to second order, which suits
  `dpmpp_2m` or another number of steps.

  What u is: with zero terminal SNR, `u = (z_s - alpha_s x0) / sigma_s` at the last step, what the
  denoiser does not explain of the noisiest state above pure noise: exogenous noise, standard
  normal and independent of the conditions as far as the denoiser is right. Otherwise u also keeps
  `alpha_{T-1}` of the signal.

  Args:
    denoise_fn: `(z_t [B, ...], t [B]) -> Prediction`, under the factual conditions.
    z_0: `[B, ...]`, clean.
    schedule: the schedule.
    num_steps: nodes of the grid, at least 2; costs `num_steps (1 + refinements)` evaluations.
    order: 1 or 2.
    refinements: further fixed-point iterations a step.
    spacing: of `timestep_grid`; for an exact round trip through `ddim`, the sampler's.
    strength: of `timestep_grid`; below 1, u is the state that far into the noise.
    return_trajectory: also return the states.

  Returns:
    u `[B, ...]` float32, or `(u, trajectory [num_steps + 1, B, ...])` from z_0 to u.

  References:
    Song et al. 2021, arXiv:2010.02502, section 4.3; Pan et al. 2023 (AIDI), arXiv:2309.04907;
    Hong et al. 2023, "On exact inversion of DPM-solvers", arXiv:2311.18387.
  """
  if order not in (1, 2):
    raise ValueError(f"order={order}; expected 1 or 2")
  if num_steps < 2:
    raise ValueError(f"num_steps={num_steps}; an inversion needs at least 2")
  if refinements < 0:
    raise ValueError(f"refinements={refinements}; expected 0 or more")
  z_0 = jnp.asarray(z_0, jnp.float32)
  table = step_coefficients(schedule, timestep_grid(schedule, num_steps, spacing, strength))
  table = as_scanned({k: v[::-1] for k, v in table.items()})

  def solve_for_z(z, prediction, row):
    alpha, sigma = row["alpha"], row["sigma"]
    alpha_next, sigma_next = row["alpha_next"], row["sigma_next"]
    clean_end = sigma_next == 0
    ratio_eps = alpha / alpha_next
    ratio_x0 = sigma / jnp.where(clean_end, 1.0, sigma_next)
    by_eps = ratio_eps * z + (sigma - ratio_eps * sigma_next) * prediction.eps
    by_x0 = ratio_x0 * z + (alpha - ratio_x0 * alpha_next) * prediction.x0
    return jnp.where(clean_end | (alpha >= sigma), by_eps, by_x0)

  def body(carry, row):
    z, before = carry
    guess = solve_for_z(z, before, row)
    # The clean end has no prediction of its own to average with.
    weight = jnp.where((order == 2) & (row["sigma_next"] > 0), 0.5, 0.0)
    t = jnp.full(z.shape[:1], row["t"])

    def refine(guess, _):
      prediction = denoise_fn(guess, t)
      prediction = Prediction(x0=prediction.x0.astype(jnp.float32),
                              eps=prediction.eps.astype(jnp.float32))
      used = jax.tree.map(lambda new, old: new + weight * (old - new), prediction, before)
      return solve_for_z(z, used, row), prediction

    guess, predictions = jax.lax.scan(refine, guess, None, length=1 + refinements)
    last = jax.tree.map(lambda a: a[-1], predictions)
    return (guess, last), (guess if return_trajectory else None)

  start = Prediction(x0=z_0, eps=jnp.zeros_like(z_0))
  (u, _), states = jax.lax.scan(body, (z_0, start), table)
  if return_trajectory:
    return u, jnp.concatenate([z_0[None], states])
  return u
