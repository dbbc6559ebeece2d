"""A classifier by finding, over all findings, and over the head, middle and tail of the classes.

Holste et al., "Long-Tailed Classification of Thorax Diseases on Chest X-Ray", arXiv:2208.13365,
head classes have more than 1,000 training images, tail classes fewer than 100.
"""

from collections.abc import Sequence

import numpy as np

from cdjax.core.types import Array
from cdjax.evaluate.bootstrap import Statistic, by_patient, divide, interval
from cdjax.evaluate.classification import METRICS

TIERS = ("head", "medium", "tail")


def tiers(train_counts: Array, *, head: int = 1000, tail: int = 100) -> np.ndarray:
  """Which tier each finding belongs to.

  Args:
    train_counts: `[K]` training images that show it.
    head: more than this many are the head.
    tail: fewer than this many are the tail.

  Returns:
    `[K]` str, of `TIERS`.

  Raises:
    ValueError: `tail` is above `head` + 1, so that a finding could be both.
  """
  counts = np.asarray(train_counts)
  if tail > head + 1:
    raise ValueError(f"tail={tail} is above head={head}; expected at most head + 1")
  return np.where(counts > head, "head", np.where(counts < tail, "tail", "medium"))


def average(statistics: Sequence[Statistic]) -> Statistic:
  """Mean of several statistics of the same rows; those a resample leaves undefined are left out."""

  def statistic(weights):
    values = np.stack([part(weights) for part in statistics])
    known = np.isfinite(values)
    return divide(np.where(known, values, 0.0).sum(0), known.sum(0).astype(np.float64))

  return statistic


def classification_metrics(
    probability: Array,
    status: Array,
    *,
    patient: Array,
    findings: Sequence[str],
    tier: Array | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, dict[str, float | int]]:
  """Every metric of `classification.METRICS` with patient-level bootstrap intervals.

  Args:
    probability: `[N, K]` in [0, 1].
    status: `[N, K]`, PRESENT, ABSENT or UNKNOWN; unknown ones count nowhere.
    patient: `[N]`, whose image it is; patients are resampled, not images.
    findings: K names.
    tier: `[K]` from `tiers`, or None to leave out averages over tiers.
    resamples: of the bootstrap. All metrics see the same ones.
    seed: of the bootstrap.

  Returns:
    `{"auroc/nodule": {"value", "low", "high", "n"}, "auroc/macro": ..., "auroc/tail": ...}`, n in
    patients. A finding without both labels is NaN and left out of the averages; tiers without
    findings have no key.

  Raises:
    ValueError: shapes that do not fit each other.
  """
  probability, status, patient = (np.asarray(v) for v in (probability, status, patient))
  expected = (len(patient), len(findings))
  if probability.shape != expected or status.shape != expected:
    raise ValueError(f"probabilities of shape {probability.shape} and labels of shape "
                     f"{status.shape} for {expected[0]} patients' rows and {expected[1]} findings")
  groups = {"macro": np.arange(len(findings))}
  if tier is not None:
    tier = np.asarray(tier)
    if tier.shape != (len(findings),) or not set(tier.tolist()) <= set(TIERS):
      raise ValueError(f"tiers {tier.tolist()}; expected one of {TIERS} for each of "
                       f"{len(findings)} findings")
    groups |= {name: np.flatnonzero(tier == name) for name in TIERS if (tier == name).any()}
  result = {}
  for metric, make in METRICS.items():
    parts = [make(probability[:, k], status[:, k]) for k in range(len(findings))]
    statistics = dict(zip(findings, parts, strict=True))
    statistics |= {name: average([parts[k] for k in members]) for name, members in groups.items()}
    for name, statistic in statistics.items():
      expanded, patients = by_patient(statistic, patient)
      result[f"{metric}/{name}"] = interval(expanded, patients, resamples=resamples, seed=seed)
  return result
