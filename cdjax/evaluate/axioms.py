"""Composition and reversibility: what a counterfactual must do to an image that it leaves alone.

After the axioms of counterfactual soundness (Monteiro et al., "Measuring axiomatic soundness of
counterfactual image models", arXiv:2303.01274): a null intervention returns the image, and an
intervention taken back returns it too. Distances are mean absolute differences in [0, 1].
"""

import numpy as np

from cdjax.core import rng
from cdjax.core.types import Array
from cdjax.evaluate.answering import Answering
from cdjax.evaluate.bootstrap import Statistic, mean
from cdjax.evaluate.questions import Questions, head


def l1(a: Array, b: Array) -> np.ndarray:
  """Mean absolute difference of images `[N, H, W]`, `[N]`."""
  return np.abs(np.asarray(a, np.float64) - b).mean((1, 2))


def composition(
    answering: Answering, key: Array, questions: Questions, *, repeated: int, times: int = 10
) -> dict[str, Statistic]:
  """The null intervention once, `times` times in a row, and without residual abduction.

  Args:
    answering: asks the subject.
    key: of the draws; each repetition has its own.
    questions: their factual images and findings are used.
    repeated: how many of the questions are repeated.
    times: null interventions in a row for `composition/l1_10`.
  """
  first = answering.null(rng.stream(key, "null", 0), questions.x, questions.findings, True)
  plain = answering.null(rng.stream(key, "null", 0), questions.x, questions.findings, False)
  few, x = head(questions, repeated), first[:repeated]
  for step in range(1, times):
    x = answering.null(rng.stream(key, "null", step), x, few.findings, True)
  return {
      "composition/l1": mean(l1(first, questions.x)),
      "composition/l1_10": mean(l1(x, few.x)),
      "composition/l1_no_residual": mean(l1(plain, questions.x)),
  }


def reversibility(
    answering: Answering, key: Array, questions: Questions, answers: Array
) -> dict[str, Statistic]:
  """Asked and taken back: the factual findings are asked of the answer.

  A finding that was replaced comes back with a new hidden draw, so that for sick patients even a
  perfect model is not at 0: only for healthy ones the way back is determined.

  Args:
    answering: asks the subject.
    key: of the draws on the way back.
    questions: N questions.
    answers: to them, `[N, S, S]` in [0, 1].
  """
  back = answering.counterfactual(key, answers, questions.do_findings, questions.findings)
  return {"reversibility/l1": mean(l1(back, questions.x))}
