"""Patient-level bootstrap: every metric is a function of one weight a patient.

A resample of the patients with replacement is a vector of counts, so a statistic that takes
weights `[R, N]` (R resamples of N patients) and returns `[R]` gives the value (weights 1) and the
interval (multinomial weights) by one definition, and ratios of two means are resampled jointly.
Percentile intervals: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, ch. 13.
"""

from collections.abc import Callable

import numpy as np
from scipy.stats import rankdata

from cdjax.core.types import Array

Statistic = Callable[[np.ndarray], np.ndarray]

_WEIGHTS_AT_ONCE = 1_000_000


def interval(
    statistic: Statistic, n: int, *, resamples: int, seed: int, level: float = 0.95
) -> dict[str, float | int]:
  """The value of a statistic and its bootstrap interval.

  Args:
    statistic: weights `[R, n]` float64 → values `[R]`.
    n: number of patients.
    resamples: R.
    seed: of the resampling.
    level: coverage of the percentile interval.

  Returns:
    `{"value", "low", "high", "n"}`; NaN where the statistic is not defined, e.g. because no
    patient had the finding. Resamples in which it is not defined are left out.
  """
  value = float(statistic(np.ones((1, n)))[0])
  weights = np.random.default_rng([seed, n]).multinomial(n, np.full(n, 1.0 / n), size=resamples)
  draws = statistic(weights.astype(np.float64))
  draws = draws[np.isfinite(draws)]
  low, high = np.nan, np.nan
  if draws.size:
    low, high = np.quantile(draws, [0.5 - level / 2, 0.5 + level / 2])
  return {"value": value, "low": float(low), "high": float(high), "n": n}


def divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
  """`numerator / denominator`, NaN where the denominator is 0; arrays of one shape."""
  defined = denominator != 0
  return np.where(defined, numerator / np.where(defined, denominator, 1.0), np.nan)


def mean(values: Array) -> Statistic:
  """The weighted mean of `values [N]`; NaN values are not counted."""
  values = np.asarray(values, np.float64)
  known = np.isfinite(values)
  filled = np.where(known, values, 0.0)
  return lambda weights: divide(weights @ filled, weights @ known.astype(np.float64))


def by_patient(statistic: Statistic, patient: Array) -> tuple[Statistic, int]:
  """A statistic of rows as one of patients: all rows of a patient come and go together.

  Args:
    statistic: weights `[R, N]`, one a row → `[R]`.
    patient: `[N]` of any one type, whose row it is.

  Returns:
    the statistic of weights `[R, P]`, and P, the number of patients, for `interval`.
  """
  names, rows = np.unique(np.asarray(patient), return_inverse=True)
  rows = rows.reshape(-1)
  # Few resamples at a time: a statistic of ranks holds several arrays as large as its weights.
  at_once = max(1, _WEIGHTS_AT_ONCE // max(1, len(rows)))

  def expanded(weights):
    parts = [statistic(weights[start:start + at_once][:, rows])
             for start in range(0, len(weights), at_once)]
    return np.concatenate(parts)

  return expanded, len(names)


def macro(values: Array, groups: Array) -> Statistic:
  """The mean over groups of the group's weighted mean of `values [N]`.

  NaN values are not counted; groups that a resample leaves empty are not either. `groups` is
  `[N]` int.
  """
  groups = np.asarray(groups)
  parts = [mean(np.where(groups == g, values, np.nan)) for g in np.unique(groups)]

  def statistic(weights):
    return _nanmean(np.stack([part(weights) for part in parts], -1))

  return statistic


def _nanmean(values: np.ndarray) -> np.ndarray:
  """Mean over the last axis of what is not NaN; NaN where all is."""
  known = np.isfinite(values)
  return divide(np.where(known, values, 0.0).sum(-1), known.sum(-1).astype(np.float64))


def balanced_accuracy(predicted: Array, actual: Array) -> Statistic:
  """Macro balanced accuracy: the mean over K findings of (sensitivity + specificity) / 2.

  Args:
    predicted: `[N, K]` bool.
    actual: `[N, K]` bool. Findings that are never, or always, there are left out.

  Returns:
    The statistic.
  """
  predicted, actual = np.asarray(predicted, bool), np.asarray(actual, bool)
  right = (predicted == actual).astype(np.float64)
  there, gone = actual.astype(np.float64), (~actual).astype(np.float64)

  def statistic(weights):
    sensitivity = divide(weights @ (right * there), weights @ there)
    specificity = divide(weights @ (right * gone), weights @ gone)
    return _nanmean((sensitivity + specificity) / 2)

  return statistic


def spearman(a: Array, b: Array, groups: Array) -> Statistic:
  """Rank correlation of `a [N]` and `b [N]` within each group, averaged over groups."""
  a, b, groups = (np.asarray(v) for v in (a, b, groups))

  def one(weights):
    rows = np.repeat(np.arange(len(a)), weights.astype(int))
    values = []
    for g in np.unique(groups):
      chosen = rows[groups[rows] == g]
      if chosen.size < 2:
        continue
      ra, rb = rankdata(a[chosen]), rankdata(b[chosen])
      ra, rb = ra - ra.mean(), rb - rb.mean()
      scale = np.sqrt((ra**2).sum() * (rb**2).sum())
      values.append((ra * rb).sum() / scale if scale > 0 else np.nan)
    return _nanmean(np.array(values)[None])[0] if values else np.nan

  return lambda weights: np.array([one(w) for w in weights])
