"""The healthy radiograph's layers: soft tissue, bones, vessels, abdomen; and how they add up.

Densities add along the ray, as attenuation does; bright is dense. Findings change the layers
(`Layers`) before they are summed.
"""

import flax.struct
import jax
import jax.numpy as jnp

from cdjax.core.types import Array
from cdjax.data.phantom.geometry import Maps, Shape, ellipse, line, pick, soft

AIR, TISSUE, LUNG, HEART, ABDOMEN, FLUID = 0.06, 0.44, 0.36, 0.24, 0.22, 0.64


@flax.struct.dataclass
class Layers:
  """What findings do to the picture; `[S, S]` each."""

  lucency: Array     # factor on the lung's transparency
  vessels: Array     # factor on the vessels' density
  opacity: Array     # density added
  fluid: Array       # soft mask of what is filled with fluid
  rib_step: Array    # how far the posterior ribs are displaced downwards


def healthy_layers(maps: Maps) -> Layers:
  """Layers that change nothing."""
  one, zero = jnp.ones_like(maps.u), jnp.zeros_like(maps.u)
  return Layers(lucency=one, vessels=one, opacity=zero, fluid=zero, rib_step=zero)


def _breasts(shape: Shape, m: Maps) -> Array:
  """Breast shadows: dense at their lower edge, fading upwards."""
  a = shape.anatomy
  size = a.breast[0]
  dx = m.x - 0.40 - 0.07 * a.breast[2] - 0.03 * pick(m.left, a.breast_side[:, 0])
  dv = m.v - 0.20 - 0.16 * a.breast[1] - 0.03 * pick(m.left, a.breast_side[:, 1])
  e = (dx / (0.24 + 0.12 * size)) ** 2 + (dv / (0.20 + 0.12 * size)) ** 2
  return size * 0.16 * jax.nn.sigmoid((1.0 - e) / 0.10) * jax.nn.sigmoid((dv + 0.05) / 0.12)


def _tissue(shape: Shape, m: Maps) -> Array:
  """Soft tissue around the cage: neck, shoulders, chest wall."""
  a = shape.anatomy
  top = pick(m.left, a.shoulder)
  out = m.x - 0.60
  shoulder = top + jnp.where(out < 0, 0.75 * out, 1.6 * out * out)
  neck = soft(0.24 + 0.05 * a.stoutness - m.x, m.pixel, 0.05)
  upper = jnp.maximum(soft(m.v - shoulder, m.pixel, 0.018), neck)
  wall = pick(m.left, shape.width) + 0.08 + 0.16 * a.stoutness
  wall = wall + 0.45 * jax.nn.sigmoid((-0.36 - m.v) / 0.06) + 0.05 * jnp.maximum(m.v, 0.0)
  inside = upper * soft(wall - m.x, m.pixel, 0.018)
  thick = 1.0 - 0.45 * jnp.exp(-jnp.maximum(wall - m.x, 0.0) / 0.08)
  thick = thick * (1.0 - 0.25 * jnp.exp(-jnp.maximum(m.v - shoulder, 0.0) / 0.10) * (1 - neck))
  flank = 0.06 * a.stoutness * soft(-m.border, m.pixel, 0.03)
  return inside * (TISSUE * (0.92 + 0.16 * a.stoutness) * thick + flank)


def _ribs(shape: Shape, m: Maps, step: Array) -> Array:
  """Posterior and anterior ribs: periodic in v along curves of x."""
  a = shape.anatomy
  across = m.x / pick(m.left, shape.width)
  slope = pick(m.left, a.rib_slope)
  curve = a.rib_bend * across + slope * across**3 - 0.05 * jnp.exp(-across / 0.15)
  height = m.v - step - curve
  jitter = 0.10 * jnp.sin(9.0 * height + 6.3 * pick(m.left, a.rib_jitter[:, 0]))
  phase = height / a.rib_spacing - 0.35 * height**2 + a.rib_start + jitter
  wave = jnp.cos(2 * jnp.pi * phase)
  # A flat bar with denser edges (the cortex).
  bar = jax.nn.sigmoid((wave - 0.05) / 0.16) + 0.35 * jnp.exp(-(((wave - 0.12) / 0.25) ** 2))
  uneven = 1.0 + 0.25 * jnp.sin(2.4 * phase + 6.3 * pick(m.left, a.rib_jitter[:, 1]))
  back = a.rib_contrast * bar * uneven * jax.nn.sigmoid((0.62 - m.v) / 0.08)
  front_curve = pick(m.left, a.front_slope) * (1.0 - across) - 0.18 * (1.0 - across) ** 2
  front_phase = (m.v - front_curve) / a.front_spacing + a.front_start
  front = jax.nn.sigmoid((jnp.cos(2 * jnp.pi * front_phase) - 0.1) / 0.22)
  front = a.front_contrast * front * jax.nn.sigmoid((across - 0.42) / 0.06)
  front = front * jax.nn.sigmoid((m.v + 0.45) / 0.06)
  cage = soft(m.border + 0.035, m.pixel, 0.012)
  behind = 1.0 - 0.7 * soft(-m.above, m.pixel, 0.03)
  rim = 0.035 * line(m.border + 0.012, 0.022, m.pixel) * jax.nn.sigmoid((0.55 - m.v) / 0.06)
  return cage * behind * (back + front) + rim


def _girdle(shape: Shape, m: Maps) -> Array:
  """Clavicles, shoulder blades and the heads of the humeri."""
  a = shape.anatomy
  c = jnp.where(m.left[None], a.clavicle[0][:, None, None], a.clavicle[1][:, None, None])
  along = m.x - 0.08
  run = -0.585 + 0.05 * c[0] - (0.10 + 0.20 * c[1]) * along
  run = run - (0.03 + 0.03 * c[2]) * jnp.sin(2 * jnp.pi * along / 0.75)
  off = (m.v - run) * 0.97
  half = 0.026 + 0.016 * jnp.exp(-(((along) / 0.07) ** 2))
  ends = soft(along, m.pixel) * soft(0.74 - m.x, m.pixel, 0.03)
  bar = soft(half - jnp.abs(off), m.pixel, 0.008)
  cortex = line(jnp.abs(off) - half * 0.85, 0.012, m.pixel)
  clavicle = ends * (0.085 * bar + 0.05 * cortex)
  s = jnp.where(m.left[None], a.scapula[0][:, None, None], a.scapula[1][:, None, None])
  medial = m.x - 0.60 - 0.10 * s[0] + (0.10 + 0.22 * s[1]) * (m.v + 0.3)
  blade = soft(medial, m.pixel, 0.012) * soft(-0.02 - m.v - 0.6 * (m.x - 0.7), m.pixel, 0.02)
  blade = blade * soft(m.v + 0.62, m.pixel, 0.03) * soft(0.98 - m.x, m.pixel, 0.03)
  edge = line(medial, 0.018, m.pixel) * soft(-0.05 - m.v, m.pixel, 0.03)
  edge = edge * soft(m.v + 0.6, m.pixel, 0.03)
  h = jnp.where(m.left[None], a.humerus[0][:, None, None], a.humerus[1][:, None, None])
  head = ellipse(m.x - 0.90 - 0.05 * h[0], m.v + 0.60, (0.11 + 0.02 * h[1], 0.12 + 0.02 * h[1]))
  shaft = soft(0.07 - jnp.abs(m.x - 0.97 - 0.05 * h[0]), m.pixel) * soft(m.v + 0.58, m.pixel)
  humerus = jnp.maximum(soft(head, m.pixel), shaft * soft(-0.2 - m.v, m.pixel, 0.04))
  return clavicle + (0.03 + 0.03 * s[2]) * (blade + 0.8 * edge) + 0.13 * humerus


def _midline(shape: Shape, m: Maps) -> Array:
  """Spine with its vertebrae, windpipe and main bronchi."""
  a = shape.anatomy
  across = jnp.abs(m.u)
  width = 0.065 + 0.02 * a.spine[0]
  body = soft(width - across, m.pixel, 0.015)
  phase = m.v / (0.105 + 0.02 * a.spine[3]) + a.spine[2]
  disc = jnp.exp(-((jnp.cos(jnp.pi * phase) / 0.42) ** 2))
  pedicles = line(across - 0.7 * width, 0.022, m.pixel) * (1 - disc)
  spinous = line(across, 0.02, m.pixel) * jnp.exp(-((jnp.sin(jnp.pi * phase) / 0.4) ** 2))
  contrast = 0.05 + 0.05 * a.spine[1]
  spine = contrast * (body * (1.0 - 0.55 * disc) + 0.35 * pedicles + 0.30 * spinous)
  carina = -0.28 + 0.07 * a.trachea[2]
  u = m.u - 0.6 * shape.shift
  centre = -0.015 + 0.035 * (a.trachea[0] - 0.5)
  tube = soft(0.036 + 0.014 * a.trachea[1] - jnp.abs(u - centre), m.pixel, 0.012)
  tube = tube * soft(carina - m.v, m.pixel, 0.02)
  down = m.v - carina
  bronchus = line(jnp.abs(u - centre) - 0.02 - 0.85 * down, 0.04, m.pixel)
  bronchus = bronchus * soft(down, m.pixel, 0.02) * jnp.exp(-jnp.maximum(down, 0) / 0.10)
  return spine - 0.10 * tube - 0.05 * bronchus


def _gas(shape: Shape, m: Maps) -> Array:
  """Gas of stomach (under the left dome) and bowel, as a negative density."""
  a = shape.anatomy
  s = a.stomach
  height = shape.dome[0] + 0.13 + 0.05 * s[2]
  size = 0.07 + 0.07 * s[3]
  radii = size * (1.0 + 0.5 * s[4]), size * 0.75
  bubble = ellipse(m.u - 0.30 - 0.14 * s[1], m.v - height, radii, -0.2)
  gas = jnp.maximum(s[0] - 0.15, 0.0) * 0.26 * soft(bubble, m.pixel, 0.016)
  for loop in a.bowel:
    off = ellipse(m.u - 1.2 * (loop[0] - 0.5), m.v - 0.84 - 0.14 * loop[1],
                  (0.05 + 0.09 * loop[2], 0.05 + 0.03 * loop[2]))
    gas = gas + 0.10 * loop[2] * soft(off, m.pixel, 0.02)
  return -gas * soft(-m.above - 0.035, m.pixel, 0.012)


def _texture(shape: Shape, m: Maps) -> Array:
  """Unevenness of the soft tissue: a few waves of the patient's own.

  Sines of sums, written as products of rows and columns: `sin(p + q) = sin p cos q + cos p sin q`.
  """
  w = shape.anatomy.waves
  angle, frequency = jnp.pi * w[:, 0], 3.0 + 11.0 * w[:, 1]
  p = (frequency * jnp.cos(angle))[:, None] * m.grid[0] + 6.3 * w[:, 2:3]
  q = (frequency * jnp.sin(angle))[:, None] * m.grid[1]
  gain = 0.007 * (0.4 + w[:, 3:4])
  rows = jnp.concatenate([jnp.cos(q), jnp.sin(q)])
  columns = jnp.concatenate([gain * jnp.sin(p), gain * jnp.cos(p)])
  return rows.T @ columns


def compose(shape: Shape, m: Maps, layers: Layers) -> Array:
  """Sums the layers to the ideal radiograph, `[S, S]` in [0, 1]."""
  a = shape.anatomy
  tissue = _tissue(shape, m)
  body = jnp.clip(tissue / TISSUE, 0.0, 1.0)
  open_lung = m.depth * (1.0 - m.heart)
  lung = LUNG * pick(m.left, shape.aeration) * layers.lucency * open_lung
  hilum = jnp.where(m.left[None], a.hilum[0][:, None, None], a.hilum[1][:, None, None])
  dx, dv = m.x - 0.17, m.v + 0.10 - 0.07 * hilum[0]
  knot = jnp.exp(-(dx / (0.06 + 0.03 * hilum[1])) ** 2 - (dv / (0.09 + 0.04 * hilum[1])) ** 2)
  strength = layers.vessels * pick(m.left, shape.vessels)
  vascular = open_lung * (0.22 * strength * m.vessels + (0.07 + 0.05 * hilum[2]) * knot)
  under = soft(-m.above, m.pixel) * soft(m.border + 0.02, m.pixel, 0.02)
  flanks = soft(m.v - 0.74, m.pixel, 0.05) * soft(m.border + 0.16, m.pixel, 0.05)
  below = jnp.maximum(under, flanks)
  organs = _breasts(shape, m) * (1.0 - 0.8 * jnp.maximum(below, m.heart))
  organs = organs + ABDOMEN * below * (1.0 - 0.75 * m.heart) + HEART * m.heart * m.density
  bones = _ribs(shape, m, layers.rib_step) * (1.0 - 0.5 * m.heart) + _girdle(shape, m)
  total = tissue + body * (organs - lung + vascular + _gas(shape, m) + _midline(shape, m) + bones)
  total = total + body * (layers.opacity + _texture(shape, m))
  # A lesion under fluid is faint, not gone: with it the truth stays in the picture.
  filled = FLUID + 0.4 * bones + 0.9 * body * layers.opacity
  total = total + layers.fluid * jnp.maximum(filled - total, 0.0)
  total = AIR + (1.0 - AIR) * jnp.maximum(total, 0.0)
  return total / (1.0 + total**6) ** (1 / 6)
