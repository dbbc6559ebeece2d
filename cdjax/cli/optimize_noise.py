"""Finds noises that lead a trained model to findings of few images: one noise bank a finding.

The network stays as it is; what is optimised is the noise that a sample starts from, by gradient
steps through a few-step sampler, towards the finding's training images in the encoder's own space
and away from copying any one of them. `cdjax generate --noise-bank` uses the noises again and again
with new patients. Interrupted, the same command goes on with the next batch; a larger --num adds to
what is there.

Uses all devices: --config.noise.batch_size noises at a time, spread over the axes data and fsdp of
the mesh. The mesh is not the training's: every device has all parameters, unless --config.mesh.fsdp
or --config.mesh.tensor divides them. The batch size should be a multiple of data times fsdp.

examples:
  cdjax optimize-noise --workdir run --finding pneumothorax
  cdjax optimize-noise --workdir run --all-tail --num 64
  cdjax optimize-noise --workdir run --finding nodule --start random --output noise-2
  cdjax optimize-noise --workdir run --finding nodule --config.noise.repulsion=2
  cdjax optimize-noise --workdir run --all-tail --num 1024 --config.noise.batch_size=1024 \\
    --config.mesh.fsdp=16 --coordinator auto

Writes FINDING.noise.safetensors into --output, with the model's fingerprint, the references' image
ids, the settings, and every term of the objective after every step.
"""

import argparse
from pathlib import Path

from cdjax.cli.arguments import add_process_arguments, join_processes


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the command's arguments."""
  parser.add_argument("--workdir", required=True, type=Path, help="folder of a trained run")
  which = parser.add_mutually_exclusive_group(required=True)
  which.add_argument("--finding", action="append", metavar="NAME", help="may be repeated")
  which.add_argument("--all-tail", action="store_true",
                     help="every finding that some, but fewer than --tail training images show")
  parser.add_argument("--tail", type=int, default=50, metavar="N",
                      help="of --all-tail (default: %(default)s)")
  parser.add_argument("--num", type=int, default=256, metavar="N",
                      help="noises of each finding; whole batches are made (default: %(default)s)")
  parser.add_argument("--references", type=int, metavar="N",
                      help="training images of the finding to be led by, at most")
  parser.add_argument("--start", choices=("mixed", "random"),
                      help="between the references' own noises, or at random")
  parser.add_argument("--steps", type=int, metavar="N", help="gradient steps; 0: only measure")
  parser.add_argument("--sampler-steps", type=int, metavar="N",
                      help="of the sampler that the gradient goes through")
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--output", type=Path, metavar="DIR",
                      help="folder of the banks (default: WORKDIR/noise)")
  add_process_arguments(parser)
  parser.set_defaults(config=None)   # --config.KEY=VALUE of counterfactual, mesh and noise


def run(args: argparse.Namespace) -> int:
  """Optimises; returns 0. Others lost: ends with 75."""
  from cdjax.sharding.hosts import leave_when_others_are_lost

  join_processes(args)
  with leave_when_others_are_lost():
    optimise(args)
  return 0


def optimise(args: argparse.Namespace) -> None:
  """Makes the banks that the arguments ask for; in all processes alike."""
  from tqdm import tqdm

  from cdjax.counterfactual.noise_bank import bank_path
  from cdjax.evaluate.noise_workdir import make_noise_fns, optimise_bank
  from cdjax.evaluate.references import load_space
  from cdjax.evaluate.trained import load_trained
  from cdjax.sharding.hosts import is_primary

  trained = configure(load_trained(args.workdir), args)
  if unknown := [name for name in args.finding or () if name not in trained.vocabulary]:
    raise ValueError(f"--finding {unknown[0]}: the model knows {', '.join(trained.vocabulary)}")
  space = load_space(trained, args.workdir)
  counts = dict(zip(trained.vocabulary, space.counts().tolist(), strict=True))
  findings = args.finding or [name for name, count in counts.items() if 0 < count < args.tail]
  if not findings:
    raise ValueError(f"--all-tail: no finding is shown by fewer than {args.tail} training images; "
                     f"they have {', '.join(f'{n}: {c}' for n, c in counts.items())}")
  folder = args.output or args.workdir / "noise"
  fns = make_noise_fns(trained)
  for finding in dict.fromkeys(findings):
    with tqdm(total=args.num, desc=finding, unit="noise", disable=not is_primary()) as bar:
      bank = optimise_bank(trained, space, finding, folder, num=args.num, seed=args.seed, fns=fns,
                           on_noises=bar.update)
    if is_primary():
      print(describe(bank, counts[finding]))
      print(f"{bank_path(folder, finding)}: {len(bank)} noises")


def configure(trained, args: argparse.Namespace):
  """The workdir with the settings of the arguments.

  Raises:
    ValueError: a key that cannot change after training.
  """
  import dataclasses

  from cdjax.cli.overrides import parse_overrides

  config = parse_overrides(trained.config, args.overrides,
                           sections=("counterfactual", "mesh", "noise"))
  with config.unlocked():
    for name in ("references", "start", "steps", "sampler_steps"):
      value = getattr(args, name)
      if value is not None:
        config.noise[name] = value
  return dataclasses.replace(trained, config=config)


def describe(bank, images: int) -> str:
  """How the terms moved: one line a term, mean over the noises."""
  lines = [f"{bank.finding}: {len(bank.made_with['references'])} references of {images} training "
           f"images, {bank.made_with['noise']['start']} starts, "
           f"{bank.made_with['noise']['steps']} steps"]
  for name, curve in sorted(bank.curves.items()):
    lines.append(f"  {name:12} {curve[0].mean():9.4f} -> {curve[-1].mean():9.4f}")
  return "\n".join(lines)
