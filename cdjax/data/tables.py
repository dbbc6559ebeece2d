"""CSV and JSONL files to rows of cells; a damaged row is a problem, not the end.

No message here quotes a cell: it may be a report's.
"""

import codecs
import csv
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from cdjax.data.quarantine import Problem

_MAX_CELL = 1 << 24  # characters; csv's own limit is too small for some reports
_NAME = re.compile(r"[^\W\d][\w./()\[\]-]*( [\w./()\[\]-]+){0,2}")
_OPENS = re.compile(r'(?:[^"]*,)?"')   # a line whose first quote is where a cell begins


class ManifestError(ValueError):
  """The manifest as a whole cannot be used."""


def shown_columns(names: Iterable[str]) -> str:
  """The names of columns for a message; without a header row they would be somebody's report."""
  names = list(names)
  if all(len(name) <= 40 and _NAME.fullmatch(name) for name in names if name):
    return ", ".join(names) or "none"
  return f"{len(names)}, not shown, since the first line does not look like a row of column names"


def read_csv(path: Path) -> tuple[list[str], list[tuple[int, dict]], list[Problem]]:
  """Column names, (row number, cells), problems.

  Raises:
    ManifestError: no header can be read, or the file is separated or encoded otherwise.
  """
  csv.field_size_limit(_MAX_CELL)
  _check_encoding(path)
  with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
    lines = list(file)
  reader = csv.reader(lines, strict=True)
  try:
    header = [name.strip() for name in next(reader, [])]
  except csv.Error as error:
    raise ManifestError(f"{path}: no header: bad CSV: {error}; is a quote left open in line 1?"
                        ) from None
  if len(header) == 1 and (found := next((s for s in ";\t" if s in header[0]), "")):
    raise ManifestError(f"{path}: cells are separated by {'semicolons' if found == ';' else 'tabs'}"
                        "; expected commas")
  if len(set(header)) < len(header):
    raise ManifestError(f"{path}: a column name occurs twice; the columns are "
                        f"{shown_columns(header)}")
  raw, problems, number, done = [], [], 1, 0   # lines that are done before the reader's first
  while True:
    number += 1
    start = done + reader.line_num
    try:
      cells = next(reader)
    except StopIteration:
      return header, raw, problems
    except csv.Error as error:
      end = done + reader.line_num
      done = _next_record(lines, start, end)
      reader = csv.reader((lines[i] for i in range(done, len(lines))), strict=True)
      left = f"; lines {start + 1} to {done} are left out" if done > start + 1 else ""
      problems.append(Problem(number, "", "unreadable row", f"bad CSV: {error} (line {end}); is a "
                              f"quote left open?{left}"))
      continue
    if len(cells) == len(header):
      raw.append((number, dict(zip(header, cells, strict=True))))
    elif cells:
      problems.append(Problem(number, "", "unreadable row", f"{len(cells)} cells, but the header "
                              f"has {len(header)}; cells with commas need quotes"))


def _next_record(lines: Sequence[str], start: int, end: int) -> int:
  """Where a record begins after a damaged one, and not a line in the middle of its text.

  A line is inside a cell where the next quote ahead does not stand where a cell begins: it closes
  one. Where no quote is ahead, the damaged record is over if its own quotes are even, else nobody
  knows and the rest is left out.

  Args:
    lines: of the file.
    start: the line that the damaged record begins with.
    end: the line behind the last one that was read of it.
  """
  place = start + 1
  while True:
    ahead = next((i for i in range(place, len(lines)) if '"' in lines[i]), None)
    if ahead is None:
      even = sum(line.count('"') for line in lines[start:end]) % 2 == 0
      return max(place, end) if even else len(lines)
    if _OPENS.match(lines[ahead]):
      return place
    place = ahead + 1


def read_jsonl(path: Path) -> tuple[list[str], list[tuple[int, dict]], list[Problem]]:
  """Keys of any line, (line number, values), problems."""
  raw, problems, keys = [], [], {}
  _check_encoding(path)
  with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
    for number, line in enumerate(file, start=1):
      if not line.strip():
        continue
      try:
        values = json.loads(line)
      except (ValueError, RecursionError) as error:   # no JSON, too long a number, too deep
        problems.append(Problem(number, "", "unreadable row", f"bad JSON: {error}"))
        continue
      if isinstance(values, dict):
        raw.append((number, values))
        keys.update(dict.fromkeys(values))
      else:
        problems.append(Problem(number, "", "unreadable row", "bad JSON: expected an object, got "
                                f"{type(values).__name__}"))
  return list(keys), raw, problems


def _check_encoding(path: Path) -> None:
  """Refuses UTF-16, which spreadsheets call "Unicode text"."""
  with path.open("rb") as file:
    start = file.read(64)
  if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in start:
    raise ManifestError(f"{path} is UTF-16 or no text; save it as UTF-8")
