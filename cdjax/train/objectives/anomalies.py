"""Made-up local changes laid over radiographs, so that a pathology can hold what is rarely seen.

An autoencoder that has seen a finding a few times does not keep it: what it has no code for it
leaves out, and no diffusion can bring it back. Any local change is an occasion to learn how to keep
one: a soft ellipse that is lighter or darker, or that shows another patient (Li et al., "CutPaste",
arXiv:2104.04015; Zavrtanik et al., "DRAEM", arXiv:2108.07610). It is nobody's finding: the heads
that read findings learn nothing from it but what is present besides.
"""

import flax.struct
import jax
import jax.numpy as jnp

from cdjax.core.images import from_unit, to_unit
from cdjax.core.rng import stream
from cdjax.core.types import ABSENT, UNKNOWN, Array, FindingsArrays

_RADIUS = (1.5, 9.0)   # pixels at 64 px, geometric mean of the half axes
_ASPECT = 5.0   # of the half axes at most
_SOFT = (0.5, 2.0)   # pixels at 64 px that the border is soft by
_CHANGE = (0.06, 0.35)   # of grey values in [0, 1]
_DARKER = 0.25   # share
_FOREIGN = 0.5   # share that show another image


@flax.struct.dataclass
class Ellipses:
  """Soft ellipses, `[N]` each: centre in shares of the image, half axes and softness in pixels."""

  row: Array
  column: Array
  long: Array
  short: Array
  angle: Array
  soft: Array


def draw_ellipses(key: jax.Array, n: int, size: int) -> Ellipses:
  """n ellipses for images of `size` pixels."""
  uniform = lambda name, low, high: jax.random.uniform(
      stream(key, name), (n,), minval=low, maxval=high)
  pixel = size / 64.0
  radius = pixel * jnp.exp(uniform("radius", *jnp.log(jnp.array(_RADIUS))))
  stretch = jnp.exp(0.5 * uniform("aspect", 0.0, jnp.log(_ASPECT)))
  return Ellipses(
      row=uniform("row", 0.05, 0.95), column=uniform("column", 0.05, 0.95),
      long=radius * stretch, short=jnp.maximum(radius / stretch, 0.8 * pixel),
      angle=uniform("angle", 0.0, jnp.pi), soft=pixel * uniform("soft", *_SOFT))


def paint_ellipses(ellipses: Ellipses, size: int) -> Array:
  """How much of each pixel lies in its ellipse, `[N, size, size, 1]` in (0, 1)."""
  wide = lambda values: values[:, None, None]
  grid = (jnp.arange(size) + 0.5) / size
  down = size * (grid[None, :, None] - wide(ellipses.row))
  right = size * (grid[None, None, :] - wide(ellipses.column))
  cos, sin = jnp.cos(wide(ellipses.angle)), jnp.sin(wide(ellipses.angle))
  along = (cos * right + sin * down) / wide(ellipses.long)
  across = (cos * down - sin * right) / wide(ellipses.short)
  inside = 1.0 - jnp.sqrt(along**2 + across**2 + 1e-12)
  return jax.nn.sigmoid(2.0 * inside * wide(ellipses.short / ellipses.soft))[..., None]


def lay_anomalies(key: jax.Array, x: Array, findings: FindingsArrays,
                  share: float) -> tuple[Array, FindingsArrays]:
  """Lays a change over some images.

  Args:
    key: of the draws.
    x: `[N, H, W, 1]` in [-1, 1].
    findings: `[N, K]`.
    share: of images that get one.

  Returns:
    The images; and the findings, where those images are no longer known to be without any.
  """
  n = x.shape[0]
  uniform = lambda name, *bounds: jax.random.uniform(stream(key, name), (n, 1, 1, 1), x.dtype,
                                                     *bounds)
  unit = to_unit(x)
  sign = jnp.where(uniform("darker") < _DARKER, -1.0, 1.0)
  # Another patient's patch would hide what is present, and its labels would be wrong.
  free = ~findings.any_present[:, None, None, None]
  inside = jnp.where(free & (uniform("foreign") < _FOREIGN), jnp.roll(unit, 1, 0),
                     unit + sign * uniform("change", *_CHANGE))
  where = paint_ellipses(draw_ellipses(stream(key, "ellipses"), n, x.shape[1]), x.shape[1])
  laid = uniform("laid") < share
  changed = jnp.clip(unit + where * (inside - unit), 0.0, 1.0)
  status = findings.status
  unknown = jnp.where(status == ABSENT, jnp.asarray(UNKNOWN, status.dtype), status)
  return (jnp.where(laid, from_unit(changed), x),
          findings.replace(status=jnp.where(laid[:, :, 0, 0], unknown, status)))
