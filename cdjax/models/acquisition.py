"""How a study was taken: exposure, contrast, position and shading, as an explicit code.

`x = shift(gain · film^gamma + bias)`: what differs between two studies of one patient without being
anatomy or disease is applied to the decoded film by a formula, so that the identity need not hold
it. The code has a standard normal prior; all zeros is the average study.
"""

import jax
import jax.numpy as jnp

from cdjax.core.types import Array

CODE_SIZE = 8
# Standard deviations that a code of 1 stands for.
_LOG_GAIN, _LOG_GAMMA, _BIAS = 0.09, 0.06, 0.03


def shift_image(x: Array, shift: Array) -> Array:
  """Moves images by a fraction of a pixel, bilinearly; edges repeat.

  Args:
    x: `[B, H, W, C]`.
    shift: `[B, 2]` in pixels, down and right positive.

  Returns:
    `[B, H, W, C]`.
  """

  def along(image, offset, axis):
    n = image.shape[axis]
    position = jnp.clip(jnp.arange(n, dtype=jnp.float32) - offset, 0.0, n - 1.0)
    low = jnp.floor(position).astype(jnp.int32)
    high = jnp.minimum(low + 1, n - 1)
    weight = position - low
    weight = jnp.expand_dims(weight, tuple(a for a in range(image.ndim) if a != axis))
    return (1 - weight) * jnp.take(image, low, axis) + weight * jnp.take(image, high, axis)

  def one(image, offset):
    return along(along(image, offset[0], 0), offset[1], 1)

  return jax.vmap(one)(x, shift)


def apply_acquisition(film: Array, code: Array, *, max_shift: float) -> Array:
  """Applies an acquisition code to decoded films.

  Args:
    film: `[B, H, W, C]`, the decoder's output; 0 black, 1 white, values beyond are compressed.
    code: `[B, CODE_SIZE]`: gain, gamma, shift (down, right), bias (x, y, x², y²).
    max_shift: pixels that the code can shift by at most, at 64 px; scales with the image.

  Returns:
    `[B, H, W, C]` float32 in the image's own range, about [0, 1].
  """
  film = film.astype(jnp.float32)
  code = code.astype(jnp.float32)
  height, width = film.shape[1:3]
  scalar = lambda c: c[:, None, None, None]
  gain = jnp.exp(_LOG_GAIN * scalar(code[:, 0]))
  gamma = jnp.exp(_LOG_GAMMA * scalar(code[:, 1]))
  # A power needs positive numbers; below 1/50 the curve continues as a line through zero.
  knee = 0.02
  safe = jnp.maximum(film, knee)
  curve = jnp.where(film > knee, safe**gamma, film * knee ** (gamma - 1.0))
  y = jnp.linspace(-1.0, 1.0, height)[None, :, None, None]
  x = jnp.linspace(-1.0, 1.0, width)[None, None, :, None]
  basis = (x, y, x**2 - 1 / 3, y**2 - 1 / 3)
  bias = sum(_BIAS * scalar(code[:, 4 + i]) * b for i, b in enumerate(basis))
  shift = max_shift * (height / 64.0) * jnp.tanh(0.5 * code[:, 2:4])
  return shift_image(gain * curve + bias, shift)
