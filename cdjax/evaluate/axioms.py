"""What any counterfactual must do: composition, reversibility, effectiveness, minimality, gain.

After the axioms of counterfactual soundness (Monteiro et al., "Measuring axiomatic soundness of
counterfactual image models", arXiv:2303.01274): a null intervention returns the image, an
intervention taken back returns it too, and what was asked for is there. Distances are mean absolute
differences in [0, 1]. Prediction gain: Nemirovsky et al., "CounteRGAN", arXiv:2009.05199.
"""

from collections.abc import Callable, Mapping

import numpy as np

from cdjax.core import rng
from cdjax.core.types import ABSENT, PRESENT, Array, FindingsArrays
from cdjax.evaluate.answering import Answering
from cdjax.evaluate.batching import map_batches
from cdjax.evaluate.bootstrap import Statistic, divide, mean
from cdjax.evaluate.image_metrics import from_model, to_model
from cdjax.evaluate.questions import Questions, head

CHANGED = 0.02   # images in [0, 1]: less than this nobody sees


def l1(a: Array, b: Array) -> np.ndarray:
  """Mean absolute difference of images `[N, H, W]`, `[N]`."""
  return np.abs(np.asarray(a, np.float64) - b).mean((1, 2))


def null_chain(
    answering: Answering, key: Array, questions: Questions, *, repeated: int, times: int = 10
) -> dict[int, np.ndarray]:
  """The factual images after one null intervention, and some of them after `times` in a row.

  Args:
    answering: asks the subject.
    key: of the draws; each repetition has its own.
    questions: N, whose factual images and findings are used.
    repeated: how many of them are repeated.
    times: 2 or more.

  Returns:
    `{1: [N, S, S], times: [repeated, S, S]}` in [0, 1].
  """
  first = answering.null(rng.stream(key, "null", 0), questions.x, questions.findings, True)
  few, x = head(questions, repeated), first[:repeated]
  for step in range(1, times):
    x = answering.null(rng.stream(key, "null", step), x, few.findings, True)
  return {1: first, times: x}


def composition(
    answering: Answering, key: Array, questions: Questions, chain: dict[int, np.ndarray]
) -> dict[str, Statistic]:
  """The null intervention once, several times in a row, and without residual abduction.

  Args:
    answering: asks the subject.
    key: that `chain` was made with.
    questions: that it was made of.
    chain: from `null_chain`.
  """
  plain = answering.null(rng.stream(key, "null", 0), questions.x, questions.findings, False)
  times = max(chain)
  return {
      "composition/l1": mean(l1(chain[1], questions.x)),
      f"composition/l1_{times}": mean(l1(chain[times], questions.x[:len(chain[times])])),
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


def counterfactual_axioms(
    counterfactual_fn: Callable[[Array, Array, FindingsArrays, FindingsArrays], Array],
    probabilities_fn: Callable[[Array], Array],
    x: Array,
    findings: FindingsArrays,
    do_findings: FindingsArrays,
    *,
    key: Array,
    repeats: tuple[int, ...] = (1, 10),
    batch_size: int = 32,
    nulls: Mapping[int, Array] | None = None,
) -> dict[str, Statistic]:
  """All axioms of any function that answers counterfactual questions; no exact answer is needed.

  Args:
    counterfactual_fn: `(key, x [B, H, W, 1] in [-1, 1], findings, do_findings) -> x_cf`.
    probabilities_fn: `[B, H, W, 1]` in [-1, 1] → `[B, K]`, of a classifier: what effectiveness and
      gain are worth is what it is worth, and less where the function was trained against it.
    x: factual images `[N, H, W]` in [0, 1].
    findings: factual, `[N, K]`.
    do_findings: asked, `[N, K]`.
    key: of the draws.
    repeats: after how many null interventions, and after how many cycles there and back, the
      distance is taken (Monteiro et al., eq. 5 and 6); rising.
    batch_size: of each call.
    nulls: the images after M null interventions, `[N, H, W]` in [0, 1] for each M of `repeats`,
      where they are known already; None: the function is asked.

  Returns:
    `axioms/composition/l1_M` and `axioms/reversibility/l1_M` for M of `repeats`;
    `axioms/effectiveness/all`: share of the findings with an asked status that the classifier sees
    as asked, at probability ½; `/changed`: of those that the question changes, alone;
    `axioms/minimality/l1` and `/share`: how much changes, and the share of pixels that change by
    more than 0.02; `axioms/prediction_gain`: how far the classifier's probability of what the
    question changes moves towards what is asked, in [-1, 1]. To be read beside the same of the
    factual image as the answer: `axioms/effectiveness/copy`.
  """
  def ask(name, step, x, before, after):
    return from_model(map_batches(counterfactual_fn, to_model(x), before, after,
                                  batch_size=batch_size, key=rng.stream(key, name, step)))

  x = np.asarray(x, np.float32)
  statistics, null, cycled = {}, x, x
  for step in range(max(repeats)):
    if nulls is None:
      null = ask("null", step, null, findings, findings)
    there = ask("there", step, cycled, findings, do_findings)
    if not step:
      answer = there
    cycled = ask("back", step, there, do_findings, findings)
    if step + 1 in repeats:
      statistics[f"axioms/composition/l1_{step + 1}"] = mean(
          l1(null if nulls is None else nulls[step + 1], x))
      statistics[f"axioms/reversibility/l1_{step + 1}"] = mean(l1(cycled, x))
  before, after = (np.asarray(map_batches(probabilities_fn, to_model(images),
                                          batch_size=batch_size)) for images in (x, answer))
  return statistics | _asked(before, after, findings, do_findings) | {
      "axioms/minimality/l1": mean(l1(answer, x)),
      "axioms/minimality/share": mean((np.abs(answer - x) > CHANGED).mean((1, 2)))}


def _asked(before: np.ndarray, after: np.ndarray, findings: FindingsArrays,
           do_findings: FindingsArrays) -> dict[str, Statistic]:
  """Effectiveness and gain from the classifier's probabilities `[N, K]`; a patient is a row."""
  factual, asked = np.asarray(findings.status), np.asarray(do_findings.status)
  known = (asked == PRESENT) | (asked == ABSENT)
  changes = known & (factual != asked)
  right = lambda probability: (probability >= 0.5) == (asked == PRESENT)
  gain = np.where(asked == PRESENT, after - before, before - after)

  def over(values, mask):
    """The mean over all numbers with a mask, patients as a whole."""
    summed, count = (values * mask).sum(1).astype(np.float64), mask.sum(1).astype(np.float64)
    return lambda weights: divide(weights @ summed, weights @ count)

  return {"axioms/effectiveness/all": over(right(after), known),
          "axioms/effectiveness/changed": over(right(after), changes),
          "axioms/effectiveness/copy": over(right(before), changes),
          "axioms/prediction_gain": over(gain, changes)}
