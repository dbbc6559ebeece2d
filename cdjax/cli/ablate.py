"""Trains and measures every row of an ablation, and writes one table of them all.

A row is a configuration with one switch changed. Rows share the stages that their switch does not
touch, and finished stages are kept: interrupted, the same command goes on where it was.

examples:
  cdjax ablate --config configs/ablations.py --workdir ablations
  cdjax ablate --config configs/ablations.py --workdir ablations --only full,no_swaps
  cdjax ablate --config configs/ablations.py --workdir ablations --seeds 1

Writes table.md and table.json into the workdir after every row; each row's metrics and checkpoints
are in rows/NAME-SEED.
"""

import argparse
from pathlib import Path

METRICS_SEED = 1   # of the new patients


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the command's arguments."""
  parser.add_argument("--config", required=True, metavar="FILE",
                      help="a config with ROWS, e.g. configs/ablations.py; --config.KEY=VALUE "
                      "changes every row")
  parser.add_argument("--workdir", required=True, type=Path, help="folder of all rows")
  parser.add_argument("--only", metavar="A,B", help="which rows (default: all)")
  parser.add_argument("--seeds", type=int, metavar="N",
                      help="training seeds of a row at most (default: the config's)")


def run(args: argparse.Namespace) -> int:
  """Runs the rows; returns 0, or 128 plus the signal that stopped a training."""
  from tqdm import tqdm

  from cdjax.cli.overrides import parse_overrides
  from cdjax.core.config import load_config, load_rows
  from cdjax.evaluate.resume import write_json
  from cdjax.report.ablation import markdown_table, summarise
  from cdjax.train.stop import Stopped

  rows = load_rows(args.config)
  chosen = [name.strip() for name in args.only.split(",")] if args.only else list(rows)
  if unknown := [name for name in chosen if name not in rows]:
    raise ValueError(f"--only {unknown[0]}: no such row; {args.config} has {', '.join(rows)}")
  if args.seeds is not None and args.seeds < 1:
    raise ValueError(f"--seeds {args.seeds}; expected 1 or more")
  # Every row's first seed before any row's second: a table that is cut off is whole in width.
  work = sorted((seed, chosen.index(name), name) for name in chosen
                for seed in range(min(rows[name].seeds, args.seeds or rows[name].seeds)))
  measured: dict[str, list[dict]] = {name: [] for name in chosen}
  with tqdm(work, unit="row", desc="ablation") as bar:
    for seed, _, name in bar:
      bar.set_description(f"{name}, seed {seed}")
      config = parse_overrides(load_config(f"{args.config}:{name}"), args.overrides)
      with config.unlocked():
        config.seed = seed
      try:
        measured[name].append(run_row(config, args.workdir, f"{name}-{seed}"))
      except Stopped as stop:
        print(stop)
        return stop.exit_code
      table = {row: summarise(runs) for row, runs in measured.items() if runs}
      meaning = {row: rows[row].meaning for row in table}
      text = markdown_table(table, meaning)
      (args.workdir / "table.md").write_text(text, encoding="utf-8")
      write_json(args.workdir / "table.json", {
          row: {"meaning": rows[row].meaning, "changes": rows[row].changes, "keys": summary}
          for row, summary in table.items()})
  print(text)
  return 0


def run_row(config, workdir: Path, name: str) -> dict:
  """Trains what is not trained yet and measures one row.

  Args:
    config: of the row, with its seed.
    workdir: of all rows.
    name: of the row's folder.
  """
  import dataclasses

  from cdjax.evaluate.trained import load_trained
  from cdjax.evaluate.workdir import evaluate_workdir
  from cdjax.train.shared import share_stage
  from cdjax.train.stages import STAGES

  folder = workdir / "rows" / name
  folder.mkdir(parents=True, exist_ok=True)
  stages = [stage.strip() for stage in config.stages.split(",")]
  for stage in ("data", "latents", *stages):
    share_stage(folder, workdir / "shared", stage, config)
  for stage in stages:
    STAGES[stage](config, folder)
  trained = dataclasses.replace(load_trained(folder), config=config)
  return evaluate_workdir(trained, folder, seed=METRICS_SEED)
