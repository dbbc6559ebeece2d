"""Diagonal Gaussian posteriors: sampling, and Kullback-Leibler divergences in nats."""

import jax
import jax.numpy as jnp

from cdjax.core.types import Array, Posterior


def cap_logvar(raw: Array, *, low: float = -14.0, high: float = 2.0) -> Array:
  """Keeps a network's log-variance between two bounds, smoothly.

  The identity in the middle, flat outside, never with a zero gradient, so that a posterior that
  touches a bound can come back. Within `exp(low - high)` of the bounds.
  """
  raw = high - jax.nn.softplus(high - raw)
  return low + jax.nn.softplus(raw - low)


def posterior_sample(key: jax.Array, posterior: Posterior, spread: float = 1.0) -> Array:
  """One reparameterised draw, of the posterior's shape, float32 (Kingma & Welling 2014).

  `spread` is a factor on the standard deviation; 0 gives the mean, whatever the key.
  """
  mean = posterior.mean.astype(jnp.float32)
  if not spread:
    return mean
  noise = spread * jax.random.normal(key, mean.shape)
  return mean + jnp.exp(0.5 * posterior.logvar.astype(jnp.float32)) * noise


def _elementwise_standard(posterior: Posterior) -> Array:
  mean = posterior.mean.astype(jnp.float32)
  logvar = posterior.logvar.astype(jnp.float32)
  # expm1(v) - v is not negative for any rounding of exp(v) - 1 near v = 0.
  return 0.5 * (mean**2 + jnp.expm1(logvar) - logvar)


def kl_to_standard_normal(posterior: Posterior) -> Array:
  """KL(q || N(0, 1)) summed over everything but the batch, `[B]` nats.

  `½ Σ (mean² + var - 1 - log var)` (Kingma & Welling 2014, arXiv:1312.6114, appendix B).
  """
  kl = _elementwise_standard(posterior)
  return kl.reshape(kl.shape[0], -1).sum(-1)


def kl_per_slot(posterior: Posterior, *, in_use: Array | None = None) -> Array:
  """KL(q || N(0, 1)) of each slot, summed over places and channels.

  Args:
    posterior: of latents `[B, h, w, n, c]`.
    in_use: `[B, n]` bool; False where the slot is replaced by null, so that nothing is sent through
      it and nothing is paid. Default all.

  Returns:
    `[B, n]` nats.
  """
  kl = _elementwise_standard(posterior).sum((1, 2, 4))
  return kl if in_use is None else jnp.where(jnp.asarray(in_use, bool), kl, 0.0)


def kl_between(p: Posterior, q: Posterior, *, symmetric: bool = False) -> Array:
  """KL(p || q) summed over everything but the batch.

  Args:
    p: of shape `[B, ...]`.
    q: of the same shape.
    symmetric: the mean of both ways instead, half the Jeffreys divergence; then only differences of
      log-variance matter, and its sign does not.

  Returns:
    `[B]` nats; zero exactly where p = q.
  """
  mean_p, logvar_p = p.mean.astype(jnp.float32), p.logvar.astype(jnp.float32)
  mean_q, logvar_q = q.mean.astype(jnp.float32), q.logvar.astype(jnp.float32)
  square, ratio = (mean_p - mean_q) ** 2, logvar_p - logvar_q
  kl = 0.5 * (square * jnp.exp(-logvar_q) + jnp.expm1(ratio) - ratio)
  if symmetric:
    back = 0.5 * (square * jnp.exp(-logvar_p) + jnp.expm1(-ratio) + ratio)
    kl = 0.5 * (kl + back)
  return kl.reshape(kl.shape[0], -1).sum(-1)
