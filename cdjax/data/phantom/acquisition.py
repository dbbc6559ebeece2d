"""How one study was taken: exposure, tone, position, uneven field and sensor noise.

Drawn for each study anew (`u_x` of the causal graph); the ranges are those of the benchmark.
"""

import flax.struct
import jax
import jax.numpy as jnp

from cdjax.core.rng import stream
from cdjax.core.types import Array

NOISE_SD = 0.01
NUM_BIAS = 5
BIAS = 0.025


@flax.struct.dataclass
class Acquisition:
  """One study's acquisition; unbatched leaves.

  Attributes:
    gain: `[]` exposure, in [0.85, 1.15].
    gamma: `[]` tone curve, in [0.9, 1.1].
    shift: `[2]` right and down, in pixels of a 64-pixel image, in [-1, 1].
    bias: `[NUM_BIAS]` weights of the smooth field's polynomials, in [-BIAS, BIAS].
    noise_key: `[2]` uint32, key data of the sensor noise.
  """

  gain: Array
  gamma: Array
  shift: Array
  bias: Array
  noise_key: Array


def sample_acquisition(key: jax.Array) -> Acquisition:
  """Draws one study's acquisition."""
  draw = jax.random.uniform(stream(key, "draws"), (4 + NUM_BIAS,))
  return Acquisition(
      gain=0.85 + 0.3 * draw[0],
      gamma=0.9 + 0.2 * draw[1],
      shift=2.0 * draw[2:4] - 1.0,
      bias=BIAS * (2.0 * draw[4:] - 1.0),
      noise_key=jax.random.key_data(stream(key, "noise")),
  )


def expose(image: Array, u: Array, v: Array, acquisition: Acquisition, *,
           noise: bool | Array) -> Array:
  """Turns the ideal radiograph into the recorded one.

  Args:
    image: `[S, S]` in [0, 1], already at the shifted position.
    u: `[S, S]` right, in [-1, 1], of the detector (not shifted).
    v: `[S, S]` down.
    acquisition: of this study.
    noise: whether the sensor's noise is added; may be traced.

  Returns:
    `[S, S]` float32 in [0, 1]:
    `clip(gain * image**gamma + bias field + noise)`.
  """
  polynomials = jnp.stack([u, v, u * v, u * u - 1 / 3, v * v - 1 / 3])
  field = jnp.tensordot(acquisition.bias, polynomials, 1)
  image = acquisition.gain * jnp.power(jnp.maximum(image, 1e-4), acquisition.gamma) + field
  grain = jax.random.normal(jax.random.wrap_key_data(acquisition.noise_key), image.shape)
  image = image + jnp.where(noise, NOISE_SD * grain, 0.0)
  return jnp.clip(image, 0.0, 1.0)
