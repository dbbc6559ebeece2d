"""A folder of radiographs and a manifest to a prepared data set and a list of what is left out."""

import collections
import contextlib
import csv
import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from cdjax.data.image_io import FITS, load_image, pixel_dtype
from cdjax.data.manifest import Row, read_manifest
from cdjax.data.pool import ordered_map, worker_pool
from cdjax.data.quarantine import Problem, Unusable, write_quarantine
from cdjax.data.splits import split_rows
from cdjax.data.staging import (
  DATASET_FILE,
  QUARANTINE_FILE,
  SPLITS_FILE,
  check_output,
  read_info,
  restore_output,
  staged_output,
)
from cdjax.data.tables import ManifestError
from cdjax.data.write import UNLISTED, NoRecordsError, complete_findings, write_records
from cdjax.findings import canonical_name


def prepare(images: str | Path, manifest: str | Path, output: str | Path, *, resolution: int = 64,
            bits: int = 8, fit: str = "crop", vocabulary: Sequence[str] = (),
            columns: Mapping[str, str] | None = None, unlisted: str = "absent",
            val_share: float = 0.1, test_share: float = 0.1, seed: int = 0, workers: int = 0,
            overwrite: bool = False) -> tuple[dict, list[Problem], bool]:
  """Prepares a data set; the same input gives the same shards with any number of workers.

  Args:
    images: the folder that the manifest's paths are relative to.
    manifest: see `read_manifest`.
    output: the folder to make.
    resolution, bits, fit: of the stored images, see `read_radiograph`.
    vocabulary: names of findings in any spelling; (): all that the manifest names, sorted.
    columns: field to column, see `read_manifest`.
    unlisted: "absent" or "unknown": what a finding is that a labelled image does not list.
    val_share, test_share, seed: of the patients, where the manifest gives no split.
    workers: processes that decode images; 0: this one.
    overwrite: replace another data set in `output`.

  Returns:
    The `dataset.json`, the problems in the order they were found, and whether `output` held the
    same data before.

  Raises:
    ManifestError: the manifest as a whole cannot be used, or no row of it can.
    FileExistsError, OSError: see `staged_output`.
    ValueError: an option is not possible.
  """
  root, manifest, output = Path(images), Path(manifest), Path(output)
  pixel_dtype(bits)  # Options are checked before the work starts.
  if fit not in FITS or unlisted not in UNLISTED or resolution < 8 or workers < 0:
    raise ValueError(f"fit={fit!r}, unlisted={unlisted!r}, resolution={resolution}, workers="
                     f"{workers}; expected fit in {FITS}, unlisted in {UNLISTED}, resolution >= 8, "
                     "workers >= 0")
  if not root.is_dir():
    raise ManifestError(f"the image folder {root} does not exist")
  rows, problems = read_manifest(manifest, columns)
  vocabulary = tuple(dict.fromkeys(map(canonical_name, vocabulary))) or tuple(sorted(
      {finding.name for row in rows for finding in row.findings or ()}))
  if not vocabulary:
    raise ManifestError(_nothing_left(
        "no row names a finding, so there is no vocabulary; pass --vocabulary", problems))
  rows = _inside_vocabulary(rows, vocabulary, unlisted, problems)
  splits, more = split_rows(rows, val_share=val_share, test_share=test_share, seed=seed)
  problems += more
  request = {"manifest_sha256": hashlib.sha256(manifest.read_bytes()).hexdigest(),
             "resolution": resolution, "bits": bits, "fit": fit, "vocabulary": list(vocabulary),
             "columns": dict(columns or {}), "unlisted": unlisted, "val_share": val_share,
             "test_share": test_share, "seed": seed}
  restore_output(output)
  check_output(output, request=request, overwrite=overwrite)
  before = read_info(output)["fingerprint"] if (output / DATASET_FILE).is_file() else None
  load = functools.partial(load_image, root, resolution=resolution, bits=bits, fit=fit)
  studies = number_studies([row for part in splits.values() for row in part])
  try:
    with staged_output(output, request=request, overwrite=overwrite) as folder:
      with contextlib.ExitStack() as stack:
        bar = stack.enter_context(tqdm(total=sum(map(len, splits.values())), unit="image",
                                       desc="prepare", disable=None))
        pool = stack.enter_context(worker_pool(workers))
        loaded = functools.partial(ordered_map, load, pool=pool, ahead=4 * workers)
        records = {split: _records(part, studies, loaded, problems, bar)
                   for split, part in splits.items()}
        info = write_records(
            records, folder, vocabulary=vocabulary, resolution=resolution, bits=bits,
            unlisted=unlisted, request=request,
            info={"source": "prepare", "manifest": manifest.name})
      write_quarantine(folder / QUARANTINE_FILE, problems)
      _write_splits(folder / SPLITS_FILE, splits, left_out={p.row for p in problems})
  except NoRecordsError as error:
    if before is None:
      output.mkdir(parents=True, exist_ok=True)
      write_quarantine(output / QUARANTINE_FILE, problems)
    raise ManifestError(_nothing_left(f"no row of {manifest} can be used", problems)) from error
  return info, problems, info["fingerprint"] == before


def _inside_vocabulary(rows: Sequence[Row], vocabulary: tuple[str, ...], unlisted: str,
                       problems: list[Problem]) -> list[Row]:
  """Drops rows whose findings contradict themselves or leave the vocabulary; adds to `problems`.

  Left in without the foreign finding, an image would count as one in which less is found.
  """
  kept = []
  for row in rows:
    foreign = {finding.name for finding in row.findings or () if finding.name not in vocabulary
               and finding.status != "absent"}
    if foreign:
      problems.append(Problem(row.number, row.image, "unknown finding",
                              f"{', '.join(sorted(foreign))} not in the vocabulary; known: "
                              f"{', '.join(vocabulary)}"))
      continue
    listed = [finding for finding in row.findings or () if finding.name in vocabulary]
    if row.findings is None or (row.findings and not listed and unlisted == "unknown"):
      listed = None  # Not [], which would say "healthy".
    try:
      complete_findings(listed, vocabulary, unlisted)
    except ValueError as error:
      problems.append(Problem(row.number, row.image, "contradicting findings", str(error)))
      continue
    kept.append(dataclasses.replace(row, findings=listed))
  return kept


def _write_splits(path: Path, splits: Mapping[str, Sequence[Row]], left_out: set[int]) -> None:
  """Writes `image,patient_id,split`: who is held out. Rows in `left_out` are not in the data."""
  with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
    writer = csv.writer(file)
    writer.writerow(("image", "patient_id", "split"))
    for split, rows in splits.items():
      writer.writerows((row.image, row.patient_id, split) for row in rows
                       if row.number not in left_out)


def number_studies(rows: Iterable[Row]) -> dict[int, int]:
  """The order of each row's study within its patient.

  Args:
    rows: of all splits.

  Returns:
    Row number to 0, 1, …; images of one study share it. A row that names no study is a study of
    its own, after those that do.
  """
  named: dict[str, set[tuple]] = collections.defaultdict(set)
  for row in rows:
    if row.study is not None:
      named[row.patient_id].add(row.study)
  ranks = {patient: {study: i for i, study in enumerate(sorted(studies))}
           for patient, studies in named.items()}
  numbers: dict[int, int] = {}
  unnamed: collections.Counter[str] = collections.Counter()
  for row in rows:
    known = ranks.get(row.patient_id, {})
    if row.study is None:
      numbers[row.number] = len(known) + unnamed[row.patient_id]
      unnamed[row.patient_id] += 1
    else:
      numbers[row.number] = known[row.study]
  return numbers


def _records(rows: Sequence[Row], studies: Mapping[int, int], loaded: Callable,
             problems: list[Problem], bar: tqdm) -> Iterator[dict]:
  """Records of the rows whose images can be read; the others are added to `problems`."""
  for row, wait in zip(rows, loaded([row.image for row in rows]), strict=True):
    bar.update()
    try:
      image, png = wait()
    except Unusable as error:
      problems.append(Problem(row.number, row.image, error.kind, str(error)))
      continue
    yield {"image": image, "png": png, "image_id": row.image_id, "patient_id": row.patient_id,
           "study": studies[row.number], "findings": row.findings, "report": row.report,
           "view": row.view, "sex": row.sex, "age": row.age}


def _nothing_left(what: str, problems: Sequence[Problem], shown: int = 3) -> str:
  """`what`, and the first problems."""
  parts = [f"row {p.row}: {p.kind}: {p.reason}" for p in problems[:shown]]
  if len(problems) > shown:
    parts.append(f"and {len(problems) - shown} more rows")
  return "; ".join([what, *parts])
