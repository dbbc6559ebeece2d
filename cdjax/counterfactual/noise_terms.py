"""What an initial noise is optimised for: terms of `[N]`, each 0 or near it where all is well.

The terms look at the noises `z_T` themselves or at what the sampler makes of them.
"""

import jax.numpy as jnp

from cdjax.core.types import Array


def semantic(sample: Array, centroid: Array, healthy: Array, spread: Array, reach: Array) -> Array:
  """How far samples fall short of showing a class as its real cases do: `[N]`, 1 for healthy ones.

  The class's direction leads from the healthy mean to the class's centroid; a sample's score is its
  part along it, and the term `max(0, 1 - score / reach)²`. A *distance* to the centroid would
  reward erasing whatever is focal: cases differ in place and shape, so the centroid is a faint blur
  that a healthy image is nearer to than any case.

  Args:
    sample: `[N, ...]`.
    centroid: of each one's class, `[N, ...]`; of a finding *and* a place: the mean over both sides
      is a place where nothing is.
    healthy: mean of images without finding, `[...]`.
    spread: unit of every element, `[...]`.
    reach: score of the class's real cases, `[N]`, positive.
  """
  flat = lambda x: x.reshape(len(x), -1)
  direction = flat((centroid - healthy) / spread)
  direction /= jnp.maximum(jnp.linalg.norm(direction, axis=-1, keepdims=True), 1e-12)
  score = (flat((sample - healthy) / spread) * direction).sum(-1)
  return jnp.maximum(0.0, 1.0 - score / reach) ** 2


def appearance(sample: Array, reference_mean: Array, reference_std: Array) -> Array:
  """Per-channel statistics of samples `[N, h, w, c]` against the class's, `[c]` each: `[N]`.

  Huang and Belongie, arXiv:1703.06868: mean and standard deviation of a channel hold its style.
  """
  mean, std = sample.mean((1, 2)), sample.std((1, 2))
  return ((mean - reference_mean) ** 2 + (std - reference_std) ** 2).mean(-1)


def norm_prior(z_T: Array) -> Array:
  """Negative log density of the noise's radius, less its minimum: `r²/2 − (d − 1) log r`, `[N]`.

  A sample of N(0, I_d) has the density r^(d−1) exp(−r²/2) of its radius; Samuel et al.,
  arXiv:2306.08687, eq. 4.
  """
  d = z_T[0].size
  square = jnp.maximum((z_T**2).reshape(len(z_T), -1).sum(-1), 1e-12)
  energy = lambda square: 0.5 * square - 0.5 * (d - 1) * jnp.log(square)
  return energy(square) - energy(jnp.float32(d - 1))


def repulsion(sample: Array, centroid: Array, spread: Array, place: Array) -> Array:
  """How alike the samples of one place are, beyond what their class has in common: `[N]`.

  Mean of max(cosine, 0)² to the batch's other samples of the same place, each less its centroid.
  Asked of samples, not of noises: noises that look nothing alike may lead to one and the same case.

  Args:
    sample, centroid: `[N, ...]`.
    spread: `[...]`.
    place: `[N]` int; samples of different places differ without being told to.
  """
  rest = ((sample - centroid) / spread).reshape(len(sample), -1)
  rest /= jnp.sqrt((rest**2).sum(-1, keepdims=True) + 1e-12)
  others = (place[:, None] == place) & ~jnp.eye(len(place), dtype=bool)
  similar = jnp.where(others, jnp.maximum(rest @ rest.T, 0.0) ** 2, 0.0)
  return similar.sum(-1) / jnp.maximum(others.sum(-1), 1)


def closeness(sample: Array, references: Array, *, allowed: float) -> Array:
  """How far samples `[N, ...]` come closer to any single reference `[K, ...]` than they may: `[N]`.

  `Σ_k max(0, 1 − distance_k / allowed)²`: 0 where every distance is at least `allowed`.
  """
  flat = lambda x: x.reshape(len(x), -1)
  difference = flat(sample)[:, None] - flat(references)[None]
  distance = jnp.sqrt((difference**2).sum(-1) + 1e-12)
  return (jnp.maximum(0.0, 1.0 - distance / allowed) ** 2).sum(-1)
