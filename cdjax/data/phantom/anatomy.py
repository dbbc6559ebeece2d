"""One patient's anatomy: who they are, and stays the same in all of their studies.

Lengths are in units of half the image's side, u to the right and v down from the image's centre;
pairs are (patient's left, patient's right), and the patient's left is the image's right.
"""

import math

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from cdjax.core.rng import stream
from cdjax.core.types import Array

NUM_VESSELS = 9
NUM_WAVES = 8

# Field: (shape, low, high) of a uniform draw.
RANGES: dict[str, tuple[tuple[int, ...], float, float]] = {
    "centre": ((2,), -0.045, 0.045),        # of the patient in the image
    "scale": ((2,), 0.93, 1.06),            # width, height
    "rotation": ((), -0.045, 0.045),        # radians
    "scoliosis": ((), -0.025, 0.025),       # sideways bend of the spine
    "stoutness": ((), 0.0, 1.0),            # soft tissue around the cage
    "shoulder": ((2,), -0.76, -0.66),       # v of the shoulders' upper edge at u = 0.6
    "lung_width": ((), 0.66, 0.74),         # half width of the rib cage
    "lung_width_side": ((2,), -0.015, 0.015),
    "apex": ((), -0.80, -0.72),             # v of the top of the lungs
    "cage_top": ((), 1.7, 2.3),             # exponent of the cage's upper arch
    "cage_flare": ((), 0.02, 0.12),         # widening from mid to base
    "dome": ((), 0.36, 0.50),               # v of the left diaphragm
    "dome_right": ((), 0.02, 0.09),         # how much higher the right one is
    "dome_bend": ((2,), 0.42, 0.68),        # curvature of the domes
    "dome_peak": ((2,), 0.36, 0.50),        # lateral place of the top, share of the lung's width
    "aeration": ((), 0.92, 1.06),           # lucency of the lungs
    "heart_size": ((), 0.95, 1.05),
    "heart_aspect": ((), 0.95, 1.06),
    "heart_tilt": ((), 0.40, 0.75),         # radians, axis from the horizontal
    "heart_place": ((2,), -0.025, 0.025),
    "atrium": ((), 0.92, 1.08),
    "knob": ((3,), 0.0, 1.0),               # aortic knob: size, height, prominence
    "mediastinum": ((), 0.115, 0.155),      # half width of its upper part
    "trachea": ((3,), 0.0, 1.0),            # place, width, height of the carina
    "rib_start": ((), 0.0, 1.0),            # phase of the posterior ribs
    "rib_spacing": ((), 0.125, 0.15),
    "rib_slope": ((2,), 0.10, 0.24),
    "rib_bend": ((), -0.05, 0.05),
    "rib_contrast": ((), 0.05, 0.085),
    "rib_jitter": ((2, 2), 0.0, 1.0),       # unevenness of the spacing: phase, amplitude
    "front_start": ((), 0.0, 1.0),          # the same for the anterior ribs
    "front_spacing": ((), 0.15, 0.19),
    "front_slope": ((2,), 0.42, 0.62),
    "front_contrast": ((), 0.02, 0.045),
    "clavicle": ((2, 3), 0.0, 1.0),         # height, slope, bend
    "scapula": ((2, 3), 0.0, 1.0),          # place, slope, contrast
    "humerus": ((2, 2), 0.0, 1.0),          # place and size of the humeral head
    "spine": ((4,), 0.0, 1.0),              # width, contrast, phase, spacing of the vertebrae
    "hilum": ((2, 3), 0.0, 1.0),            # height, size, density
    "vessels": ((2, NUM_VESSELS, 6), 0.0, 1.0),
    "breast": ((3,), 0.0, 1.0),             # size, height, lateral place
    "breast_side": ((2, 2), -1.0, 1.0),
    "stomach": ((5,), 0.0, 1.0),            # gas: amount, place (2), size, aspect
    "bowel": ((3, 3), 0.0, 1.0),            # gas below: place (2), size
    "waves": ((NUM_WAVES, 4), 0.0, 1.0),    # soft tissue texture
    "age": ((), 18.0, 90.0),
    "sex": ((), 0.0, 2.0),                  # rounded down: 0 male, 1 female
}


@flax.struct.dataclass
class Anatomy:
  """One patient; unbatched leaves. Shapes and ranges are those of `RANGES`; `sex` is 1 for F."""

  centre: Array
  scale: Array
  rotation: Array
  scoliosis: Array
  stoutness: Array
  shoulder: Array
  lung_width: Array
  lung_width_side: Array
  apex: Array
  cage_top: Array
  cage_flare: Array
  dome: Array
  dome_right: Array
  dome_bend: Array
  dome_peak: Array
  aeration: Array
  heart_size: Array
  heart_aspect: Array
  heart_tilt: Array
  heart_place: Array
  atrium: Array
  knob: Array
  mediastinum: Array
  trachea: Array
  rib_start: Array
  rib_spacing: Array
  rib_slope: Array
  rib_bend: Array
  rib_contrast: Array
  rib_jitter: Array
  front_start: Array
  front_spacing: Array
  front_slope: Array
  front_contrast: Array
  clavicle: Array
  scapula: Array
  humerus: Array
  spine: Array
  hilum: Array
  vessels: Array
  breast: Array
  breast_side: Array
  stomach: Array
  bowel: Array
  waves: Array
  age: Array
  sex: Array


def sample_anatomy(key: jax.Array) -> Anatomy:
  """Draws one patient; age and sex show: breasts, width, aortic knob."""
  sizes = [math.prod(shape) for shape, _, _ in RANGES.values()]
  # One draw for all: a random call for each field would take most of the compilation.
  parts = jnp.split(jax.random.uniform(stream(key, "draws"), (sum(sizes),)), np.cumsum(sizes)[:-1])
  draws = {
      name: low + (high - low) * part.reshape(shape)
      for part, (name, (shape, low, high)) in zip(parts, RANGES.items(), strict=True)
  }
  female = draws["sex"] = jnp.floor(draws["sex"])
  old = (draws["age"] - 18.0) / 72.0
  draws["lung_width"] = draws["lung_width"] - 0.015 * female
  draws["breast"] = draws["breast"].at[0].set(
      jnp.where(female == 1, 0.35 + 0.65 * draws["breast"][0], 0.12 * draws["breast"][0]))
  draws["knob"] = draws["knob"].at[2].set(0.4 * draws["knob"][2] + 0.6 * old)
  return Anatomy(**draws)
