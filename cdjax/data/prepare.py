"""A folder of radiographs to a prepared data set and a list of what is left out."""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path

from cdjax.data.manifest import read_manifest
from cdjax.data.options import Options
from cdjax.data.prepare_rows import prepare_rows
from cdjax.data.published import collect
from cdjax.data.quarantine import Problem
from cdjax.data.tables import ManifestError


def prepare(images: str | Path, manifest: str | Path, output: str | Path, *,
            columns: Mapping[str, str] | None = None, **options
            ) -> tuple[dict, list[Problem], bool]:
  """Prepares the images of a manifest.

  Args:
    images: the folder that the manifest's paths are relative to.
    manifest: see `read_manifest`.
    output: the folder to make.
    columns: field to column, see `read_manifest`.
    **options: of `Options`.

  Returns:
    The `dataset.json`, the problems in the order they were found, and whether `output` held the
    same data before.

  Raises:
    ManifestError: the manifest as a whole cannot be used, or no row of it can.
    FileExistsError, OSError: see `staged_output`.
    ValueError: an option is not possible.
  """
  options = Options(**options)   # checked before the work starts
  root, manifest = _existing(images), Path(manifest)
  rows, problems = read_manifest(manifest, columns)
  origin = {"manifest_sha256": hashlib.sha256(manifest.read_bytes()).hexdigest(),
            "columns": dict(columns or {})}
  return prepare_rows(root, rows, problems, Path(output), options, origin=origin,
                      info={"source": "prepare", "manifest": manifest.name})


def prepare_published(name: str, images: str | Path, output: str | Path, *,
                      tables: str | Path | None = None, reports: str | Path | None = None,
                      labels: str = "", views: str = "frontal", unlisted: str | None = None,
                      **options) -> tuple[dict, list[Problem], bool, list[str]]:
  """Prepares a published data set from its official layout.

  Args:
    name: of `published.DATASETS`.
    images: its image folder.
    output: the folder to make.
    tables, reports, labels, views: see `collect`.
    unlisted: see `Options`; None: what the data set's labels mean.
    **options: of `Options`. A split that the data set publishes is taken; shares count for those
      that it does not publish.

  Returns:
    As `prepare`, and what the user should know, one sentence each.

  Raises:
    ManifestError: a file is missing; says where to get it. Else as `prepare`.
  """
  options = Options(**options)
  found = collect(name, _existing(images), tables=tables and Path(tables),
                  reports=reports and Path(reports), labels=labels, views=views)
  shares = {share: 0.0 for split, share in (("validation", "val_share"), ("test", "test_share"))
            if split in found.published_splits}
  options = dataclasses.replace(options, unlisted=unlisted or found.unlisted, **shares)
  origin = {"dataset": name, "tables_sha256": found.sha256, "views": views}
  result = prepare_rows(Path(images), found.rows, found.problems, Path(output), options,
                        origin=origin, info={"source": "prepare", "dataset": name})
  return *result, found.notes


def _existing(images: str | Path) -> Path:
  """The image folder.

  Raises:
    ManifestError: it is not there.
  """
  if not Path(images).is_dir():
    raise ManifestError(f"the image folder {images} does not exist")
  return Path(images)
