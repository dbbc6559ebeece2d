"""The renderer: `(anatomy, pathology, acquisition) -> radiograph`, jittable, one study at a time.

Everything is a function of continuous coordinates, so another size is the same picture. Use
`jax.vmap` for batches; a (size, vocabulary) pair is one compilation.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from cdjax.core.types import Array
from cdjax.data.phantom.acquisition import Acquisition, expose
from cdjax.data.phantom.anatomy import Anatomy
from cdjax.data.phantom.geometry import maps_of, shape_of
from cdjax.data.phantom.paint import paint
from cdjax.data.phantom.pathology import Pathology, healthy_like
from cdjax.data.phantom.thorax import compose, healthy_layers
from cdjax.data.phantom.vocabulary import check_vocabulary

MASK_THRESHOLD = 0.02


def render(
    anatomy: Anatomy,
    pathology: Pathology,
    acquisition: Acquisition,
    *,
    size: int,
    vocabulary: Sequence[str],
    noise: bool | Array = True,
) -> jax.Array:
  """Renders one study; bright is dense, the patient's left is on the image's right.

  Args:
    anatomy: of the patient.
    pathology: of the study, over `vocabulary`.
    acquisition: of the study; its noise depends on nothing else.
    size: side in pixels.
    vocabulary: K finding names.
    noise: whether the sensor's noise is added; may be traced.

  Returns:
    `[size, size]` float32 in [0, 1].
  """
  vocabulary = check_vocabulary(vocabulary)
  pixel = 2.0 / size
  centres = (jnp.arange(size, dtype=jnp.float32) + 0.5) * pixel - 1.0
  v, u = jnp.meshgrid(centres, centres, indexing="ij")
  shift = acquisition.shift * (2.0 / 64)
  shape = shape_of(anatomy, pathology, vocabulary)
  maps = maps_of(shape, u - shift[0], v - shift[1], pixel)
  layers = paint(shape, maps, pathology, healthy_layers(maps), vocabulary)
  return expose(compose(shape, maps, layers), u, v, acquisition, noise=noise)


def lesion_mask(
    anatomy: Anatomy,
    pathology: Pathology,
    acquisition: Acquisition,
    *,
    size: int,
    vocabulary: Sequence[str],
) -> Array:
  """Where the findings change the picture: noise-free |render - healthy render| > 0.02.

  Returns:
    `[size, size]` bool, not dilated.
  """
  shown = render(anatomy, pathology, acquisition, size=size, vocabulary=vocabulary, noise=False)
  healthy = render(anatomy, healthy_like(pathology), acquisition, size=size, vocabulary=vocabulary,
                   noise=False)
  return jnp.abs(shown - healthy) > MASK_THRESHOLD
