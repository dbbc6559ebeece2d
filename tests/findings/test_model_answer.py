"""A language model's answer: its schema, where its quotes stand, and what becomes of it."""

import copy
import json
import traceback

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdjax.findings import Finding, get_ontology
from cdjax.findings.extract.evidence import locate
from cdjax.findings.extract.prompt import make_messages, read_and_show

pytest.importorskip("pydantic", reason="needs the extra `llm`: pip install 'cdjax[llm]'")

from cdjax.findings.extract.answer import answer_model, answer_schema, read_answer

SECRET = "Ottilie"  # Stands for everything that must not leave a report.
REPORT = f"{SECRET} has a small left effusion, larger. No mass."
ITEM = {"evidence": "small left effusion", "name": "pleural_effusion", "status": "present",
        "severity": "small", "size_mm": None, "laterality": "left", "zones": [],
        "change": "increased"}


def _read(*items, report=REPORT):
  return read_answer(json.dumps({"findings": items}), report, [(0, len(report))])


def test_an_answer_becomes_findings_with_the_place_of_their_evidence():
  mass = {**ITEM, "evidence": "No mass", "name": "mass", "status": "absent", "severity": None,
          "laterality": None, "change": None}
  effusion, absent = _read(ITEM, mass)
  assert effusion == Finding("pleural_effusion", severity=0.35, laterality="left",
                             change="increased")
  assert REPORT[slice(*effusion.evidence)] == "small left effusion"
  assert absent == Finding("mass", "absent") and REPORT[slice(*absent.evidence)] == "No mass"


@pytest.mark.parametrize(("change", "finding"), [
  ({"severity": 75}, Finding("pleural_effusion", severity=0.75, laterality="left",
                             change="increased")),
  ({"name": "nodule", "severity": None, "size_mm": 12},
   Finding("nodule", severity=0.6, size_mm=12, laterality="left", change="increased")),
  ({"name": "cardiomegaly", "zones": ["lower"]},  # A heart has neither side nor zone.
   Finding("cardiomegaly", severity=0.35, change="increased")),
  ({"status": "absent"}, Finding("pleural_effusion", "absent", laterality="left")),
  ({"status": "absent", "change": "resolved"},
   Finding("pleural_effusion", "absent", laterality="left", change="resolved")),
])
def test_what_a_finding_cannot_have_is_left_out(change, finding):
  assert _read({**ITEM, **change}) == [finding]


def test_a_finding_that_is_not_in_the_report_has_no_evidence():
  invented = {**ITEM, "evidence": "large right pneumothorax", "name": "pneumothorax"}
  effusion, unsupported = _read(invented, ITEM)
  assert effusion.evidence and unsupported.name == "pneumothorax" and not unsupported.evidence


@pytest.mark.parametrize(("quote", "place"), [
  ("small effusion", "small\n effusion"),
  ("Small  Effusion", "small\n effusion"),
  ("no mass (left)", "No mass (left)"),
  ("mall effusion", None),  # Not from the middle of a word.
  ("small left effusion", None),
  ("mass.*left", None),
  ("pneumonia", None),  # Only in the indication, which was not read.
  ("is", None), ("", None), (" \n", None), ("...", None),
])
def test_quotes_are_found_up_to_case_and_spaces(quote, place):
  report = "INDICATION: pneumonia. FINDINGS: There is a small\n effusion. No mass (left)."
  sections, shown = read_and_show(report)
  found = locate(quote, report, sections)
  assert (found and report[slice(*found)]) == place
  assert "pneumonia" not in shown and "small\n effusion" in shown


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80), st.data())
def test_every_piece_between_word_ends_is_found(report, data):
  start = data.draw(st.integers(0, len(report)))
  end = data.draw(st.integers(start, len(report)))
  found = locate(report[start:end], report, [(0, len(report))])
  if found:
    plain = lambda text: " ".join(text.split()).casefold()
    assert plain(report[slice(*found)]) == plain(report[start:end])


def test_a_report_without_findings_shows_nothing():
  assert read_and_show(f"HISTORY: {SECRET} coughs.") == ([], "")


BAD = {
  "no JSON": f"Sure! {SECRET} has",
  "cut off": '{"findings": [{"evidence": "' + SECRET,
  "another key": json.dumps({"findings": [{**ITEM, SECRET: 1}]}),
  "another key above": json.dumps({"findings": [], SECRET: SECRET}),
  "a key too few": json.dumps({"findings": [{k: v for k, v in ITEM.items() if k != "zones"}]}),
  "another name": json.dumps({"findings": [{**ITEM, "name": SECRET}]}),
  "another status": json.dumps({"findings": [{**ITEM, "status": SECRET}]}),
  "a word of no degree": json.dumps({"findings": [{**ITEM, "severity": SECRET}]}),
  "more than all": json.dumps({"findings": [{**ITEM, "severity": 101}]}),
  "a number as text": json.dumps({"findings": [{**ITEM, "size_mm": "12"}]}),
  "a long quote": json.dumps({"findings": [{**ITEM, "evidence": SECRET * 100}]}),
  "too many": json.dumps({"findings": [ITEM] * 41}),
  "gone and there": json.dumps({"findings": [{**ITEM, "change": "resolved"}]}),
  "a list": json.dumps([ITEM]),
}


@pytest.mark.parametrize("answer", BAD.values(), ids=BAD)
def test_a_bad_answer_is_an_error_that_quotes_nothing(answer):
  with pytest.raises(ValueError, match="the answer") as error:
    read_answer(answer, REPORT, [(0, len(REPORT))])
  assert SECRET not in str(error.value) and "\n" not in str(error.value)
  assert SECRET not in "".join(traceback.format_exception(error.value)), "--debug prints it"


def test_the_error_names_the_place():
  with pytest.raises(ValueError, match=r"findings\[1\]\.status: literal_error \(and 1 more\)"):
    _read(ITEM, {**ITEM, "status": "gone", "size_mm": 0})


def test_the_schema_is_closed_and_knows_the_ontology():
  schema = answer_schema()
  item = schema["properties"]["findings"]["items"]
  for part in (schema, item):
    assert part["additionalProperties"] is False
    assert part["required"] == list(part["properties"])
  assert item["properties"]["name"]["enum"] == list(get_ontology().findings)
  assert next(iter(item["properties"])) == "evidence"
  text = json.dumps(schema)
  assert "$ref" not in text and '"title"' not in text
  assert answer_schema(max_findings=2, max_quote=9)["properties"]["findings"]["maxItems"] == 2
  assert answer_schema() == schema, "a smaller bound is not remembered"


def test_the_worked_example_is_of_the_schema():
  messages = make_messages("No mass.")
  assert [m["role"] for m in messages] == ["system", "user", "assistant", "user"]
  shown, answer = messages[1]["content"], messages[2]["content"]
  found = read_answer(answer, shown, [(0, len(shown))])
  assert len(found) == 3 and all(f.evidence for f in found)
  assert messages[-1]["content"] == "No mass."
  assert all(name in messages[0]["content"] for name in get_ontology().findings)


def test_schema_and_model_agree_on_what_is_required():
  for key in ITEM:
    less = copy.copy(ITEM)
    del less[key]
    with pytest.raises(ValueError, match=f"{key}: missing"):
      _read(less)
  assert set(answer_model().model_fields) == {"findings"}
