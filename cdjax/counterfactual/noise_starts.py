"""Where noise optimisation starts: at random, or between the references' own noises."""

import jax
import jax.numpy as jnp

from cdjax.core.rng import stream
from cdjax.core.types import Array


def random_starts(key: jax.Array, num: int, shape: tuple[int, ...]) -> Array:
  """`num` standard normal noises, `[num, *shape]` float32."""
  return jax.random.normal(stream(key, "starts"), (num, *shape))


def standardise(noise: Array) -> Array:
  """Gives each noise `[N, ...]` mean 0 and standard deviation 1: inversion leaves it smaller."""
  axes = tuple(range(1, noise.ndim))
  centred = noise - noise.mean(axes, keepdims=True)
  return centred / jnp.maximum(centred.std(axes, keepdims=True), 1e-6)


def mixed_starts(key: jax.Array, references: Array, num: int, *, concentration: float = 1.0,
                 share: float = 0.7) -> Array:
  """Mixtures of the references' noises with fresh noise, on the sphere where noises live.

  `m = Σ w_i z_i / √(Σ w_i²)` keeps the variance of independent noises (Bodin et al., "Linear
  combinations of Gaussian latents in generative models: interpolation and beyond",
  arXiv:2408.08558, section 3); `w` is Dirichlet. Then `share · m + √(1 − share²) · ε`, of norm √d.

  Args:
    key: of weights and fresh noise.
    references: inverted noises, `[K, ...]`, K of at least 1.
    num: how many.
    concentration: of the Dirichlet: small, near single references; large, near their mean.
    share: of the references in a start, in [0, 1].

  Returns:
    `[num, ...]` float32 of norm √d each.

  Raises:
    ValueError: no reference, or `share` outside [0, 1].
  """
  if not len(references) or not 0.0 <= share <= 1.0:
    raise ValueError(f"{len(references)} references, share={share}; expected at least one and a "
                     "share in [0, 1]")
  weights = jax.random.dirichlet(
      stream(key, "weights"), jnp.full(len(references), concentration), (num,))
  weights = weights / jnp.sqrt((weights**2).sum(-1, keepdims=True))
  mixed = jnp.tensordot(weights, standardise(references), 1)
  fresh = random_starts(key, num, references.shape[1:])
  start = share * mixed + (1.0 - share**2) ** 0.5 * fresh
  axes = tuple(range(1, start.ndim))
  norm = jnp.sqrt((start**2).sum(axes, keepdims=True))
  return start * (start[0].size ** 0.5 / norm)
