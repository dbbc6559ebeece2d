"""How far two extractions of the same reports agree; neither is the truth."""

from collections.abc import Sequence

import numpy as np

from cdjax.evaluate.bootstrap import divide
from cdjax.evaluate.report_findings import Lists, degree, positive
from cdjax.findings import side_mask, zone_mask


def agreement(first: Lists, second: Lists) -> dict[str, float]:
  """Agreement about presence, status, side, zone and severity.

  A report is positive for a name that it lists as present or uncertain.

  Args:
    first, second: report id to findings, for the same ids.

  Returns:
    Flat: `reports`; over all names and for each `presence/NAME/…`: `kappa` (Cohen 1960), `f1`
    (symmetric), `both`, `first`, `second` (how many are positive); `status/agreement` where both
    list the name, as present, uncertain or absent, of several entries the first of these;
    `side/agreement`, `zone/agreement` and `severity/agreement` where both are positive and both
    state it; each with `/n`. NaN where there is nothing to compare.
  """
  ids = sorted(first)
  names = sorted({f.name for lists in (first, second) for fs in lists.values() for f in fs})
  said = np.array([[[bool(positive(lists[i], name)) for name in names] for i in ids]
                   for lists in (first, second)], bool).reshape(2, len(ids), len(names))
  result: dict[str, float] = {"reports": len(ids), **_presence("presence", said)}
  result.update(_equal("status", [(_status(first[i], n), _status(second[i], n))
                                  for i in ids for n in names], missing=None))
  pairs = [(positive(first[i], n), positive(second[i], n)) for i in ids for n in names]
  pairs = [(a, b) for a, b in pairs if a and b]
  sides = lambda findings: np.bitwise_or.reduce([side_mask(f.laterality) for f in findings])
  result.update(_equal("side", [(sides(a), sides(b)) for a, b in pairs], missing=0))
  zones = lambda findings: np.bitwise_or.reduce([zone_mask(f.zones) for f in findings])
  result.update(_equal("zone", [(zones(a), zones(b)) for a, b in pairs], missing=0))
  result.update(_equal("severity", [(_degree(a), _degree(b)) for a, b in pairs], missing=None))
  for k, name in enumerate(names):
    result.update(_presence(f"presence/{name}", said[:, :, k:k + 1]))
  return result


def _presence(key: str, said: np.ndarray) -> dict[str, float]:
  """Agreement of `[2, reports, names]` booleans, pooled."""
  first, second = said.reshape(2, -1)
  both = float((first & second).sum())
  observed = np.mean(first == second) if first.size else np.nan
  chance = first.mean() * second.mean() + (1 - first.mean()) * (1 - second.mean()) \
      if first.size else np.nan
  ratio = lambda a, b: float(divide(np.array(a, float), np.array(b, float)))
  return {f"{key}/kappa": ratio(observed - chance, 1 - chance) if first.size else np.nan,
          f"{key}/f1": ratio(2 * both, first.sum() + second.sum()),
          f"{key}/both": int(both), f"{key}/first": int(first.sum()),
          f"{key}/second": int(second.sum())}


def _equal(key: str, pairs: Sequence[tuple], *, missing) -> dict[str, float]:
  """How many pairs are equal of those that are both stated."""
  stated = [(a, b) for a, b in pairs if a != missing and b != missing]
  share = sum(a == b for a, b in stated) / len(stated) if stated else float("nan")
  return {f"{key}/agreement": share, f"{key}/n": len(stated)}


def _status(findings: Sequence, name: str) -> str | None:
  """The strongest status of a name; None where it is not listed."""
  said = {f.status for f in findings if f.name == name}
  return next((status for status in ("present", "uncertain", "absent") if status in said), None)


def _degree(findings: Sequence) -> str | None:
  """The degree of the largest severity."""
  values = [f.severity for f in findings if f.severity is not None]
  return degree(max(values)) if values else None
