"""Noise schedules and the grids of time steps that samplers walk.

`z_t = alpha_t z_0 + sigma_t eps` with `alpha_t² = alphas_cumprod[t]`, `sigma_t² = 1 - alpha_t²`,
t = 0 (nearly clean) to T-1 (nearly or exactly noise). Everything is computed in NumPy float64 and
cast once. A schedule is a constant of the program: close over it, do not pass it through `jit`.
"""

import flax.struct
import jax.numpy as jnp
import numpy as np

from cdjax.core.types import Array

# log SNR of "no signal": finite, so that no infinity meets a gradient; e^-30 is 0 in float32 sums.
LOG_SNR_MIN = -30.0
# Log-SNR grids spend their nodes inside this band. Outside it a step changes z_0 or the noise by
# less than alpha² or sigma² = 1e-3 of its scale.
LOG_SNR_BAND = 7.0


@flax.struct.dataclass
class Schedule:
  """A discrete variance-preserving noise schedule; NumPy float32 arrays `[T]`.

  Attributes:
    alphas_cumprod: `alpha_t²`, decreasing; the last is exactly 0 with zero terminal SNR.
    sqrt_alphas_cumprod: `alpha_t`.
    sqrt_one_minus_alphas_cumprod: `sigma_t`; positive everywhere.
    log_snr: `log(alpha_t² / sigma_t²)`, at least `LOG_SNR_MIN`.
    zero_terminal_snr: static; whether `alpha_{T-1}` is 0.
  """

  alphas_cumprod: np.ndarray
  sqrt_alphas_cumprod: np.ndarray
  sqrt_one_minus_alphas_cumprod: np.ndarray
  log_snr: np.ndarray
  zero_terminal_snr: bool = flax.struct.field(pytree_node=False)

  @property
  def num_timesteps(self) -> int:
    """T."""
    return self.alphas_cumprod.shape[0]


def _cosine(num_timesteps: int) -> np.ndarray:
  """Nichol & Dhariwal 2021 (arXiv:2102.09672), eq. 17, with their bound of 0.999 on beta."""
  t = np.arange(num_timesteps + 1) / num_timesteps
  f = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
  return np.cumprod(1.0 - np.minimum(1.0 - f[1:] / f[:-1], 0.999))


def _linear(num_timesteps: int) -> np.ndarray:
  """Ho et al. 2020 (arXiv:2006.11239): beta from 1e-4 to 0.02 at T = 1000, scaled for other T."""
  scale = 1000 / num_timesteps
  betas = np.linspace(1e-4 * scale, 0.02 * scale, num_timesteps)
  return np.cumprod(1.0 - np.minimum(betas, 0.999))


def _scaled_linear(num_timesteps: int) -> np.ndarray:
  """Stable Diffusion's: linear in sqrt(beta), 0.00085 to 0.012 at T = 1000, scaled for other T."""
  scale = 1000 / num_timesteps
  betas = np.linspace((0.00085 * scale) ** 0.5, (0.012 * scale) ** 0.5, num_timesteps) ** 2
  return np.cumprod(1.0 - np.minimum(betas, 0.999))


SCHEDULES = {"cosine": _cosine, "linear": _linear, "scaled_linear": _scaled_linear}


def make_schedule(kind: str = "cosine", num_timesteps: int = 1000,
                  zero_terminal_snr: bool = True) -> Schedule:
  """Builds a schedule.

  Args:
    kind: one of `SCHEDULES`.
    num_timesteps: T, at least 2.
    zero_terminal_snr: shift and scale `alpha_t` so that the last is 0 and the first is kept
      (Lin et al., arXiv:2305.08891, alg. 1). Sampling then starts from what training ended with.
      Such a schedule needs v- or x0-prediction.

  Raises:
    ValueError: unknown kind, or fewer than two time steps.
  """
  if kind not in SCHEDULES:
    raise ValueError(f"schedule kind={kind!r}; expected one of {sorted(SCHEDULES)}")
  if num_timesteps < 2:
    raise ValueError(f"num_timesteps={num_timesteps}; expected at least 2")
  alphas_cumprod = SCHEDULES[kind](num_timesteps)
  if zero_terminal_snr:
    alpha = np.sqrt(alphas_cumprod)
    alpha = (alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])
    alphas_cumprod = alpha**2
  with np.errstate(divide="ignore"):
    log_snr = np.log(alphas_cumprod) - np.log1p(-alphas_cumprod)
  return Schedule(
      alphas_cumprod=alphas_cumprod.astype(np.float32),
      sqrt_alphas_cumprod=np.sqrt(alphas_cumprod).astype(np.float32),
      sqrt_one_minus_alphas_cumprod=np.sqrt(1.0 - alphas_cumprod).astype(np.float32),
      log_snr=np.maximum(log_snr, LOG_SNR_MIN).astype(np.float32),
      zero_terminal_snr=bool(zero_terminal_snr))


def coefficients(schedule: Schedule, t: Array, ndim: int) -> tuple[Array, Array]:
  """`(alpha_t, sigma_t)` float32, shaped to multiply an array with `ndim` dimensions.

  Args:
    schedule: the schedule.
    t: `[B]` or scalar int32 in 0..T-1; may be traced.
    ndim: of the array to multiply, the batch being its first dimension.
  """
  t = jnp.asarray(t)
  shape = t.shape + (1,) * (ndim - 1 if t.ndim else 0)
  alpha = jnp.asarray(schedule.sqrt_alphas_cumprod)[t].reshape(shape)
  sigma = jnp.asarray(schedule.sqrt_one_minus_alphas_cumprod)[t].reshape(shape)
  return alpha, sigma


def _trailing(schedule: Schedule, n: int) -> np.ndarray:
  """Equal steps counted from the noisy end (Lin et al., table 2): the last node is near T/n."""
  total = schedule.num_timesteps
  return np.round(total - np.arange(n) * (total / n)) - 1


def _uniform(schedule: Schedule, n: int) -> np.ndarray:
  """Equal steps from T-1 to 0, both included."""
  return np.round(np.linspace(schedule.num_timesteps - 1, 0, n))


def _log_snr(schedule: Schedule, n: int) -> np.ndarray:
  """Equal steps in log SNR, inside the band; the first node is moved to T-1."""
  log_snr = np.asarray(schedule.log_snr, np.float64)
  low = max(log_snr[-1], -LOG_SNR_BAND)
  high = min(log_snr[0], LOG_SNR_BAND)
  total = schedule.num_timesteps
  t = np.interp(np.linspace(low, high, n), log_snr[::-1], np.arange(total)[::-1])
  return np.round(t)


SPACINGS = {"trailing": _trailing, "uniform": _uniform, "log_snr": _log_snr}


def timestep_grid(schedule: Schedule, num_steps: int, spacing: str = "trailing",
                  strength: float = 1.0) -> np.ndarray:
  """Time steps that a sampler visits, noisiest first.

  Args:
    schedule: the schedule.
    num_steps: nodes, 1..T. A sampler evaluates the denoiser once at each and steps from the last
      one to the clean sample.
    spacing: "trailing" and "uniform" are equal in t; "log_snr" is equal in log SNR, which an
      inversion and a multistep solver need.
    strength: share of the way into the noise, in (0, 1]: below 1 the nodes beyond `strength · T`
      are left out, and the noisiest left is moved there.

  Returns:
    `[num_steps]` int32 (fewer where strength is below 1), strictly decreasing, starting at T-1 (at
    about strength · T).

  Raises:
    ValueError: unknown spacing, more steps than the schedule has, or an impossible strength.
  """
  if spacing not in SPACINGS:
    raise ValueError(f"spacing={spacing!r}; expected one of {sorted(SPACINGS)}")
  total = schedule.num_timesteps
  if not 1 <= num_steps <= total:
    raise ValueError(f"num_steps={num_steps}; expected 1..{total}")
  t = SPACINGS[spacing](schedule, num_steps)
  # Rounding can repeat an index where the schedule is steep: push repeats apart, keep 0..T-1.
  rank = np.arange(num_steps)
  t[0] = total - 1
  t = np.minimum.accumulate(t + rank) - rank
  t = np.maximum(t, num_steps - 1 - rank)
  if not 0 < strength <= 1:
    raise ValueError(f"strength={strength}; expected more than 0 and at most 1")
  if strength < 1:
    top = round(strength * (total - 1))
    t = np.append(top, t[t < top])
  return t.astype(np.int32)
