"""Checked rows to a prepared data set: the part that manifests and published data sets share."""

import collections
import contextlib
import csv
import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from cdjax.data.decoded import DecodedImages, decoded_images, image_key
from cdjax.data.image_io import decode_png, load_image
from cdjax.data.manifest import Row
from cdjax.data.options import Options
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
from cdjax.data.studies import number_studies
from cdjax.data.tables import ManifestError
from cdjax.data.write import NoRecordsError, complete_findings, write_records
from cdjax.findings import canonical_name


def prepare_rows(root: Path, rows: Sequence[Row], problems: list[Problem], output: Path,
                 options: Options, *, origin: Mapping, info: Mapping
                 ) -> tuple[dict, list[Problem], bool]:
  """Decodes the rows' images and writes the data set, all of it or nothing.

  A killed run leaves what it decoded in `.NAME.decoded` beside the output; the next one goes on
  from there. The same rows give the same shards, killed or not, with any number of workers.

  Args:
    root: the image folder.
    rows: what to write.
    problems: of rows that were left out before; more are added.
    output: the folder to make.
    options: how.
    origin: where the rows are from, for the comparison with what `output` holds.
    info: for `dataset.json`.

  Returns:
    The `dataset.json`, the problems in the order they were found, and whether `output` held the
    same data before.

  Raises:
    ManifestError: no row can be used.
    FileExistsError, OSError: see `staged_output`.
  """
  vocabulary = tuple(dict.fromkeys(map(canonical_name, options.vocabulary))) or tuple(sorted(
      {finding.name for row in rows for finding in row.findings or ()}))
  if not vocabulary:
    raise ManifestError(_nothing_left(
        "no row names a finding, so there is no vocabulary; pass --vocabulary", problems))
  rows = _inside_vocabulary(rows, vocabulary, options.unlisted, problems)
  splits, more = split_rows(rows, val_share=options.val_share, test_share=options.test_share,
                            seed=options.seed)
  problems += more
  request = {**origin, **options.image, "vocabulary": list(vocabulary),
             "unlisted": options.unlisted, "val_share": options.val_share,
             "test_share": options.test_share, "seed": options.seed}
  restore_output(output)
  check_output(output, request=request, overwrite=options.overwrite)
  before = read_info(output)["fingerprint"] if (output / DATASET_FILE).is_file() else None
  try:
    with staged_output(output, request=request, overwrite=options.overwrite) as folder:
      with decoded_images(output) as decoded, contextlib.ExitStack() as stack:
        bar = stack.enter_context(tqdm(total=sum(map(len, splits.values())), unit="image",
                                       desc="prepare", disable=None))
        pool = stack.enter_context(worker_pool(options.workers))
        studies = number_studies([row for part in splits.values() for row in part])
        images = functools.partial(_images, root, options, decoded, pool)
        records = {split: _records(part, studies, images(part), problems, bar)
                   for split, part in splits.items()}
        written = write_records(records, folder, vocabulary=vocabulary,
                                resolution=options.resolution, bits=options.bits,
                                unlisted=options.unlisted, request=request, info=info)
      write_quarantine(folder / QUARANTINE_FILE, problems)
      _write_splits(folder / SPLITS_FILE, splits, left_out={(p.row, p.image) for p in problems})
  except NoRecordsError as error:
    if before is None:
      output.mkdir(parents=True, exist_ok=True)
      write_quarantine(output / QUARANTINE_FILE, problems)
    raise ManifestError(_nothing_left("no row can be used", problems)) from error
  return written, problems, written["fingerprint"] == before


def _images(root: Path, options: Options, decoded: DecodedImages, pool, rows: Sequence[Row]
            ) -> Iterator[tuple | Unusable]:
  """For each row its pixels and PNG bytes, or why there are none; adds new ones to `decoded`."""
  load = functools.partial(_load, root, options.image)
  waiting: collections.deque[tuple[Row, bytes | None]] = collections.deque()

  def new_images() -> Iterator[tuple[str, bool]]:
    for row in rows:
      key = _key(root, row, options) if decoded.found else None   # spares a look at each file
      known = key is not None and key in decoded
      waiting.append((row, key if known else None))
      if not known:
        yield row.image, row.inverted

  loaded = ordered_map(load, new_images(), pool=pool, ahead=4 * options.workers)
  wait = next(loaded, None)
  while waiting:
    row, key = waiting.popleft()
    try:
      if key is None:
        image = wait()
        if new := _key(root, row, options):
          decoded.put(new, image[1])
      else:
        png = decoded.get(key)
        image = (load((row.image, row.inverted)) if png is None
                 else (decode_png(png, options.bits), png))
    except Unusable as error:
      image = error
    yield image
    if key is None:
      wait = next(loaded, None)


def _load(root: Path, options: Mapping, image: tuple[str, bool]) -> tuple:
  """`load_image`, in a worker, of a row's image that may be inverted."""
  name, inverted = image
  return load_image(root, name, inverted=inverted, **options)


def _key(root: Path, row: Row, options: Options) -> bytes | None:
  """What `DecodedImages` knows the row's image by; None where there is no such file."""
  try:
    return image_key(root / row.image, inverted=row.inverted, **options.image)
  except (OSError, ValueError):
    return None


def _records(rows: Sequence[Row], studies: Mapping[int, int], images: Iterator,
             problems: list[Problem], bar: tqdm) -> Iterator[dict]:
  """Records of the rows whose images can be read; the others are added to `problems`."""
  for row, image in zip(rows, images, strict=True):
    bar.update()
    if isinstance(image, Unusable):
      problems.append(Problem(row.number, row.image, image.kind, str(image)))
      continue
    pixels, png = image
    yield {"image": pixels, "png": png, "image_id": row.image_id, "patient_id": row.patient_id,
           "study": studies[row.number], "findings": row.findings, "report": row.report,
           "view": row.view, "sex": row.sex, "age": row.age}


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


def _write_splits(path: Path, splits: Mapping[str, Sequence[Row]],
                  left_out: set[tuple[int, str]]) -> None:
  """Writes `image,patient_id,split`: who is held out; not the rows in `left_out`, number and image.

  A number alone can be that of another table's row.
  """
  with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
    writer = csv.writer(file)
    writer.writerow(("image", "patient_id", "split"))
    for split, rows in splits.items():
      writer.writerows((row.image, row.patient_id, split) for row in rows
                       if (row.number, row.image) not in left_out)


def _nothing_left(what: str, problems: Sequence[Problem], shown: int = 3) -> str:
  """`what`, and the first problems."""
  parts = [f"row {p.row}: {p.kind}: {p.reason}" for p in problems[:shown]]
  if len(problems) > shown:
    parts.append(f"and {len(problems) - shown} more rows")
  return "; ".join([what, *parts])
