"""What a language model has to answer about a report: the schema, and the way to `Finding`s.

The schema is pydantic's, made from the ontology; its JSON form is what constrains a model's output.
It is exact on purpose: every key has to be there and none may be added, so that a model that knows
the schema cannot fall silent about a side or a doubt. A quote comes first in each finding: a model
that writes from left to right then has the words before its eyes when it says what they mean.
"""

import functools
import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from cdjax.core.types import ZONES
from cdjax.findings.extract.evidence import locate
from cdjax.findings.extract.lexicon import get_lexicon
from cdjax.findings.extract.merge import Statement, merge
from cdjax.findings.ontology import get_ontology
from cdjax.findings.types import LATERALITIES, STATUSES, Finding

# A model that never stops must stop somewhere; no report of a radiograph says so much.
MAX_FINDINGS = 40
MAX_QUOTE = 300


@functools.cache
def answer_model() -> type:
  """The pydantic model of an answer: `{"findings": [{"evidence", "name", …}]}`.

  Severity is a word of the ontology, a whole number in percent of its scale, or null; a size is in
  whole millimetres, so that a grammar can bound the digits of both.
  """
  import pydantic

  ontology = get_ontology()
  either = lambda values: Literal[tuple(values)]
  strict = pydantic.ConfigDict(extra="forbid", strict=True)
  finding = pydantic.create_model(
      "FindingAnswer", __config__=strict,
      evidence=Annotated[str, pydantic.Field(max_length=MAX_QUOTE)],
      name=either(ontology.findings),
      status=either(STATUSES),
      severity=(either(ontology.severity) | Annotated[int, pydantic.Field(ge=0, le=100)] | None),
      size_mm=Annotated[int, pydantic.Field(ge=1, le=1000)] | None,
      laterality=either(LATERALITIES) | None,
      zones=Annotated[list[either(ZONES)], pydantic.Field(max_length=len(ZONES))],
      change=either(ontology.change) | None)
  return pydantic.create_model(
      "Answer", __config__=strict,
      findings=Annotated[list[finding], pydantic.Field(max_length=MAX_FINDINGS)])


def answer_schema(*, max_findings: int = MAX_FINDINGS, max_quote: int = MAX_QUOTE
                  ) -> dict[str, Any]:
  """The JSON schema of an answer, without references or titles.

  Args:
    max_findings, max_quote: smaller bounds than the model's own, in findings and characters.
  """
  schema = answer_model().model_json_schema()
  findings = schema["properties"]["findings"]
  findings["items"] = schema.pop("$defs")["FindingAnswer"]
  findings["maxItems"] = max_findings
  findings["items"]["properties"]["evidence"]["maxLength"] = max_quote
  return _untitled(schema)


def schema_digest() -> str:
  """Changes with the schema."""
  return hashlib.sha256(json.dumps(answer_schema()).encode()).hexdigest()[:16]


def _untitled(schema: Any) -> Any:
  """Without pydantic's titles: they say nothing, and every token of a schema is paid for."""
  if isinstance(schema, dict):
    return {key: _untitled(value) for key, value in schema.items()
            if not (key == "title" and isinstance(value, str))}
  return [_untitled(value) for value in schema] if isinstance(schema, list) else schema


def read_answer(answer: str, report: str, sections: Sequence[tuple[int, int]]) -> list[Finding]:
  """Findings of a model's answer about a report.

  As with the rules there is one finding for each name and side; what a name cannot have (a side of
  the heart, a severity of what is absent) is left out.

  Args:
    answer: JSON of the schema.
    report: the whole text.
    sections: the spans [start, end) that were read and may be quoted.

  Returns:
    Findings with the characters of their evidence; `evidence` is None where the quote is not in the
    sections. Those have to be dropped: the model made them up.

  Raises:
    ValueError: the answer is not of the schema, or contradicts itself. The message quotes neither
      the report nor the answer, which may repeat it.
  """
  import pydantic

  try:
    items = answer_model().model_validate_json(answer).findings
  except pydantic.ValidationError as error:
    raise ValueError(_explain(error)) from None
  statements, unsupported = [], []
  for index, item in enumerate(items):
    if item.change == "resolved" and item.status != "absent":
      raise ValueError(f"the answer contradicts itself: findings[{index}] ({item.name}) is "
                       f"{item.status} and resolved")
    evidence = locate(item.evidence, report, sections)
    if evidence is None:
      unsupported.append(Finding(item.name, item.status))
    else:
      statements.append(_statement(item, evidence))
  return [*merge(statements, get_lexicon()), *unsupported]


def _statement(item: Any, evidence: tuple[int, int]) -> Statement:
  """One answered finding in the form that the rules have, too."""
  severity = item.severity
  if isinstance(severity, str):
    severity = get_ontology().severity[severity]
  elif severity is not None:
    severity = severity / 100
  sides = {None: (), "bilateral": ("left", "right")}.get(item.laterality, (item.laterality,))
  gone = item.change == "resolved"
  return Statement(
      item.name, "resolved" if gone else item.status, frozenset(sides), frozenset(item.zones),
      severity, None if item.size_mm is None else float(item.size_mm),
      None if gone else item.change, evidence)


def _explain(error: Any) -> str:
  """A validation error in words of the schema only: pydantic's own message shows the input."""
  first = error.errors(include_url=False, include_input=False, include_context=False)[0]
  if first["type"] == "json_invalid":
    return "the answer is not JSON"
  known = {"findings", *answer_model().model_fields["findings"].annotation.__args__[0].model_fields}
  place = ""
  for part in first["loc"]:  # A key that the model added may be a piece of the report.
    if isinstance(part, int):
      place += f"[{part}]"
    elif part in known:
      place += f".{part}" if place else part
  more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
  return f"the answer is not of the schema: {place or 'it'}: {first['type']}{more}"
