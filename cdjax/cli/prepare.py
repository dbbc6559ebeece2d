"""Turns a folder of radiographs and a manifest into a data set that training reads.

Reads the PNG, JPEG (8 or 16 bit) and DICOM files that the manifest names, makes them square and
grey, splits them by patient and writes ArrayRecord shards. Rows that cannot be used are listed with
the reason in OUTPUT/quarantine.csv; the rest goes through. OUTPUT/splits.csv says which patients
are held out. Only a complete data set appears in OUTPUT: after a stop or a kill, give the same
command again.

The manifest is .csv or .jsonl, one row an image, with the columns image, patient_id, findings and,
optionally, image_id, study, report, view, sex, age, split.
  findings  'large left lower pleural effusion; no cardiomegaly', 'Edema|Mass', 'No Finding';
            an empty cell: nobody labelled the image
  study     a number, an ISO date or a name; images of one patient with equal study are one visit,
            without a study each image counts as a visit of its own
  split     train, validation or test; without it patients are drawn at random

examples:
  cdjax prepare --images xrays --manifest xrays.csv --output data
  cdjax prepare --images xrays --manifest xrays.csv --output data --resolution 128 \\
    --columns image=path patient_id=subject study=day,visit --vocabulary pneumonia,edema,mass
"""

import argparse
import os

from cdjax.cli.arguments import column, name_list


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the command's arguments."""
  parser.add_argument("--images", required=True, metavar="DIR",
                      help="folder that the manifest's image paths are relative to")
  parser.add_argument("--manifest", required=True, metavar="FILE",
                      help=".csv or .jsonl, one row an image")
  parser.add_argument("--output", required=True, metavar="DIR", help="folder to make")
  parser.add_argument("--resolution", type=int, default=64, metavar="PIXELS",
                      help="side of the stored images (default: %(default)s)")
  parser.add_argument("--bits", type=int, choices=(8, 16), default=8,
                      help="of the stored images (default: %(default)s)")
  parser.add_argument("--fit", choices=("crop", "pad"), default="crop",
                      help="how images become square: the middle, or black bars "
                      "(default: %(default)s)")
  parser.add_argument("--vocabulary", type=name_list, default=(), metavar="A,B,C",
                      help="findings to keep track of; images with another one are quarantined "
                      "(default: all that the manifest names)")
  parser.add_argument("--columns", nargs="+", type=column, default=[], metavar="FIELD=COLUMN",
                      help="columns of other names, e.g. image=path patient_id=subject; "
                      "study=day,visit takes the first that is not empty")
  parser.add_argument("--unlisted", choices=("absent", "unknown"), default="absent",
                      help="what a finding is that a labelled image does not list; 'No Finding' "
                      "always means absent (default: %(default)s)")
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


def run(args: argparse.Namespace) -> int:
  """Prepares the data set and prints what went in; raises where nothing did."""
  from cdjax.data.prepare import prepare
  from cdjax.data.quarantine import count_kinds

  info, problems, unchanged = prepare(
      args.images, args.manifest, args.output, resolution=args.resolution, bits=args.bits,
      fit=args.fit, vocabulary=args.vocabulary, columns=dict(args.columns),
      unlisted=args.unlisted, val_share=args.val_share, test_share=args.test_share,
      seed=args.seed, workers=args.workers, overwrite=args.overwrite)
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
