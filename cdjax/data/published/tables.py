"""CSV tables of published data sets, plain or gzip, row by row; only the columns that are asked."""

import csv
import gzip
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from cdjax.data.quarantine import Problem
from cdjax.data.tables import ManifestError

_MAX_CELL = 1 << 24  # characters; csv's own limit is too small for some reports


def read_table(path: Path, columns: Sequence[str | tuple[str, ...]], problems: list[Problem], *,
               start: int = 0) -> Iterator[tuple[int, dict[str, str]]]:
  """Reads some columns of a table.

  Args:
    path: a `.csv` or `.csv.gz` file in UTF-8.
    columns: official names; a tuple holds the names that one column has had in several releases,
      the row has it under the first.
    problems: damaged rows are added to it.
    start: added to the row numbers, for a table that follows another.

  Yields:
    The number of the row (the header is 1) and its cells, without spaces around them.

  Raises:
    ManifestError: a column is missing, or the file is damaged.
  """
  csv.field_size_limit(_MAX_CELL)
  opener = gzip.open if path.suffix == ".gz" else open
  try:
    with opener(path, "rt", newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
      reader = csv.reader(file)
      header = [name.strip() for name in next(reader, [])]
      places = {names[0]: _place(path, header, names)
                for names in ((c,) if isinstance(c, str) else c for c in columns)}
      for number, cells in enumerate(reader, start=2 + start):
        cells = _fit(cells, header)
        if len(cells) == len(header):
          yield number, {name: cells[place].strip() for name, place in places.items()}
        elif cells:
          problems.append(Problem(number, "", "unreadable row", f"{len(cells)} cells in "
                                  f"{path.name}, but its header has {len(header)}"))
  except (EOFError, zlib.error, gzip.BadGzipFile, csv.Error) as error:
    raise ManifestError(f"{path} is damaged ({error}); download it again") from error


def _fit(cells: list[str], header: Sequence[str]) -> list[str]:
  """The cells without, or with, the empty ones that a comma at the end of a line makes.

  NIH's tables have one in some releases and not in others, and not always in header and rows alike.
  """
  while len(cells) > len(header) and not cells[-1].strip():
    cells = cells[:-1]
  if len(cells) == len(header) - 1 and not header[-1]:
    cells = [*cells, ""]
  return cells


def _place(path: Path, header: Sequence[str], names: tuple[str, ...]) -> int:
  """Where a column is."""
  for name in names:
    if name in header:
      return header.index(name)
  raise ManifestError(f"{path} has no column {' or '.join(map(repr, names))}; its columns are "
                      f"{', '.join(header)}. Is it the published file?")
