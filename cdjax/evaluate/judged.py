"""What the judge sees in an answer: asked findings, their place, and what should be gone.

A finding is seen at probability ≥ ½. Side and zone are sets: every one at probability ≥ ½, and
always the most probable one; they are right when the set is the asked one, wrong when the finding
is unseen, and not counted (NaN) for findings with fewer than two possible sides or zones.
"""

from collections.abc import Callable, Sequence

import numpy as np

from cdjax.core.types import Array, FindingsArrays
from cdjax.data.phantom import PHANTOM_FINDINGS
from cdjax.evaluate.batching import map_batches
from cdjax.evaluate.image_metrics import to_model

Judgement = dict[str, np.ndarray]


def judge(judge_fn: Callable, images: Array, *, batch_size: int) -> Judgement:
  """Calls `Subject.judge_fn` on images `[N, H, W]` in [0, 1]; NumPy arrays of length N."""
  return map_batches(judge_fn, to_model(np.asarray(images, np.float32)), batch_size=batch_size)


def seen(judgement: Judgement) -> np.ndarray:
  """`[N, K]` bool: the findings that the judge sees."""
  return judgement["finding"] >= 0.5


def asked_seen(judgement: Judgement, do_findings: FindingsArrays) -> np.ndarray:
  """`[N]` float: 1 where every asked finding is seen."""
  return (seen(judgement) | ~do_findings.present).all(-1).astype(np.float64)


def place_right(
    judgement: Judgement,
    do_findings: FindingsArrays,
    target: Array,
    place: str,
    *,
    vocabulary: Sequence[str],
) -> np.ndarray:
  """Whether the target's side or zone is the asked one.

  Args:
    judgement: of N answers.
    do_findings: `[N, K]`.
    target: `[N]` int.
    place: "side" or "zone".
    vocabulary: K finding names.

  Returns:
    `[N]` float: 1 right, 0 wrong or unseen, NaN where the finding has no two possible places.
  """
  possible = {"side": lambda spec: spec.sides, "zone": lambda spec: spec.zones}[place]
  counted = np.array([len(possible(PHANTOM_FINDINGS[name])) >= 2 for name in vocabulary])
  rows = np.arange(len(target))
  probabilities = judgement[place][rows, target]
  chosen = (probabilities >= 0.5) | (probabilities == probabilities.max(-1, keepdims=True))
  bits = (chosen * (1 << np.arange(chosen.shape[-1]))).sum(-1)
  right = (bits == getattr(do_findings, place)[rows, target]) & seen(judgement)[rows, target]
  return np.where(counted[target], right.astype(np.float64), np.nan)


def factual_left(
    judgement: Judgement, findings: FindingsArrays, do_findings: FindingsArrays
) -> np.ndarray:
  """`[N]` float: 1 where a replaced finding is still seen; NaN where none was replaced."""
  replaced = findings.present & ~do_findings.present
  left = (seen(judgement) & replaced).any(-1).astype(np.float64)
  return np.where(replaced.any(-1), left, np.nan)


def unasked(judgement: Judgement, do_findings: FindingsArrays) -> np.ndarray:
  """`[N]` float: 1 where any finding is seen that is not in the asked set.

  The asked set lists the kept findings too. A replaced finding that is still seen counts here as
  well as in `factual_left`: it was neither asked nor kept.
  """
  return (seen(judgement) & ~do_findings.present).any(-1).astype(np.float64)


def free(judgement: Judgement) -> np.ndarray:
  """`[N]` float: 1 where no finding is seen."""
  return (~seen(judgement).any(-1)).astype(np.float64)


def severity_of(judgement: Judgement, target: Array) -> np.ndarray:
  """`[N]` the judged severity of each question's target."""
  return judgement["severity"][np.arange(len(target)), target]
