"""Measures how many radiographs a second one core prepares, and how many it reads in training.

Three figures: what each worker of `cdjax prepare --workers N` does (read, make square, resize,
compress); the whole preparation, from a manifest to shards, in one process; and the batches of
training, read from those shards. They are by computing time, so that other work on the machine
does not count.

Without --images it writes grey JPEG files with as many bits a pixel as those of MIMIC-CXR-JPG, and
removes them afterwards.

examples:
  cdjax throughput
  cdjax throughput --resolution 256 --megapixels 8
  cdjax throughput --images xrays --count 200
"""

import argparse
import tempfile
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the command's arguments."""
  parser.add_argument("--resolution", type=int, default=512, metavar="PIXELS",
                      help="side of the stored images (default: %(default)s)")
  parser.add_argument("--megapixels", type=float, default=2.0,
                      help="of each JPEG file (default: %(default)s)")
  parser.add_argument("--count", type=int, default=32, metavar="N",
                      help="how many images (default: %(default)s)")
  parser.add_argument("--images", metavar="DIR",
                      help="measure on the JPEG, PNG and DICOM files of this folder instead")


def run(args: argparse.Namespace) -> int:
  """Prints the figure; raises where there is nothing to measure."""
  from cdjax.data.throughput import make_jpegs

  if args.count < 2 or args.resolution < 8 or not 0.01 <= args.megapixels <= 100:
    raise ValueError(f"--count {args.count} --resolution {args.resolution} --megapixels "
                     f"{args.megapixels}; expected >= 2, >= 8 and 0.01 to 100")
  if args.images:
    _report(_files(Path(args.images), args.count), f"files of {args.images}", args.resolution)
  else:
    with tempfile.TemporaryDirectory() as folder:
      paths = make_jpegs(Path(folder), args.count, args.megapixels)
      _report(paths, f"JPEG files of {args.megapixels:g} megapixels", args.resolution)
  return 0


def _report(paths: list[Path], what: str, resolution: int) -> None:
  """Measures and prints."""
  from cdjax.data.throughput import measure, measure_training, measure_whole

  results = {"read and compress": measure(paths, resolution=resolution),
             "whole preparation": measure_whole(paths, resolution=resolution),
             "training batches": measure_training(paths, resolution=resolution)}
  first = results["read and compress"]
  print(f"{first.images} {what}, {first.bytes_an_image / 1024:.0f} KiB each, to {resolution} px")
  for name, result in results.items():
    print(f"{name}: {result.per_core:.1f} images/s a core ({result.cpu_seconds:.2f} s of "
          f"computing, {result.wall_seconds:.2f} s passed)")


def _files(folder: Path, count: int) -> list[Path]:
  """The first images of one folder.

  Raises:
    ValueError: it has none.
  """
  known = (".jpg", ".jpeg", ".png", ".dcm", ".dicom")
  files = sorted(path for path in folder.iterdir() if path.suffix.lower() in known)[:count]
  if not files:
    raise ValueError(f"{folder} holds no file that ends in {', '.join(known)}")
  return files
