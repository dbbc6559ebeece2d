"""Makes an augmentation set: synthetic images of findings, with a manifest that `prepare` takes.

A training patient lends the identity (--identities healthy: patients' images without any finding;
real: without this one), the finding is asked for with sides, zones and severities as the training
images have them. With --noise-bank the images start from the noises that `cdjax optimize-noise`
found, used in turn with new patients; without, they are ordinary samples. Images nearer to a real
training case of the finding than new real cases come are thrown away, counted, and made anew.

--distribution tail-balanced divides --num images so that the rarest findings are filled up first.

examples:
  cdjax generate --workdir run --finding pneumothorax --num 200 --identities healthy --output more
  cdjax generate --workdir run --distribution tail-balanced --num 1000 --noise-bank run/noise \\
    --identities real --output more
  cdjax prepare --images more --manifest more/manifest.csv --output data-synthetic

Writes images/*.png, which say in their metadata that they are synthetic, manifest.csv and
generate.json into --output. Interrupted, the same command goes on with the next batch. Rows keep
the patient whose identity they have and are of the split train: a synthetic image must not decide
how good anything is.

One process; it uses all of its devices, --config.noise.batch_size images at a time, each with all
parameters unless --config.mesh.fsdp or --config.mesh.tensor divides them.
"""

import argparse
from pathlib import Path

MOST_ATTEMPTS = 4   # answers tried for each image wanted, before too many copies are an error


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the command's arguments."""
  parser.add_argument("--workdir", required=True, type=Path, help="folder of a trained run")
  what = parser.add_mutually_exclusive_group(required=True)
  what.add_argument("--finding", action="append", metavar="NAME",
                    help="--num images of it; may be repeated")
  what.add_argument("--distribution", choices=("tail-balanced",),
                    help="--num images in all, the rarest findings first")
  parser.add_argument("--num", required=True, type=int, metavar="N", help="how many images")
  parser.add_argument("--identities", required=True, choices=("real", "healthy"),
                      help="which training images lend their identity")
  parser.add_argument("--noise-bank", type=Path, metavar="DIR",
                      help="folder of noise banks to start from")
  parser.add_argument("--guidance", type=float, metavar="S",
                      help="how strongly to follow the findings; 1: no guidance")
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder to make")
  parser.set_defaults(config=None)   # --config.KEY=VALUE of counterfactual, mesh and noise


def run(args: argparse.Namespace) -> int:
  """Generates; returns 0."""
  import dataclasses

  from cdjax.cli.overrides import parse_overrides
  from cdjax.evaluate.references import load_space
  from cdjax.evaluate.trained import load_trained

  if args.num < 1:
    raise ValueError(f"--num {args.num}; expected 1 or more")
  trained = load_trained(args.workdir)
  config = parse_overrides(trained.config, args.overrides,
                           sections=("counterfactual", "mesh", "noise"))
  if args.guidance is not None:
    with config.unlocked():
      config.counterfactual.guidance_findings = args.guidance
      config.counterfactual.guidance_by_finding = ()
  trained = dataclasses.replace(trained, config=config)
  space = load_space(trained, args.workdir)
  wanted = choose(args, trained.vocabulary, space.counts())
  banks = open_banks(args, trained, wanted)
  print_summary(generate(args, trained, space, wanted, banks), args.output)
  return 0


def choose(args: argparse.Namespace, vocabulary: tuple[str, ...], counts) -> dict[str, int]:
  """Finding → how many images of it.

  Raises:
    ValueError: a finding that the model does not know.
  """
  from cdjax.evaluate.synthesis import tail_balanced
  if args.finding:
    if unknown := [name for name in args.finding if name not in vocabulary]:
      raise ValueError(f"--finding {unknown[0]}: the model knows {', '.join(vocabulary)}")
    return dict.fromkeys(args.finding, args.num)
  given = tail_balanced(counts, args.num)
  return {name: int(n) for name, n in zip(vocabulary, given, strict=True) if n}


def open_banks(args: argparse.Namespace, trained, wanted: dict[str, int]) -> dict:
  """Finding → its noise bank; of a distribution, findings without one are sampled as usual.

  Raises:
    FileNotFoundError: a finding that was asked for by name has no bank there, or nothing has.
    ValueError: a bank of another model.
  """
  from cdjax.counterfactual.noise_bank import bank_path, read_bank
  if args.noise_bank is None:
    return {}
  named = [name for name in wanted
           if args.finding or bank_path(args.noise_bank, name).is_file()]
  if not named:
    raise FileNotFoundError(f"--noise-bank {args.noise_bank}: no bank of {', '.join(wanted)} "
                            "there; make them with `cdjax optimize-noise`")
  return {name: read_bank(bank_path(args.noise_bank, name), model=trained.generator)
          for name in named}


def generate(args: argparse.Namespace, trained, space, wanted: dict[str, int], banks: dict
             ) -> dict:
  """Writes the set; returns what `generate.json` says."""
  import functools
  import shutil

  from tqdm import tqdm

  import cdjax
  from cdjax.core.provenance import to_plain
  from cdjax.evaluate.synthesis import make_answer_fn, make_generator

  request = to_plain({
      "cdjax": cdjax.__version__, "model": trained.generator, "wanted": wanted,
      "identities": args.identities, "seed": args.seed,
      "counterfactual": trained.config.counterfactual.to_dict(),
      "batch_size": trained.config.noise.batch_size,
      "copy_quantile": trained.config.noise.copy_quantile, "mirror": trained.config.noise.mirror,
      "noise_bank": {name: {"noises": len(bank), "made_with": {
          key: bank.made_with[key] for key in ("seed", "noise", "references")}}
          for name, bank in banks.items()}})
  summary = begin(args.output, request)
  if summary.get("images"):
    return summary
  progress, rows, counted = args.output / "progress", [], {}
  make_fn = functools.cache(lambda steps: make_answer_fn(trained, num_steps=steps))
  with tqdm(total=sum(wanted.values()), desc="generate", unit="image") as bar:
    for name, number in wanted.items():
      bar.set_description(name)
      bank = banks.get(name)
      generator = make_generator(trained, space, name, identities=args.identities, seed=args.seed,
                                 bank=bank, fn=make_fn(bank.sampler_steps if bank else None))
      mine, tried, copies, batch = [], 0, 0, 0
      while len(mine) < number:
        if tried >= MOST_ATTEMPTS * number + generator.batch_size:
          raise ValueError(
              f"{copies} of {tried} images of {name} were copies of training images (nearer than "
              f"{generator.threshold:.3g}); use fresh noises or other identities, or lower "
              "--config.noise.copy_quantile")
        kept = one_batch(args, generator, batch, name, progress, number - len(mine), len(mine))
        mine += kept["rows"]
        tried, copies, batch = tried + kept["tried"], copies + kept["copies"], batch + 1
        bar.update(len(kept["rows"]))
      rows += mine
      counted[name] = {"images": number, "tried": tried, "copies": copies,
                       "copy_threshold": generator.threshold, "threshold_of":
                       generator.threshold_of, "references": len(generator.references.real),
                       "noises": len(banks[name]) if name in banks else 0}
  summary = {"request": request, "findings": counted, "images": len(rows)}
  write_manifest(args.output / "manifest.csv", rows)
  from cdjax.evaluate.resume import write_json
  write_json(args.output / "generate.json", summary)
  shutil.rmtree(progress)
  return summary


def begin(output: Path, request: dict) -> dict:
  """Makes the folder, or checks that what is there was asked for alike; returns its record.

  Raises:
    ValueError: the folder has another set.
  """
  import json

  from cdjax.evaluate.resume import write_json
  path = output / "generate.json"
  if path.is_file():
    there = json.loads(path.read_text())
    differ = [key for key, value in request.items()
              if key != "cdjax" and there["request"].get(key) != value]
    if differ:
      raise ValueError(f"{output} holds another set, which differs in {', '.join(differ)}; give "
                       "another --output, or remove it")
    return there
  if output.is_dir() and any(output.iterdir()):
    raise ValueError(f"--output {output} is not empty and holds no generated set; give another")
  (output / "images").mkdir(parents=True)
  write_json(path, {"request": request})
  return {}


def one_batch(args: argparse.Namespace, generator, batch: int, name: str, progress: Path,
              wanted: int, first: int) -> dict:
  """The rows of one batch: read where an earlier run had finished it, else made."""
  import json

  from cdjax.evaluate.resume import write_json
  path = progress / f"{name}-{batch:06d}.json"
  if path.is_file():
    return json.loads(path.read_text())
  made = generator.batch(batch)
  rows, tried = [], 0
  for i in range(len(made.source)):
    if len(rows) == wanted:
      break
    tried += 1
    if not made.copied[i]:
      rows.append(write_image(args, generator, made, i, name, first + len(rows)))
  result = {"rows": rows, "tried": tried, "copies": tried - len(rows)}
  write_json(path, result)
  return result


def write_image(args: argparse.Namespace, generator, made, i: int, name: str, number: int) -> dict:
  """Writes one PNG and returns its row of the manifest."""
  import jax
  import numpy as np

  from cdjax.findings import arrays_to_findings, render_findings
  from cdjax.report.figures import save_png
  trained, source = generator.trained, generator.space.source
  cfg, record = trained.config.counterfactual, source[int(made.source[i])]
  asked = arrays_to_findings(jax.tree.map(lambda a: a[i:i + 1], made.findings),
                             trained.vocabulary)[0]
  scales = cfg.guidance_by_finding
  row = {
      "image": f"images/{name}-{number:06d}.png", "image_id": f"synthetic-{name}-{number:06d}",
      "patient_id": record["patient_id"], "findings": render_findings(asked),
      "view": record["view"], "sex": record["sex"],
      "age": "" if record["age"] is None else record["age"], "split": "train", "synthetic": "yes",
      "source": record["image_id"], "finding": name, "seed": args.seed,
      "guidance": scales[generator.references.k] if len(scales) else cfg.guidance_findings,
      "noise": "" if made.noise[i] < 0 else int(made.noise[i]),
      "nearest_real": source[int(made.nearest[i])]["image_id"],
      "nearest_distance": round(float(made.distance[i]), 4),
      "copy_threshold": round(generator.threshold, 4)}
  pixels = np.rint(np.clip(made.images[i], 0.0, 1.0) * 255).astype(np.uint8)
  save_png(args.output / row["image"], pixels, {
      "model": trained.fingerprint, "counterfactual": cfg.to_dict(),
      **{key: value for key, value in row.items() if key not in ("image", "synthetic")}})
  return row


def write_manifest(path: Path, rows: list[dict]) -> None:
  """Writes the rows as CSV, in one piece."""
  import csv
  part = path.with_name(path.name + ".part")
  with part.open("w", newline="", encoding="utf-8") as file:
    writer = csv.DictWriter(file, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
  part.replace(path)


def print_summary(summary: dict, output: Path) -> None:
  """Prints what was made of each finding, and what was thrown away."""
  for name, entry in summary["findings"].items():
    print(f"{name}: {entry['images']} images of {entry['tried']} answers; {entry['copies']} copies "
          f"thrown away (nearer than {entry['copy_threshold']:.3g}, from {entry['threshold_of']})")
  print(f"{output / 'manifest.csv'}: {summary['images']} images")
