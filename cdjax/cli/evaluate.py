"""Measures a trained run, or two plain folders of images against each other.

A run is measured on new phantom patients, or on its data set's held-out radiographs.

Phantom patients come from --seed and were never seen in training; their exact counterfactuals are
known. Real radiographs have no exact answer: there the reconstruction, the classifier's AUROC and
its movement towards the asked finding are measured. Every key has a bootstrap interval over
patients; ceilings and baselines stand beside it. Interrupted, it goes on with the phase it was
in. Another setting of the counterfactual needs no new training:

examples:
  cdjax evaluate --workdir demo --seed 1
  cdjax evaluate --workdir demo --seed 1 --interventions 128
  cdjax evaluate --workdir demo --seed 1 --config.counterfactual.guidance_findings=2

Writes metrics-seedS.json into the workdir and prints a table.

Two folders need no model: Fréchet and kernel distance, precision, recall, density, coverage and
diversity, overall and, with manifests, by finding, tier, sex, age, view and site. Any extractor's
name, the number of images and the resizing are part of each key; a broken image is named and left
out; interrupted, it goes on where it was. With real images that the generator never saw
(--held-out), copies and the membership of the real ones are measured too.

examples:
  cdjax evaluate --real xrays --synthetic generated
  cdjax evaluate --real xrays --synthetic generated --extractor inception-v3=fid.safetensors \\
    --real-manifest xrays.csv --synthetic-manifest generated.csv --suite full --json fid.json
  cdjax evaluate --real trained_on --synthetic generated --held-out other_patients
"""

import argparse
from pathlib import Path

from cdjax.cli.folders import add_folder_arguments, given_folder_arguments, run_folders


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the command's arguments."""
  parser.add_argument("--workdir", type=Path,
                      help="folder of a trained run; for two folders: its classifier's features")
  parser.add_argument("--seed", type=int,
                      help="of the new patients and of the answers; for two folders of random "
                      "choices (default there: 0)")
  parser.add_argument("--suite", choices=("quick", "full"), default="quick",
                      help="full measures more and takes longer (default: %(default)s)")
  parser.add_argument("--interventions", type=int, metavar="N",
                      help="questions of each kind (default: the config's, 512)")
  add_folder_arguments(parser)
  parser.set_defaults(config=None)   # --config.KEY=VALUE changes the run's own configuration


def run(args: argparse.Namespace) -> int:
  """Evaluates and prints the table; returns 0."""
  if (args.real is None) != (args.synthetic is None):
    raise ValueError("--real and --synthetic: expected both or neither")
  if args.real is not None:
    if args.interventions is not None:
      raise ValueError("--interventions: two folders are asked no questions")
    return run_folders(args)
  if unread := given_folder_arguments(args):
    raise ValueError(f"{unread[0]} is of two folders: expected --real DIR --synthetic DIR with it")
  if args.workdir is None or args.seed is None:
    raise ValueError("expected --workdir DIR --seed S, or --real DIR --synthetic DIR")
  return run_workdir(args)


def run_workdir(args: argparse.Namespace) -> int:
  """Evaluates a trained run."""
  import dataclasses

  from tqdm import tqdm

  from cdjax.cli.overrides import parse_overrides
  from cdjax.evaluate.radiographs import evaluate_radiographs
  from cdjax.evaluate.table import format_table
  from cdjax.evaluate.trained import load_trained
  from cdjax.evaluate.workdir import evaluate_workdir

  trained = load_trained(args.workdir)
  config = parse_overrides(trained.config, args.overrides)
  changed = [o for o in args.overrides if o.split(".")[1] not in ("counterfactual", "evaluate")]
  if changed:
    raise ValueError(f"{changed[0]}: only config.counterfactual and config.evaluate can change "
                     "after training")
  if args.interventions is not None:
    if args.interventions < 1:
      raise ValueError(f"--interventions {args.interventions}; expected 1 or more")
    with config.unlocked():
      config.evaluate.interventions = args.interventions
  trained = dataclasses.replace(trained, config=config)
  if config.data.source != "phantom":
    print(format_table(evaluate_radiographs(trained, args.workdir, seed=args.seed,
                                            suite=args.suite)))
    return 0

  with tqdm(total=100.0, unit="%", bar_format="{desc:24}{bar}{percentage:5.0f}% "
            "{elapsed}<{remaining}") as bar:
    def progress(phase: str, done: float, total: float) -> None:
      bar.set_description_str(phase, refresh=False)
      bar.update(100.0 * done / total - bar.n)

    metrics = evaluate_workdir(trained, args.workdir, seed=args.seed, progress=progress,
                               suite=args.suite)
  print(format_table(metrics))
  return 0
