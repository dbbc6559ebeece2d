"""Runs a benchmark, cell by cell: `longtail`, remedies for findings of few images.

On phantom patients whose findings occur from thousands of times down to four, every remedy is
trained and measured: class-aware sampling, class-balancing diffusion, noise optimisation from
random starts and from mixed references, and both together; and a classifier is trained on what each
of them makes. Every cell is kept as it ends: interrupted, the same command goes on.

examples:
  cdjax benchmark longtail --config configs/longtail.py --workdir longtail
  cdjax benchmark longtail --config configs/longtail.py --workdir longtail \\
    --only measure/nothing-0,measure/noise_mixed-0
  cdjax benchmark longtail --config configs/longtail.py --workdir longtail --only 'classify/*-0'
  cdjax benchmark longtail --config configs/longtail.py --workdir longtail --list

Writes longtail.md, longtail.png and longtail.json of the cells that are there; cells/ has each.
"""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the command's arguments."""
  parser.add_argument("benchmark", choices=("longtail",), help="which benchmark")
  parser.add_argument("--config", required=True, metavar="FILE[:ARG]",
                      help="a config, e.g. configs/longtail.py; change a value with "
                      "--config.KEY=VALUE")
  parser.add_argument("--workdir", required=True, type=Path, help="folder of all cells")
  parser.add_argument("--only", metavar="A,B", help="which cells; * stands for anything")
  parser.add_argument("--list", action="store_true", help="print the names of the cells and stop")


def run(args: argparse.Namespace) -> int:
  """Runs the cells; returns 0, or 128 plus the signal that stopped a training."""
  from tqdm import tqdm

  from cdjax.cli.overrides import parse_overrides
  from cdjax.core.config import load_config
  from cdjax.evaluate.longtail import Benchmark
  from cdjax.train.stop import Stopped

  benchmark = Benchmark(parse_overrides(load_config(args.config), args.overrides), args.workdir)
  cells = choose(benchmark.cells(), args.only)
  if args.list:
    print("\n".join(cell.name for cell in cells))
    return 0
  with tqdm(cells, unit="cell", desc="longtail") as bar:
    for cell in bar:
      bar.set_description(cell.name)
      try:
        cell.run()
      except Stopped as stop:
        print(stop)
        return stop.exit_code
      text = write_result(benchmark, args.workdir)
  print(text)
  return 0


def choose(cells: list, only: str | None) -> list:
  """The cells that `--only` names.

  Raises:
    ValueError: a name that no cell has.
  """
  import fnmatch
  if not only:
    return cells
  wanted = [pattern.strip() for pattern in only.split(",") if pattern.strip()]
  for pattern in wanted:
    if not any(fnmatch.fnmatchcase(cell.name, pattern) for cell in cells):
      raise ValueError(f"--only {pattern}: no such cell; --list prints the {len(cells)} there are, "
                       f"e.g. {cells[0].name}")
  return [cell for cell in cells
          if any(fnmatch.fnmatchcase(cell.name, pattern) for pattern in wanted)]


def write_result(benchmark, workdir: Path) -> str:
  """Writes table, figure and JSON of the cells that are done; returns the table."""
  from cdjax.evaluate.longtail_summary import summarise_measures, summarise_recipes
  from cdjax.evaluate.resume import write_json
  from cdjax.report.figures import save_png
  from cdjax.report.longtail import figure_longtail, markdown_longtail

  done, config = benchmark.done(), benchmark.config
  counts = benchmark.counts()
  groups = benchmark.groups(counts)
  methods = {name: summarise_measures(runs, groups) for name, runs in done["measure"].items()}
  curve = {steps: summarise_measures(runs, groups) for steps, runs in done["curve"].items()}
  recipes = {name: [run["probability"] for run in runs] for name, runs in done["classify"].items()}
  downstream = {"best": "", "recipes": {}, "gain": {}}
  if recipes:
    _, findings = benchmark.test_set()
    downstream = summarise_recipes(recipes, findings.status, config.data.vocabulary, groups,
                                   without=benchmark.without_synthetic,
                                   resamples=config.longtail.bootstrap)
  result = {"counts": counts, "groups": groups, "methods": methods, "curve": curve,
            "memory": done["memory"], "downstream": downstream,
            "meaning": {name: text for name, text in benchmark.meaning.items()
                        if name in methods or name in recipes}}
  text = markdown_longtail(result)
  (workdir / "longtail.md").write_text(text, encoding="utf-8")
  save_png(workdir / "longtail.png", figure_longtail(result))
  write_json(workdir / "longtail.json", result)
  return text
