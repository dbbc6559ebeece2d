"""Measures how many radiographs a second one core prepares: read, make square, resize, compress.

Without --images it writes grey JPEG files with as many bits a pixel as those of MIMIC-CXR-JPG, and
removes them afterwards. The figure is by computing time of one process, so that other work on the
machine does not count; `cdjax prepare --workers N` does it in N processes.

examples:
  cdjax throughput
  cdjax throughput --resolution 256 --megapixels 8
  cdjax throughput --images xrays --count 200
"""

import argparse
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
  from cdjax.data.throughput import measure, measure_synthetic

  if args.count < 1 or args.resolution < 8 or not 0.01 <= args.megapixels <= 100:
    raise ValueError(f"--count {args.count} --resolution {args.resolution} --megapixels "
                     f"{args.megapixels}; expected >= 1, >= 8 and 0.01 to 100")
  if args.images:
    files = _files(Path(args.images), args.count)
    result = measure(files, resolution=args.resolution)
    what = f"files of {args.images}"
  else:
    result = measure_synthetic(args.count, args.megapixels, resolution=args.resolution)
    what = f"JPEG files of {args.megapixels:g} megapixels"
  print(f"{result.images} {what}, {result.bytes_an_image / 1024:.0f} KiB each, to "
        f"{args.resolution} px")
  print(f"{result.per_core:.1f} images/s a core ({result.cpu_seconds:.2f} s of computing, "
        f"{result.wall_seconds:.2f} s passed)")
  return 0


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
