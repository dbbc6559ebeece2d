"""Turns radiographs with a manifest, a published data set or the phantom into what training reads.

Reads the PNG, JPEG (8 or 16 bit) and DICOM files that the manifest names, makes them square and
grey, splits them by patient and writes ArrayRecord shards. Rows that cannot be used are listed with
the reason in OUTPUT/quarantine.csv; the rest goes through. OUTPUT/splits.csv says which patients
are held out. Only a complete data set appears in OUTPUT: after a stop or a kill, give the same
command again; images that were decoded before are not decoded again.

The manifest is .csv or .jsonl, one row an image, with the columns image, patient_id, findings and,
optionally, image_id, study, report, view, sex, age, split.
  findings  'large left lower pleural effusion; no cardiomegaly', 'Edema|Mass', 'No Finding';
            an empty cell: nobody labelled the image
  study     a number, an ISO date or a name; images of one patient with equal study are one visit,
            without a study each image counts as a visit of its own
  split     train, validation or test; without it patients are drawn at random

A published data set needs no manifest: --dataset reads its official files, takes its official
split, and by default the frontal views. Its labels come as published; what they do not mention is
unknown where they were read from reports (MIMIC-CXR, CheXpert), else absent. `--dataset NAME
--download` says where to get it and how its files must lie.

--dataset phantom renders --patients synthetic patients of one to four studies each, with reports;
its findings are 14 at most: consolidation, pleural_effusion, nodule, pneumothorax, cardiomegaly
(these five by default), mass, atelectasis, pulmonary_edema, emphysema, pulmonary_fibrosis,
pleural_thickening, hiatal_hernia, fracture, pneumoperitoneum.

examples:
  cdjax prepare --images xrays --manifest xrays.csv --output data
  cdjax prepare --images xrays --manifest xrays.csv --output data --resolution 128 \\
    --columns image=path patient_id=subject study=day,visit --vocabulary pneumonia,edema,mass
  cdjax prepare --dataset phantom --patients 2000 --output data --resolution 128
  cdjax prepare --dataset nih --download
  cdjax prepare --dataset nih --images ChestXray-NIHCC --output data --resolution 512
  cdjax prepare --dataset mimic-cxr --images mimic-cxr-jpg --reports mimic-cxr-reports.zip \\
    --output data --resolution 512
"""

import argparse
import os

from cdjax.cli.arguments import column, name_list, number_list
from cdjax.data.published.datasets import DATASETS
from cdjax.data.published.layout import VIEWS

PHANTOM = "phantom"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the command's arguments."""
  source = parser.add_mutually_exclusive_group(required=True)
  source.add_argument("--manifest", metavar="FILE", help=".csv or .jsonl, one row an image")
  source.add_argument("--dataset", choices=(*DATASETS, PHANTOM), metavar="NAME",
                      help=f"a published data set: {', '.join(DATASETS)}; or {PHANTOM}")
  parser.add_argument("--download", action="store_true",
                      help="of --dataset: say where to get it and how its files must lie, and stop")
  parser.add_argument("--images", metavar="DIR",
                      help="folder that the image paths are relative to")
  parser.add_argument("--output", metavar="DIR", help="folder to make")
  parser.add_argument("--tables", metavar="DIR",
                      help="of --dataset: folder of its tables (default: that of the images)")
  parser.add_argument("--reports", metavar="ZIP",
                      help="of --dataset: the archive of its reports, not unpacked")
  parser.add_argument("--labels", default="", metavar="NAME", help="of --dataset: which label set: "
                      + "; ".join(f"{name}: {', '.join(dataset.labels)}" for name, dataset
                                  in DATASETS.items() if dataset.labels))
  parser.add_argument("--views", choices=VIEWS, default="frontal",
                      help="of --dataset: which views (default: %(default)s)")
  parser.add_argument("--patients", type=int, metavar="N",
                      help="of the phantom: how many, of all splits together")
  parser.add_argument("--frequencies", type=number_list, default=(), metavar="A,B,C",
                      help="of the phantom: relative frequency of each finding of --vocabulary "
                      "(default: equal)")
  parser.add_argument("--resolution", type=int, default=64, metavar="PIXELS",
                      help="side of the stored images (default: %(default)s)")
  parser.add_argument("--bits", type=int, choices=(8, 16), default=8,
                      help="of the stored images (default: %(default)s)")
  parser.add_argument("--fit", choices=("crop", "pad"), default="crop",
                      help="how images become square: the middle, or black bars "
                      "(default: %(default)s)")
  parser.add_argument("--vocabulary", type=name_list, default=(), metavar="A,B,C",
                      help="findings to keep track of; images with another one are quarantined "
                      "(default: all that the manifest names; of the phantom: five)")
  parser.add_argument("--columns", nargs="+", type=column, default=[], metavar="FIELD=COLUMN",
                      help="columns of other names, e.g. image=path patient_id=subject; "
                      "study=day,visit takes the first that is not empty")
  parser.add_argument("--unlisted", choices=("absent", "unknown"),
                      help="what a finding is that a labelled image does not list; 'No Finding' "
                      "always means absent (default: absent, or what a data set's labels mean)")
  parser.add_argument("--val-share", type=float, default=0.1, metavar="SHARE",
                      help="share of the patients for validation, where the manifest or the data "
                      "set gives none (default: %(default)s)")
  parser.add_argument("--test-share", type=float, default=0.1, metavar="SHARE",
                      help="the same for the test split (default: %(default)s)")
  parser.add_argument("--seed", type=int, default=0,
                      help="of the split, or of the phantom's population (default: %(default)s)")
  parser.add_argument("--workers", type=int, default=min(8, os.cpu_count() or 1), metavar="N",
                      help="processes that decode images; 0: none beside this one "
                      "(default: %(default)s)")
  parser.add_argument("--overwrite", action="store_true",
                      help="replace another data set in OUTPUT")


def run(args: argparse.Namespace) -> int:
  """Prepares the data set and prints what went in; raises where nothing did."""
  if args.download:
    return _download(args.dataset)
  check_arguments(args)
  from cdjax.data.prepare import prepare, prepare_published
  from cdjax.data.prepare_phantom import prepare_phantom

  options = dict(resolution=args.resolution, bits=args.bits, fit=args.fit,
                 vocabulary=args.vocabulary, val_share=args.val_share, test_share=args.test_share,
                 seed=args.seed, workers=args.workers, overwrite=args.overwrite)
  notes: list[str] = []
  if args.dataset == PHANTOM:
    problems = []
    info, unchanged = prepare_phantom(args.output, patients=args.patients,
                                      frequencies=args.frequencies, **options)
  elif args.dataset:
    info, problems, unchanged, notes = prepare_published(
        args.dataset, args.images, args.output, tables=args.tables, reports=args.reports,
        labels=args.labels, views=args.views, unlisted=args.unlisted, **options)
  else:
    info, problems, unchanged = prepare(
        args.images, args.manifest, args.output, columns=dict(args.columns),
        unlisted=args.unlisted or "absent", **options)
  print_summary(info)
  print_problems(info, problems, args.output)
  for note in notes:
    print(f"note: {note}")
  state = "already there, unchanged" if unchanged else "written"
  print(f"{args.output}: {state}; fingerprint {info['fingerprint'][:16]}")
  return 0


def _download(dataset: str | None) -> int:
  """Prints where to get a data set.

  Raises:
    ValueError: none is named.
  """
  if not dataset:
    raise ValueError("--download needs --dataset NAME")
  if dataset == PHANTOM:
    print("The phantom is rendered, not downloaded: cdjax prepare --dataset phantom --patients N "
          "--output DIR")
    return 0
  print(DATASETS[dataset].instructions)
  return 0


def check_arguments(args: argparse.Namespace) -> None:
  """Refuses options that do not go together.

  Raises:
    ValueError: says which.
  """
  phantom = args.dataset == PHANTOM
  for name in ("patients" if phantom else "images", "output"):
    if not getattr(args, name):
      raise ValueError(f"--{name} is missing")
  given = {name for name in ("tables", "reports", "labels") if getattr(args, name)}
  given |= {"views"} if args.views != "frontal" else set()
  if phantom:
    given |= {name for name in ("images", "unlisted") if getattr(args, name)}
  if phantom and given:
    raise ValueError(f"--{min(given)} is for radiographs; --dataset {PHANTOM} is rendered")
  if not phantom and (args.patients is not None or args.frequencies):
    raise ValueError(f"--patients and --frequencies are for --dataset {PHANTOM}")
  if args.manifest and given:
    raise ValueError(f"--{min(given)} is for --dataset; a manifest says it in its columns")
  if args.dataset and args.columns:
    raise ValueError("--columns is for --manifest; a data set has its own")


def print_problems(info: dict, problems: list, output: str, shown: int = 3) -> None:
  """Prints how many rows were left out, by kind, and the first images of each kind."""
  from cdjax.data.quarantine import count_kinds

  total = sum(split["images"] for split in info["splits"].values())
  print(f"\n{total} images went through, {len(problems)} rows were quarantined"
        + (f"; see {os.path.join(output, 'quarantine.csv')}:" if problems else "."))
  for kind, count in count_kinds(problems).items():
    names = [problem.image for problem in problems if problem.kind == kind and problem.image]
    few = ", ".join(names[:shown]) + (", …" if len(names) > shown else "")
    print(f"  {count:6d}  {kind}" + (f": {few}" if few else ""))


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
