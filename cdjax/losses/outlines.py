"""Outlines: a pathology is not paid for where the film's outlines are a fraction of a pixel off."""

import jax
import jax.numpy as jnp

from cdjax.core.types import Array


def outline_weight(film: Array, *, sigma: float, shift: float) -> Array:
  """How much an error counts beside outlines that may be `shift` pixels off: in (0, 1].

  With an outline off by a displacement of that standard deviation, an error has the variance
  `sigma² + shift² |∇film|²` instead of `sigma²`; this is their ratio, the factor on the gradient of
  a Gaussian log-likelihood.

  Args:
    film: the healthy patient, `[B, H, W, 1]` in [0, 1]; no gradient goes to it.
    sigma: of the likelihood, in the same unit.
    shift: in pixels.
  """
  film = jax.lax.stop_gradient(film)
  down, right = jnp.gradient(film, axis=(1, 2))
  return 1.0 / (1.0 + (shift / sigma) ** 2 * (down**2 + right**2))


def weigh_change(film: Array, lesion: Array, opacity: Array, weight: Array) -> Array:
  """`film + opacity · (lesion − film)`, with `weight` on the gradients of lesion and opacity only.

  All are `[B, H, W, 1]`; so is the result.
  """
  stop = jax.lax.stop_gradient
  change = opacity * (lesion - stop(film))
  seen = film + stop(opacity) * (stop(lesion) - film)
  return seen + weight * (change - stop(change))
