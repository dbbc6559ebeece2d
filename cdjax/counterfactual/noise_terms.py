"""What an initial noise is optimised for: terms of `[N]`, each 0 or near it where all is well.

The terms look at the noises `z_T` themselves or at what the sampler makes of them.
"""

import jax.numpy as jnp

from cdjax.core.types import Array


def semantic(features: Array, centroid: Array, spread: Array) -> Array:
  """Mean squared distance of features `[N, F]` to a class's centroid `[F]`, over its spread `[F]`.

  The features are the encoder's own, the centroid that of a finding *and* a side: the mean over
  both sides is a place where nothing is.
  """
  return (((features - centroid) / spread) ** 2).mean(-1)


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


def _cosines(a: Array, b: Array) -> Array:
  flat = lambda x: x.reshape(len(x), -1)
  unit = lambda x: x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
  return unit(flat(a)) @ unit(flat(b)).T


def repulsion(z_T: Array) -> Array:
  """How much a noise `[N, ...]` looks like the others of its batch: mean of max(cosine, 0)², `[N]`.

  Independent noises have cosines of about 1/√d; noises that run into one basin approach 1.
  """
  n = len(z_T)
  similar = jnp.maximum(_cosines(z_T, z_T), 0.0) ** 2
  return (similar.sum(-1) - jnp.diagonal(similar)) / max(n - 1, 1)


def closeness(sample: Array, references: Array, *, allowed: float) -> Array:
  """How far samples `[N, ...]` come closer to any single reference `[K, ...]` than they may: `[N]`.

  `Σ_k max(0, 1 − distance_k / allowed)²`: 0 where every distance is at least `allowed`.
  """
  flat = lambda x: x.reshape(len(x), -1)
  difference = flat(sample)[:, None] - flat(references)[None]
  distance = jnp.sqrt((difference**2).sum(-1) + 1e-12)
  return (jnp.maximum(0.0, 1.0 - distance / allowed) ** 2).sum(-1)
