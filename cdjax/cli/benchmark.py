"""Runs a benchmark, cell by cell: `longtail`, remedies for findings of few images.

On phantom patients whose findings occur from thousands of times down to four, every remedy is
trained and measured: class-aware sampling, class-balancing diffusion, noise optimisation from
random starts and from mixed references, and both together; and a classifier is trained on what each
of them makes. Every cell is kept as it ends: interrupted, the same command goes on.

Two processes may work in one folder, with other cells each: what both need, one of them makes while
the other waits. Classifiers of real images alone need nothing but the data. To go on on another
machine, copy cells/ into its folder of the same config: cells that are there are not computed
again, and only what the others need is trained.

examples:
  cdjax benchmark longtail --config configs/longtail.py --workdir longtail
  cdjax benchmark longtail --config configs/longtail.py --workdir longtail \\
    --only measure/nothing-0,measure/noise_mixed-0
  cdjax benchmark longtail --config configs/longtail.py --workdir longtail --list

two processes at once, one core each:
  taskset -c 0 cdjax benchmark longtail --config configs/longtail.py --workdir longtail \\
    --only 'measure/*,head-*,curve/*,memory' &
  taskset -c 1 cdjax benchmark longtail --config configs/longtail.py --workdir longtail \\
    --only 'classify/real*,classify/resampled*,classify/balanced*'

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
  summaries = {}
  with tqdm(cells, unit="cell", desc="longtail") as bar:
    for cell in bar:
      bar.set_description(cell.name)
      try:
        benchmark.run(cell)
      except Stopped as stop:
        print(stop)
        return stop.exit_code
      text = write_result(benchmark, args.workdir, summaries)
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


def write_result(benchmark, workdir: Path, summaries: dict) -> str:
  """Writes table, figure and JSON of the cells that are done; returns the table.

  Args:
    benchmark: the cells.
    workdir: gets the files.
    summaries: gets the classifiers' intervals, which take a while; they are the same until another
      classifier is trained.
  """
  from cdjax.evaluate.longtail_methods import WITHOUT_SYNTHETIC
  from cdjax.evaluate.longtail_summary import (
      best_remedy,
      gains,
      memory_ratio,
      summarise_measures,
      summarise_recipes,
  )
  from cdjax.evaluate.resume import write_json
  from cdjax.report.figures import save_png
  from cdjax.report.longtail import figure_longtail, markdown_longtail

  done, config = benchmark.done(), benchmark.config
  counts = benchmark.counts()
  groups, rarest = benchmark.groups(counts), min(counts, key=counts.get)
  summarise = lambda kind: {name: summarise_measures(list(runs.values()), groups)
                            for name, runs in done[kind].items()}
  methods = summarise("measure")
  recipes = {name: list(runs.values()) for name, runs in done["classify"].items()}
  trained = tuple((name, seed) for name, runs in done["classify"].items() for seed in runs)
  if trained not in summaries:
    summaries[trained] = summarise_recipes(
        recipes, benchmark.test_status(), config.data.vocabulary, groups,
        without=WITHOUT_SYNTHETIC, resamples=config.longtail.bootstrap) if trained else {
            "best": "", "recipes": {}, "gain": {}}
  result = {"counts": counts, "groups": groups, "rarest": rarest, "methods": methods,
            "gain": gains(done["measure"], groups),
            "best": {group: best_remedy(methods, group) for group in ("medium", "tail", rarest)},
            "head": done["head"], "curve": summarise("curve"), "memory": done["memory"],
            "memory_ratio": memory_ratio(done["memory"]), "downstream": summaries[trained],
            "meaning": {name: text for name, text in benchmark.meaning.items()
                        if name in methods or name in recipes}}
  text = markdown_longtail(result)
  (workdir / "longtail.md").write_text(text, encoding="utf-8")
  save_png(workdir / "longtail.png", figure_longtail(result))
  write_json(workdir / "longtail.json", result)
  return text
