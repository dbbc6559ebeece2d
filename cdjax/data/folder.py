"""A plain folder of anybody's radiographs, with a manifest or without: what is in it, unread."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cdjax.data.image_io import SUFFIXES, file_form, find_image, read_radiograph
from cdjax.data.manifest import Row, read_manifest
from cdjax.data.quarantine import Problem


@dataclasses.dataclass(frozen=True)
class ImageFolder:
  """N images by name, in an order that does not depend on the file system.

  Attributes:
    root: the folder.
    names: paths relative to it.
    rows: of the manifest, one a name; None where there is no manifest.
    problems: rows of the manifest that cannot be used.
    unknown: cells of the manifest that cannot be read, and count as empty.
  """

  root: Path
  names: tuple[str, ...]
  rows: tuple[Row, ...] | None
  problems: tuple[Problem, ...]
  unknown: tuple[Problem, ...] = ()

  def __len__(self) -> int:
    return len(self.names)

  @property
  def patient(self) -> np.ndarray:
    """`[N]` str; every image is a patient of its own where there is no manifest."""
    return np.array(self.names if self.rows is None else [row.patient_id for row in self.rows])


def open_folder(root: str | Path, manifest: str | Path | None = None,
                columns: Mapping[str, str] | None = None) -> ImageFolder:
  """Lists a folder's images: those that the manifest names, else all files below the folder.

  An age, a study or findings that cannot be read count as not given: what they are for, groups, is
  not worth an image.

  Args:
    root: the folder.
    manifest: see `read_manifest`.
    columns: field to column, see `read_manifest`.

  Raises:
    ValueError: no such folder, it has no image, or the manifest cannot be used or names none.
  """
  root = Path(root)
  if not root.is_dir():
    raise ValueError(f"{root} is not a folder")
  if manifest is None:
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*")
                   if path.suffix.lower() in SUFFIXES and path.is_file())
    if not names:
      raise ValueError(f"{root}: the folder has no file ending in {', '.join(SUFFIXES)}")
    return ImageFolder(root, tuple(names), None, ())
  unknown: list[Problem] = []
  rows, problems = read_manifest(manifest, columns, unknown=unknown)
  if not rows:
    said = f"; row {problems[0].row}: {problems[0].reason}" if problems else ""
    raise ValueError(f"no row of {manifest} can be used{said}")
  return ImageFolder(root, tuple(row.image for row in rows), tuple(rows), tuple(problems),
                     tuple(unknown))


def read_form(root: Path, name: str) -> str:
  """`file_form` of an image that `read_pixels` has read."""
  return file_form(find_image(root, name))


def read_pixels(root: Path, name: str, *, resolution: int, fit: str) -> np.ndarray:
  """One image of a folder, `[resolution, resolution]` uint8; errors of `load_image`."""
  return read_radiograph(find_image(root, name), resolution=resolution, bits=8, fit=fit)
