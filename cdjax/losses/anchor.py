"""The null anchor: an image without finding is explained by its identity alone."""

import jax.numpy as jnp

from cdjax.core.types import Array
from cdjax.losses.reconstruction import gaussian_nll


def null_pathology(z: Array, where: Array) -> Array:
  """Replaces the pathology slot (the last) by null, which is zeros, in some examples.

  Args:
    z: latents `[B, h, w, n, c]`.
    where: `[B]` bool.

  Returns:
    `[B, h, w, n, c]`; identity slots are z's own. No gradient reaches a replaced slot.
  """
  last = jnp.arange(z.shape[-2]) == z.shape[-2] - 1
  where = jnp.asarray(where, bool).reshape(-1, 1, 1, 1, 1) & last[:, None]
  return jnp.where(where, 0.0, z)


def null_anchor(x: Array, x_hat_null: Array, healthy: Array, *, sigma: float) -> Array:
  """Reconstruction of images without finding from `z_path = null`, in nats.

  Args:
    x: `[B, H, W, C]` in [0, 1].
    x_hat_null: decoded with the pathology slot null.
    healthy: `[B]` bool, `FindingsArrays.healthy`: unknown findings do not count as healthy.
    sigma: of `gaussian_nll`.

  Returns:
    `[B]`, zero where an image has a finding or may have one.
  """
  nll = gaussian_nll(x, x_hat_null, sigma=sigma)
  return jnp.where(jnp.asarray(healthy, bool), nll, 0.0)
