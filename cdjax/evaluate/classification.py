"""How well probabilities tell one finding: ranks, decisions and calibration, as `Statistic`s.

Each takes one weight a row, so that the value, its bootstrap interval and a macro average come from
one definition (`evaluate.bootstrap`); rows whose label is unknown have no weight. Values are those
of scikit-learn's functions with `sample_weight`. All are NaN where they are not defined, e.g. an
AUROC without a positive row.
"""

from collections.abc import Callable

import numpy as np

from cdjax.core.types import ABSENT, PRESENT, Array
from cdjax.evaluate.bootstrap import Statistic, divide

Metric = Callable[[np.ndarray, np.ndarray], Statistic]

THRESHOLD = 0.5
BINS = 15


def _rows(score: Array, status: Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Scores `[N]` float64, and whether each row is positive and negative, `[N]` float64 0 or 1."""
  score, status = np.asarray(score, np.float64), np.asarray(status)
  if score.shape != status.shape or score.ndim != 1:
    raise ValueError(f"scores of shape {score.shape} for labels of shape {status.shape}; expected "
                     "[N] for both")
  positive, negative = status == PRESENT, status == ABSENT
  known = positive | negative
  if not np.isfinite(score[known]).all():
    raise ValueError(f"{(~np.isfinite(score[known])).sum()} scores of rows with a known label are "
                     "not finite")
  return np.where(known, score, 0.0), positive.astype(np.float64), negative.astype(np.float64)


def _by_threshold(score: np.ndarray, *masks: np.ndarray) -> Callable:
  """Weights `[R, N]` → for each mask the weight at each distinct score, falling, `[R, T]`."""
  order = np.argsort(-score, kind="stable")
  starts = np.flatnonzero(np.diff(score[order], prepend=np.inf))

  def sums(weights):
    weights = weights[:, order]
    return [np.add.reduceat(weights * mask[order], starts, axis=1) for mask in masks]

  return sums


def auroc(score: Array, status: Array) -> Statistic:
  """Area under the ROC curve: P(a positive row scores higher than a negative one), ties half.

  Args:
    score: `[N]`, any monotone scale.
    status: `[N]`, PRESENT, ABSENT or UNKNOWN.

  References:
    Hanley and McNeil, "The meaning and use of the area under a ROC curve", Radiology 143, 1982.
  """
  score, positive, negative = _rows(score, status)
  sums = _by_threshold(score, positive, negative)

  def statistic(weights):
    there, gone = sums(weights)
    below = gone.sum(1, keepdims=True) - np.cumsum(gone, 1)
    return divide((there * (below + gone / 2)).sum(1), there.sum(1) * gone.sum(1))

  return statistic


def average_precision(score: Array, status: Array) -> Statistic:
  """Σ (recall_t − recall_{t−1}) · precision_t over falling thresholds t, without interpolation.

  Its chance level is the share of positive rows, so that it does not compare between findings.
  Arguments as `auroc`.
  """
  score, positive, negative = _rows(score, status)
  sums = _by_threshold(score, positive, negative)

  def statistic(weights):
    there, gone = sums(weights)
    true = np.cumsum(there, 1)
    seen = true + np.cumsum(gone, 1)
    precision = true / np.where(seen > 0, seen, 1.0)
    return divide((there * precision).sum(1), there.sum(1))

  return statistic


def _counts(probability: Array, status: Array) -> Callable:
  """Weights `[R, N]` → true and false positives, true and false negatives, each `[R]`."""
  probability, positive, negative = _rows(probability, status)
  called = (probability >= THRESHOLD).astype(np.float64)
  columns = np.stack([positive * called, negative * called, negative * (1 - called),
                      positive * (1 - called)], axis=1)
  return lambda weights: (weights @ columns).T


def balanced_accuracy(probability: Array, status: Array) -> Statistic:
  """(sensitivity + specificity) / 2 at probability ≥ ½; chance is ½. Arguments as `auroc`."""
  counts = _counts(probability, status)

  def statistic(weights):
    tp, fp, tn, fn = counts(weights)
    return (divide(tp, tp + fn) + divide(tn, tn + fp)) / 2

  return statistic


def f1(probability: Array, status: Array) -> Statistic:
  """2 TP / (2 TP + FP + FN) at probability ≥ ½; NaN without a positive row."""
  counts = _counts(probability, status)

  def statistic(weights):
    tp, fp, _, fn = counts(weights)
    return np.where(tp + fn > 0, divide(2 * tp, 2 * tp + fp + fn), np.nan)

  return statistic


def kappa(probability: Array, status: Array) -> Statistic:
  """Agreement beyond chance of the decision at ½ with the label.

  References:
    Cohen, "A coefficient of agreement for nominal scales", 1960, eq. 1.
  """
  counts = _counts(probability, status)

  def statistic(weights):
    tp, fp, tn, fn = counts(weights)
    total = tp + fp + tn + fn
    chance = (tp + fp) * (tp + fn) + (tn + fn) * (tn + fp)
    return divide((tp + tn) * total - chance, total**2 - chance)

  return statistic


def calibration_error(probability: Array, status: Array) -> Statistic:
  """Expected calibration error of the positive class over 15 bins of equal width.

  Σ_b |Σ_{i in b} (p_i − y_i)| / N; a probability on an edge belongs to the lower bin. Biased
  upwards at small N; sharpness is not measured.

  References:
    Guo et al., "On Calibration of Modern Neural Networks", arXiv:1706.04599, eq. 3 (there for the
    confidence of the predicted class).

  Raises:
    ValueError: a probability outside [0, 1].
  """
  probability, positive, negative = _rows(probability, status)
  if ((probability < 0) | (probability > 1)).any():
    raise ValueError(f"probabilities from {probability.min()} to {probability.max()}; expected "
                     "[0, 1], not logits")
  edges = np.linspace(0.0, 1.0, BINS + 1)[1:-1]
  member = np.searchsorted(edges, probability)[:, None] == np.arange(BINS)
  excess = np.where(positive + negative > 0, probability - positive, 0.0)

  def statistic(weights):
    return divide(np.abs(weights @ (excess[:, None] * member)).sum(1),
                  weights @ (positive + negative))

  return statistic


METRICS: dict[str, Metric] = {
    "auroc": auroc,
    "average_precision": average_precision,
    "balanced_accuracy": balanced_accuracy,
    "f1": f1,
    "kappa": kappa,
    "calibration_error": calibration_error,
}
