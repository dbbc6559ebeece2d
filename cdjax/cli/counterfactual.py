"""This patient, but with other findings: images in, counterfactual images out.

--findings replaces the whole set of findings, --report takes those that a radiologist's report in
free text states, --add and --remove edit the set, --healthy empties it. The text of a finding is
`severity side zone finding; …`, for example "large left lower pleural effusion; no cardiomegaly".
The findings that the image shows come from --factual, else from --manifest, else from the workdir's
classifier, and are printed.

examples:
  cdjax counterfactual --workdir demo --image a.png --findings "large left pleural effusion"
  cdjax counterfactual --workdir demo --image a.png --report report.txt
  cdjax counterfactual --workdir demo --image a.png --image b.dcm --healthy --output healthy
  cdjax counterfactual --workdir demo --image folder --factual "right upper nodule" \\
      --add "mild left lower consolidation" --num 4

Writes STEM.counterfactual-N.png and STEM.difference-N.png (red denser, blue less dense) for every
image, contact_sheet.png, and answers.jsonl. Generated files say in their metadata that they are
synthetic, and how they were made. All devices are used, sixteen images at a time.
"""

import argparse
import functools
import sys
from pathlib import Path

BATCH = 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the command's arguments."""
  parser.add_argument("--workdir", required=True, type=Path, help="folder of a trained run")
  parser.add_argument("--image", required=True, type=Path, action="append", metavar="FILE|DIR",
                      help="a PNG, JPEG or DICOM file, or a folder of them; may be repeated")
  parser.add_argument("--factual", metavar="TEXT", help="what the images show")
  parser.add_argument("--manifest", type=Path, metavar="FILE",
                      help="a manifest as `cdjax prepare` takes it, to look the images up in")
  parser.add_argument("--manifest-images", type=Path, metavar="DIR",
                      help="folder that its paths are relative to (default: the manifest's own)")
  asked = parser.add_argument_group("the question").add_mutually_exclusive_group(required=True)
  asked.add_argument("--findings", metavar="TEXT", help="these findings and no others")
  asked.add_argument("--report", type=Path, metavar="FILE",
                     help="what this report in free text states as present, and nothing else; read "
                     "by the rules of `cdjax extract`, on this machine")
  asked.add_argument("--add", metavar="TEXT", help="these too, or instead of the same-named")
  asked.add_argument("--remove", metavar="NAME", action="append", help="without this one")
  asked.add_argument("--healthy", action="store_true", help="without any")
  parser.add_argument("--num", type=int, default=1, metavar="N", help="different answers to give")
  parser.add_argument("--guidance", type=float, metavar="S",
                      help="how strongly to follow the findings; 1: no guidance")
  parser.add_argument("--guidance-identity", type=float, metavar="S",
                      help="how strongly to follow the identity")
  parser.add_argument("--fit", choices=("crop", "pad"), default="crop",
                      help="how an oblong image becomes square")
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--output", type=Path, metavar="DIR",
                      help="where to write (default: WORKDIR/counterfactuals)")


def run(args: argparse.Namespace) -> int:
  """Answers; returns 0 where at least one image could be used, else 1."""
  import jax
  import numpy as np

  from cdjax.core.rng import stream
  from cdjax.counterfactual.ahead import make_answer_program
  from cdjax.data.image_io import read_radiograph
  from cdjax.data.quarantine import Unusable
  from cdjax.evaluate.batching import map_batches
  from cdjax.evaluate.trained import load_trained, spread
  from cdjax.findings import findings_to_arrays, render_findings
  from cdjax.train.details import leave_open

  if args.num < 1:
    raise ValueError(f"--num {args.num}; expected 1 or more")
  if args.manifest_images and not args.manifest:
    raise ValueError("--manifest-images is for --manifest")
  question = parse_question(args)   # a wrong word is found before anything is loaded
  paths = list_images(args.image)
  trained = load_trained(args.workdir)
  config, vocabulary = trained.config, trained.vocabulary
  images, kept = [], []
  for path in paths:
    try:
      pixels = read_radiograph(path, resolution=config.data.resolution, bits=16, fit=args.fit)
    except (Unusable, OSError) as error:
      print(f"{path}: left out: {error}", file=sys.stderr)
      continue
    images.append(pixels.astype(np.float32)[..., None] * (2 / 65535) - 1)
    kept.append(path)
  if not kept:
    print("cdjax: error: none of the images can be read", file=sys.stderr)
    return 1
  x = np.stack(images)
  factual, where_from = factual_findings(args, kept, x, trained)
  asked = [question(findings, path) for findings, path in zip(factual, kept, strict=True)]
  if args.report is not None:   # a report says more than any model knows
    if unknown := sorted({f.name for f in asked[0]} - set(vocabulary)):
      print(f"{args.report}: left out, since this run does not know it: {', '.join(unknown)}",
            file=sys.stderr)
    asked = [[f for f in findings if f.name in vocabulary] for findings in asked]
  findings, _ = leave_open(findings_to_arrays(factual, vocabulary), trained.details, vocabulary)
  do_findings, forgotten = leave_open(findings_to_arrays(asked, vocabulary), trained.details,
                                      vocabulary)
  if forgotten:
    print(f"left open, since the training data never say it: {', '.join(forgotten)}",
          file=sys.stderr)

  cfg = config.counterfactual
  with cfg.unlocked():
    if args.guidance is not None:
      cfg.guidance_findings, cfg.guidance_by_finding = args.guidance, ()
    if args.guidance_identity is not None:
      cfg.guidance_identity = args.guidance_identity
  ask = spread(trained.mesh, functools.partial(
      make_answer_program(trained.mesh, trained.model, cfg), trained.placed))
  answers = []
  for n in range(args.num):
    key = stream(jax.random.key(args.seed), "counterfactual", n)
    answers.append(map_batches(
        ask, x, findings, do_findings, key=key, batch_size=min(len(x), BATCH)))

  output = args.output or args.workdir / "counterfactuals"
  for path, before, after, source in zip(kept, factual, asked, where_from, strict=True):
    print(f"{path.name}: shows {render_findings(before, digits=2)} (from {source}); "
          f"asked {render_findings(after, digits=2)}")
  write_answers(args, output, kept, x, factual, where_from, asked, forgotten, answers, trained)
  print(f"{len(kept)} images, {args.num} answers each, in {output}")
  return 0


def parse_question(args: argparse.Namespace):
  """Returns `(factual findings, path) -> asked findings`."""
  from cdjax.findings import edit_findings, parse_findings
  if args.healthy:
    return lambda factual, path: []
  if args.findings is not None:
    findings = parse_findings(args.findings)
    return lambda factual, path: findings
  if args.report is not None:
    stated = read_stated(args.report)
    return lambda factual, path: stated
  add = parse_findings(args.add) if args.add is not None else []
  remove = args.remove or []

  def edit(factual, path):
    try:
      return edit_findings(factual, add=add, remove=remove)
    except ValueError as error:
      raise ValueError(f"{path}: {error}") from error

  return edit


def read_stated(path: Path) -> list:
  """The findings that a report states as present, by the rules; says what is left out of it.

  Raises:
    ValueError: not text, or no part of it states findings: nobody asked for a healthy image.
  """
  from cdjax.findings.extract import extract_findings
  from cdjax.findings.extract.lexicon import get_lexicon
  from cdjax.findings.extract.sections import read_sections
  try:
    text = path.read_text("utf-8-sig")
  except UnicodeDecodeError as error:
    raise ValueError(f"--report {path}: not UTF-8 text (byte {error.start})") from error
  if not read_sections(text, get_lexicon().sections):
    raise ValueError(f"--report {path}: no part of it states findings; it is empty, or all of it "
                     "is history, indication and the like")
  found = extract_findings(text)
  stated = [finding for finding in found if finding.status == "present"]
  if unsure := dict.fromkeys(f.name for f in found if f.status == "uncertain"):
    print(f"{path}: left out, since the report is not sure: {', '.join(unsure)}", file=sys.stderr)
  if not stated:
    print(f"{path}: states no finding as present; an image without findings is asked for",
          file=sys.stderr)
  return stated


def list_images(given: list[Path]) -> list[Path]:
  """Files, and the images of folders, sorted within each; no file twice."""
  from cdjax.data.image_io import SUFFIXES
  paths = []
  for path in given:
    if path.is_dir():
      inside = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
      if not inside:
        raise ValueError(f"--image {path}: the folder has no file ending in {', '.join(SUFFIXES)}")
      paths += inside
    elif path.is_file():
      paths.append(path)
    else:
      raise FileNotFoundError(f"--image {path}: no such file or folder")
  return list(dict.fromkeys(paths))


def listed_findings(manifest: Path, root: Path) -> dict[Path, list]:
  """What a manifest says of each image that somebody labelled, by the file's full path.

  Rows that cannot be used are named on stderr.
  """
  from cdjax.data.manifest import read_manifest
  rows, problems = read_manifest(manifest)
  for problem in problems:
    print(f"{manifest}, row {problem.row}: {problem.reason}", file=sys.stderr)
  return {(root / row.image).resolve(): row.findings for row in rows if row.findings is not None}


def factual_findings(args: argparse.Namespace, paths: list[Path], x, trained) -> tuple[list, list]:
  """What each image shows, and where each of these is from, as words."""
  import numpy as np

  from cdjax.core.types import FindingsArrays
  from cdjax.evaluate.trained import make_findings_fn
  from cdjax.findings import arrays_to_findings, parse_findings
  from cdjax.train.details import leave_open
  if args.factual is not None:
    return [parse_findings(args.factual)] * len(paths), ["--factual"] * len(paths)
  listed = {}
  if args.manifest is not None:
    root = args.manifest_images or args.manifest.parent
    listed = listed_findings(args.manifest, root)
    if not any(path.resolve() in listed for path in paths):
      print(f"{args.manifest} says of none of the images what they show; its paths were taken as "
            f"inside {root} (--manifest-images DIR: inside another folder)", file=sys.stderr)
  if trained.classifier is None and any(p.resolve() not in listed for p in paths):
    raise ValueError("what the images show is not known: give --factual or a --manifest that lists "
                     "them (the workdir has no trained classifier)")
  findings, sources = [], []
  classify = None
  for i, path in enumerate(paths):
    if path.resolve() in listed:
      findings.append([f for f in listed[path.resolve()] if f.status == "present"])
      sources.append("the manifest")
      continue
    classify = classify or make_findings_fn(trained.config, trained.classifier, "classifier")
    seen = {name: np.asarray(value) for name, value in classify(x[i:i + 1]).items()}
    present = seen["finding"] > 0.5
    bits = lambda p, present: np.where(
        present, ((p > 0.5) * 2 ** np.arange(p.shape[-1])).sum(-1), 0).astype(np.int8)
    severity = np.round(seen["severity"].astype(float), 2)   # it is not known better than that
    arrays = FindingsArrays(
        status=present.astype(np.int8), severity=np.where(present, severity, -1.0),
        side=bits(seen["side"], present), zone=bits(seen["zone"], present))
    arrays, _ = leave_open(arrays, trained.details, trained.vocabulary)
    found = arrays_to_findings(arrays, trained.vocabulary)[0]
    findings.append([f for f in found if f.status == "present"])
    sources.append("the classifier")
  return findings, sources


def write_answers(args, output: Path, paths, x, factual, where_from, asked, left_open, answers,
                  trained):
  """Counterfactuals, difference maps, the contact sheet and answers.jsonl."""
  import json

  import cdjax
  from cdjax.findings import render_findings
  from cdjax.report.figures import contact_sheet, grey, save_png, signed
  output.mkdir(parents=True, exist_ok=True)
  unit = lambda image: (image + 1) / 2
  stems = unique_stems(paths)
  sheet, labels, lines = [], [], []
  for i, path in enumerate(paths):
    row = [grey(unit(x[i]))]
    for n, images in enumerate(answers):
      provenance = {
          "version": cdjax.__version__, "model": trained.fingerprint, "source": path.name,
          "factual": render_findings(factual[i]), "factual_from": where_from[i],
          "asked": render_findings(asked[i]), "left_open": left_open,
          "seed": args.seed, "answer": n,
          "counterfactual": trained.config.counterfactual.to_dict()}
      difference = unit(images[i]) - unit(x[i])
      name = f"{stems[i]}.counterfactual-{n}.png"
      save_png(output / name, grey(unit(images[i])), provenance)
      save_png(output / f"{stems[i]}.difference-{n}.png", signed(difference), provenance)
      row += [grey(unit(images[i])), signed(difference)]
      lines.append(json.dumps({"image": name, "synthetic": True, **provenance}))
    sheet.append(row)
    before, after = (render_findings(said[i], digits=2) for said in (factual, asked))
    labels.append(f"{path.name}: {before} -> {after}")
  columns = ["factual"]
  for n in range(args.num):
    columns += [f"counterfactual {n}", "difference"]
  size = max(128, min(x.shape[1], 256))
  picture = contact_sheet(sheet, columns=columns, labels=labels, size=size)
  save_png(output / "contact_sheet.png", picture, {"model": trained.fingerprint})
  (output / "answers.jsonl").write_text("\n".join(lines) + "\n")


def unique_stems(paths: list[Path]) -> list[str]:
  """File names without suffix; a number is added where two are the same."""
  stems, seen = [], {}
  for path in paths:
    count = seen[path.stem] = seen.get(path.stem, 0) + 1
    stems.append(path.stem if count == 1 else f"{path.stem}-{count}")
  return stems
