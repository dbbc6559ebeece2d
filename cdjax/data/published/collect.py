"""All rows of a published data set, checked as a manifest's are."""

import dataclasses
from pathlib import Path

from cdjax.data.manifest import Row, parse_row
from cdjax.data.published.datasets import DATASETS
from cdjax.data.published.layout import VIEWS, Layout
from cdjax.data.quarantine import Problem, Unusable
from cdjax.data.tables import ManifestError


@dataclasses.dataclass(frozen=True)
class Collected:
  """What the tables of a data set say.

  Attributes:
    rows: of the images that are wanted. A row's number is that in the tables, one after another.
      Where the data set publishes no validation or no test split, the rows of its training split
      name none, so that the missing one is drawn from their patients.
    problems: of the rows that cannot be used.
    notes: what the user should know, one sentence each.
    published_splits: the splits that the data set publishes.
    unlisted: what a finding is that a labelled image does not list.
    sha256: of all tables.
  """

  rows: list[Row]
  problems: list[Problem]
  notes: list[str]
  published_splits: frozenset[str]
  unlisted: str
  sha256: str


def manual_download(name: str) -> str:
  """Where to get a data set, and how its files must lie."""
  return DATASETS[name].instructions


def collect(name: str, images: Path, *, tables: Path | None = None, reports: Path | None = None,
            labels: str = "", views: str = "frontal") -> Collected:
  """Reads the tables of a data set.

  Args:
    name: of `DATASETS`.
    images: its image folder.
    tables: the folder of its tables where it is another one.
    reports: an archive of reports.
    labels: one of its label sets; "": the first.
    views: "frontal" or "all".

  Raises:
    ManifestError: a table or a column is missing; says where to get it.
    ValueError: an option is not possible.
  """
  if name not in DATASETS or views not in VIEWS:
    raise ValueError(f"--dataset {name} --views {views}; expected one of {', '.join(DATASETS)} "
                     f"and one of {', '.join(VIEWS)}")
  dataset = DATASETS[name]
  layout = Layout(dataset, images, tables=tables, reports=reports, labels=labels)
  rows: list[Row] = []
  problems: list[Problem] = []
  seen: dict[str, int] = {}
  ids: dict[str, int] = {}
  total = lateral = unknown = 0
  for item in dataset.read(layout):
    total += 1
    if views == "frontal" and not item.frontal:
      lateral += item.frontal is False
      unknown += item.frontal is None
      continue
    try:
      if item.image in seen:
        raise Unusable("duplicate image id", f"the image is that of row {seen[item.image]}")
      row = parse_row(item.number, item.make_fields())
      if row.image_id in ids:
        raise Unusable("duplicate image id", f"image id {row.image_id!r} is that of row "
                                             f"{ids[row.image_id]}")
    except Unusable as error:
      problems.append(Problem(item.number, item.image, error.kind, str(error)))
      continue
    seen[item.image] = ids[row.image_id] = item.number
    rows.append(row)
  if not rows and not problems and not layout.problems:
    raise ManifestError(f"{dataset.title}: no image is left of {total}; {unknown} do not say their "
                        f"view, {lateral} are not frontal (--views all takes them)\n\n"
                        f"{dataset.instructions}")
  notes = [*layout.notes, *_count_notes(dataset.title, total, dataset.images, lateral, unknown)]
  published = frozenset(row.split for row in rows if row.split)
  if not {"validation", "test"} <= published:
    rows = [dataclasses.replace(row, split=None if row.split == "train" else row.split)
            for row in rows]
  return Collected(rows, [*layout.problems, *problems], notes, published, dataset.unlisted,
                   layout.sha256)


def _count_notes(title: str, total: int, published: int, lateral: int, unknown: int) -> list[str]:
  """Whether the tables are complete, and what the choice of views left out."""
  notes = []
  if total != published:
    notes.append(f"the tables name {total} images, {title} was published with {published}: "
                 "a part, or another version")
  if lateral:
    notes.append(f"{lateral} images are not frontal and were left out (--views all takes them)")
  if unknown:
    notes.append(f"{unknown} images do not say their view and were left out (--views all takes "
                 "them)")
  return notes
