"""The few nouns that every floor shares.

Shapes: images `[B, H, W, C]` in [-1, 1]; latents `[B, h, w, n, c]` (n slots on a grid, the last
one is the pathology); `K` findings of the data set's vocabulary.
"""

from typing import Any

import flax.struct
import jax
import numpy as np

Array = jax.Array | np.ndarray
PyTree = Any

PRESENT, ABSENT, UNKNOWN = 1, 0, -1

# Bit masks: a bilateral finding has both bits, an unknown side or zone has none.
SIDES = ("left", "right")
ZONES = ("upper", "mid", "lower")


@flax.struct.dataclass
class FindingsArrays:
  """Findings of a batch over a fixed vocabulary of K names; jittable.

  Attributes:
    status: `[B, K]` int8; 1 present, 0 absent, -1 unknown (uncertain findings are unknown).
    severity: `[B, K]` float32 in [0, 1]; -1 where unknown or not present.
    side: `[B, K]` int8 bit mask over `SIDES` (1 left, 2 right, 3 both); 0 unknown or without side.
    zone: `[B, K]` int8 bit mask over `ZONES` (1 upper, 2 mid, 4 lower); 0 unknown or without zone.
  """

  status: Array
  severity: Array
  side: Array
  zone: Array

  @property
  def present(self) -> Array:
    """`[B, K]` bool."""
    return self.status == PRESENT

  @property
  def any_present(self) -> Array:
    """`[B]` bool: at least one finding."""
    return (self.status == PRESENT).any(-1)

  @property
  def healthy(self) -> Array:
    """`[B]` bool: every finding of the vocabulary is known to be absent."""
    return (self.status == ABSENT).all(-1)


@flax.struct.dataclass
class Posterior:
  """A diagonal Gaussian. `mean` and `logvar` have one shape; float32."""

  mean: Array
  logvar: Array


@flax.struct.dataclass
class Prediction:
  """What a denoiser says about `z_t`: the clean sample and the noise, both of z_t's shape."""

  x0: Array
  eps: Array
