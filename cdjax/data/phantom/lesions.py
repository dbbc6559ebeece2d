"""How the five common findings look: functions from the thorax's maps to changed layers.

Every function takes the lesion's own numbers (`Lesion`) and leaves the layers as they are where
`amount` is 0. Shapes follow this patient's lungs, borders and diaphragm.
"""

import flax.struct
import jax
import jax.numpy as jnp

from cdjax.core.types import Array
from cdjax.data.phantom.geometry import Maps, Shape, cage_border, dome_height, line, pick, soft
from cdjax.data.phantom.thorax import Layers


@flax.struct.dataclass
class Lesion:
  """One finding in one study."""

  amount: Array   # [] severity, 0 where absent
  here: Array     # [S, S] 1 on the sides where it is (and 0 everywhere where absent)
  zone: Array     # [] int bit mask
  h: Array        # [NUM_HIDDEN] in [0, 1)


def zone_height(zone: Array, jitter: Array) -> Array:
  """Height in the lung, 0 (top) to 1 (diaphragm), of a zone; several zones: between them."""
  bits = jnp.stack([zone & 1, (zone >> 1) & 1, (zone >> 2) & 1]).astype(jnp.float32)
  height = (bits * jnp.array([0.24, 0.52, 0.80])).sum() / jnp.maximum(bits.sum(), 1.0)
  return height + 0.12 * (jitter - 0.5)


def spot_in(shape: Shape, lesion: Lesion, inner: float, outer: float) -> tuple[Array, Array]:
  """A place in the lung of each side: lateral distances `[2]` and heights `[2]`."""
  a = shape.anatomy
  level = zone_height(lesion.zone, lesion.h[0])
  share = inner + (outer - inner) * lesion.h[1]
  v = a.apex + 0.02 + (shape.dome - a.apex) * level
  width = shape.width
  # Outer border at this height; inner border: mediastinum above, heart below.
  border = cage_border(shape, jnp.full(2, 0.4), v, width) + 0.4
  reach = jnp.minimum(border, width)
  heart = jnp.array([0.24, 0.10]) * jax.nn.sigmoid((v - 0.05) / 0.08) * shape.heart[0]
  medial = 0.17 + heart + jnp.array([-1.0, 1.0]) * -shape.shift
  return medial + (reach - medial) * share, v


def offsets(m: Maps, spot: tuple[Array, Array]) -> tuple[Array, Array]:
  """Offsets of every pixel from its side's place."""
  return m.x - pick(m.left, spot[0]), m.v - pick(m.left, spot[1])


def consolidation(shape: Shape, m: Maps, lesion: Lesion, layers: Layers) -> Layers:
  """Fluffy opacity without a border of its own, confined to the lung, with air bronchograms."""
  s, h = lesion.amount, lesion.h
  dx, dv = offsets(m, spot_in(shape, lesion, 0.30, 0.70))
  radius = 0.125 + 0.09 * s
  field = jnp.exp(-(dx**2 + dv**2) / (2 * (0.75 * radius) ** 2))
  for i in range(4):
    angle = 1.57 * i + 1.5 * h[2 + i]
    ox, ov = radius * 0.95 * jnp.cos(angle), radius * 0.80 * jnp.sin(angle)
    size = radius * (0.36 + 0.28 * h[6 + i])
    field = field + 0.9 * jnp.exp(-((dx - ox) ** 2 + (dv - ov) ** 2) / (2 * size**2))
  fluffy = jax.nn.sigmoid((field - 0.62) / 0.16) * lesion.here * m.lung * (1.0 - 0.45 * m.heart)
  strength = 0.22 + 0.11 * s
  grain = 1.0 + 0.22 * jnp.sin(17 * dx + 6.3 * h[10]) * jnp.sin(15 * dv + 6.3 * h[11])
  return layers.replace(
      opacity=layers.opacity + strength * fluffy * (grain - 0.5 * m.vessels),
      vessels=layers.vessels * (1.0 - fluffy))


def effusion(shape: Shape, m: Maps, lesion: Lesion, layers: Layers) -> Layers:
  """Fluid that fills the outer angle first and climbs the chest wall: the meniscus."""
  s, h = lesion.amount, lesion.h
  across = m.x / pick(m.left, shape.width)
  floor = dome_height(shape, jnp.float32(0.93), shape.dome, shape.bend, shape.anatomy.dome_peak)
  top = pick(m.left, floor) - 0.13 - (0.60 + 0.08 * h[0]) * s
  climb = 0.10 + 0.10 * h[1] + 0.12 * s
  edge = jnp.maximum(across - 0.45, 0.0) / 0.55
  surface = top - climb * edge ** (2.0 + h[2]) + (0.05 + 0.05 * h[3]) * (1 - across)
  fluid = soft(m.v - surface, m.pixel, 0.016) * lesion.here
  thick = 1.0 - 0.35 * jnp.exp(-jnp.maximum(m.v - surface, 0.0) / 0.08)
  inside = soft(m.border, m.pixel) * soft(m.above + 0.09, m.pixel, 0.04)
  return layers.replace(fluid=jnp.maximum(layers.fluid, fluid * inside * thick))


def pneumothorax(shape: Shape, m: Maps, lesion: Lesion, layers: Layers) -> Layers:
  """Air between chest wall and lung, widest at the top: black, without vessels, a thin line."""
  s, h = lesion.amount, lesion.h
  down = (m.v - shape.anatomy.apex) / (pick(m.left, shape.dome) - shape.anatomy.apex)
  taper = 0.30 + 0.20 * h[0] + 0.85 * jax.nn.sigmoid((0.36 + 0.12 * h[1] - down) / 0.12)
  gap = (0.075 + 0.22 * s) * taper
  gap = gap + 0.015 * jnp.sin(7.0 * m.v + 6.3 * h[2])
  off = m.border - gap
  air = soft(-off, m.pixel) * lesion.here * m.lung * (1.0 - m.heart)
  pleura = line(off, 0.016, m.pixel) * lesion.here * m.lung * (1.0 - m.heart)
  squeezed = soft(off, m.pixel) * lesion.here * m.depth * (1.0 - m.heart)
  return layers.replace(
      vessels=layers.vessels * (1.0 - air),
      opacity=layers.opacity - (0.085 + 0.05 * s) * air + (0.13 + 0.05 * s) * pleura
      + 0.10 * s * squeezed)


def nodule(shape: Shape, m: Maps, lesion: Lesion, layers: Layers) -> Layers:
  """A small round opacity."""
  s, h = lesion.amount, lesion.h
  dx, dv = offsets(m, spot_in(shape, lesion, 0.18, 0.82))
  radius = (0.07 + 0.056 * s) * (0.95 + 0.1 * h[2])
  angle = jnp.pi * h[3]
  along, off = jnp.cos(angle) * dx + jnp.sin(angle) * dv, jnp.cos(angle) * dv - jnp.sin(angle) * dx
  stretch = 1.0 + 0.2 * h[4]
  distance = radius - jnp.sqrt((along / stretch) ** 2 + (off * stretch) ** 2 + 1e-6)
  ball = soft(distance, m.pixel, 0.014) * lesion.here
  return layers.replace(opacity=layers.opacity + (0.30 + 0.05 * s) * ball * (1 - 0.3 * m.heart))
