"""More pictures of new phantom patients: studies for the probes, hidden draws, swapped answers."""

import functools

import jax
import numpy as np

from cdjax.core import rng
from cdjax.core.types import Array, FindingsArrays
from cdjax.data import phantom
from cdjax.evaluate.batching import map_batches
from cdjax.evaluate.questions import BATCH, Causes, Questions


@functools.partial(
    jax.jit, static_argnames=("studies", "healthy_share", "vocabulary", "size", "held_out"))
def _studies_batch(key, index, *, studies, healthy_share, vocabulary, size, held_out):
  def one(index, study):
    patient = rng.stream(key, "patient", index)
    own = rng.stream(patient, "study", study)
    pathology = phantom.sample_pathology(
        rng.stream(own, "pathology"), vocabulary=vocabulary, healthy_share=healthy_share,
        multiple_share=0.1, held_out_combinations=held_out)
    x = phantom.render(
        phantom.sample_anatomy(rng.stream(patient, "anatomy")), pathology,
        phantom.sample_acquisition(rng.stream(own, "acquisition")), size=size,
        vocabulary=vocabulary)
    return x, phantom.findings_of(pathology)

  both = jax.vmap(jax.vmap(one, in_axes=(None, 0)), in_axes=(0, None))
  return both(index, np.arange(studies))


def new_studies(
    key: Array,
    n: int,
    *,
    studies: int,
    healthy_share: float,
    vocabulary: tuple[str, ...],
    size: int,
    held_out: tuple[str, ...] = (),
) -> tuple[np.ndarray, FindingsArrays]:
  """Draws n new patients with several studies each; every finding is equally frequent.

  Args:
    key: of everything.
    n: patients.
    studies: studies of each, findings and acquisition drawn anew for each.
    healthy_share: of studies without finding.
    vocabulary: K finding names.
    size: S, side in pixels.
    held_out: combinations that are not drawn.

  Returns:
    Images `[n, studies, S, S]` in [0, 1] and findings `[n, studies, K]`.
  """
  draw = functools.partial(
      _studies_batch, key, studies=studies, healthy_share=healthy_share, vocabulary=vocabulary,
      size=size, held_out=held_out)
  return map_batches(draw, np.arange(n), batch_size=BATCH)


@functools.partial(jax.jit, static_argnames=("vocabulary", "size"))
def _render_batch(causes: Causes, *, vocabulary, size):
  draw = functools.partial(phantom.render, vocabulary=vocabulary, size=size)
  return jax.vmap(draw)(causes.anatomy, causes.pathology, causes.acquisition)


def swapped(questions: Questions, other: Array, *, vocabulary: tuple[str, ...]) -> np.ndarray:
  """The exact swap: each patient's anatomy and acquisition with another one's factual pathology.

  Args:
    questions: N questions.
    other: `[N]` int, whose pathology.
    vocabulary: K finding names.

  Returns:
    `[N, S, S]` in [0, 1].
  """
  theirs = jax.tree.map(lambda leaf: leaf[other], questions.causes.pathology)
  return map_batches(
      functools.partial(_render_batch, vocabulary=vocabulary, size=questions.x.shape[-1]),
      questions.causes.replace(pathology=theirs), batch_size=BATCH)


def hidden_draws(
    key: Array, questions: Questions, draws: int, *, vocabulary: tuple[str, ...]
) -> np.ndarray:
  """The renderer's own diversity: the exact answer with other hidden draws of the new findings.

  Args:
    key: of the draws.
    questions: N questions.
    draws: A, how many of each.
    vocabulary: K finding names.

  Returns:
    `[N, A, S, S]` in [0, 1].
  """

  def redraw(index, answer, factual):
    new = answer.present & ~factual.present
    return phantom.redraw_hidden(answer, rng.stream(key, "hidden", index), new)

  n = len(questions)
  rows = np.repeat(np.arange(n), draws)
  causes, answer = jax.tree.map(lambda leaf: leaf[rows], (questions.causes, questions.answer))
  pathology = jax.vmap(redraw)(np.arange(n * draws), answer, causes.pathology)
  images = map_batches(
      functools.partial(_render_batch, vocabulary=vocabulary, size=questions.x.shape[-1]),
      causes.replace(pathology=pathology), batch_size=BATCH)
  return images.reshape(n, draws, *images.shape[1:])
