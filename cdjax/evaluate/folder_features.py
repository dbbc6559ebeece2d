"""The features of a folder's images, chunk by chunk: bounded memory, resumable, in shards.

A chunk is 256 consecutive names of the folder. What it gives depends on its files, the extractors
and nothing else, so that any process may compute it: shard s of n takes every n-th chunk, and the
process that joins them finds all of them kept. At 256 px a chunk holds 17 MB of pixels.
"""

import collections
import concurrent.futures
import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from cdjax.data import folder as folders
from cdjax.data.folder import ImageFolder
from cdjax.data.image_io import LASTING
from cdjax.data.pool import ordered_map
from cdjax.data.quarantine import Unusable
from cdjax.evaluate.feature_rows import FeatureRows, finish_rows, merge_rows, update_rows
from cdjax.evaluate.features import Extractor, extract
from cdjax.evaluate.resume import fingerprint_of, resumed_arrays

CHUNK = 256
FORMAT = 1   # of what is kept; another number when the same files would give other features
_AHEAD = 64   # images that worker processes read before they are needed


@dataclasses.dataclass(frozen=True)
class Reading:
  """How files become square grey images of one size.

  Attributes:
    resolution: side in pixels.
    fit: "crop" or "pad", see `data.image_io`.
  """

  resolution: int
  fit: str

  def __str__(self) -> str:
    return f"{self.fit}{self.resolution}"


@dataclasses.dataclass(frozen=True)
class FolderFeatures:
  """What is known of the images seen so far; states of shards are merged.

  Attributes:
    rows: features by extractor's name.
    broken: number of each image that cannot be used, and why.
    prints: start of each chunk, and a digest of all that its features were made from.
    forms: how many images are of each `image_io.file_form`.
  """

  rows: dict[str, FeatureRows]
  broken: tuple[tuple[int, str], ...] = ()
  prints: tuple[tuple[int, str], ...] = ()
  forms: collections.Counter = dataclasses.field(default_factory=collections.Counter)

  @property
  def fingerprint(self) -> str:
    """Of all that was read and of what could not be, whatever the files are by now."""
    return fingerprint_of(self.prints, [number for number, _ in self.broken])


def chunk_starts(total: int, shard: tuple[int, int] = (0, 1)) -> list[int]:
  """Where the chunks of a shard begin.

  Args:
    total: N images.
    shard: (s, n): s of n shards, from 0.

  Raises:
    ValueError: not 0 ≤ s < n.
  """
  index, count = shard
  if not 0 <= index < count:
    raise ValueError(f"shard {index} of {count}; expected 0 to {count - 1}")
  return list(range(0, total, CHUNK))[index::count]


def chunk_fingerprint(folder: ImageFolder, start: int, reading: Reading,
                      extractors: Sequence[Extractor]) -> str:
  """Of the files, by name, size and time of change, and of what is done to them."""
  def state(name):
    try:
      stat = (folder.root / name).stat()
    except OSError:
      return None
    return stat.st_size, stat.st_mtime_ns

  files = [(name, state(name)) for name in folder.names[start:start + CHUNK]]
  networks = [(extractor.name, extractor.size, extractor.digest) for extractor in extractors]
  return fingerprint_of(FORMAT, start, files, str(reading), networks)


def chunk_features(folder: ImageFolder, start: int, reading: Reading,
                   extractors: Sequence[Extractor], *, batch_size: int,
                   pool: concurrent.futures.Executor | None,
                   on_images: Callable[[int], None]) -> dict[str, np.ndarray]:
  """Reads one chunk and runs every extractor on it; arguments as of `folder_features`.

  Returns:
    `index` `[M]` int64, the numbers of the readable images; `forms` `[M]` str;
    `features/NAME` `[M, D]`; `broken` `[P]` int64 and `reasons` `[P]` str; `passing` `[]` bool,
    whether a later run might read more.
  """
  index, pixels, forms, broken, reasons, passing = [], [], [], [], [], False
  read = functools.partial(_read, folder.root, reading)
  images = ordered_map(read, folder.names[start:start + CHUNK], pool=pool, ahead=_AHEAD)
  for number, wait in enumerate(images, start):
    try:
      image, form = wait()
      pixels.append(image)
      forms.append(form)
      index.append(number)
    except (Unusable, OSError, MemoryError) as error:
      broken.append(number)
      reasons.append(str(error) or type(error).__name__)
      passing |= getattr(error, "kind", "") not in LASTING
    on_images(1)
  out = {"index": np.array(index, np.int64), "broken": np.array(broken, np.int64),
         "reasons": np.array(reasons, np.str_), "forms": np.array(forms, np.str_),
         "passing": np.array(passing)}
  if index:
    x = np.stack(pixels)
    for extractor in extractors:
      out[f"features/{extractor.name}"] = np.concatenate([
          # A batch at a time is turned to floats: a chunk of 1,024 px would take 1 GB of them.
          extract(extractor, x[i:i + batch_size].astype(np.float32) / 255, batch_size=batch_size)
          for i in range(0, len(x), batch_size)])
  return out


def _read(root: Path, reading: Reading, name: str) -> tuple[np.ndarray, str]:
  """Pixels, and how the file holds them."""
  pixels = folders.read_pixels(root, name, resolution=reading.resolution, fit=reading.fit)
  return pixels, folders.read_form(root, name)


def folder_features(
    folder: ImageFolder,
    extractors: Sequence[Extractor],
    reading: Reading,
    *,
    kept: Path | None = None,
    shard: tuple[int, int] = (0, 1),
    batch_size: int = 32,
    pool: concurrent.futures.Executor | None = None,
    on_images: Callable[[int], None] = lambda count: None,
) -> FolderFeatures:
  """Features of a folder, or of one shard of it.

  Args:
    folder: N images.
    extractors: with different names.
    reading: how files are read.
    kept: path and start of the names of the files in which chunks are kept, or None; chunks found
      there that fit are not computed again. A chunk with an image that only the disk, a right or
      the memory kept from being read is not kept, so that the next run tries it again.
    shard: (s, n); the chunks of all n shards together are the folder's.
    batch_size: images of each call of an extractor.
    pool: of processes that read, from `data.pool.worker_pool`; None reads in this one.
    on_images: told of images that are done, now or before.
  """
  state = FolderFeatures({extractor.name: FeatureRows() for extractor in extractors})
  for start in chunk_starts(len(folder), shard):
    path = None if kept is None else kept.with_name(f"{kept.name}-{start:07d}.npz")
    # Taken before the files are read: what changes after that has another one the next time.
    made_from = chunk_fingerprint(folder, start, reading, extractors)
    arrays = _kept_chunk(path, made_from, folder, start, reading, extractors,
                         batch_size=batch_size, pool=pool, on_images=on_images)
    rows = state.rows
    if len(arrays["index"]):
      rows = {name: update_rows(part, arrays["index"], arrays[f"features/{name}"])
              for name, part in rows.items()}
    broken = zip(arrays["broken"].tolist(), arrays["reasons"].tolist(), strict=True)
    state = FolderFeatures(rows, (*state.broken, *broken), (*state.prints, (start, made_from)),
                           state.forms + collections.Counter(arrays["forms"].tolist()))
  return state


def _kept_chunk(path, made_from, folder, start, reading, extractors, *, on_images, **how):
  """`chunk_features`, or what was kept of it."""
  told = 0

  def tell(count):
    nonlocal told
    told += count
    on_images(count)

  arrays = resumed_arrays(
      path, made_from,
      lambda: chunk_features(folder, start, reading, extractors, on_images=tell, **how),
      keep=lambda arrays: not arrays["passing"])
  on_images(len(folder.names[start:start + CHUNK]) - told)
  return arrays


def merge_features(a: FolderFeatures, b: FolderFeatures) -> FolderFeatures:
  """The images of both shards."""
  return FolderFeatures({name: merge_rows(a.rows[name], b.rows[name]) for name in a.rows},
                        tuple(sorted((*a.broken, *b.broken))),
                        tuple(sorted((*a.prints, *b.prints))), a.forms + b.forms)


def finish_features(state: FolderFeatures, folder: ImageFolder
                    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
  """All features in the order of the folder.

  Returns:
    numbers of the images `[M]` int64; features `[M, D]` by extractor.

  Raises:
    ValueError: no image of the folder can be used.
  """
  if len(state.broken) == len(folder):
    number, reason = state.broken[0]
    raise ValueError(f"none of the {len(folder)} images of {folder.root} can be used; "
                     f"{folder.names[number]}: {reason}")
  finished = {name: finish_rows(rows) for name, rows in state.rows.items()}
  index = next(iter(finished.values()))[0]
  return index, {name: features for name, (_, features) in finished.items()}
