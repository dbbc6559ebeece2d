"""The whole method on a phantom, in about twenty minutes on two cores.

Makes a synthetic population with five findings, trains all stages, answers counterfactual
questions, measures them against the exact answers, and writes metrics.json, contact_sheet.png,
report.html, and held-out radiographs to ask about into examples/. Interrupted, the same command
goes on where it was.

examples:
  cdjax quickstart --workdir demo
  cdjax quickstart --workdir tiny --config configs/quickstart.py:tiny
"""

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

SEED = 1   # of the patients it is measured on
# Its own table is shorter than that of `cdjax evaluate`: at most these many questions.
QUESTIONS = {"interventions": 128, "composition": 64, "composition_10": 32}
# Share of the whole that each phase takes; only the progress bar uses it.
SHARES = {"data": 2, "judge": 8, "classifier": 6, "autoencoder": 50, "diffusion": 20,
          "evaluate": 12, "report": 2}


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the command's arguments."""
  parser.add_argument("--workdir", required=True, type=Path, help="folder of the run")
  parser.add_argument("--config", default="configs/quickstart.py", metavar="FILE[:ARG]",
                      help="default: %(default)s; change a value with --config.KEY=VALUE")


def run(args: argparse.Namespace) -> int:
  """Goes through the phases; returns 0, or 128 plus the signal that stopped it."""
  from tqdm import tqdm

  from cdjax.cli.overrides import parse_overrides
  from cdjax.core.config import load_config
  from cdjax.data.ensure import ensure_dataset
  from cdjax.train.stages import STAGES
  from cdjax.train.stop import Stopped

  config, workdir = parse_overrides(load_config(args.config), args.overrides), args.workdir
  workdir.mkdir(parents=True, exist_ok=True)
  clock = Clock(workdir / "seconds.json")
  total = sum(SHARES.values())
  with tqdm(total=total, file=sys.stderr, bar_format="{desc:32}{bar}{percentage:4.0f}% "
            "{elapsed}, {remaining} left") as bar:
    before = 0

    def show(phase: str, share: float) -> None:
      bar.set_description_str(phase, refresh=False)
      bar.update(before + share * SHARES[phase.split()[0]] - bar.n)
      bar.refresh()

    @contextlib.contextmanager
    def progress(name: str, start: int, steps: int):
      del start
      yield lambda step, text: text is None or show(
          f"{name} {text.split(',')[0]}", step / steps)

    def training(stage):
      return lambda: STAGES[stage](config, workdir, progress=progress)

    phases = {"data": lambda: ensure_dataset(config, workdir)}
    phases |= {stage: training(stage) for stage in ("judge", "classifier", "autoencoder",
                                                    "diffusion")}
    phases["evaluate"] = lambda: measure(measured(config), workdir, show)
    phases["report"] = lambda: write_report(measured(config), workdir, clock)
    try:
      for phase, work in phases.items():
        show(phase, 0.0)
        with clock.time(phase):
          work()
        before += SHARES[phase]
        show(phase, 0.0)
    except Stopped as stop:
      print(stop, file=sys.stderr)
      return stop.exit_code
  finish(workdir, clock)
  return 0


def measured(config):
  """The configuration with as few questions as the quickstart asks."""
  config = config.copy_and_resolve_references()
  for key, most in QUESTIONS.items():
    config.evaluate[key] = min(config.evaluate[key], most)
  return config


class Clock:
  """Wall seconds of each phase, over all the times that the command ran."""

  def __init__(self, path: Path):
    self._path = path
    self.seconds = json.loads(path.read_text()) if path.exists() else {}

  @contextlib.contextmanager
  def time(self, phase: str) -> Iterator[None]:
    """Adds what the block takes, however it ends."""
    began = time.perf_counter()
    try:
      yield
    finally:
      self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - began
      self._path.write_text(json.dumps(self.seconds))


def _trained(config, workdir: Path):
  import dataclasses

  from cdjax.evaluate.trained import load_trained
  return dataclasses.replace(load_trained(workdir), config=config)


def measure(config, workdir: Path, show) -> None:
  """The METRICS keys on new patients."""
  from cdjax.evaluate.workdir import evaluate_workdir
  evaluate_workdir(_trained(config, workdir), workdir, seed=SEED,
                   progress=lambda phase, done, total: show(f"evaluate {phase}", done / total))


def write_report(config, workdir: Path, clock: Clock) -> None:
  """metrics.json, what there is to look at, and what there is to ask about."""
  from cdjax.data.source import open_split
  from cdjax.evaluate.resume import write_json
  from cdjax.report.examples import write_examples
  from cdjax.report.run import write_run_report
  metrics = json.loads((workdir / f"metrics-seed{SEED}.json").read_text())
  plain = lambda seconds: {"value": seconds, "low": None, "high": None, "n": 1}
  metrics |= {f"seconds/{phase}": plain(seconds) for phase, seconds in clock.seconds.items()}
  metrics["seconds/total"] = plain(sum(clock.seconds.values()))
  write_json(workdir / "metrics.json", metrics)
  questions = config.evaluate.interventions
  write_run_report(
      workdir, _trained(config, workdir), metrics, title="cdjax quickstart",
      measured=f"{questions} questions of each kind about new phantom patients")
  write_examples(open_split(workdir / "data", "validation"), workdir / "examples")


def finish(workdir: Path, clock: Clock) -> None:
  """Says what was made and shows the main numbers."""
  from cdjax.evaluate.table import format_table
  print(format_table(json.loads((workdir / "metrics.json").read_text())))
  print(f"\n{sum(clock.seconds.values()):.0f} seconds. Look at {workdir / 'contact_sheet.png'} and "
        f"{workdir / 'report.html'}; ask: cdjax counterfactual --workdir {workdir} "
        f"--image {workdir / 'examples'} --manifest {workdir / 'examples' / 'list.csv'} "
        '--findings "large left pleural effusion"')
