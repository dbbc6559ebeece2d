"""Samplers: from noise `z_T` to a clean sample, as one `lax.scan` over a grid of time steps.

All three walk the nodes of `timestep_grid`, evaluate the denoiser once at each, and step to the
next; the last step goes to the clean end (alpha = 1, sigma = 0), where every rule below gives the
predicted x0. The coefficients are written so that alpha = 0 at the first node (zero terminal SNR,
log SNR minus infinity) divides by nothing.
"""

import jax
import jax.numpy as jnp
import numpy as np

from cdjax.core.rng import stream
from cdjax.core.types import Array
from cdjax.diffusion.prediction import DenoiseFn
from cdjax.diffusion.schedule import Schedule, timestep_grid


def step_coefficients(schedule: Schedule, timesteps: np.ndarray) -> dict[str, np.ndarray]:
  """alpha and sigma at both ends of each step of a grid, NumPy float64 `[N]`.

  Keys: "t" (int32), "alpha", "sigma" at the step's noisy end; "alpha_next", "sigma_next" at the
  less noisy one, the last being the clean end (1, 0).
  """
  alpha = np.asarray(schedule.sqrt_alphas_cumprod, np.float64)[timesteps]
  sigma = np.asarray(schedule.sqrt_one_minus_alphas_cumprod, np.float64)[timesteps]
  return dict(t=timesteps.astype(np.int32), alpha=alpha, sigma=sigma,
              alpha_next=np.append(alpha[1:], 1.0), sigma_next=np.append(sigma[1:], 0.0))


def as_scanned(table: dict[str, np.ndarray]) -> dict[str, jax.Array]:
  """Casts once: float32 for the coefficients, int32 for the indices."""
  return {k: jnp.asarray(v, jnp.int32 if v.dtype == np.int32 else jnp.float32)
          for k, v in table.items()}


def _walk(body, carry, table, z_T, *, remat: bool, return_trajectory: bool):
  """Scans `body(carry, row) -> carry`; `carry[0]` is the state."""
  def scanned(carry, row):
    carry = body(carry, row)
    return carry, (carry[0] if return_trajectory else None)

  if remat:
    scanned = jax.checkpoint(scanned)
  carry, states = jax.lax.scan(scanned, carry, as_scanned(table))
  if return_trajectory:
    return carry[0], jnp.concatenate([z_T[None], states])
  return carry[0]


def ddim(denoise_fn: DenoiseFn, z_T: Array, key: jax.Array | None = None, *, schedule: Schedule,
         num_steps: int, eta: float = 0.0, spacing: str = "trailing", strength: float = 1.0,
         remat: bool = False, return_trajectory: bool = False):
  """DDIM: `z_s = alpha_s x0 + sqrt(sigma_s² - var) eps + sqrt(var) noise`.

  `var = eta² (sigma_s² / sigma_t²) (1 - alpha_t² / alpha_s²)`; eta = 0 is deterministic, the first
  order solver of the probability-flow equation; eta = 1 is DDPM.

  Args:
    denoise_fn: `(z_t [B, ...], t [B]) -> Prediction`.
    z_T: `[B, ...]`, standard normal at t = T-1; where strength is below 1, the state at the grid's
      first node.
    key: needed where eta > 0.
    schedule: the schedule.
    num_steps: evaluations of the denoiser.
    eta: a Python number in [0, 1].
    spacing, strength: of `timestep_grid`.
    remat: recompute each step in the backward pass (gradients with respect to z_T).
    return_trajectory: also return the states.

  Returns:
    z_0 `[B, ...]` float32, or `(z_0, trajectory [num_steps + 1, B, ...])` from z_T to z_0.

  References:
    Song et al. 2021, arXiv:2010.02502, eq. 12 and 16.
  """
  if eta > 0 and key is None:
    raise ValueError(f"eta={eta} draws noise; give a key")
  z_T = jnp.asarray(z_T, jnp.float32)
  table = step_coefficients(schedule, timestep_grid(schedule, num_steps, spacing, strength))
  var = (eta * table["sigma_next"] / table["sigma"]) ** 2 * (
      1.0 - (table["alpha"] / table["alpha_next"]) ** 2)
  table["eps_scale"] = np.sqrt(np.maximum(table["sigma_next"] ** 2 - var, 0.0))
  table["noise_scale"] = np.sqrt(var)

  def body(carry, row):
    (z,) = carry
    prediction = denoise_fn(z, jnp.full(z.shape[:1], row["t"]))
    z = row["alpha_next"] * prediction.x0 + row["eps_scale"] * prediction.eps
    if eta > 0:
      noise = jax.random.normal(stream(key, "sampler", row["t"]), z.shape)
      z = z + row["noise_scale"] * noise
    return (z,)

  return _walk(body, (z_T,), table, z_T, remat=remat, return_trajectory=return_trajectory)


def ddpm(denoise_fn: DenoiseFn, z_T: Array, key: jax.Array | None = None, *, schedule: Schedule,
         num_steps: int, spacing: str = "trailing", strength: float = 1.0, remat: bool = False,
         return_trajectory: bool = False):
  """Ancestral sampling with the true posterior variance (Ho et al. 2020, eq. 6 and 7).

  On any grid this is DDIM with eta = 1; arguments and returns as `ddim`. A key is needed.
  """
  return ddim(denoise_fn, z_T, key, schedule=schedule, num_steps=num_steps, eta=1.0,
              spacing=spacing, strength=strength, remat=remat,
              return_trajectory=return_trajectory)


def dpmpp_2m(denoise_fn: DenoiseFn, z_T: Array, key: jax.Array | None = None, *,
             schedule: Schedule, num_steps: int, spacing: str = "log_snr", strength: float = 1.0,
             remat: bool = False, return_trajectory: bool = False):
  """DPM-Solver++(2M): second order, one evaluation a step, deterministic.

  With `lambda = log(alpha / sigma)`, `h = lambda_s - lambda_t`, `r = h_before / h`:
  `D = x0 + (x0 - x0_before) / (2 r)`, `z_s = (sigma_s / sigma_t) z_t + alpha_s (1 - e^-h) D`,
  where `alpha_s e^-h = alpha_t sigma_s / sigma_t`. The step is of first order (D = x0) at the first
  node, after a node without signal (lambda = -inf, so 1/r = 0) and into the clean end (h = inf).

  Arguments and returns as `ddim`; `key` is accepted and not used.

  References:
    Lu et al. 2022, arXiv:2211.01095, alg. 2 and eq. 9.
  """
  del key
  z_T = jnp.asarray(z_T, jnp.float32)
  table = step_coefficients(schedule, timestep_grid(schedule, num_steps, spacing, strength))
  ratio = table["sigma_next"] / table["sigma"]
  table["z_scale"] = ratio
  table["x0_scale"] = table["alpha_next"] - table["alpha"] * ratio
  nodes = len(table["t"])
  half_inverse_r = np.zeros(nodes)
  signal = table["alpha"] > 0
  lam = np.log(table["alpha"], where=signal, out=np.full(nodes, -np.inf))
  lam = lam - np.log(table["sigma"])
  for i in range(1, nodes - 1):
    if signal[i - 1]:
      half_inverse_r[i] = 0.5 * (lam[i + 1] - lam[i]) / (lam[i] - lam[i - 1])
  table["half_inverse_r"] = half_inverse_r

  def body(carry, row):
    z, before = carry
    x0 = denoise_fn(z, jnp.full(z.shape[:1], row["t"])).x0
    data = x0 + row["half_inverse_r"] * (x0 - before)
    return row["z_scale"] * z + row["x0_scale"] * data, x0

  carry = (z_T, jnp.zeros_like(z_T))
  return _walk(body, carry, table, z_T, remat=remat, return_trajectory=return_trajectory)


SAMPLERS = {"ddpm": ddpm, "ddim": ddim, "dpmpp_2m": dpmpp_2m}


def get_sampler(name: str):
  """The sampler of that name: `sample(denoise_fn, z_T, key, *, schedule, num_steps, ...)`."""
  if name not in SAMPLERS:
    raise ValueError(f"sampler={name!r}; expected one of {sorted(SAMPLERS)}")
  return SAMPLERS[name]
