"""How well extracted findings agree with a gold list: presence, side, zone, severity.

Everything is a ratio of counts summed over reports, so one vector of counts a report gives the
value and, by resampling reports, the interval (`cdjax.evaluate.bootstrap`).
"""

from collections.abc import Mapping, Sequence

import numpy as np

from cdjax.core.types import Array
from cdjax.evaluate.bootstrap import divide, interval
from cdjax.findings import Finding, get_ontology, side_mask, zone_mask

Lists = Mapping[str, Sequence[Finding]]

MIN_GOLD_CASES = 10  # For a name to count in the macro average.
# Degrees as reports tell them apart; a severity belongs to the first whose bound it is below.
DEGREES = (("borderline", 0.125), ("mild", 0.45), ("moderate", 0.7), ("severe", 1.01))


def degree(severity: float) -> str:
  """The word for a severity: borderline, mild (with trace and small), moderate, severe."""
  return next(name for name, below in DEGREES if severity < below)


def score_findings(predicted: Lists, gold: Lists, *, names: Sequence[str] | None = None,
                   resamples: int = 1000, seed: int = 0) -> dict[str, float]:
  """Scores findings against gold.

  A report is positive for a name that it lists as present or uncertain. Side, zone and severity are
  judged where both are positive and the gold states them; sides and zones of several entries of
  one name are united, of several severities the largest counts. What the gold states and the
  prediction leaves out is wrong.

  Args:
    predicted: report id to findings.
    gold: report id to findings, for the same ids.
    names: what is scored; None takes every name that either side lists.
    resamples: of the bootstrap over reports; 0 for no intervals.
    seed: of the bootstrap.

  Returns:
    Flat: `reports`, `presence/{micro,macro}_{precision,recall,f1}`, `{side,zone,severity}/accuracy`
    with `/n`, each with `/low` and `/high` (95 %), and `presence/NAME/{precision,recall,f1,gold,
    predicted}`. NaN where there is nothing to judge.

  Raises:
    ValueError: the ids differ, or an unknown name.
  """
  if missing := sorted(set(gold) ^ set(predicted)):
    where = "gold" if missing[0] in predicted else "the predictions"
    raise ValueError(f"{len(missing)} reports are only on one side, e.g. {missing[0]!r} is not in "
                     f"{where}; score lists of the same reports")
  if not gold:
    raise ValueError("no reports to score")
  listed = {f.name for lists in (predicted, gold) for fs in lists.values() for f in fs}
  names = sorted(listed) if names is None else list(names)
  if unknown := [name for name in names if name not in get_ontology().findings]:
    raise ValueError(f"names {unknown}; expected names of the ontology")
  ids = sorted(gold)
  counts = np.array([[_presence(predicted[i], gold[i], name) for name in names] for i in ids],
                    float).reshape(len(ids), len(names), 3)
  result: dict[str, float] = {"reports": len(ids)}
  bound = lambda key, statistic: result.update(_bounded(key, statistic, len(ids), resamples, seed))
  often = counts[:, :, [0, 2]].sum((0, 2)) >= MIN_GOLD_CASES
  for kind in ("precision", "recall", "f1"):
    bound(f"presence/micro_{kind}", lambda w, kind=kind: _ratio(w @ counts.sum(1), kind))
    bound(f"presence/macro_{kind}", lambda w, kind=kind: _macro(w, counts[:, often], kind))
  result["presence/macro_names"] = int(often.sum())
  for what, judge in (("side", _side), ("zone", _zone), ("severity", _severity)):
    verdicts = np.array([_verdicts(predicted[i], gold[i], names, judge) for i in ids], float)
    bound(f"{what}/accuracy", lambda w, v=verdicts: divide(w @ v[:, 0], w @ v[:, 1]))
    result[f"{what}/n"] = int(verdicts[:, 1].sum())
  for k, name in enumerate(names):
    for kind in ("precision", "recall", "f1"):
      result[f"presence/{name}/{kind}"] = float(_ratio(counts[:, k].sum(0)[None], kind)[0])
    result[f"presence/{name}/gold"] = int(counts[:, k, [0, 2]].sum())
    result[f"presence/{name}/predicted"] = int(counts[:, k, [0, 1]].sum())
  return result


def positive(findings: Sequence[Finding], name: str) -> list[Finding]:
  """The findings of one name that are present or uncertain."""
  return [f for f in findings if f.name == name and f.status != "absent"]


def _presence(predicted: Sequence[Finding], gold: Sequence[Finding], name: str) -> tuple:
  """Whether this is a true positive, a false positive, a false negative."""
  said, true = bool(positive(predicted, name)), bool(positive(gold, name))
  return said and true, said and not true, true and not said


def _ratio(sums: Array, kind: str) -> np.ndarray:
  """Precision, recall or F1 of `[..., 3]` sums of true positives, false positives, misses."""
  hits, false, missed = np.moveaxis(np.asarray(sums, float), -1, 0)
  return {"precision": lambda: divide(hits, hits + false),
          "recall": lambda: divide(hits, hits + missed),
          "f1": lambda: divide(2 * hits, 2 * hits + false + missed)}[kind]()


def _macro(weights: np.ndarray, counts: np.ndarray, kind: str) -> np.ndarray:
  """The mean over names `[R]`, of those that are defined in a resample."""
  each = _ratio(np.einsum("rn,nkc->rkc", weights, counts), kind)
  known = np.isfinite(each)
  return divide(np.where(known, each, 0.0).sum(1), known.sum(1).astype(float))


def _bounded(key: str, statistic, n: int, resamples: int, seed: int) -> dict[str, float]:
  """A value and its interval, flat."""
  found = interval(statistic, n, resamples=resamples, seed=seed)
  bounds = {f"{key}/low": found["low"], f"{key}/high": found["high"]} if resamples else {}
  return {key: found["value"], **bounds}


def _verdicts(predicted: Sequence[Finding], gold: Sequence[Finding], names: Sequence[str],
              judge) -> tuple[int, int]:
  """How many matched findings of one report are right, and how many were judged."""
  right = judged = 0
  for name in names:
    said, true = positive(predicted, name), positive(gold, name)
    verdict = judge(said, true) if said and true else None
    if verdict is not None:
      right, judged = right + verdict, judged + 1
  return right, judged


def _side(said: Sequence[Finding], true: Sequence[Finding]) -> bool | None:
  """Whether the united sides agree; None where the gold names none."""
  united = lambda findings: np.bitwise_or.reduce([side_mask(f.laterality) for f in findings])
  return bool(united(said) == united(true)) if united(true) else None


def _zone(said: Sequence[Finding], true: Sequence[Finding]) -> bool | None:
  """Whether the united zones agree; None where the gold names none."""
  united = lambda findings: np.bitwise_or.reduce([zone_mask(f.zones) for f in findings])
  return bool(united(said) == united(true)) if united(true) else None


def _severity(said: Sequence[Finding], true: Sequence[Finding]) -> bool | None:
  """Whether the degrees agree; None where the gold names none."""
  largest = lambda findings: max((f.severity for f in findings if f.severity is not None),
                                 default=None)
  if largest(true) is None:
    return None
  return largest(said) is not None and degree(largest(said)) == degree(largest(true))
