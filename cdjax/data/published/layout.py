"""What is common to published data sets: where their files are, and what a reader gives."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cdjax.data.published.tables import read_table
from cdjax.data.quarantine import Problem
from cdjax.data.tables import ManifestError

VIEWS = ("frontal", "all")


@dataclasses.dataclass(frozen=True)
class Item:
  """One image that a data set's tables name.

  Attributes:
    number: of its row; tables that follow each other are counted on.
    image: path inside the image folder.
    frontal: whether it is a frontal view; None where the data set does not say.
    make_fields: gives the fields of a manifest's row; raises `Unusable` where that fails.
  """

  number: int
  image: str
  frontal: bool | None
  make_fields: Callable[[], Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class DataSet:
  """A published data set.

  Attributes:
    title: its name as published.
    images: number of images that were published.
    instructions: where to get what, and how it must lie.
    read: gives all images, views of every kind.
    unlisted: "absent" where its labels list what is found and nothing else; "unknown" where they
      come from reports, which do not mention everything.
    labels: the label sets to choose from, the first one is taken by default; () one only.
    reports: whether its reports are an archive of their own.
  """

  title: str
  images: int
  instructions: str
  read: Callable[["Layout"], Iterator[Item]]
  unlisted: str
  labels: tuple[str, ...] = ()
  reports: bool = False


class Layout:
  """The files of one data set on this machine; remembers what was read of them.

  Attributes:
    images: the image folder.
    tables: the folder of the tables, often the same.
    reports: an archive of reports, or None.
    labels: the label set, one of the data set's `labels`.
    problems: damaged rows of tables.
    notes: what the user should know, one sentence each.
  """

  def __init__(self, dataset: DataSet, images: Path, *, tables: Path | None = None,
               reports: Path | None = None, labels: str = ""):
    if labels and labels not in dataset.labels:
      raise ValueError(f"--labels {labels} of {dataset.title}; expected "
                       + (f"one of {', '.join(dataset.labels)}" if dataset.labels else "none"))
    if reports and not dataset.reports:
      raise ValueError(f"--reports: {dataset.title} has no archive of reports")
    self.images, self.tables, self.reports = images, tables or images, reports
    self.labels = labels or next(iter(dataset.labels), "")
    self.problems: list[Problem] = []
    self.notes: list[str] = []
    self._dataset = dataset
    self._digest = hashlib.sha256(self.labels.encode())

  def find(self, *names: str) -> Path:
    """The first of `names` that lies in the folder of the tables.

    Raises:
      ManifestError: none does; says where to get it.
    """
    for name in names:
      if (self.tables / name).is_file():
        return self.tables / name
    raise self.missing(" or ".join(names))

  def missing(self, what: str) -> ManifestError:
    """The error that `what` is not in the folder of the tables, with the instructions."""
    return ManifestError(f"{self._dataset.title}: {what} is not in {self.tables}\n\n"
                         f"{self._dataset.instructions}")

  def table(self, path: Path, columns: Sequence[str | tuple[str, ...]], *, start: int = 0
            ) -> Iterator[tuple[int, dict[str, str]]]:
    """`read_table`; the file counts for the fingerprint of what was asked."""
    with path.open("rb") as file:
      self.remember(path.name, hashlib.file_digest(file, "sha256").digest())
    return read_table(path, columns, self.problems, start=start)

  def remember(self, name: str, content: bytes) -> None:
    """Adds a file to `sha256`."""
    self._digest.update(name.encode() + b"\0" + hashlib.sha256(content).digest())

  @property
  def sha256(self) -> str:
    """Of everything that was read, in hexadecimal."""
    return self._digest.hexdigest()
