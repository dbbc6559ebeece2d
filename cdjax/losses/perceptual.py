"""Perceptual distance: how differently a network that reads findings sees two images.

A Gaussian likelihood counts pixels, and a small lesion has few; what a classifier of findings sees
changes with it all the same.
"""

from collections.abc import Sequence

import jax.numpy as jnp

from cdjax.core.types import Array


def _unit(grid: Array) -> Array:
  grid = grid.astype(jnp.float32)
  # The root of a sum that may be zero has no gradient there.
  return grid / jnp.sqrt(jnp.sum(grid**2, -1, keepdims=True) + 1e-6)


def perceptual_distance(first: Sequence[Array], second: Sequence[Array]) -> Array:
  """Squared distance of unit feature vectors, mean over places, sum over grids: `[B]`.

  Zhang et al. 2018, arXiv:1801.03924, equation 1, all channels counting alike.

  Args:
    first: features of one image at several resolutions, `[B, h, w, c]` each.
    second: of the other image, of the same shapes.

  Returns:
    `[B]` in [0, 4 · grids].
  """
  return sum(((_unit(a) - _unit(b)) ** 2).sum(-1).mean((1, 2))
             for a, b in zip(first, second, strict=True))
