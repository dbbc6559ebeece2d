"""The shape of the thorax in one study: the patient's anatomy, as far as findings leave it alone.

`Shape` holds scalars (and left/right pairs); `Maps` holds what every pixel needs of them. Each side
is computed once: a pixel belongs to the lung of the side on which it lies, so lateral coordinates
and the pair's values are chosen per pixel.
"""

from collections.abc import Sequence

import flax.struct
import jax
import jax.numpy as jnp

from cdjax.core.types import Array
from cdjax.data.phantom.anatomy import Anatomy
from cdjax.data.phantom.pathology import Pathology

EDGE = 0.006   # softness of an organ's edge


@flax.struct.dataclass
class Shape:
  """Scalars `[]` and pairs `[2]` (left, right) that findings may change."""

  anatomy: Anatomy
  width: Array       # [2] half width of the cage
  dome: Array        # [2] v of the diaphragm's top
  bend: Array        # [2] its curvature
  shift: Array       # [] mediastinum, to the patient's left
  heart: Array       # [2] size, and how much it lies to the left
  aeration: Array    # [2] lucency of the lungs
  vessels: Array     # [2] strength of the vessels


@flax.struct.dataclass
class Maps:
  """What every pixel `[S, S]` knows."""

  u: Array           # right, of the patient
  v: Array           # down
  grid: tuple        # [S] right and [S] down, of the patient before rotation
  x: Array           # lateral distance from the spine, on the pixel's own side
  left: Array        # bool: on the patient's left
  border: Array      # distance to the cage's outer border, positive inside
  above: Array       # distance above the diaphragm, positive in the lung
  cage: Array        # soft mask: inside the cage, above and below the diaphragm
  lung: Array        # soft mask: inside the cage and above the diaphragm
  depth: Array       # thickness of the lung, 0 to 1
  heart: Array       # soft mask of heart and mediastinum
  density: Array     # of heart and mediastinum, 0 to 1
  vessels: Array     # density of the vessels, 0 to 1
  pixel: float = flax.struct.field(pytree_node=False)


def soft(distance: Array, pixel: float, edge: float = EDGE) -> Array:
  """An anti-aliased step: 0 outside, 1 inside of a signed distance."""
  return jax.nn.sigmoid(distance / (edge * edge + (0.3 * pixel) ** 2) ** 0.5)


def line(distance: Array, width: Array | float, pixel: float) -> Array:
  """An anti-aliased line of Gaussian profile whose integral does not depend on the pixel."""
  wide = jnp.sqrt(width * width + (0.4 * pixel) ** 2)
  return width / wide * jnp.exp(-((distance / wide) ** 2))


def ellipse(u: Array, v: Array, radii: tuple, tilt: Array | float = 0.0) -> Array:
  """Signed distance (nearly) to an ellipse at the origin, positive inside."""
  c, s = jnp.cos(tilt), jnp.sin(tilt)
  a, b = radii
  e = jnp.sqrt(((c * u + s * v) / a) ** 2 + ((c * v - s * u) / b) ** 2 + 1e-6)
  return (1.0 - e) * jnp.minimum(a, b)


def smooth_maximum(p: Array, q: Array, blend: float = 0.05) -> Array:
  """The larger of two signed distances, without a corner where they are equal."""
  return 0.5 * (p + q + jnp.sqrt((p - q) ** 2 + blend * blend) - 0.4 * blend)


def pick(left: Array, pair: Array) -> Array:
  """Each pixel's own side of a pair."""
  return jnp.where(left, pair[0], pair[1])


def sides_of(mask: Array) -> Array:
  """A side's bit mask `[]` as floats `[2]` (left, right)."""
  mask = mask.astype(jnp.int32)
  return jnp.stack([mask & 1, (mask >> 1) & 1]).astype(jnp.float32)


def shape_of(anatomy: Anatomy, pathology: Pathology, vocabulary: Sequence[str]) -> Shape:
  """The thorax's shape in this study."""

  def amount(name: str) -> Array:
    """Severity of a finding, 0 where absent or not in the vocabulary."""
    if name not in vocabulary:
      return jnp.float32(0.0)
    k = vocabulary.index(name)
    return pathology.severity[k] * pathology.present[k]

  def on_side(name: str) -> Array:
    """The same for each side, `[2]`."""
    if name not in vocabulary:
      return jnp.zeros(2)
    return amount(name) * sides_of(pathology.side[vocabulary.index(name)])

  collapse, fluid = on_side("atelectasis"), on_side("pleural_effusion")
  air = on_side("pneumothorax")
  big, trapped = amount("cardiomegaly"), amount("emphysema")
  swollen = jnp.where(big > 0, 0.13 + 0.32 * big, 0.0)
  pull = 0.03 * (collapse > 0) + 0.13 * collapse - 0.08 * fluid**2 - 0.05 * air**2
  return Shape(
      anatomy=anatomy,
      width=anatomy.lung_width + anatomy.lung_width_side + 0.03 * trapped - 0.06 * collapse,
      dome=jnp.stack([anatomy.dome, anatomy.dome - anatomy.dome_right])
      - 0.05 * (collapse > 0) - 0.18 * collapse + 0.14 * trapped,
      bend=anatomy.dome_bend * (1.0 - 0.75 * trapped),
      shift=pull[0] - pull[1],
      heart=jnp.stack(
          [anatomy.heart_size * (1.0 + swollen) * (1.0 - 0.2 * trapped), 0.3 * swollen]),
      aeration=anatomy.aeration * (1.0 + 0.30 * trapped + 0.08 * (trapped > 0) - 0.12 * collapse),
      vessels=(1.0 - 0.55 * trapped) * jnp.ones(2),
  )


def cage_border(shape: Shape, x: Array, v: Array, width: Array) -> Array:
  """Distance to the cage's outer border, positive inside: an arch above, nearly straight below."""
  a = shape.anatomy
  centre = 0.05
  down = jnp.maximum(v - centre, 0.0)
  up = jnp.maximum(centre - v, 0.0) / (centre - a.apex)
  n = a.cage_top
  across = jnp.maximum(x, 1e-3) / (width + a.cage_flare * down)
  e = jnp.power(jnp.power(across, n) + jnp.power(up + 1e-4, n), 1.0 / n)
  return (1.0 - e) * width


def dome_height(shape: Shape, across: Array, dome: Array, bend: Array, peak: Array) -> Array:
  """v of the diaphragm at a share `across` of the lung's width: steep towards the outer angle."""
  off = across - peak
  out = jnp.maximum(off, 0.0)
  return dome + 0.40 * bend * off * off + bend * (0.30 * out**2 + 2.6 * out**4)


def _heart(shape: Shape, u: Array, v: Array, pixel: float) -> tuple[Array, Array]:
  """Soft mask of heart, great vessels and mediastinum, and the density inside it, 0 to 1."""
  a = shape.anatomy
  u = u - shape.shift
  size, leftward = shape.heart[0], shape.heart[1]
  hu, hv = 0.12 + a.heart_place[0] + 0.12 * leftward, 0.20 + a.heart_place[1]
  radii = 0.345 * size * a.heart_aspect, 0.235 * size
  ventricle = ellipse(u - hu * size, v - hv, radii, a.heart_tilt)
  atrium = ellipse(u + 0.05, v - hv - 0.01, (0.165 * size * a.atrium, 0.22 * size))
  knob_v = -0.37 + 0.07 * a.knob[1]
  radius = 0.09 + 0.035 * a.knob[0]
  knob = ellipse(u - 0.085 - 0.05 * a.knob[2], v - knob_v, (radius, radius * 1.1))
  trunk = ellipse(u - 0.09, v - knob_v - 0.20, (0.115, 0.16))
  heart = jnp.maximum(ventricle, atrium)
  band = a.mediastinum + 0.05 * jax.nn.sigmoid((-0.62 - v) / 0.05) - jnp.abs(u - 0.01)
  # A smooth maximum: the heart's waist has no corners.
  union = smooth_maximum(smooth_maximum(heart, trunk), smooth_maximum(knob, band))
  density = 0.74 + 0.26 * jax.nn.sigmoid(heart / 0.06) + 0.08 * jax.nn.sigmoid(knob / 0.02)
  density = density * (0.45 + 0.55 * jax.nn.sigmoid((v + 0.62) / 0.08))
  return soft(union, pixel, 0.010), density


def _vessels(shape: Shape, x: Array, v: Array, left: Array, pixel: float) -> Array:
  """Arteries and veins that branch from the hilum, 0 to 1."""
  a = shape.anatomy
  dx = x - 0.15
  dv = v - pick(left, -0.10 + 0.07 * a.hilum[:, 0])
  dv = dv - 0.10 * jnp.tanh(dv / 0.10)   # they leave from a line, not from a point
  r = jnp.sqrt(dx * dx + dv * dv + 1e-6)
  angle = jnp.arctan2(dv, dx)
  d = a.vessels
  n = d.shape[1]
  start = -1.40 + 2.90 * (jnp.arange(n) + 0.15 + 0.7 * d[..., 0]) / n
  bend = (d[..., 1] - 0.5) * 1.4
  fork_at, fork = 0.10 + 0.22 * d[..., 2], 0.35 + 0.5 * d[..., 5]
  reach, calibre = 1.0 / (0.45 + 0.40 * d[..., 3]), 0.009 + 0.012 * d[..., 4]
  total = jnp.zeros_like(x)
  for i in range(n):
    bent = pick(left, start[:, i]) + pick(left, bend[:, i]) * r
    split = jnp.maximum(r - pick(left, fork_at[:, i]), 0.0) * pick(left, fork[:, i])
    off = jnp.abs(jnp.abs(angle - bent) - split) * r
    taper = jnp.maximum(1.0 - r * pick(left, reach[:, i]), 0.0)
    width = pick(left, calibre[:, i]) * (0.4 + 0.8 * taper)
    total = total + line(off, width, pixel) * jnp.minimum(1.0, 1.5 * taper)
  total = total * r / (r + 0.05)
  return total / (1.0 + 0.4 * total)


def maps_of(shape: Shape, u: Array, v: Array, pixel: float) -> Maps:
  """What every pixel knows.

  Args:
    shape: of the thorax.
    u: `[S, S]` right, v: `[S, S]` down, in [-1, 1], of the image (acquisition's shift taken off).
    pixel: width of a pixel, 2 / S.
  """
  a = shape.anatomy
  du, dv = (u - a.centre[0]) / a.scale[0], (v - a.centre[1]) / a.scale[1]
  u, v = du + a.rotation * dv, dv - a.rotation * du
  u = u - a.scoliosis * jnp.sin(2.5 * v + 0.5)
  left = u > shape.shift * jax.nn.sigmoid((v + 0.45) / 0.12)
  x = jnp.where(left, u, -u)
  width = pick(left, shape.width)
  border = cage_border(shape, x, v, width)
  peak = pick(left, a.dome_peak)
  across = x / width
  above = dome_height(shape, across, pick(left, shape.dome), pick(left, shape.bend), peak) - v
  cage = soft(border, pixel)
  lung = soft(border, pixel) * soft(above, pixel)
  heart, density = _heart(shape, u, v, pixel)
  # The lung is thin at its outer border and over the dome.
  depth = lung * (1.0 - 0.55 * jnp.exp(-jnp.maximum(border, 0) / 0.09))
  depth = depth * (1.0 - 0.35 * jnp.exp(-jnp.maximum(above, 0) / 0.10))
  maps = Maps(u=u, v=v, grid=(du[0], dv[:, 0]), x=x, left=left, border=border, above=above,
              cage=cage, lung=lung, depth=depth, heart=heart, density=density,
              vessels=_vessels(shape, x, v, left, pixel), pixel=pixel)
  # Many layers read these maps: without a barrier the compiler computes them anew for each.
  return jax.lax.optimization_barrier(maps)
