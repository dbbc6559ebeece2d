"""`Finding`: what is seen, how sure, severe and large, where, since when; JSON; edits of a list."""

import dataclasses
import math
from collections.abc import Iterable, Sequence

from cdjax.core.types import SIDES, ZONES
from cdjax.findings.ontology import canonical_name, get_ontology, suggestion

STATUSES = ("present", "absent", "uncertain")
LATERALITIES = (*SIDES, "bilateral")
MAX_SIZE_MM = 1000.0


@dataclasses.dataclass(frozen=True)
class Finding:
  """One finding of one image.

  Attributes:
    name: canonical name of the ontology, e.g. "pleural_effusion".
    status: "present", "absent" or "uncertain".
    severity: in [0, 1], or None where not stated; an absent finding has none.
    laterality: "left", "right", "bilateral", or None where not stated.
    zones: of ("upper", "mid", "lower"), kept in this order without repetition; () not stated.
    evidence: the characters [start, end) of the report that say so. Two findings that differ in
      nothing else are equal.
    change: since an earlier image: "new", "increased", "decreased", "stable"; "resolved" (then the
      finding is absent); or None where not stated.
    size_mm: the largest stated diameter or width, in (0, 1000] mm, or None; an absent finding has
      none.

  Raises:
    ValueError: a value is not possible, or this finding has no side or zones.
  """

  name: str
  status: str = "present"
  severity: float | None = None
  laterality: str | None = None
  zones: tuple[str, ...] = ()
  evidence: tuple[int, int] | None = dataclasses.field(default=None, compare=False)
  change: str | None = None
  size_mm: float | None = None

  def __post_init__(self):
    ontology = get_ontology()
    findings = ontology.findings
    if self.name not in findings:
      raise ValueError(f"Finding.name={self.name!r} is not canonical"
                       f"{suggestion(str(self.name).replace('_', ' '))}; "
                       f"expected one of {', '.join(findings)}")
    entry = findings[self.name]
    if self.status not in STATUSES:
      raise ValueError(f"{self.name}: status={self.status!r}; expected one of {STATUSES}")
    if self.laterality not in (None, *LATERALITIES):
      raise ValueError(f"{self.name}: laterality={self.laterality!r}; expected one of "
                       f"{LATERALITIES} or None")
    if isinstance(self.zones, str) or not set(self.zones) <= set(ZONES):
      raise ValueError(f"{self.name}: zones={self.zones!r}; expected a tuple of {ZONES}")
    if self.laterality and not entry.side:
      raise ValueError(f"{self.name} has no side, but {self.laterality!r} is asked")
    if self.zones and not entry.zone:
      raise ValueError(f"{self.name} has no zones, but {tuple(self.zones)} is asked")
    object.__setattr__(self, "zones", tuple(zone for zone in ZONES if zone in self.zones))
    if self.severity is not None:
      if self.status == "absent":
        raise ValueError(f"{self.name}: an absent finding has no severity, but {self.severity} "
                         "is given")
      if not (math.isfinite(self.severity) and 0 <= self.severity <= 1):
        raise ValueError(f"{self.name}: severity={self.severity}; expected a number in [0, 1]")
      object.__setattr__(self, "severity", float(self.severity))
    if self.change not in (None, *ontology.change):
      raise ValueError(f"{self.name}: change={self.change!r}; expected one of {ontology.change} "
                       "or None")
    if self.change and (self.change == "resolved") != (self.status == "absent"):
      raise ValueError(f"{self.name}: change={self.change!r} of a finding that is {self.status}; "
                       "'resolved' goes with absent, the others with present and uncertain")
    if self.size_mm is not None:
      if self.status == "absent":
        raise ValueError(f"{self.name}: an absent finding has no size, but {self.size_mm} mm is "
                         "given")
      if not 0 < self.size_mm <= MAX_SIZE_MM:
        raise ValueError(f"{self.name}: size_mm={self.size_mm}; expected a number in "
                         f"(0, {MAX_SIZE_MM:.0f}]")
      object.__setattr__(self, "size_mm", float(self.size_mm))
    if self.evidence is not None:
      start, end = self.evidence
      if not 0 <= start < end:
        raise ValueError(f"{self.name}: evidence={self.evidence}; expected 0 <= start < end")
      object.__setattr__(self, "evidence", (int(start), int(end)))


def finding_to_dict(finding: Finding) -> dict:
  """The finding as plain JSON values; `finding_from_dict` is its inverse.

  Returns:
    name, status, severity, laterality, zones, change, evidence; and size_mm where it is stated.
  """
  values = {"name": finding.name, "status": finding.status, "severity": finding.severity,
            "laterality": finding.laterality, "zones": list(finding.zones),
            "change": finding.change,
            "evidence": None if finding.evidence is None else list(finding.evidence)}
  return values if finding.size_mm is None else {**values, "size_mm": finding.size_mm}


def finding_from_dict(values: dict) -> Finding:
  """Builds a finding from `finding_to_dict`'s form; keys other than "name" may be missing.

  Raises:
    ValueError: an unknown or missing key, or an impossible value.
  """
  known = {field.name for field in dataclasses.fields(Finding)}
  if "name" not in values or not set(values) <= known:
    raise ValueError(f"a finding with the keys {sorted(values)}; expected 'name' and any of "
                     f"{sorted(known - {'name'})}")
  values = dict(values)
  values["zones"] = tuple(values.get("zones") or ())
  return Finding(**values)


def edit_findings(findings: Sequence[Finding], *, add: Iterable[Finding] = (),
                  remove: Iterable[str] = ()) -> list[Finding]:
  """Removes, then adds; the rest stays in its order.

  Args:
    findings: the factual findings.
    add: each replaces every finding of the same name, whatever its side.
    remove: names in any known spelling; what is removed is no longer listed.

  Raises:
    ValueError: a name to remove is unknown or not there; lists what is there.
  """
  there = [finding.name for finding in findings if finding.status != "absent"]
  removed = {canonical_name(spelling) for spelling in remove}
  for name in sorted(removed):
    if name not in there:
      raise ValueError(f"cannot remove {name!r}: it is not among the findings "
                       f"({', '.join(there) or 'none'})")
  add = list(add)
  gone = removed | {finding.name for finding in add}
  return [finding for finding in findings if finding.name not in gone] + add
