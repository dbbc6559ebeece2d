"""Findings refuse what cannot be, survive JSON, and are edited by name."""

import dataclasses
import json

import pytest

from cdjax.findings import Finding, edit_findings, finding_from_dict, finding_to_dict


@pytest.mark.parametrize(("values", "says"), [
  ({"name": "effusion"}, "pleural_effusion"),
  ({"name": "plural_effusion"}, "pleural effusion"),
  ({"name": "nodule", "status": "maybe"}, "uncertain"),
  ({"name": "nodule", "severity": 1.01}, r"\[0, 1\]"),
  ({"name": "nodule", "severity": float("nan")}, r"\[0, 1\]"),
  ({"name": "nodule", "laterality": "up"}, "bilateral"),
  ({"name": "nodule", "zones": ("apex",)}, "upper"),
  ({"name": "nodule", "zones": "upper"}, "tuple"),
  ({"name": "cardiomegaly", "laterality": "left"}, "no side"),
  ({"name": "cardiomegaly", "zones": ("lower",)}, "no zones"),
  ({"name": "nodule", "status": "absent", "severity": 0.3}, "absent finding has no severity"),
  ({"name": "nodule", "evidence": (5, 5)}, "start < end"),
  ({"name": "nodule", "change": "worse"}, "increased"),
  ({"name": "nodule", "change": "resolved"}, "goes with absent"),
  ({"name": "nodule", "status": "absent", "change": "new"}, "goes with absent"),
  ({"name": "nodule", "size_mm": 0.0}, r"\(0, 1000\]"),
  ({"name": "nodule", "size_mm": float("nan")}, r"\(0, 1000\]"),
  ({"name": "nodule", "status": "absent", "size_mm": 3.0}, "no size"),
])
def test_impossible_values_are_refused(values, says):
  with pytest.raises(ValueError, match=says):
    Finding(**values)


def test_zones_are_ordered_and_evidence_does_not_count():
  finding = Finding("nodule", zones=("lower", "upper", "lower"), evidence=(3, 9))
  assert finding.zones == ("upper", "lower")
  assert finding == dataclasses.replace(finding, evidence=None)
  assert len({finding, dataclasses.replace(finding, evidence=None)}) == 1


def test_json_round_trip_keeps_everything():
  for finding in (Finding("covid_19"),
                  Finding("pleural_effusion", "uncertain", 0.1, "left", ("mid", "lower"), (4, 20)),
                  Finding("mass", change="stable", size_mm=31.5),
                  Finding("mass", "absent", change="resolved")):
    again = finding_from_dict(json.loads(json.dumps(finding_to_dict(finding))))
    assert again == finding and again.evidence == finding.evidence
  with pytest.raises(ValueError, match="colour"):
    finding_from_dict({"name": "nodule", "colour": "grey"})


def test_edit_replaces_by_name_and_says_what_is_there():
  left, right = Finding("pleural_effusion", laterality="left"), Finding("nodule")
  new = Finding("pleural_effusion", laterality="right")
  assert edit_findings([left, right], add=[new]) == [right, new]
  assert edit_findings([left, right], remove=["Effusion"], add=[Finding("mass")]) == [
    right, Finding("mass")]
  with pytest.raises(ValueError, match=r"'mass'.*pleural_effusion, nodule"):
    edit_findings([left, right], remove=["mass"])
  with pytest.raises(ValueError, match="none"):
    edit_findings([Finding("mass", status="absent")], remove=["mass"])
