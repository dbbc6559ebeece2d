"""What cannot be used, and why: one line a row of the manifest, never a stop."""

import collections
import csv
import dataclasses
from collections.abc import Iterable
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Problem:
  """One row of the manifest that was left out.

  Attributes:
    row: its number as an editor shows it: a CSV's header is row 1, a JSONL's first line is row 1.
    image: what the row calls the image (or the report), "" where it says nothing.
    kind: a short name that problems are counted by, e.g. "missing file".
    reason: what is wrong and what would be right.
  """

  row: int
  image: str
  kind: str
  reason: str


class Unusable(ValueError):
  """Raised while one row is read; `kind` and the message become its `Problem`."""

  def __init__(self, kind: str, reason: str):
    super().__init__(reason)
    self.kind = kind

  def __reduce__(self):  # Carries `kind` across processes.
    return Unusable, (self.kind, str(self))


def write_quarantine(path: Path, problems: Iterable[Problem], *, what: str = "image") -> None:
  """Writes `row,image,kind,reason`, sorted by row; `what` is the title of the second column."""
  with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
    writer = csv.writer(file)
    names = [field.name for field in dataclasses.fields(Problem)]
    writer.writerow([what if name == "image" else name for name in names])
    writer.writerows(dataclasses.astuple(p) for p in sorted(problems, key=lambda p: p.row))


def count_kinds(problems: Iterable[Problem]) -> dict[str, int]:
  """Number of rows of each kind, most frequent first."""
  return dict(collections.Counter(problem.kind for problem in problems).most_common())
