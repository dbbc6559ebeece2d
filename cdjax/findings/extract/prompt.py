"""What a language model is told, and which part of a report it is shown."""

import hashlib
import json
from collections.abc import Sequence

from cdjax.findings.extract.lexicon import get_lexicon
from cdjax.findings.extract.sections import read_sections
from cdjax.findings.ontology import get_ontology

_TASK = """\
You turn the report of a chest radiograph into a list of findings, as JSON and nothing else.

Write one entry for every finding that the report states, doubts or expressly denies, and none for \
what it does not speak of. An entry has these keys:
evidence: the words of the report that say so, copied letter by letter; short, one place.
name: one of the names below; take the most specific one that the words support.
status: "present"; "absent" where the report denies it; "uncertain" where it only may be so \
("possible", "cannot be excluded", "versus").
severity: the degree in the report's words, one of {severities}; a whole number from 0 to 100 \
where the report lies between two of them; null where it gives none.
size_mm: the largest stated diameter in whole millimetres, or null.
laterality: "left", "right", "bilateral", or null where no side is named.
zones: any of {zones}, or [] where none is named; a base is lower, an apex is upper.
change: since an earlier film, one of {changes}; "resolved" goes with the status absent; null \
where nothing is compared.

"No A, B or C" denies all three. What the patient had, is suspected of or is examined for is no \
finding. A normal heart is an absent cardiomegaly.

Names: {names}."""

_EXAMPLE_REPORT = ("Slightly larger left pleural effusion, now moderate. No pneumothorax. "
                   "A right apical density may be a 12 mm nodule.")
_EXAMPLE = (
    ("Slightly larger left pleural effusion, now moderate", "pleural_effusion", "present",
     "moderate", None, "left", (), "increased"),
    ("No pneumothorax", "pneumothorax", "absent", None, None, None, (), None),
    ("right apical density may be a 12 mm nodule", "nodule", "uncertain", None, 12, "right",
     ("upper",), None))
_KEYS = ("evidence", "name", "status", "severity", "size_mm", "laterality", "zones", "change")


def make_messages(shown: str) -> list[dict[str, str]]:
  """The conversation in which a model is asked about one report: task, worked example, report.

  Args:
    shown: what of the report the model may see, from `read_and_show`.

  Returns:
    Messages with "role" and "content".
  """
  quoted = lambda words: ", ".join(json.dumps(word) for word in words)
  ontology = get_ontology()
  task = _TASK.format(
      severities=quoted(ontology.severity), zones=quoted(("upper", "mid", "lower")),
      changes=quoted(ontology.change), names=", ".join(ontology.findings))
  example = {"findings": [dict(zip(_KEYS, row, strict=True)) for row in _EXAMPLE]}
  return [{"role": "system", "content": task},
          {"role": "user", "content": _EXAMPLE_REPORT},
          {"role": "assistant", "content": json.dumps(example)},
          {"role": "user", "content": shown}]


def prompt_digest() -> str:
  """Changes with what a model is told."""
  return hashlib.sha256(json.dumps(make_messages("")).encode()).hexdigest()[:16]


def read_and_show(report: str) -> tuple[list[tuple[int, int]], str]:
  """The sections that state findings: nothing else of a report is shown to a model.

  An indication or a history is no finding, and what is not shown cannot leave the machine.

  Returns:
    The spans [start, end) of the sections, and their text; none and "" where there are none.
  """
  sections = read_sections(report, get_lexicon().sections)
  return sections, _join(report, sections)


def _join(report: str, sections: Sequence[tuple[int, int]]) -> str:
  """The sections' text, an empty line between two."""
  return "\n\n".join(report[slice(*section)].strip() for section in sections)
