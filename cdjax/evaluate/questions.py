"""Counterfactual questions about new phantom patients, with their exact answers and masks.

The exact answer has the same anatomy, acquisition and sensor noise; a new finding gets a fresh
hidden draw, a kept one keeps its own. The mask is where a finding changes the noise-free picture
by more than 0.02, of the old and the new findings, united, dilated by 1 pixel at 64 px.
"""

import functools

import flax.struct
import jax
import numpy as np

from cdjax.core import rng
from cdjax.core.types import Array, FindingsArrays, PyTree
from cdjax.data import phantom
from cdjax.data.phantom.render import MASK_THRESHOLD
from cdjax.evaluate.batching import map_batches
from cdjax.evaluate.drawn_findings import ask_of, draw_findings
from cdjax.evaluate.image_metrics import dilate
from cdjax.evaluate.rendering import BATCH, Causes, render_all


@flax.struct.dataclass
class Questions:
  """N interventions. Images `[N, S, S]` float32 in [0, 1], masks `[N, S, S]` bool.

  Attributes:
    x: the factual image.
    exact: the exact counterfactual.
    nuisance: the exact counterfactual with another hidden draw of the new findings: the best that
      anyone who knows only the findings can do.
    findings: factual findings `[N, K]`.
    do_findings: asked findings `[N, K]`, the whole set.
    old_mask: dilated mask of the factual findings.
    new_mask: dilated mask of the asked findings.
    mask: both.
    target: `[N]` int32, the finding the question is about; in `remove` the one removed.
    causes: of the factual image.
    answer: the exact counterfactual's pathology.
  """

  x: Array
  exact: Array
  nuisance: Array
  findings: FindingsArrays
  do_findings: FindingsArrays
  old_mask: Array
  new_mask: Array
  mask: Array
  target: Array
  causes: Causes
  answer: PyTree

  def __len__(self) -> int:
    return len(self.target)


def head(questions: Questions, n: int) -> Questions:
  """The first n questions; targets and sick patients stay balanced."""
  return jax.tree.map(lambda leaf: leaf[:n], questions)


@functools.partial(jax.jit, static_argnames="vocabulary")
def _answers(key, index, factual, do_findings, *, vocabulary):
  """Exact pathologies, and the same with another hidden draw of what is new."""

  def one(index, factual, do):
    own = rng.stream(key, "answer", index)
    exact = phantom.exact_counterfactual(rng.stream(own, "exact"), factual, do,
                                         vocabulary=vocabulary)
    new = exact.present & ~factual.present
    nuisance = phantom.redraw_hidden(exact, rng.stream(own, "nuisance"), new)
    return exact, nuisance, phantom.findings_of(factual), phantom.findings_of(exact)

  return jax.vmap(one)(index, factual, do_findings)


@functools.partial(jax.jit, static_argnames="vocabulary")
def draw_causes(key, index, findings, *, vocabulary):
  """Causes of new patients `[B]` with given findings `[B, K]`; patient i is a function of i."""

  def one(index, findings):
    own = rng.stream(key, "patient", index)
    return Causes(
        anatomy=phantom.sample_anatomy(rng.stream(own, "anatomy")),
        pathology=phantom.pathology_from_findings(
            findings, rng.stream(own, "pathology"), vocabulary=vocabulary),
        acquisition=phantom.sample_acquisition(rng.stream(own, "acquisition")))

  return jax.vmap(one)(index, findings)


def _generator(key: Array) -> np.random.Generator:
  data = np.asarray(jax.random.key_data(rng.stream(key, "findings"))).ravel()
  return np.random.default_rng(data.tolist())


def make_questions(
    key: Array,
    n: int,
    *,
    vocabulary: tuple[str, ...],
    size: int,
    kind: str = "replace",
    held_out: tuple[str, ...] = (),
) -> Questions:
  """Draws n new patients and one question for each.

  Args:
    key: of everything; another kind should be given another key, so that patients differ.
    n: how many.
    vocabulary: K finding names.
    size: S, side in pixels.
    kind: see `cdjax.evaluate.drawn_findings`.
    held_out: "finding side zone" strings that training never shows.

  Returns:
    The questions, NumPy. Any prefix of them is balanced over targets and sick patients.
  """
  findings, do_findings, target = draw_findings(
      kind, n, _generator(key), vocabulary=vocabulary, held_out=held_out)
  causes = map_batches(
      functools.partial(draw_causes, key, vocabulary=vocabulary), np.arange(n), findings,
      batch_size=BATCH)
  return _posed(key, causes, do_findings, target, vocabulary=vocabulary, size=size)


def questions_on(
    key: Array,
    causes: Causes,
    *,
    vocabulary: tuple[str, ...],
    size: int,
    held_out: tuple[str, ...] = (),
) -> Questions:
  """`replace` questions about given studies, e.g. of training patients with one study only.

  Args:
    key: of what is asked and of the hidden draws.
    causes: of N studies.
    vocabulary: K finding names.
    size: S, side in pixels.
    held_out: combinations that are not asked.

  Returns:
    N questions, targets as equally frequent as the patients' own findings allow.
  """
  findings = jax.vmap(phantom.findings_of)(causes.pathology)
  do_findings, target = ask_of(
      findings, _generator(key), vocabulary=vocabulary, held_out=held_out)
  return _posed(key, causes, do_findings, target, vocabulary=vocabulary, size=size)


def _posed(key, causes, do_findings, target, *, vocabulary, size):
  """Renders everything that the questions need."""
  exact, nuisance, findings, asked = map_batches(
      functools.partial(_answers, key, vocabulary=vocabulary), np.arange(len(target)),
      causes.pathology, do_findings, batch_size=BATCH)

  def show(pathology, *, noise):
    return render_all(causes.replace(pathology=pathology), vocabulary=vocabulary, size=size,
                      noise=noise)

  healthy = show(jax.vmap(phantom.healthy_like)(exact), noise=False)

  def mask(pathology):
    changed = np.abs(show(pathology, noise=False) - healthy) > MASK_THRESHOLD
    return np.asarray(dilate(changed, size=size))

  old, new = mask(causes.pathology), mask(exact)
  return Questions(
      x=show(causes.pathology, noise=True), exact=show(exact, noise=True),
      nuisance=show(nuisance, noise=True), findings=findings, do_findings=asked, old_mask=old,
      new_mask=new, mask=old | new, target=target, causes=causes, answer=exact)
