"""Trains the stages that a config names: classifier, autoencoder, diffusion (and the judge).

Every stage goes on where it was, bit for bit, after a stop, a kill or a crash: give the same
command again. A finished stage is not trained again.

examples:
  cdjax train --config configs/quickstart.py --workdir run
  cdjax train --config configs/quickstart.py --workdir run --stages autoencoder
  cdjax train --config configs/quickstart.py --workdir run --config.autoencoder.loss.invariance=0

`cdjax configs` lists the configs; `cdjax configs NAME` a config's keys, their values and what they
mean.

A workdir holds data/ classifier/ autoencoder/ latents/ diffusion/ judge/; in each stage's folder
are its config.json, checkpoints/, metrics.jsonl, events/ (TensorBoard) and samples/ (PNG).
"""

import argparse
from pathlib import Path

from cdjax.cli.arguments import add_process_arguments, join_processes


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the command's arguments."""
  parser.add_argument("--config", required=True, metavar="FILE[:ARG]",
                      help="a config, e.g. configs/quickstart.py; change a value with "
                      "--config.KEY=VALUE")
  parser.add_argument("--workdir", required=True, type=Path, help="folder of the run")
  parser.add_argument("--stages", metavar="A,B", help="which stages, in order "
                      "(default: the config's `stages`)")
  add_process_arguments(parser)


def run(args: argparse.Namespace) -> int:
  """Trains; returns 0, or 128 plus the signal that stopped it. Others lost: ends with 75."""
  from cdjax.cli.overrides import parse_overrides
  from cdjax.core.config import load_config
  from cdjax.sharding.hosts import leave_when_others_are_lost
  from cdjax.train.stages import STAGES
  from cdjax.train.stop import Stopped

  config = parse_overrides(load_config(args.config), args.overrides)
  stages = [name.strip() for name in (args.stages or config.stages).split(",") if name.strip()]
  if unknown := [name for name in stages if name not in STAGES]:
    raise ValueError(f"unknown stage {unknown[0]!r}; expected some of {', '.join(STAGES)}")
  join_processes(args)
  try:
    with leave_when_others_are_lost(Stopped):
      for stage in stages:
        STAGES[stage](config, args.workdir)
  except Stopped as stop:
    print(stop)
    return stop.exit_code
  return 0
