"""`cdjax prepare`: a folder of radiographs and a manifest to a data set that training reads."""

import argparse
import os
import sys

DESCRIPTION = """Reads the PNG, JPEG (8 or 16 bit) and DICOM files that a manifest names, makes them
square and grey, splits them by patient and writes ArrayRecord shards. Rows that cannot be used are
listed with the reason in OUTPUT/quarantine.csv; the rest goes through."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the options."""
  parser.description = DESCRIPTION
  parser.add_argument("--images", required=True, metavar="DIR",
                      help="folder that the manifest's image paths are relative to")
  parser.add_argument("--manifest", required=True, metavar="FILE",
                      help=".csv or .jsonl with the columns image, patient_id, findings and, "
                      "optionally, image_id, study, report, view, sex, age, split. Findings: "
                      "'large left lower pleural effusion; no cardiomegaly', 'Edema|Mass', "
                      "'No Finding'; an empty cell: not labelled. Images of one patient with equal "
                      "study are one visit; without a study each image counts as its own visit")
  parser.add_argument("--output", required=True, metavar="DIR", help="folder to make")
  parser.add_argument("--resolution", type=int, default=64, metavar="PIXELS",
                      help="side of the stored images (default: %(default)s)")
  parser.add_argument("--bits", type=int, choices=(8, 16), default=8,
                      help="of the stored images (default: %(default)s)")
  parser.add_argument("--fit", choices=("crop", "pad"), default="crop",
                      help="how images become square: the middle, or black bars "
                      "(default: %(default)s)")
  parser.add_argument("--vocabulary", type=_names, default=(), metavar="A,B,C",
                      help="findings to keep track of; images with another one are quarantined "
                      "(default: all that the manifest names)")
  parser.add_argument("--columns", nargs="+", type=_column, default=[], metavar="FIELD=COLUMN",
                      help="columns of other names, e.g. image=path patient_id=subject; "
                      "study=day,visit takes the first that is not empty")
  parser.add_argument("--unlisted", choices=("absent", "unknown"), default="absent",
                      help="what a finding is that a labelled image does not list "
                      "(default: %(default)s)")
  parser.add_argument("--val-share", type=float, default=0.1, metavar="SHARE",
                      help="share of the patients for validation, where the manifest gives no "
                      "split (default: %(default)s)")
  parser.add_argument("--test-share", type=float, default=0.1, metavar="SHARE",
                      help="the same for the test split (default: %(default)s)")
  parser.add_argument("--seed", type=int, default=0, help="of the split (default: %(default)s)")
  parser.add_argument("--workers", type=int, default=min(8, os.cpu_count() or 1), metavar="N",
                      help="processes that decode images; 0: none beside this one "
                      "(default: %(default)s)")
  parser.add_argument("--overwrite", action="store_true",
                      help="replace another data set in OUTPUT")


def _names(text: str) -> tuple[str, ...]:
  return tuple(name.strip() for name in text.split(",") if name.strip())


def _column(text: str) -> tuple[str, str]:
  field, equals, column = text.partition("=")
  if not (field and equals and column):
    raise argparse.ArgumentTypeError(f"{text!r}; expected FIELD=COLUMN")
  return field, column


def run(args: argparse.Namespace) -> int:
  """Runs the command; 0 where at least one image went through."""
  from cdjax.data.manifest import ManifestError
  from cdjax.data.prepare import prepare
  from cdjax.data.quarantine import count_kinds

  try:
    info, problems, unchanged = prepare(
        args.images, args.manifest, args.output, resolution=args.resolution, bits=args.bits,
        fit=args.fit, vocabulary=args.vocabulary, columns=dict(args.columns),
        unlisted=args.unlisted, val_share=args.val_share, test_share=args.test_share,
        seed=args.seed, workers=args.workers, overwrite=args.overwrite)
  except (ManifestError, OSError, ValueError) as error:
    print(f"cdjax prepare: {error}", file=sys.stderr)
    return 1
  print_summary(info)
  total = sum(split["images"] for split in info["splits"].values())
  print(f"\n{total} images went through, {len(problems)} rows were quarantined"
        + (f"; see {os.path.join(args.output, 'quarantine.csv')}:" if problems else "."))
  for kind, count in count_kinds(problems).items():
    print(f"  {count:6d}  {kind}")
  state = "already there, unchanged" if unchanged else "written"
  print(f"{args.output}: {state}; fingerprint {info['fingerprint'][:16]}")
  return 0


def print_summary(info: dict) -> None:
  """Prints a table: images and patients of each split and finding."""
  splits = info["splits"]
  columns = [f"{split:>18}" for split in splits]
  print(f"{'images / patients':30}" + "".join(columns))
  rows = [("all", {name: (s["images"], s["patients"]) for name, s in splits.items()}),
          *((finding, {name: (s["findings"][finding]["images"], s["findings"][finding]["patients"])
                       for name, s in splits.items()}) for finding in info["vocabulary"])]
  for label, counts in rows:
    cells = [f"{f'{images} / {patients}':>18}" for images, patients in counts.values()]
    print(f"{label:30}" + "".join(cells))
  for key, label in (("healthy_images", "images without finding"),
                     ("unlabelled_images", "images without labels"),
                     ("patients_with_several_studies", "patients, several studies")):
    print(f"{label:30}" + "".join(f"{split[key]:>18}" for split in splits.values()))
