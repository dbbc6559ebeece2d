"""How many radiographs a second one core prepares, and how many it reads in training."""

import contextlib
import csv
import dataclasses
import io
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cdjax.data.image_io import load_image
from cdjax.data.pipeline import make_loader
from cdjax.data.prepare import prepare
from cdjax.data.source import open_split

# Of MIMIC-CXR-JPG, 570 GB for 377,110 images of some 7.6 megapixels.
_BITS_PER_PIXEL = 1.6


@dataclasses.dataclass(frozen=True)
class Throughput:
  """What was measured in one process.

  Attributes:
    images: how many were prepared.
    cpu_seconds: that the process computed.
    wall_seconds: that passed; more where other processes run.
    bytes_an_image: mean size of the files.
  """

  images: int
  cpu_seconds: float
  wall_seconds: float
  bytes_an_image: float

  @property
  def per_core(self) -> float:
    """Images a second of computing."""
    return self.images / self.cpu_seconds


def make_jpegs(folder: Path, count: int, megapixels: float, *, seed: int = 0) -> list[Path]:
  """Writes grey JPEG files that cost as much to decode as radiographs of their size.

  A radiograph's detail falls off towards high frequencies. The quality is the lowest that needs
  1.6 bits a pixel, as MIMIC-CXR-JPG does, for decoding time goes with the bits.

  Args:
    folder: an existing folder.
    count: of files.
    megapixels: of each, with sides of 5 to 4.
    seed: of the contents.

  Returns:
    Their paths.
  """
  width = round((megapixels * 1e6 * 4 / 5) ** 0.5)
  height = round(width * 5 / 4)
  rng = np.random.default_rng(seed)
  paths = []
  for i in range(count):
    pixels = np.zeros((height, width), np.float32)
    for size, weight in ((8, 60.0), (40, 20.0), (200, 8.0), (800, 4.0)):
      layer = rng.normal(0, weight, (size * 5 // 4, size)).astype(np.float32)
      pixels += np.asarray(Image.fromarray(layer).resize((width, height), Image.Resampling.BICUBIC))
    pixels += rng.normal(0, 2, pixels.shape)   # the detector's noise
    image = Image.fromarray(np.clip(pixels + 128, 0, 255).astype(np.uint8))
    paths.append(folder / f"{i}.jpg")
    paths[-1].write_bytes(_compressed(image))
  return paths


def _compressed(image: Image.Image) -> bytes:
  """The image as JPEG of the wanted number of bits a pixel."""
  for quality in range(60, 101, 4):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    if buffer.tell() * 8 >= _BITS_PER_PIXEL * image.width * image.height:
      break
  return buffer.getvalue()


def measure(paths: Sequence[Path], *, resolution: int) -> Throughput:
  """Reads, squares, resizes and compresses each file, as each worker of `prepare` does.

  Args:
    paths: files in one folder.
    resolution: side of the stored images.
  """
  load = lambda path: load_image(path.parent, path.name, resolution=resolution, bits=8, fit="crop")
  load(paths[0])   # the first one loads libraries
  return _timed(paths, lambda: [load(path) for path in paths])


def measure_whole(paths: Sequence[Path], *, resolution: int) -> Throughput:
  """`prepare` from a manifest to shards and index, in this process; arguments as `measure`."""
  with tempfile.TemporaryDirectory() as name:
    _prepare(paths, Path(name) / "warm", resolution=16)
    return _timed(paths, lambda: _prepare(paths, Path(name) / "data", resolution=resolution))


def measure_training(paths: Sequence[Path], *, resolution: int) -> Throughput:
  """The batches of training, read from shards in this process without memory of earlier ones.

  Each record counts once: a step of the autoencoder reads two, the anchor and its mate.
  Arguments as `measure`.
  """
  with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    _prepare(paths, folder, resolution=resolution, val_share=0.0, test_share=0.0)
    loader = make_loader(
        open_split(folder, "train", cache=False), batch_size=1, seed=0, read_threads=0,
        num_epochs=2, mates=False)
    with contextlib.closing(loader):
      for _ in paths:   # the first epoch opens the files
        next(loader)
      return _timed(paths, lambda: [next(loader) for _ in paths])


def _prepare(paths: Sequence[Path], output: Path, **options) -> None:
  """Prepares files of one folder; every other one shows something."""
  with tempfile.TemporaryDirectory() as name:
    manifest = Path(name) / "list.csv"
    with manifest.open("w", newline="", encoding="utf-8") as file:
      rows = csv.writer(file)
      rows.writerow(("image", "patient_id", "findings"))
      rows.writerows((path.name, path.name, "nodule" if i % 2 else "healthy")
                     for i, path in enumerate(paths))
    prepare(paths[0].parent, manifest, output, vocabulary=("nodule",), **options)


def _timed(paths: Sequence[Path], work: Callable[[], object]) -> Throughput:
  cpu, wall = time.process_time(), time.perf_counter()
  work()
  return Throughput(images=len(paths), cpu_seconds=time.process_time() - cpu,
                    wall_seconds=time.perf_counter() - wall,
                    bytes_an_image=sum(path.stat().st_size for path in paths) / len(paths))
