"""CSV and JSONL files to rows of cells; a damaged row is a problem, not the end."""

import csv
import json
from pathlib import Path

from cdjax.data.quarantine import Problem

_MAX_CELL = 1 << 24  # characters; csv's own limit is too small for some reports


class ManifestError(ValueError):
  """The manifest as a whole cannot be used."""


def read_csv(path: Path) -> tuple[list[str], list[tuple[int, dict]], list[Problem]]:
  """Column names, (row number, cells), problems."""
  csv.field_size_limit(_MAX_CELL)
  raw, problems, number = [], [], 1
  with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
    reader = csv.reader(file, strict=True)
    header = [name.strip() for name in next(reader, [])]
    if len(set(header)) < len(header):
      raise ManifestError(f"{path}: a column name occurs twice in {', '.join(header)}")
    while True:
      number += 1
      try:
        cells = next(reader)
      except StopIteration:
        return header, raw, problems
      except csv.Error as error:
        problems.append(Problem(number, "", "unreadable row", f"bad CSV: {error} (line "
                                f"{reader.line_num}); is a quote left open?"))
        continue
      if len(cells) == len(header):
        raw.append((number, dict(zip(header, cells, strict=True))))
      elif cells:
        problems.append(Problem(number, "", "unreadable row", f"{len(cells)} cells, but the header "
                                f"has {len(header)}; cells with commas need quotes"))


def read_jsonl(path: Path) -> tuple[list[str], list[tuple[int, dict]], list[Problem]]:
  """Keys of any line, (line number, values), problems."""
  raw, problems, keys = [], [], {}
  with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
    for number, line in enumerate(file, start=1):
      if not line.strip():
        continue
      try:
        values = json.loads(line)
      except (json.JSONDecodeError, RecursionError) as error:
        problems.append(Problem(number, "", "unreadable row", f"bad JSON: {error}"))
        continue
      if isinstance(values, dict):
        raw.append((number, values))
        keys.update(dict.fromkeys(values))
      else:
        problems.append(Problem(number, "", "unreadable row", "bad JSON: expected an object, got "
                                f"{type(values).__name__}"))
  return list(keys), raw, problems
