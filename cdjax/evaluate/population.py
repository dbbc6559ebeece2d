"""More pictures of new phantom patients: studies for the probes, hidden draws, swapped answers."""

import functools

import jax
import numpy as np

from cdjax.core import rng
from cdjax.core.types import Array, FindingsArrays
from cdjax.data import phantom
from cdjax.evaluate.batching import map_batches
from cdjax.evaluate.questions import Questions
from cdjax.evaluate.rendering import BATCH, Causes, render_all


@functools.partial(
    jax.jit, static_argnames=("studies", "healthy_share", "vocabulary", "held_out"))
def _draw_batch(key, index, *, studies, healthy_share, vocabulary, held_out):
  def one(index, study):
    patient = rng.stream(key, "patient", index)
    own = rng.stream(patient, "study", study)
    pathology = phantom.sample_pathology(
        rng.stream(own, "pathology"), vocabulary=vocabulary, healthy_share=healthy_share,
        multiple_share=0.1, held_out_combinations=held_out)
    return Causes(phantom.sample_anatomy(rng.stream(patient, "anatomy")), pathology,
                  phantom.sample_acquisition(rng.stream(own, "acquisition")))

  causes = jax.vmap(jax.vmap(one, in_axes=(None, 0)), in_axes=(0, None))(index, np.arange(studies))
  return causes, jax.vmap(jax.vmap(phantom.findings_of))(causes.pathology)


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
      _draw_batch, key, studies=studies, healthy_share=healthy_share, vocabulary=vocabulary,
      held_out=held_out)
  causes, findings = map_batches(draw, np.arange(n), batch_size=BATCH)
  flat = jax.tree.map(lambda leaf: leaf.reshape(n * studies, *leaf.shape[2:]), causes)
  x = render_all(flat, vocabulary=vocabulary, size=size)
  return x.reshape(n, studies, size, size), findings


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
  return render_all(questions.causes.replace(pathology=theirs), vocabulary=vocabulary,
                    size=questions.x.shape[-1])


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
  images = render_all(causes.replace(pathology=pathology), vocabulary=vocabulary,
                      size=questions.x.shape[-1])
  return images.reshape(n, draws, *images.shape[1:])
