"""What of an image's errors the pathology is paid for."""

import jax.numpy as jnp
from ml_collections import ConfigDict

from cdjax.core.images import to_unit
from cdjax.losses.outlines import outline_weight, weigh_change
from cdjax.models.disentangled import Layers


def credited(layers: Layers, weights: ConfigDict) -> Layers:
  """The same picture; what it lacks at the film's outlines is hardly put down to the pathology.

  So it is for every loss of the picture, though the weight is that of a Gaussian likelihood.

  Args:
    layers: as painted.
    weights: `config.autoencoder.loss`.
  """
  if not weights.outline_shift:
    return layers
  shift = weights.outline_shift * layers.film.shape[1] / 64.0
  weight = outline_weight(to_unit(layers.film), sigma=weights.sigma, shift=shift)
  seen = weigh_change(layers.film, layers.lesion, layers.opacity, weight)
  return Layers(seen, seen, jnp.zeros_like(seen))
