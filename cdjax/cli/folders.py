"""`cdjax evaluate --real DIR --synthetic DIR`: two plain folders of anybody's images."""

import argparse
import os
from pathlib import Path


def add_folder_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares what `cdjax evaluate` takes for two folders."""
  group = parser.add_argument_group("two folders of images (PNG, JPEG, DICOM)")
  group.add_argument("--real", type=Path, metavar="DIR", help="real radiographs")
  group.add_argument("--synthetic", type=Path, metavar="DIR", help="what is measured against them")
  group.add_argument("--held-out", type=Path, metavar="DIR",
                     help="real radiographs of other patients, which the generator never saw; "
                     "--real are then those it was trained on, and privacy is measured")
  for kind in ("real", "synthetic", "held-out"):
    group.add_argument(f"--{kind}-manifest", type=Path, metavar="FILE",
                       help="as `cdjax prepare` takes it; names the folder's images and their "
                       "groups")
  group.add_argument("--columns", nargs="+", type=_pair, default=[], metavar="FIELD=COLUMN",
                     help="columns of other names in the manifests, e.g. site=hospital")
  group.add_argument("--extractor", action="append", type=_pair, default=[], metavar="NAME=FILE",
                     help="a published network and its weights (.safetensors); may be repeated; "
                     "without one, the classifier of --workdir, else the pixels")
  group.add_argument("--resolution", type=int, default=256, metavar="PIXELS",
                     help="side that images are read at (default: %(default)s)")
  group.add_argument("--fit", choices=("crop", "pad"), default="crop",
                     help="how images become square (default: %(default)s)")
  group.add_argument("--least", type=int, default=100, metavar="N",
                     help="images of each folder that a group needs (default: %(default)s)")
  group.add_argument("--utility", action="store_true",
                     help="also train the classifier on real, synthetic, both, and synthetic then "
                     "real images, and test it on held-out real patients; needs both manifests; "
                     "--config.classifier.KEY=VALUE and --config.data.resolution=SIDE change it")
  group.add_argument("--json", type=Path, default=Path("metrics.json"), metavar="FILE",
                     help="where the numbers go; features are kept in FILE's name plus .parts "
                     "(default: %(default)s)")
  group.add_argument("--shard", type=_shard, metavar="I/N",
                     help="only compute features of every N-th chunk, for the same command without "
                     "--shard to find; I from 0")
  group.add_argument("--workers", type=int, default=0, metavar="N",
                     help="processes that decode images; 0: none beside this one "
                     "(default: %(default)s)")


def given_folder_arguments(args: argparse.Namespace) -> list[str]:
  """The options of `add_folder_arguments` that have another value than by default."""
  parser = argparse.ArgumentParser()
  add_folder_arguments(parser)
  return [f"--{name.replace('_', '-')}" for name, default in vars(parser.parse_args([])).items()
          if getattr(args, name) != default]


def _pair(text: str) -> tuple[str, str]:
  name, equals, value = text.partition("=")
  if not (name and equals and value):
    raise argparse.ArgumentTypeError(f"{text!r}; expected NAME=VALUE")
  return name, value


def _shard(text: str) -> tuple[int, int]:
  index, slash, count = text.partition("/")
  if not (slash and index.isdigit() and count.isdigit() and int(index) < int(count)):
    raise argparse.ArgumentTypeError(f"{text!r}; expected I/N with I below N, e.g. 0/4")
  return int(index), int(count)


def run_folders(args: argparse.Namespace) -> int:
  """Compares the folders, writes the metrics and prints the tables; returns 0."""
  from tqdm import tqdm

  from cdjax.data.folder import open_folder
  from cdjax.data.pool import worker_pool
  from cdjax.evaluate.folder_comparison import Settings, compare_folders
  from cdjax.evaluate.folder_features import Reading
  from cdjax.evaluate.folder_table import format_folder_table
  from cdjax.evaluate.folder_utility import folder_utility, split_for_utility
  from cdjax.evaluate.resume import write_json

  if args.resolution < 16 or args.least < 6 or args.workers < 0:
    raise ValueError(f"--resolution {args.resolution} --least {args.least} --workers "
                     f"{args.workers}; expected at least 16, 6 and 0")
  if args.held_out_manifest is not None and args.held_out is None:
    raise ValueError("--held-out-manifest needs --held-out")
  if args.utility and (args.real_manifest is None or args.synthetic_manifest is None):
    raise ValueError("--utility needs --real-manifest and --synthetic-manifest")
  if args.overrides and not args.utility:
    raise ValueError(f"{args.overrides[0]}: two folders have a configuration with --utility only")
  config = _classifier_config(args) if args.utility else None
  columns = dict(args.columns)
  folders = {kind: open_folder(root, manifest, columns) for kind, root, manifest in (
      ("real", args.real, args.real_manifest),
      ("synthetic", args.synthetic, args.synthetic_manifest),
      ("held_out", args.held_out, args.held_out_manifest)) if root is not None}
  pair = folders["real"], folders["synthetic"]
  if args.utility:   # what is wrong with labels or splits is said before hours of work
    split_for_utility(*pair, seed=args.seed or 0)
  extractors = load_extractors(args)
  parts = args.json.with_suffix(".parts")
  workers = min(args.workers, os.cpu_count() or 1)
  settings = Settings(suite=args.suite, least=args.least, seed=args.seed or 0,
                      reading=Reading(args.resolution, args.fit))
  with tqdm(total=sum(map(len, folders.values())), unit="image", desc="features") as bar, \
       worker_pool(workers) as pool:
    def progress(what: str, images: int) -> None:
      bar.set_description_str(what, refresh=not images)
      bar.update(images)

    if args.shard is not None:
      _shard_features(folders, extractors, settings.reading, parts, args.shard, pool, progress)
      print(f"shard {args.shard[0]} of {args.shard[1]}: features are in {parts}")
      return 0
    metrics = compare_folders(*pair, extractors, settings, held_out=folders.get("held_out"),
                              parts=parts, pool=pool, progress=progress)
  write_json(args.json, metrics)
  print(format_folder_table(metrics))
  if args.utility:
    print(f"\n{args.json} has all of this; the classifiers are trained now", flush=True)
    measured, left_out = folder_utility(config, *pair, parts / "utility", fit=args.fit,
                                        seed=args.seed or 0)
    metrics |= measured
    metrics["left_out"] += left_out
    write_json(args.json, metrics)
    print(format_folder_table(metrics))
  print(f"\nevery number is in {args.json}")
  return 0


def _classifier_config(args: argparse.Namespace):
  """The configuration that --utility trains with."""
  from cdjax.cli.overrides import parse_overrides
  from cdjax.core.config import base_config
  return parse_overrides(base_config(), args.overrides)


def load_extractors(args: argparse.Namespace) -> list:
  """Those that were asked for; else the workdir's classifier; else pixels.

  Copies are looked for in pixels too, so that --held-out adds them.
  """
  from cdjax.evaluate.features import load_extractor, pixel_extractor
  from cdjax.evaluate.trained import load_classifier_extractor
  extractors = [load_extractor(name, file) for name, file in args.extractor]
  if args.workdir is not None:
    extractors.append(load_classifier_extractor(args.workdir))
  return extractors + [pixel_extractor()] * (not extractors or args.held_out is not None)


def _shard_features(folders, extractors, reading, parts, shard, pool, progress) -> None:
  """Computes one shard of each folder's features, to be kept."""
  from cdjax.evaluate.folder_features import folder_features
  for kind, folder in folders.items():
    folder_features(folder, extractors, reading, kept=parts / kind, shard=shard, pool=pool,
                    on_images=lambda count, kind=kind: progress(f"{kind} images", count))
