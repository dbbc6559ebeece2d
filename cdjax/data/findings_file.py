"""`findings.jsonl`: one line a report, `{"id", "findings": [{"name", "status", …}], …}`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cdjax.findings import Finding, finding_from_dict


def read_findings_file(path: str | Path) -> dict[str, list[Finding]]:
  """Report id to findings, in the order of the file.

  Raises:
    ValueError: a line is not such a record, or an id occurs twice; names the file, the line and
      the key.
    FileNotFoundError: no such file.
  """
  path = Path(path)
  found: dict[str, list[Finding]] = {}
  with path.open(encoding="utf-8") as file:
    for number, line in enumerate(file, start=1):
      if not line.strip():
        continue
      try:
        record = _read_record(line)
      except ValueError as error:
        raise ValueError(f"{path}, line {number}: {error}") from None
      if record["id"] in found:
        raise ValueError(f"{path}, line {number}: id {record['id']!r} occurs a second time")
      found[record["id"]] = record["findings"]
  return found


def _read_record(line: str) -> dict[str, Any]:
  """One line, with `Finding`s.

  Raises:
    ValueError: names the key.
  """
  try:
    record = json.loads(line)
  except json.JSONDecodeError as error:
    raise ValueError(f"not JSON ({error.msg} at character {error.pos + 1})") from None
  except RecursionError:
    raise ValueError("not JSON that anybody writes: nested too deeply") from None
  if not isinstance(record, dict):
    raise ValueError(f"{type(record).__name__}; expected an object with 'id' and 'findings'")
  for key, kind in (("id", str), ("findings", list)):
    if not isinstance(record.get(key), kind):
      raise ValueError(f"key {key!r} is {type(record.get(key)).__name__}; expected "
                       f"{'text' if kind is str else 'a list of objects'}")
  findings = []
  for index, values in enumerate(record["findings"]):
    if not isinstance(values, dict):
      raise ValueError(f"findings[{index}] is {type(values).__name__}; expected an object with "
                       "'name'")
    try:
      findings.append(finding_from_dict(values))
    except (ValueError, TypeError) as error:
      raise ValueError(f"findings[{index}]: {error}") from None
  return {**record, "findings": findings}


def common_reports(first: Mapping[str, Sequence], second: Mapping[str, Sequence], *,
                   names: tuple[str, str]) -> set[str]:
  """The ids that two lists share.

  Raises:
    ValueError: none; `names` says what the two are called.
  """
  common = first.keys() & second.keys()
  if not common:
    say = lambda found, name: f"{len(found)} in {name}" + (f", e.g. {next(iter(found))!r}"
                                                           if found else "")
    raise ValueError(f"no report is in both files: {say(first, names[0])}; "
                     f"{say(second, names[1])}")
  return common
