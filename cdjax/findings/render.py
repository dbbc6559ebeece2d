"""Findings to text: the prompt, and the inverse of `parse_findings`."""

import dataclasses
from collections.abc import Iterable

from cdjax.findings.ontology import get_ontology
from cdjax.findings.types import Finding

HEALTHY = "healthy"


def render_findings(findings: Iterable[Finding], *, digits: int | None = None) -> str:
  """The prompt, e.g. "large left lower pleural effusion; no cardiomegaly".

  Args:
    findings: any findings; `evidence` is not rendered.
    digits: of severities, for captions that are read and not parsed; None: all.

  Returns:
    Text from which `parse_findings` gives the same findings; "healthy" for none. A severity that
    no word stands for is written as a number ("severity 0.72").
  """
  if digits is not None:
    findings = [finding if finding.severity is None else dataclasses.replace(
        finding, severity=round(finding.severity, digits)) for finding in findings]
  return "; ".join(render_finding(finding) for finding in findings) or HEALTHY


def render_finding(finding: Finding) -> str:
  """One finding: status, change, severity, size, side, zones, name."""
  ontology = get_ontology()
  entry = ontology.findings[finding.name]
  words = []
  if finding.change == "resolved":  # Says that it is gone; "no resolved effusion" would confuse.
    words.append(finding.change)
  elif finding.status != "present":
    words.append(next(w for w, status in ontology.status.items() if status == finding.status))
  if finding.change not in (None, "resolved"):
    words.append(finding.change)
  if finding.severity is not None:
    named = {ontology.severity[word]: word for word in ontology.scales[entry.scale]}
    words.append(named.get(finding.severity, f"severity {finding.severity!r}"))
  if finding.size_mm is not None:
    words.append(f"{repr(finding.size_mm).removesuffix('.0')} mm")
  if finding.laterality:
    words.append(finding.laterality)
  if finding.zones:
    words.append(" and ".join([", ".join(finding.zones[:-1]), finding.zones[-1]]
                              if len(finding.zones) > 1 else finding.zones))
  return " ".join([*words, entry.label])
