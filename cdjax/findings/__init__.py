"""Floor 1: findings as data and as text (ontology, parsing, prompts, arrays)."""

from cdjax.findings.arrays import (
  arrays_to_findings,
  findings_to_arrays,
  mask_side,
  mask_zones,
  side_mask,
  zone_mask,
)
from cdjax.findings.ontology import ancestors, canonical_name, get_ontology
from cdjax.findings.parse import parse_findings
from cdjax.findings.render import render_finding, render_findings
from cdjax.findings.types import Finding, edit_findings, finding_from_dict, finding_to_dict

__all__ = [
  "Finding",
  "ancestors",
  "arrays_to_findings",
  "canonical_name",
  "edit_findings",
  "finding_from_dict",
  "finding_to_dict",
  "findings_to_arrays",
  "get_ontology",
  "mask_side",
  "mask_zones",
  "parse_findings",
  "render_finding",
  "render_findings",
  "side_mask",
  "zone_mask",
]
