"""Reports from a table, a folder of text files or a folder of Open-i XML; bad ones are quarantined.

No message here quotes a report.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cdjax.data.openi import read_case
from cdjax.data.quarantine import Problem, Unusable
from cdjax.data.tables import ManifestError, read_csv, read_jsonl, shown_columns

FIELDS = ("id", "report")
MAX_CHARACTERS = 200_000  # Nobody dictates this much; a file that is no report does.
_TABLES = {".csv": read_csv, ".jsonl": read_jsonl}


@dataclasses.dataclass(frozen=True)
class Report:
  """One report.

  Attributes:
    id: unique in its source.
    text: in free text.
    row: its number in the table or among the folder's files, see `Problem.row`.
  """

  id: str
  text: str
  row: int = 0


def read_reports(path: str | Path, columns: Mapping[str, str] | None = None
                 ) -> tuple[list[Report], list[Problem]]:
  """Reads reports; of equal ids the first is kept.

  Args:
    path: a `.csv` or `.jsonl` file with the columns `id` and `report`, or a folder with one
      report a file: `.txt` (the id is the file's name) or Open-i `.xml` (the id is the case's).
    columns: "id" or "report" to the column of another name.

  Returns:
    The reports in order (files by name), and what could not be used.

  Raises:
    ManifestError: nothing to read there, or a column is missing.
  """
  path = Path(path)
  if path.is_dir():
    if columns:
      raise ManifestError(f"--columns with the folder {path}; they name columns of a table")
    entries, problems = _read_folder(path)
  elif path.suffix.lower() in _TABLES and path.is_file():
    entries, problems = _read_table(path, columns or {})
  else:
    what = "does not exist" if not path.exists() else "is no report file"
    raise ManifestError(f"{path} {what}; expected a .csv or .jsonl file, or a folder of .txt or "
                        ".xml files")
  reports, first = [], {}
  for number, name, read in entries:
    try:
      report = _check(dataclasses.replace(read(), row=number))
      if report.id in first:
        raise Unusable("duplicate id", f"id {report.id!r} is that of row {first[report.id]}; each "
                                       "may occur once")
      first[report.id] = number
      reports.append(report)
    except Unusable as error:
      problems.append(Problem(number, name, error.kind, str(error)))
  return reports, problems


def _check(report: Report) -> Report:
  """The report, if there is something to read.

  Raises:
    Unusable: empty, or far too long.
  """
  if not report.id:
    raise Unusable("missing value", "the id is empty")
  if not report.text.strip():
    raise Unusable("missing value", "the report is empty")
  if len(report.text) > MAX_CHARACTERS:
    raise Unusable("too long", f"{len(report.text)} characters; a report has at most "
                               f"{MAX_CHARACTERS}")
  return report


def _read_table(path: Path, columns: Mapping[str, str]) -> tuple[list, list[Problem]]:
  """Rows as (number, id, function that gives the report), and rows that are none."""
  if unknown := set(columns) - set(FIELDS):
    raise ManifestError(f"--columns: no field {sorted(unknown)}; expected some of {FIELDS}")
  there, raw, problems = _TABLES[path.suffix.lower()](path)
  keys = {field: columns.get(field, field) for field in FIELDS}
  missing = [key for key in keys.values() if key not in there]
  if missing:
    raise ManifestError(f"{path} has no column {', '.join(map(repr, missing))}; its columns are "
                        f"{shown_columns(there)}. Say which is which with, for example, "
                        "--columns id=STUDY report=TEXT")

  def read(values: Mapping[str, Any]) -> Report:
    absent = [key for key in keys.values() if key not in values]
    if absent:
      raise Unusable("missing column", f"no {absent[0]!r} in this row")
    return Report(_text(values[keys["id"]], "id"), _text(values[keys["report"]], "report"))

  name = lambda values: str(values.get(keys["id"], ""))[:200]
  return [(number, name(values), lambda values=values: read(values))
          for number, values in raw], problems


def _text(value: Any, field: str) -> str:
  """A cell as text."""
  if isinstance(value, bool) or not isinstance(value, str | int | float | None):
    raise Unusable("unreadable row", f"{field} is {type(value).__name__}; expected text")
  text = "" if value is None else str(value)
  if any("\ud800" <= letter <= "\udfff" for letter in text):
    raise Unusable("unreadable row", f"{field} is not UTF-8 text")
  return text.strip() if field == "id" else text


def _read_folder(path: Path) -> tuple[list, list[Problem]]:
  """Files as (number, name, function that gives the report)."""
  files = sorted(file for file in path.rglob("*")
                 if file.suffix.lower() in (".txt", ".xml") and file.is_file())
  if not files:
    raise ManifestError(f"{path} holds no .txt and no .xml file")
  return [(number, file.relative_to(path).as_posix(),
           lambda file=file: _read_file(file, file.relative_to(path)))
          for number, file in enumerate(files, start=1)], []


def _read_file(file: Path, name: Path) -> Report:
  """One report file.

  Raises:
    Unusable: the file cannot be read, or is not what its name says.
  """
  try:
    if file.suffix.lower() == ".xml":
      case = read_case(file)
      return Report(case.id, case.report)
    return Report(name.with_suffix("").as_posix(), file.read_text(encoding="utf-8-sig"))
  except UnicodeDecodeError as error:
    raise Unusable("unreadable file", f"not UTF-8 text (byte {error.start})") from None
  except OSError as error:
    raise Unusable("unreadable file", error.strerror or "cannot be read") from None
  except ValueError as error:
    raise Unusable("unreadable file", str(error)) from None
