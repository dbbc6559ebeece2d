"""Renders batches of phantom studies. One program, shared by all that the evaluation draws."""

import functools

import flax.struct
import jax
import numpy as np

from cdjax.core.types import PyTree
from cdjax.data import phantom
from cdjax.evaluate.batching import map_batches

BATCH = 32


@flax.struct.dataclass
class Causes:
  """The causes of N studies: the phantom's structures with a leading axis."""

  anatomy: PyTree
  pathology: PyTree
  acquisition: PyTree


# `noise` is traced: with and without it are one program, and the renderer compiles slowly.
@functools.partial(jax.jit, static_argnames=("vocabulary", "size"))
def _render_batch(causes: Causes, *, vocabulary, size, noise):
  draw = functools.partial(phantom.render, vocabulary=vocabulary, size=size, noise=noise)
  return jax.vmap(draw)(causes.anatomy, causes.pathology, causes.acquisition)


def render_all(
    causes: Causes, *, vocabulary: tuple[str, ...], size: int, noise: bool = True
) -> np.ndarray:
  """Images `[N, S, S]` in [0, 1] of N studies.

  Args:
    causes: of the studies.
    vocabulary: K finding names.
    size: S, side in pixels.
    noise: whether the sensor's noise is added.
  """
  draw = functools.partial(
      _render_batch, vocabulary=tuple(vocabulary), size=size, noise=np.bool_(noise))
  return map_batches(draw, causes, batch_size=BATCH)
