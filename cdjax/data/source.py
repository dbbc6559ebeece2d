"""Random access to one split of a prepared data set, for training and evaluation."""

import dataclasses
import itertools
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cdjax.core.types import FindingsArrays
from cdjax.data.image_io import decode_png, pixel_dtype
from cdjax.data.staging import read_info
from cdjax.data.write import findings_from_json

CACHE_BYTES = 512 << 20
_CHUNK = 64  # records read at once; bounds the memory that compressed images take
_OPENING = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Index:
  """What is known of N records without reading an image.

  Attributes:
    patient: `[N]` int32, a number within the split.
    study: `[N]` int64, the order within the patient.
    view: `[N]` int32, position in the data set's `views`.
    findings: `FindingsArrays` of `[N, K]`.
  """

  patient: np.ndarray
  study: np.ndarray
  view: np.ndarray
  findings: FindingsArrays


class Split:
  """A sequence of decoded records; picklable, so that worker processes can read it.

  Attributes:
    info: the data set's `dataset.json`.
    name: "train", "validation" or "test".
    vocabulary: K canonical names of findings.
    views: names of radiographic views, "" for unknown.
    resolution, bits: of the images.
    index: `Index` of all records.
  """

  def __init__(self, path: str | Path, name: str, *, cache: bool | None = None):
    self.path, self.name = Path(path).absolute(), name
    self.info = read_info(path)
    if name not in self.info["splits"]:
      raise ValueError(f"split={name!r} of {path}; expected one of {sorted(self.info['splits'])}")
    self.vocabulary = tuple(self.info["vocabulary"])
    self.views = tuple(self.info["views"])
    self.resolution, self.bits = self.info["resolution"], self.info["bits"]
    with np.load(self.path / "index" / f"{name}.npz", allow_pickle=False) as arrays:
      self.index = Index(patient=arrays["patient"], study=arrays["study"], view=arrays["view"],
                         findings=FindingsArrays(**{key: arrays[key] for key in
                                                    ("status", "severity", "side", "zone")}))
    size = len(self) * self.resolution ** 2 * self.bits // 8
    self._cached = size <= CACHE_BYTES if cache is None else cache
    self._records: Sequence[dict] | None = None
    # Reserved at once, since several threads fill it; the system gives pages as they are written.
    shape = (len(self), self.resolution, self.resolution)
    self._pixels = np.empty(shape, pixel_dtype(self.bits)) if self._cached else None
    self._filled = np.zeros(len(self), bool)

  def __len__(self) -> int:
    return len(self.index.patient)

  def __getstate__(self) -> dict[str, Any]:
    # Worker processes open the files anew, and none of them could fill the others' caches.
    return self.__dict__ | {"_records": None, "_pixels": None, "_cached": False}

  @property
  def records(self) -> Sequence[dict]:
    """The undecoded examples, opened on first use."""
    # Reading threads arrive together, and what tfds imports when it is first used can be imported
    # by one of them only.
    with _OPENING:
      if self._records is None:
        from cdjax.data.builder import read_array_records
        self._records = read_array_records(self.path, self.name)
    return self._records

  def __getitem__(self, i: int) -> dict:
    """Everything about one record, in the form that `write_dataset` takes."""
    if not 0 <= i < len(self):
      raise IndexError(f"record {i} of {len(self)} in {self.name}")
    example = self.records[i]
    texts = {key: example[key].decode() for key in
             ("image_id", "patient_id", "report", "view", "sex")}
    age = float(example["age"])
    return {**texts, "study": int(example["study"]), "age": None if np.isnan(age) else age,
            "findings": findings_from_json(example["findings"].decode()),
            "image": decode_png(example["image"], self.bits)}

  def image_ids(self) -> list[str]:
    """The image ids of all records, in order."""
    with np.load(self.path / "index" / f"{self.name}.npz", allow_pickle=False) as arrays:
      return [name.decode() for name in arrays["image_id"]]

  def images(self, indices: np.ndarray) -> np.ndarray:
    """Pixels of some records, from memory where they were read before.

    Args:
      indices: `[B]` int.

    Returns:
      `[B, H, W]` uint8 or uint16.
    """
    indices = np.asarray(indices)
    if not self._cached:
      return self._read(indices)
    missing = np.unique(indices[~self._filled[indices]])
    if missing.size:
      self._pixels[missing] = self._read(missing)
      self._filled[missing] = True
    return self._pixels[indices]

  def _read(self, indices: np.ndarray) -> np.ndarray:
    pixels = np.empty((len(indices), self.resolution, self.resolution), pixel_dtype(self.bits))
    for start in range(0, len(indices), _CHUNK):
      examples = self.records.__getitems__(indices[start:start + _CHUNK].tolist())
      for row, example in zip(itertools.count(start), examples, strict=False):
        pixels[row] = decode_png(example["image"], self.bits)
    return pixels


def open_split(path: str | Path, split: str, *, cache: bool | None = None) -> Split:
  """Opens one split of a prepared data set.

  Args:
    path: the folder given to `cdjax prepare --output` or `write_dataset`.
    split: "train", "validation" or "test".
    cache: keep decoded images in memory; None: where all of them fit into 512 MiB.

  Raises:
    FileNotFoundError: not a prepared data set.
    ValueError: it has no such split; lists those it has.
  """
  return Split(path, split, cache=cache)
