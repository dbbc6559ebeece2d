"""Minimality: a disease changes an image in few places."""

import jax.numpy as jnp

from cdjax.core.types import Array


def sparse_change(change: Array, *, scale: float) -> Array:
  """`sum log(1 + |change| / scale)`: nats of a heavy-tailed prior on what a pathology changes.

  A change that is small against `scale` costs nearly as much a unit as an L1 penalty of 1/scale and
  is better left out; a large one costs little more than it did at half its size, so that lesions do
  not fade. Without such a prior the pathology also redraws outlines of the body, wherever the
  mate's identity is a fraction of a pixel off.

  Args:
    change: what the pathology adds to each pixel, `[B, H, W, C]`, images being in [0, 1].
    scale: in the same unit.

  Returns:
    `[B]`.

  References:
    Candès, Wakin and Boyd 2008, "Enhancing sparsity by reweighted l1 minimization", section 2.2.
  """
  return jnp.log1p(jnp.abs(change) / scale).sum((1, 2, 3))
