"""How a study was taken: exposure, contrast, position and shading, as an explicit code.

`x = shift(gain · film^gamma + bias)`: what differs between two studies of one patient without being
anatomy or disease is applied to the decoded film by a formula, so that the identity need not hold
it. The code has a standard normal prior; all zeros is the average study.
"""

import jax
import jax.numpy as jnp

from cdjax.core.types import Array

CODE_SIZE = 9
# Standard deviations that a code of 1 stands for.
_LOG_GAIN, _LOG_GAMMA, _BIAS = 0.09, 0.06, 0.03
_KNEE = 0.02


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
    code: `[B, CODE_SIZE]`: gain, gamma, shift (down, right), bias (x, y, xy, x², y²).
    max_shift: pixels that the code can shift by at most, at 64 px; scales with the image.

  Returns:
    `[B, H, W, C]` float32 in the image's own range, about [0, 1].
  """
  film = film.astype(jnp.float32)
  gain, gamma, shift, bias = _settings(code, film.shape[1:3], max_shift)
  return shift_image(gain * _power(film, gamma) + bias, shift)


def remove_acquisition(image: Array, code: Array, *, max_shift: float) -> Array:
  """The inverse of `apply_acquisition` (but for the interpolation of fractional shifts)."""
  image = image.astype(jnp.float32)
  gain, gamma, shift, bias = _settings(code, image.shape[1:3], max_shift)
  curve = (shift_image(image, -shift) - bias) / gain
  return _power(curve, 1.0 / gamma, knee=_KNEE**gamma)


def compose_acquisition(code: Array, then: Array, *, max_shift: float) -> Array:
  """The code of an image of `code` to which `then` is applied; exact where `then`'s gamma is 0.

  `g'(g · film^γ + b) + b' = g'g · film^γ + (g'b + b')`, and shifts add (but for the shift of the
  bias field).

  Args:
    code, then: `[B, CODE_SIZE]`; the gamma of `then` is taken as 0.
    max_shift: as in `apply_acquisition`; a sum near it is held just below.

  Returns:
    `[B, CODE_SIZE]`.
  """
  shift = _pixels(code[:, 2:4], max_shift) + _pixels(then[:, 2:4], max_shift)
  shift = 2.0 * jnp.arctanh(jnp.clip(shift / max_shift, -0.98, 0.98))
  gain = jnp.exp(_LOG_GAIN * then[:, :1])
  return jnp.concatenate(
      [code[:, :1] + then[:, :1], code[:, 1:2], shift, gain * code[:, 4:] + then[:, 4:]], -1)


def _pixels(code: Array, max_shift: float) -> Array:
  """Shift in pixels at 64 px."""
  return max_shift * jnp.tanh(0.5 * code)


def _settings(code: Array, size: tuple[int, int], max_shift: float) -> tuple[Array, ...]:
  """Gain and gamma `[B, 1, 1, 1]`, shift `[B, 2]` in pixels, bias `[B, H, W, 1]`."""
  code = code.astype(jnp.float32)
  height, width = size
  scalar = lambda c: c[:, None, None, None]
  y = jnp.linspace(-1.0, 1.0, height)[None, :, None, None]
  x = jnp.linspace(-1.0, 1.0, width)[None, None, :, None]
  basis = (x, y, x * y, x**2 - 1 / 3, y**2 - 1 / 3)
  return (jnp.exp(_LOG_GAIN * scalar(code[:, 0])), jnp.exp(_LOG_GAMMA * scalar(code[:, 1])),
          (height / 64.0) * _pixels(code[:, 2:4], max_shift),
          sum(_BIAS * scalar(code[:, 4 + i]) * b for i, b in enumerate(basis)))


def _power(x: Array, exponent: Array, knee: Array | float = _KNEE) -> Array:
  """`x^exponent`; a power needs positive numbers: below the knee, a line through zero."""
  return jnp.where(x > knee, jnp.maximum(x, knee) ** exponent, x * knee ** (exponent - 1.0))
