"""Shows evaluated runs of the phantom: a page, pictures and a table of several training seeds.

Takes what `cdjax evaluate --seed S` measured in each workdir and writes into the output folder
  report.html        questions with known answers, every number, what the latents hold
  contact_sheet.png  factual, pseudo-healthy, counterfactuals and the exact answer
  effects.png        where in the image each slot acts
  metrics.json, metrics.md   every key; of several runs the mean, the smallest and the largest

The pictures and the latents' tables are the first workdir's.

examples:
  cdjax report --workdir run --seed 1
  cdjax report --workdir run0 run1 run2 --seed 1 --output summary
"""

import argparse
import json
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the command's arguments."""
  parser.add_argument("--workdir", required=True, nargs="+", type=Path, metavar="DIR",
                      help="evaluated runs, which differ in their training seed")
  parser.add_argument("--seed", type=int, required=True,
                      help="that `cdjax evaluate` was given")
  parser.add_argument("--output", type=Path, metavar="DIR",
                      help="folder to write to (default: the first workdir)")


def run(args: argparse.Namespace) -> int:
  """Writes the files; returns 0."""
  from cdjax.evaluate.resume import write_json
  from cdjax.evaluate.trained import load_trained
  from cdjax.report.run import write_run_report
  from cdjax.report.seeds import markdown_metrics, mean_over_runs

  runs = [_metrics(workdir, args.seed) for workdir in args.workdir]
  metrics, output = mean_over_runs(runs), args.output or args.workdir[0]
  output.mkdir(parents=True, exist_ok=True)
  trained = load_trained(args.workdir[0])
  asked = runs[0]["counterfactual/finding"]["n"]
  questions = f"{asked} questions of each kind about new phantom patients"
  several = len(runs) > 1
  write_json(output / "metrics.json", metrics)
  (output / "metrics.md").write_text(markdown_metrics(metrics), encoding="utf-8")
  write_run_report(
      output, trained, metrics, title=f"cdjax: {trained.config.name}",
      measured=f"{questions}, {len(runs)} training seeds" if several else questions,
      spread="smallest … largest of the training seeds" if several else "95 % interval")
  print(f"look at {output / 'report.html'}, {output / 'contact_sheet.png'} and "
        f"{output / 'metrics.md'}")
  return 0


def _metrics(workdir: Path, seed: int) -> dict:
  """What `cdjax evaluate` measured.

  Raises:
    FileNotFoundError: it has not.
  """
  path = workdir / f"metrics-seed{seed}.json"
  if not path.exists():
    raise FileNotFoundError(f"{path} is not there; first run: cdjax evaluate --workdir {workdir} "
                            f"--seed {seed}")
  return json.loads(path.read_text())
