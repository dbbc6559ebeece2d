"""How the findings of the long tail look; see `lesions` for the common ones."""

import jax
import jax.numpy as jnp

from cdjax.data.phantom.geometry import Maps, Shape, ellipse, line, pick, soft
from cdjax.data.phantom.lesions import Lesion, offsets, spot_in, zone_height
from cdjax.data.phantom.thorax import Layers


def mass(shape: Shape, m: Maps, lesion: Lesion, layers: Layers) -> Layers:
  """A large, lobulated, sharply bounded opacity."""
  s, h = lesion.amount, lesion.h
  dx, dv = offsets(m, spot_in(shape, lesion, 0.30, 0.70))
  r = jnp.sqrt(dx * dx + dv * dv + 1e-6)
  # cos(k * angle) without the angle: powers of the unit vector.
  c, t = dx / (r + 0.02), dv / (r + 0.02)
  c2, t2 = c * c - t * t, 2 * c * t
  c4, t4 = c2 * c2 - t2 * t2, 2 * c2 * t2
  turn = 2 * jnp.pi * h[2:5]
  lobes = 0.10 * (c2 * jnp.cos(turn[0]) + t2 * jnp.sin(turn[0]))
  c5, t5 = c4 * c - t4 * t, t4 * c + c4 * t
  lobes = lobes + 0.08 * (c5 * jnp.cos(turn[1]) + t5 * jnp.sin(turn[1]))
  radius = (0.135 + 0.085 * s) * (0.95 + 0.1 * h[5]) * (1.0 + lobes)
  ball = soft(radius - r, m.pixel, 0.012) * lesion.here * (1.0 - 0.6 * soft(-m.border, m.pixel))
  body = 1.0 - 0.35 * jnp.minimum(r / radius, 1.0) ** 2
  return layers.replace(
      opacity=layers.opacity + (0.31 + 0.07 * s) * ball * body * (1.0 - 0.5 * m.heart),
      vessels=layers.vessels * (1.0 - 0.7 * ball))


def atelectasis(shape: Shape, m: Maps, lesion: Lesion, layers: Layers) -> Layers:
  """A collapsed lower lobe beside the heart; `shape_of` moves dome, border and mediastinum."""
  s, h = lesion.amount, lesion.h
  # A sail: from the hilum to the diaphragm, its outer border oblique.
  height = jnp.clip((m.v + 0.05) / 0.4, 0.0, 2.0)
  outer = 0.17 + 0.05 * h[0] + (0.10 + 0.10 * s + 0.05 * h[1]) * height
  sail = soft(outer - m.x, m.pixel, 0.012) * soft(m.v + 0.03, m.pixel, 0.03)
  sail = sail * soft(m.x - 0.07, m.pixel, 0.02)
  plate = m.v - pick(m.left, shape.dome) + 0.10 + 0.07 * h[2] + (0.25 * h[3] - 0.1) * (m.x - 0.4)
  plates = line(plate, 0.016, m.pixel) + line(plate + 0.08 + 0.04 * h[4], 0.012, m.pixel)
  plates = plates * soft(m.x - 0.30, m.pixel, 0.02) * soft(0.58 - m.x, m.pixel, 0.02)
  shade = (0.15 + 0.13 * s) * sail * (1.0 - 0.4 * m.heart)
  shade = shade + (0.08 + 0.06 * s) * plates * (1.0 - m.heart)
  return layers.replace(opacity=layers.opacity + shade * lesion.here * m.lung)


def edema(shape: Shape, m: Maps, lesion: Lesion, layers: Layers) -> Layers:
  """Interstitial oedema: haze around the hila, thick vessels, septal (Kerley B) lines."""
  s, h = lesion.amount, lesion.h
  dx, dv = m.x - 0.22, m.v - 0.02 - 0.08 * (h[0] - 0.5)
  wing = jnp.exp(-(dx / (0.17 + 0.08 * s)) ** 2 - (dv / (0.26 + 0.10 * s)) ** 2)
  septa = jnp.sin(2 * jnp.pi * (m.v + (0.03 * h[1] - 0.015) * m.x) / (0.062 + 0.012 * h[2]))
  septa = jnp.maximum(septa, 0.0) * jnp.exp(-(((m.border - 0.05) / 0.07) ** 2))
  septa = septa * jax.nn.sigmoid((m.v + 0.02) / 0.05)
  veil = 0.035 + 0.03 * s
  shade = (0.09 + 0.14 * s) * wing + (0.05 + 0.10 * s) * septa + veil
  on = lesion.here * m.lung * (1.0 - 0.9 * m.heart)
  return layers.replace(opacity=layers.opacity + shade * on,
                        vessels=layers.vessels * (1.0 + (0.2 + 0.5 * s) * lesion.here))


def emphysema(shape: Shape, m: Maps, lesion: Lesion, layers: Layers) -> Layers:
  """Bullae: round lucencies with thin walls; `shape_of` inflates, flattens and empties the lung."""
  s, h = lesion.amount, lesion.h
  a = shape.anatomy
  black = jnp.zeros_like(m.u)
  walls = jnp.zeros_like(m.u)
  for i in range(3):
    x, v = 0.36 + 0.16 * h[3 * i], a.apex + 0.22 + 0.24 * i + 0.10 * h[3 * i + 1]
    # Bullae of the two sides are not mirror images.
    dx, dv = m.x - x, m.v - jnp.where(m.left, v, v + 0.10 * (h[(3 * i + 4) % 9] - 0.3))
    r = (0.06 + 0.05 * s) * (0.7 + 0.6 * h[3 * i + 2])
    inside = ellipse(dx, dv, (r, 1.15 * r))
    black = jnp.maximum(black, soft(inside, m.pixel))
    walls = jnp.maximum(walls, line(inside, 0.010, m.pixel))
  on = lesion.here * m.lung * (1.0 - m.heart)
  return layers.replace(
      opacity=layers.opacity + on * ((0.04 + 0.03 * s) * walls - (0.03 + 0.04 * s) * black),
      vessels=layers.vessels * (1.0 - 0.8 * black * on))


def fibrosis(shape: Shape, m: Maps, lesion: Lesion, layers: Layers) -> Layers:
  """A net of lines under the pleura of a zone."""
  s, h = lesion.amount, lesion.h
  height = zone_height(lesion.zone, h[0])
  v = shape.anatomy.apex + (pick(m.left, shape.dome) - shape.anatomy.apex) * height
  where = jnp.exp(-(((m.v - v) / (0.20 + 0.05 * s)) ** 2))
  where = where * (0.35 + 0.65 * jnp.exp(-jnp.maximum(m.border, 0.0) / 0.20))
  net = jnp.zeros_like(m.u)
  for i in range(3):
    angle = jnp.pi * (i / 3.0 + 0.25 * h[1 + i])
    across = jnp.cos(angle) * m.u + jnp.sin(angle) * m.v
    along = jnp.cos(angle) * m.v - jnp.sin(angle) * m.u
    bent = 6.3 * h[4 + i] + 0.9 * jnp.sin(19 * along + 6.3 * h[7 + i])
    wave = jnp.sin(2 * jnp.pi * across / 0.115 + bent)
    net = net + jnp.exp(-((wave / 0.45) ** 2))
  on = where * lesion.here * m.lung * (1.0 - m.heart)
  return layers.replace(opacity=layers.opacity + on * (0.07 + (0.14 + 0.12 * s) * (net - 0.4)))


def pleural_thickening(shape: Shape, m: Maps, lesion: Lesion, layers: Layers) -> Layers:
  """A dense band along the chest wall of a zone."""
  s, h = lesion.amount, lesion.h
  height = zone_height(lesion.zone, h[0])
  v = shape.anatomy.apex + (pick(m.left, shape.dome) - shape.anatomy.apex) * height
  extent = jnp.exp(-(((m.v - v) / (0.17 + 0.05 * h[1])) ** 4))
  wavy = 1.0 + 0.25 * jnp.sin(21.0 * m.v + 6.3 * h[2])
  thick = (0.060 + 0.075 * s) * extent * wavy
  band = soft(thick - m.border, m.pixel) * extent * lesion.here * m.lung * (1.0 - m.heart)
  return layers.replace(opacity=layers.opacity + (0.25 + 0.07 * s) * band)


def hiatal_hernia(shape: Shape, m: Maps, lesion: Lesion, layers: Layers) -> Layers:
  """A round shadow behind the heart with gas above a fluid level."""
  s, h = lesion.amount, lesion.h
  radius = 0.105 + 0.085 * s
  u, v = 0.06 + 0.05 * (h[0] - 0.5) + shape.shift, 0.27 + 0.06 * h[1]
  du, dv = m.u - u, m.v - v
  inside = ellipse(du, dv, (radius * (1.0 + 0.2 * h[2]), radius))
  level = dv + radius * (0.25 - 0.5 * h[3])
  gas = soft(inside, m.pixel) * soft(-level, m.pixel)
  wall = line(inside - 0.015, 0.018, m.pixel)
  fluid = soft(inside, m.pixel) * soft(level, m.pixel)
  shade = 0.07 * fluid + 0.09 * wall - (0.16 + 0.08 * s) * gas
  return layers.replace(opacity=layers.opacity + shade * lesion.here)


def fracture(shape: Shape, m: Maps, lesion: Lesion, layers: Layers) -> Layers:
  """A displaced rib: a step in its course, its ends overlapping, a haematoma at the wall."""
  s, h = lesion.amount, lesion.h
  a = shape.anatomy
  height = zone_height(lesion.zone, h[0])
  v = a.apex + (pick(m.left, shape.dome) - a.apex) * height
  # The place is counted from the chest wall: lateral ribs break.
  off = m.border - 0.10 - 0.08 * h[1]
  near = jnp.exp(-(((m.v - v) / 0.12) ** 4))
  step = near * soft(-off, m.pixel, 0.008)
  gap = near * line(off, 0.030, m.pixel)
  blood = near * soft(0.055 + 0.03 * s - m.border, m.pixel, 0.012) * m.cage
  callus = jnp.exp(-((off / 0.075) ** 2) - (((m.v - v) / 0.045) ** 2))
  on = lesion.here
  shade = (0.14 + 0.10 * s) * blood + (0.26 + 0.10 * s) * callus - (0.10 + 0.06 * s) * gap
  return layers.replace(
      rib_step=layers.rib_step + on * step * (0.045 + 0.03 * s),
      opacity=layers.opacity + on * shade * (1.0 - m.heart))


def pneumoperitoneum(shape: Shape, m: Maps, lesion: Lesion, layers: Layers) -> Layers:
  """A black crescent under the right dome, and under the left one where there is much air."""
  s, h = lesion.amount, lesion.h
  across = m.x / pick(m.left, shape.width) - pick(m.left, shape.anatomy.dome_peak)
  amount = jnp.where(m.left, jnp.maximum(s - 0.5, 0.0), s)
  reach = 0.26 + 0.10 * h[0]
  thick = (0.04 * (amount > 0) + 0.085 * amount) * jnp.maximum(1.0 - (across / reach) ** 2, 0.0)
  depth = -m.above - 0.014
  crescent = soft(depth, m.pixel) * soft(thick - depth, m.pixel) * (thick > 0.002)
  return layers.replace(
      opacity=layers.opacity - (0.30 + 0.06 * s) * crescent * lesion.here * (1.0 - 0.6 * m.heart))
