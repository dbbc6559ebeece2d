"""How many radiographs a second one core prepares."""

import dataclasses
import io
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cdjax.data.image_io import load_image

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


def measure(paths: Sequence[Path], *, resolution: int, bits: int = 8, fit: str = "crop"
            ) -> Throughput:
  """Prepares each file once, as `prepare` does in each of its workers.

  Args:
    paths: files in one folder.
    resolution, bits, fit: of the stored images.
  """
  load_image(paths[0].parent, paths[0].name, resolution=resolution, bits=bits, fit=fit)  # warm
  cpu, wall = time.process_time(), time.perf_counter()
  for path in paths:
    load_image(path.parent, path.name, resolution=resolution, bits=bits, fit=fit)
  return Throughput(images=len(paths), cpu_seconds=time.process_time() - cpu,
                    wall_seconds=time.perf_counter() - wall,
                    bytes_an_image=sum(path.stat().st_size for path in paths) / len(paths))


def measure_synthetic(count: int, megapixels: float, *, resolution: int, bits: int = 8,
                      fit: str = "crop") -> Throughput:
  """`measure` on files of `make_jpegs`, which are removed afterwards."""
  with tempfile.TemporaryDirectory() as folder:
    paths = make_jpegs(Path(folder), count, megapixels)
    return measure(paths, resolution=resolution, bits=bits, fit=fit)
