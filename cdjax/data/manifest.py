"""A manifest (CSV or JSONL, one row an image) to checked rows; what cannot be used is quarantined.

Columns: `image` (path inside the image folder), `patient_id`, `findings`; optional `image_id`,
`study` (numbers or ISO dates sort; other text sorts with its numbers by value), `report`, `view`,
`sex`, `age`, `site` (which hospital, for measuring by it), `split`.
"""

import dataclasses
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from cdjax.data.quarantine import Problem, Unusable
from cdjax.data.tables import ManifestError, read_csv, read_jsonl, shown_columns
from cdjax.findings import Finding, canonical_name, finding_from_dict, parse_findings

REQUIRED = ("image", "patient_id", "findings")
OPTIONAL = ("image_id", "study", "report", "view", "sex", "age", "site", "split")
SPLIT_NAMES = {"train": "train", "training": "train", "validation": "validation",
               "valid": "validation", "validate": "validation", "val": "validation",
               "dev": "validation", "development": "validation", "test": "test",
               "testing": "test"}
_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([YMWD]?)", re.IGNORECASE)
_YEARS = {"": 1, "Y": 1, "M": 12, "W": 52.18, "D": 365.25}


@dataclasses.dataclass(frozen=True)
class Row:
  """One usable row.

  Attributes:
    number: as an editor shows it, see `Problem.row`.
    image: path relative to the image folder.
    image_id: unique; the image's path where the manifest has no such column.
    patient_id: as given.
    study: sort key within the patient; None where not given.
    findings: None where the cell is empty: nobody labelled the image.
    split: "train", "validation", "test", or None where not given.
    report, view, sex, site: "" where not given.
    age: years, or None.
    inverted: the file shows dense parts dark, without saying so.
  """

  number: int
  image: str
  image_id: str
  patient_id: str
  study: tuple | None
  findings: list[Finding] | None
  split: str | None
  report: str
  view: str
  sex: str
  age: float | None
  site: str
  inverted: bool = False


def read_manifest(path: str | Path, columns: Mapping[str, str] | None = None, *,
                  unknown: list[Problem] | None = None) -> tuple[list[Row], list[Problem]]:
  """Reads and checks every row; duplicates keep their first.

  Args:
    path: a `.csv` or `.jsonl` file in UTF-8.
    columns: field to column where they differ; several columns separated by commas mean the first
      that is not empty.
    unknown: gets a problem for each study, age and findings cell that cannot be read, and the row
      stays, without it; None: such a row is left out.

  Returns:
    The usable rows in order, and the problems.

  Raises:
    ManifestError: no such file, another format, or a required column is missing altogether.
  """
  path = Path(path)
  readers = {".csv": read_csv, ".jsonl": read_jsonl}
  if path.suffix.lower() not in readers:
    raise ManifestError(f"manifest {path}; expected a file that ends in .csv or .jsonl")
  if not path.is_file():
    raise ManifestError(f"manifest {path} does not exist")
  there, raw, problems = readers[path.suffix.lower()](path)
  sources = _sources(path, there, columns or {})
  rows, ids, files = [], {}, {}
  for number, values in raw:
    image = ""
    try:
      fields = {name: _first(values, keys, name in REQUIRED)
                for name, keys in sources.items()}
      image = _text(fields["image"], "image")
      row = parse_row(number, fields, unknown=unknown)
      for kind, known, key in (("image id", ids, row.image_id), ("image", files, row.image)):
        if key in known:
          raise Unusable("duplicate image id",
                         f"{kind} {key!r} is that of row {known[key]}; each may occur once")
      ids[row.image_id] = files[row.image] = number
      rows.append(row)
    except Unusable as error:
      problems.append(Problem(number, image, error.kind, str(error)))
  return rows, problems


def _sources(path: Path, there: Sequence[str], columns: Mapping[str, str]
             ) -> dict[str, tuple[str, ...]]:
  """Field to the columns it is read from; checks that they exist."""
  known = (*REQUIRED, *OPTIONAL)
  if unknown := set(columns) - set(known):
    raise ManifestError(f"--columns: no field {sorted(unknown)}; expected some of {known}")
  sources = {name: tuple(columns.get(name, name).split(",")) for name in known}
  wanted = [name for name in known if name in REQUIRED or name in columns]
  missing = [f"{key!r} (for {name})" if key != name else f"{key!r}"
             for name in wanted for key in sources[name] if key not in there]
  if missing:
    raise ManifestError(f"{path} has no column {', '.join(missing)}; its columns are "
                        f"{shown_columns(there)}. Say which is which with, for example, "
                        "--columns image=PATH patient_id=SUBJECT findings=LABELS")
  return {name: keys for name, keys in sources.items() if set(keys) <= set(there)}


def _first(values: Mapping[str, Any], keys: Sequence[str], required: bool) -> Any:
  """The first value that says something; None where there is no such column.

  Raises:
    Unusable: the column is required (JSONL lines may differ).
  """
  if not any(key in values for key in keys):
    if not required:
      return None
    raise Unusable("missing column", f"no {' or '.join(map(repr, keys))}; this row has "
                                     f"{shown_columns(values)}")
  there = [values[key] for key in keys if key in values]
  return next((value for value in there if value not in (None, "")), there[0])


def _text(value: Any, name: str) -> str:
  """A cell as text, without spaces around it."""
  if value is None:
    return ""
  if isinstance(value, bool) or not isinstance(value, str | int | float):
    raise Unusable("unreadable row", f"{name} is {type(value).__name__}; expected text or a number")
  text = str(value).strip()
  if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
    raise Unusable("unreadable row", f"{name} is not UTF-8 text")
  return text


def parse_row(number: int, fields: Mapping[str, Any], *, unknown: list[Problem] | None = None
              ) -> Row:
  """Checks the cells of one row.

  Args:
    number: of the row, see `Row`.
    fields: field to cell; `image`, `patient_id` and `findings` must be there.
    unknown: see `read_manifest`.

  Raises:
    Unusable: with what is wrong.
  """
  texts = {name: _text(fields.get(name), name)
           for name in ("image", "image_id", "patient_id", "report", "view", "sex", "site",
                        "split")}
  for name in ("image", "patient_id"):
    if not texts[name]:
      raise Unusable("missing value", f"{name} is empty")
  split = texts["split"].lower()
  if split and split not in SPLIT_NAMES:
    raise Unusable("unknown split", f"split={split!r}; expected one of {', '.join(SPLIT_NAMES)}")
  image = PurePosixPath(texts["image"]).as_posix()

  def read(name: str, parse) -> Any:
    try:
      return parse(fields.get(name))
    except Unusable as error:
      if unknown is None:
        raise
      unknown.append(Problem(number, image, name, str(error)))
      return None

  return Row(number=number, image=image, image_id=texts["image_id"] or image,
             patient_id=texts["patient_id"],
             study=read("study", lambda cell: _parse_study(_text(cell, "study"))),
             findings=read("findings", _parse_findings), split=SPLIT_NAMES.get(split),
             report=texts["report"], view=texts["view"], sex=texts["sex"],
             age=read("age", lambda cell: _parse_age(_text(cell, "age"))), site=texts["site"],
             inverted=bool(fields.get("inverted")))


def _parse_study(text: str) -> tuple | None:
  """A sort key: numbers before text; numbers inside text by value ("visit 2" before "visit 10")."""
  if not text:
    return None
  try:
    value = float(text)
  except ValueError:
    return tuple((0, float(part), "") if part.isdigit() else (1, 0.0, part)
                 for part in re.findall(r"[0-9]+|[^0-9]+", text))
  if not math.isfinite(value):
    raise Unusable("bad number", f"study={text!r}; expected a number, a date or a name")
  return ((0, value, ""),)


def _parse_age(text: str) -> float | None:
  """Years from "58", "58.5", or DICOM's "058Y", "006M"."""
  if not text:
    return None
  match = _AGE.fullmatch(text)
  years = float(match[1]) / _YEARS[match[2].upper()] if match else math.inf
  if years > 130:
    raise Unusable("bad number", f"age={text!r}; expected years from 0 to 130")
  return years


def _parse_findings(value: Any) -> list[Finding] | None:
  """Findings of a cell: text, a JSON list of texts or of `finding_to_dict` objects, or None."""
  try:
    if isinstance(value, str) and value.lstrip().startswith("["):
      value = json.loads(value)
    if isinstance(value, list):
      return [finding for item in value for finding in _parse_item(item)]
    text = _text(value, "findings")
    return parse_findings(text) if text else None
  except Unusable:
    raise
  except RecursionError:
    raise Unusable("unknown finding", "a JSON list in too many others") from None
  except ValueError as error:
    raise Unusable("unknown finding", str(error)) from error


def _parse_item(item: Any) -> list[Finding]:
  """One entry of a list."""
  if isinstance(item, Finding):
    return [item]
  if isinstance(item, dict):
    return [finding_from_dict({**item, "name": canonical_name(str(item.get("name")))})]
  return parse_findings(_text(item, "findings"))
