"""Mentions of a whole report to one list of findings: one entry for a name and a side."""

import dataclasses
from collections.abc import Sequence

from cdjax.findings.extract.lexicon import Lexicon
from cdjax.findings.ontology import get_ontology
from cdjax.findings.types import Finding

_RANK = {"present": 2, "uncertain": 1, "absent": 0}


@dataclasses.dataclass(frozen=True)
class Statement:
  """What one mention states.

  Attributes:
    name: canonical name.
    status: "present", "uncertain", "absent" or "resolved".
    sides, zones, severity, size_mm, change: as in `Attributes`.
    evidence: characters [start, end) of the report.
  """

  name: str
  status: str
  sides: frozenset[str]
  zones: frozenset[str]
  severity: float | None
  size_mm: float | None
  change: str | None
  evidence: tuple[int, int]


def merge(statements: Sequence[Statement], lexicon: Lexicon) -> list[Finding]:
  """One finding for each name and side, in the order of the report.

  A report repeats itself: FINDINGS describe, IMPRESSION sums up. What is stated anywhere outweighs
  what is denied elsewhere ("no large effusion" beside "small effusion"); what is sure outweighs a
  doubt. A mention without side joins the first entry of its name; "bilateral" takes in both sides.
  The largest severity and size, all zones, and the first change are kept; the evidence is that of
  the mention that says most.
  """
  findings = []
  for name in dict.fromkeys(statement.name for statement in statements):
    mine = [s for s in statements if s.name == name]
    stated = [s for s in mine if s.status in ("present", "uncertain")]
    if stated:
      findings += [_finding(group, lexicon) for group in _by_side(stated)]
      findings += _other_side(mine, stated)
    else:
      findings.append(_absent(mine))
  return sorted(findings, key=lambda finding: finding.evidence)


def _other_side(mine: Sequence[Statement], stated: Sequence[Statement]) -> list[Finding]:
  """What is denied of the other side: "no left effusion, small right effusion"."""
  taken = frozenset().union(*(s.sides for s in stated))
  denied = [s for s in mine if s.status in ("absent", "resolved") and s.sides
            and not s.sides & taken]
  return [_absent(denied)] if denied and all(s.sides for s in stated) else []


def _by_side(stated: Sequence[Statement]) -> list[list[Statement]]:
  """Groups statements that speak of one entry."""
  groups: dict[frozenset[str], list[Statement]] = {}
  for statement in stated:
    groups.setdefault(statement.sides, []).append(statement)
  both = frozenset(("left", "right"))
  if both in groups:
    return [list(stated)]
  if frozenset() in groups and len(groups) > 1:
    without = groups.pop(frozenset())
    first = min(groups.values(), key=lambda group: stated.index(group[0]))
    first.extend(without)
  return list(groups.values())


def _finding(group: Sequence[Statement], lexicon: Lexicon) -> Finding:
  """One finding from what is said of it."""
  name = group[0].name
  entry = get_ontology().findings[name]
  status = max((s.status for s in group), key=_RANK.__getitem__)
  sides = frozenset().union(*(s.sides for s in group)) if entry.side else frozenset()
  zones = frozenset().union(*(s.zones for s in group)) if entry.zone else frozenset()
  size = max((s.size_mm for s in group if s.size_mm is not None), default=None)
  severity = max((s.severity for s in group if s.severity is not None), default=None)
  if severity is None and size is not None and name in lexicon.sizes_mm:
    severity = next(value for below, value in lexicon.sizes_mm[name] if size <= below)
  said = lambda s: (_RANK[s.status], (s.severity is not None) + bool(s.sides) + bool(s.zones)
                    + (s.size_mm is not None))
  return Finding(
      name, status=status, severity=severity, size_mm=size,
      laterality=None if not sides else "bilateral" if len(sides) == 2 else next(iter(sides)),
      zones=tuple(zones), change=next((s.change for s in group if s.change), None),
      evidence=max(group, key=said).evidence)


def _absent(mine: Sequence[Statement]) -> Finding:
  """A finding that is only denied; with a side where every denial names it."""
  entry = get_ontology().findings[mine[0].name]
  sides = {s.sides for s in mine}
  side = next(iter(sides)) if len(sides) == 1 and entry.side else frozenset()
  zones = {s.zones for s in mine}
  zone = next(iter(zones)) if len(zones) == 1 and entry.zone else frozenset()
  resolved = [s for s in mine if s.status == "resolved"]
  return Finding(
      mine[0].name, status="absent", zones=tuple(zone),
      laterality=None if not side else "bilateral" if len(side) == 2 else next(iter(side)),
      change="resolved" if resolved else None, evidence=(resolved or mine)[0].evidence)
