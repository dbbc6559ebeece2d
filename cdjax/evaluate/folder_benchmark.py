"""What comparing two folders costs on this machine: images a second, seconds of each phase, memory.

Writes 2 N soft random images of 256 px into a folder that is removed again, and compares them with
features as wide as InceptionV3's, whose network is replaced by a random projection: the numbers
are those of reading, of the measures and of the memory, to which a network's own time is added.

  python -m cdjax.evaluate.folder_benchmark --images 10000
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from PIL import Image
from tqdm import tqdm

from cdjax.data.folder import open_folder
from cdjax.evaluate.features import Extractor, pixel_extractor
from cdjax.evaluate.folder_comparison import Settings, compare_folders
from cdjax.evaluate.folder_features import Reading

WIDTH = 2048
_SIDE = 32    # pixels that the projection sees


def write_images(root: Path, total: int, *, resolution: int, seed: int) -> None:
  """Writes `total` PNG files: random clouds with a little grain, as well compressed as an X-ray."""
  rng = np.random.default_rng(seed)
  root.mkdir(parents=True)
  for number in tqdm(range(total), desc=f"write {root.name}", unit="image"):
    coarse = Image.fromarray(rng.integers(40, 216, (12, 12), np.uint8))
    cloud = np.asarray(coarse.resize((resolution, resolution), Image.Resampling.BICUBIC), int)
    grain = rng.integers(-3, 4, cloud.shape, np.int8)
    pixels = np.clip(cloud + grain, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(root / f"{number:06}.png", compress_level=1)


def wide_extractor() -> Extractor:
  """A random projection of 32 x 32 pixels to `WIDTH` rectified features."""
  matrix = np.random.default_rng(0).standard_normal((_SIDE * _SIDE, WIDTH)).astype(np.float32)
  project = jax.jit(lambda x: jax.nn.relu(x.reshape(len(x), -1) @ matrix / _SIDE))
  return Extractor(f"random-{WIDTH}", _SIDE, project)


def benchmark(folder: Path, images: int, *, resolution: int, suite: str) -> dict[str, float]:
  """Compares two folders of `images` each.

  Returns:
    seconds of each phase and in all, images a second of reading, and the process's peak memory in
    GiB.
  """
  for seed, name in enumerate(("real", "synthetic")):
    write_images(folder / name, images, resolution=resolution, seed=seed)
  before = _peak()
  began = time.perf_counter()
  with tqdm(total=2 * images, unit="image") as bar:
    metrics = compare_folders(
        open_folder(folder / "real"), open_folder(folder / "synthetic"),
        [wide_extractor(), pixel_extractor()],
        Settings(suite, 100, 0, Reading(resolution, "crop")), parts=folder / "parts",
        progress=lambda what, count: (bar.set_description_str(what), bar.update(count))[0])
  seconds = {key: entry["value"] for key, entry in metrics.items() if key.startswith("seconds/")}
  return seconds | {
      "seconds/total": time.perf_counter() - began,
      "images_per_second": 2 * images / seconds["seconds/features"],
      "peak_gib": _peak(), "peak_gib_before": before}


def _peak() -> float:
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20   # Linux counts in KiB


def main() -> None:
  """Reads the arguments, runs, prints JSON."""
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--images", type=int, default=10000, help="of each folder")
  parser.add_argument("--resolution", type=int, default=256)
  parser.add_argument("--suite", choices=("quick", "full"), default="quick")
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    print(json.dumps(benchmark(Path(folder), args.images, resolution=args.resolution,
                               suite=args.suite), indent=1))


if __name__ == "__main__":
  main()
