"""Reconstruction: how well an image is rebuilt, as a log-likelihood in nats.

Images are `[B, H, W, C]` in [0, 1]. Terms are summed over an image, not averaged, so that a KL
weight of 1 is the price of information (DESIGN: "prices in nats"). The optional `mask`
`[B, H, W, 1]` leaves padded pixels out.
"""

import jax.numpy as jnp

from cdjax.core.images import ssim
from cdjax.core.types import Array


def _sum(values: Array, mask: Array | None) -> Array:
  """Sums `[B, H, W, C]` to `[B]` where the mask is on."""
  if mask is not None:
    values = jnp.where(jnp.asarray(mask, bool), values, 0.0)
  return values.sum((1, 2, 3))


def gaussian_nll(x: Array, x_hat: Array, *, sigma: float, mask: Array | None = None) -> Array:
  """`sum |x - x_hat|² / (2 sigma²)`: nats of a Gaussian observation, without its constant.

  Args:
    x: images.
    x_hat: their reconstructions.
    sigma: standard deviation of the observation, in the images' units.
    mask: pixels that count; default all.

  Returns:
    `[B]`.
  """
  return _sum(0.5 * ((x - x_hat) / sigma) ** 2, mask)


def l1(x: Array, x_hat: Array, *, sigma: float, mask: Array | None = None) -> Array:
  """`sum |x - x_hat| / sigma`: nats of a Laplace observation of scale sigma, without its constant.

  Arguments and returns as `gaussian_nll`.
  """
  return _sum(jnp.abs((x - x_hat) / sigma), mask)


def ssim_loss(x: Array, x_hat: Array, *, data_range: float = 1.0) -> Array:
  """`1 - SSIM`, `[B]` in [0, 2] (Wang et al. 2004; see `core.images.ssim`)."""
  return 1.0 - ssim(x, x_hat, data_range=data_range)
