"""Text to findings and back: exact round trips, one meaning or an error."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdjax.core.types import ZONES
from cdjax.findings import Finding, get_ontology, parse_findings, render_findings

_ENTRIES = list(get_ontology().findings.values())
_WORD_VALUES = sorted(set(get_ontology().severity.values()))


@st.composite
def some_finding(draw):
  """Any valid finding."""
  entry = draw(st.sampled_from(_ENTRIES))
  status = draw(st.sampled_from(["present", "absent", "uncertain"]))
  severity = st.one_of(st.none(), st.sampled_from(_WORD_VALUES), st.floats(0, 1))
  sides = [None, "left", "right", "bilateral"] if entry.side else [None]
  zones = st.sets(st.sampled_from(ZONES)) if entry.zone else st.just(())
  absent = status == "absent"
  changes = [None, "resolved"] if absent else [None, "new", "increased", "decreased", "stable"]
  size = st.one_of(st.none(), st.sampled_from([3.0, 12.0, 7.5]),
                   st.floats(0, 1000, exclude_min=True))
  return Finding(entry.name, status, None if absent else draw(severity),
                 draw(st.sampled_from(sides)), tuple(draw(zones)),
                 change=draw(st.sampled_from(changes)), size_mm=None if absent else draw(size))


@settings(max_examples=300, deadline=None)
@given(st.lists(some_finding(), max_size=5, unique=True))
def test_parse_inverts_render(findings):
  assert parse_findings(render_findings(findings)) == findings


def test_every_name_side_zone_and_word_round_trips():
  for entry in _ENTRIES:
    for status in ("present", "absent", "uncertain"):
      for severity in [None] if status == "absent" else [None, *_WORD_VALUES]:
        for side in [None, "left", "right", "bilateral"] if entry.side else [None]:
          for bits in range(8) if entry.zone else [0]:
            zones = tuple(z for i, z in enumerate(ZONES) if bits >> i & 1)
            finding = Finding(entry.name, status, severity, side, zones)
            assert parse_findings(render_findings([finding])) == [finding]


def test_every_change_round_trips():
  for entry in _ENTRIES:
    for status in ("present", "absent", "uncertain"):
      for change in get_ontology().change:
        if (change == "resolved") == (status == "absent"):
          finding = Finding(entry.name, status, change=change)
          assert parse_findings(render_findings([finding])) == [finding]


def test_prompt_reads_like_language():
  prompt = render_findings([
    Finding("pleural_effusion", severity=0.9, laterality="left", zones=("lower",)),
    Finding("cardiomegaly", severity=0.9), Finding("nodule", severity=0.72),
    Finding("consolidation", "uncertain", zones=ZONES), Finding("covid_19", "absent"),
    Finding("mass", laterality="left", change="increased", size_mm=32)])
  assert prompt == ("large left lower pleural effusion; severe cardiomegaly; "
                    "severity 0.72 nodule; possible upper, mid and lower consolidation; "
                    "no COVID-19; increased 32 mm left mass")


def test_captions_round_severities():
  found = [Finding("nodule", severity=0.7234567), Finding("mass", severity=0.351),
           Finding("fracture")]
  assert render_findings(found, digits=2) == (
      f"severity 0.72 nodule; {render_findings([Finding('mass', severity=0.35)])}; "
      f"{render_findings([Finding('fracture')])}")
  assert parse_findings(render_findings(found)) == found


_EFFUSION = Finding("pleural_effusion", severity=0.9, laterality="left", zones=("lower",))


@pytest.mark.parametrize(("text", "expected"), [
  ("large left lower pleural effusion", [_EFFUSION]),
  ("LLL lower large Effusion", [_EFFUSION]),
  ("left-sided large pleural_effusion at the base", [_EFFUSION]),
  ("effusion, left, lower, severity 0.90", [_EFFUSION]),
  ("left and right mass", [Finding("mass", laterality="bilateral")]),
  ("bibasilar atelectasis", [Finding("atelectasis", laterality="bilateral", zones=("lower",))]),
  ("left mid and lower consolidation",
   [Finding("consolidation", laterality="left", zones=("mid", "lower"))]),
  ("right middle lobe mass", [Finding("mass", laterality="right", zones=("mid",))]),
  ("apical pneumothorax", [Finding("pneumothorax", zones=("upper",))]),
  ("Pneumonia|COVID-19|Effusion",
   [Finding("pneumonia"), Finding("covid_19"), Finding("pleural_effusion")]),
  ("mass, nodule", [Finding("mass"), Finding("nodule")]),
  ("mass, no nodule, possible edema",
   [Finding("mass"), Finding("nodule", "absent"), Finding("pulmonary_edema", "uncertain")]),
  ("no nodule; mass. without edema.\nfracture;;",
   [Finding("nodule", "absent"), Finding("mass"), Finding("pulmonary_edema", "absent"),
    Finding("fracture")]),
  ("mass; mass", [Finding("mass")]),
  ("new 12 mm right upper nodule",
   [Finding("nodule", laterality="right", zones=("upper",), change="new", size_mm=12)]),
  ("Nodule measuring 1.2cm, left", [Finding("nodule", laterality="left", size_mm=12)]),
  ("resolved effusion", [Finding("pleural_effusion", "absent", change="resolved")]),
  ("borderline cardiomegaly", [Finding("cardiomegaly", severity=0.1)]),
  ("Edema|Fibrosis", [Finding("pulmonary_edema"), Finding("pulmonary_fibrosis")]),
  ("Infiltration; infiltrate", [Finding("infiltration"), Finding("lung_opacity")]),
  ("healthy", []),
  ("No Finding", []),
  ("normal; no mass", [Finding("mass", "absent")]),
  ("No Finding|Support Devices", [Finding("support_devices")]),
])
def test_text_means(text, expected):
  assert parse_findings(text) == expected


@pytest.mark.parametrize(("text", "says"), [
  ("big effusion", r"unknown word 'big'.*known findings: .*pleural effusion.*massive"),
  ("left efusion", r"'efusion' \(nearest: effusion"),
  ("pleural fluff", r"'pleural' \(nearest: pleural effusion.*'fluff'"),
  ("large left", "names no finding"),
  ("mass and nodule", r"names 2 findings \(mass, nodule\)"),
  ("no mass, nodule", "'no' holds after the comma"),
  ("possible mass, nodule", "'possible' holds after the comma"),
  ("mild severe mass", "two values of severity: 0.35 and 0.9"),
  ("no possible mass", "two values of status"),
  ("left cardiomegaly", "no side"),
  ("no large mass", "no severity"),
  ("severity 1.5 mass", r"\[0, 1\]"),
  ("severity -0.5 mass", r"\[0, 1\]"),
  ("severity high mass", "number"),
  ("mass severity", "number"),
  ("mass?", r"'\?'"),
  ("new stable mass", "two values of change: new and stable"),
  ("possible resolved mass", "'resolved' goes with absent"),
  ("no new mass", "change='new' of a finding that is absent"),
  ("no 3 mm nodule", "an absent finding has no size"),
  ("3 mm 2 cm nodule", r"two values of size: 3.0 and 20.0"),
  ("5000 mm nodule", r"\(0, 1000\]"),
  ("some mm nodule", "'some' before 'mm' is no number"),
  ("healthy; mass", "healthy, yet with mass"),
  ("", "write 'healthy'"),
  (" ; ", "write 'healthy'"),
])
def test_text_that_is_refused(text, says):
  with pytest.raises(ValueError, match=f"(?s){says}"):
    parse_findings(text)


@pytest.mark.parametrize(("text", "said"), [
  ("right hilar mass", "right mid mass"),
  ("right hilum nodule", "right mid nodule"),
  ("right hilum", "right enlarged hilum"),
  ("left upper lobe collapse", "left upper atelectasis"),
  ("bony fracture", "fracture"),
  ("left pacemaker; ETT; right chest tube", "left support devices; support devices; "
                                            "right support devices"),
  ("mediastinal adenopathy", "adenopathy"),
  ("white-out of the right lung", "right lung opacity"),
])
def test_words_of_reports_are_read_in_prompts(text, said):
  assert render_findings(parse_findings(text)) == said
