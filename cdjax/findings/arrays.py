"""Findings as arrays over a vocabulary, for models and losses, and back. NumPy."""

from collections.abc import Sequence

import numpy as np

from cdjax.core.types import ABSENT, PRESENT, SIDES, UNKNOWN, ZONES, FindingsArrays
from cdjax.findings.ontology import ancestors
from cdjax.findings.types import Finding

UNLISTED = {"absent": ABSENT, "unknown": UNKNOWN}

_STATUS = {"present": PRESENT, "absent": ABSENT, "uncertain": UNKNOWN}


def findings_to_arrays(lists: Sequence[Sequence[Finding]], vocabulary: Sequence[str], *,
                       unlisted: str = "absent") -> FindingsArrays:
  """Encodes the findings of B images.

  Several findings of one name (a small left and a large right effusion) become one: sides and
  zones united, the largest severity. "No left effusion" says nothing about the right side, so it
  counts as not listed. What is implied holds too: a present finding makes its unlisted parents
  present, an absent one its unlisted children absent.

  Args:
    lists: B lists of findings; an empty list is a healthy image.
    vocabulary: K canonical names.
    unlisted: "absent", or "unknown" where labels are incomplete; what is neither listed nor
      implied gets this status.

  Returns:
    `FindingsArrays` of `[B, K]`.

  Raises:
    ValueError: a finding outside the vocabulary, one both present and absent, or a bad `unlisted`.
  """
  if unlisted not in UNLISTED:
    raise ValueError(f"unlisted={unlisted!r}; expected one of {sorted(UNLISTED)}")
  column = {name: k for k, name in enumerate(vocabulary)}
  shape = (len(lists), len(vocabulary))
  status = np.full(shape, UNLISTED[unlisted], np.int8)
  severity = np.full(shape, -1.0, np.float32)
  side, zone = np.zeros(shape, np.int8), np.zeros(shape, np.int8)
  for b, findings in enumerate(lists):
    listed = _statuses(findings, vocabulary)
    for name, value in {**_implied(listed, vocabulary), **listed}.items():
      status[b, column[name]] = value
    for finding in findings:
      k = column[finding.name]
      if finding.status == "present":
        severity[b, k] = max(severity[b, k], -1 if finding.severity is None else finding.severity)
        side[b, k] |= side_mask(finding.laterality)
        zone[b, k] |= zone_mask(finding.zones)
  return FindingsArrays(status=status, severity=severity, side=side, zone=zone)


def _statuses(findings: Sequence[Finding], vocabulary: Sequence[str]) -> dict[str, int]:
  """Name to status code of what one image lists."""
  codes: dict[str, set[int]] = {}
  for finding in findings:
    if finding.name not in vocabulary:
      raise ValueError(f"finding {finding.name!r} is not in the vocabulary "
                       f"({', '.join(vocabulary)})")
    if finding.status != "absent" or not (finding.laterality or finding.zones):
      codes.setdefault(finding.name, set()).add(_STATUS[finding.status])
  for name, found in codes.items():
    if {PRESENT, ABSENT} <= found:
      raise ValueError(f"{name!r} is both present and absent")
  # A sure presence outweighs a doubt, a doubt outweighs an absence.
  return {name: next(code for code in (PRESENT, UNKNOWN, ABSENT) if code in found)
          for name, found in codes.items()}


def _implied(listed: dict[str, int], vocabulary: Sequence[str]) -> dict[str, int]:
  """Statuses that follow from `listed` through the parents."""
  implied = {}
  for name in vocabulary:
    above = ancestors(name)
    if listed.get(name) == PRESENT:
      implied.update((parent, PRESENT) for parent in above & set(vocabulary))
    elif any(listed.get(parent) == ABSENT for parent in above):
      implied.setdefault(name, ABSENT)
  return implied


def arrays_to_findings(arrays: FindingsArrays, vocabulary: Sequence[str], *,
                       unlisted: str = "absent") -> list[list[Finding]]:
  """Decodes arrays; with the same `unlisted`, `findings_to_arrays` gives them back.

  Args:
    arrays: `[B, K]`.
    vocabulary: K canonical names.
    unlisted: the status that is left out. "absent": lists what is present, and what is unknown as
      uncertain; "unknown": lists what is present and what is absent.

  Returns:
    B lists in the order of the vocabulary. Severity is the shortest number that is the same
    float32, so 0.35 stays 0.35.
  """
  if unlisted not in UNLISTED:
    raise ValueError(f"unlisted={unlisted!r}; expected one of {sorted(UNLISTED)}")
  name_of = {code: text for text, code in _STATUS.items()}
  result = []
  for status, severity, side, zone in zip(
      np.asarray(arrays.status), np.asarray(arrays.severity, np.float32),
      np.asarray(arrays.side), np.asarray(arrays.zone), strict=True):
    findings = []
    for k, name in enumerate(vocabulary):
      if status[k] == PRESENT:
        findings.append(Finding(
            name, severity=None if severity[k] < 0 else float(str(severity[k])),
            laterality=mask_side(int(side[k])), zones=mask_zones(int(zone[k]))))
      elif status[k] != UNLISTED[unlisted]:
        findings.append(Finding(name, status=name_of[int(status[k])]))
    result.append(findings)
  return result


def side_mask(laterality: str | None) -> int:
  """Bit mask over `SIDES`: None 0, left 1, right 2, bilateral 3."""
  return {None: 0, SIDES[0]: 1, SIDES[1]: 2, "bilateral": 3}[laterality]


def mask_side(mask: int) -> str | None:
  """The inverse of `side_mask`."""
  return (None, *SIDES, "bilateral")[mask]


def zone_mask(zones: Sequence[str]) -> int:
  """Bit mask over `ZONES`: upper 1, mid 2, lower 4."""
  return sum(1 << ZONES.index(zone) for zone in set(zones))


def mask_zones(mask: int) -> tuple[str, ...]:
  """The inverse of `zone_mask`."""
  return tuple(zone for i, zone in enumerate(ZONES) if mask >> i & 1)
