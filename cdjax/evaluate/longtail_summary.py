"""The benchmark's cells as one result: by method and group, by recipe and group, with intervals."""

from collections.abc import Mapping, Sequence

import numpy as np

from cdjax.core.types import Array
from cdjax.evaluate.bootstrap import Statistic, interval
from cdjax.evaluate.classification import balanced_accuracy
from cdjax.evaluate.long_tail import TIERS, average

MEASURES = ("effectiveness", "side", "side_seen", "coverage", "density", "ms_ssim", "exact/ms_ssim",
            "copies", "threshold", "direct", "reuse", "ceiling/effectiveness", "ceiling/side",
            "ceiling/autoencoder/effectiveness", "ceiling/autoencoder/side", "seconds",
            "noise/seconds", "evaluations", "noise/evaluations")


def spread(values: Sequence[float | None]) -> dict | None:
  """Mean, smallest and largest of what is defined, over training seeds; None where nothing is."""
  known = [value for value in values if value is not None and np.isfinite(value)]
  if not known:
    return None
  return {"mean": float(np.mean(known)), "low": min(known), "high": max(known),
          "seeds": len(known)}


def summarise_measures(runs: Sequence[Mapping[str, Mapping]], groups: Mapping[str, str]) -> dict:
  """One method's measures by group and by finding.

  Args:
    runs: one a seed: finding → measure → value, as `measure_finding` gives them.
    groups: finding → head, medium or tail.

  Returns:
    "head", "medium", "tail" and every finding → measure → `spread` over seeds; a group's value is
    the mean over its findings.
  """
  out = {}
  for label, names in _members(groups).items():
    rows = {measure: entry for measure in MEASURES
            if (entry := spread([_mean(run, names, measure) for run in runs])) is not None}
    if rows:
      out[label] = rows
  return out


def gains(methods: Mapping[str, Mapping[int, Mapping[str, Mapping]]], groups: Mapping[str, str], *,
          over: str = "nothing", measure: str = "effectiveness") -> dict[str, dict]:
  """How much more each method reaches than another one, paired by training seed.

  Args:
    methods: method → seed → finding → measure → value.
    groups: finding → head, medium or tail.
    over: the method compared with.
    measure: which.

  Returns:
    Method → group or finding → `spread` of the differences over the seeds that both have.
  """
  base, out = methods.get(over, {}), {}
  for name, runs in methods.items():
    seeds = [seed for seed in runs if seed in base]
    rows = {}
    for label, names in _members(groups).items():
      pairs = [(_mean(runs[seed], names, measure), _mean(base[seed], names, measure))
               for seed in seeds]
      entry = spread([None if None in pair else pair[0] - pair[1] for pair in pairs])
      if entry is not None:
        rows[label] = entry
    if name != over and rows:
      out[name] = rows
  return out


def best_remedy(summaries: Mapping[str, Mapping[str, Mapping]], group: str, *,
                over: str = "nothing", measure: str = "effectiveness") -> str:
  """The method with the largest mean of a group, "" where none but `over` was measured.

  Args:
    summaries: method → `summarise_measures`.
    group: head, medium, tail or a finding.
    over: the method that is no remedy.
    measure: which.
  """
  known = {name: summary[group][measure]["mean"] for name, summary in summaries.items()
           if name != over and measure in summary.get(group, {})}
  return max(known, key=known.get, default="")


def memory_ratio(sizes: Mapping[str, int]) -> float | None:
  """Bytes at the most sampler steps over those at the fewest; None where nothing was measured.

  Args:
    sizes: sampler steps → bytes.
  """
  return sizes[max(sizes, key=int)] / sizes[min(sizes, key=int)] if sizes else None


def _members(groups: Mapping[str, str]) -> dict[str, list[str]]:
  """The findings of each group, and every finding by itself."""
  members = {tier: [name for name, group in groups.items() if group == tier] for tier in TIERS}
  return members | {name: [name] for name in groups}


def _mean(run: Mapping[str, Mapping], names: Sequence[str], measure: str) -> float | None:
  """Over the findings in which it is defined; None where it is in none."""
  known = [run[name][measure] for name in names
           if name in run and run[name].get(measure) is not None]
  return float(np.mean(known)) if known else None


def group_statistics(probabilities: Sequence[Array], status: Array, findings: Sequence[str],
                     groups: Mapping[str, str]) -> dict[str, Statistic]:
  """Balanced accuracy of every group, mean over its findings and over training seeds.

  Args:
    probabilities: one `[N, K]` a seed, of the same N patients.
    status: `[N, K]`.
    findings: K names.
    groups: finding → head, medium or tail.
  """
  parts = {tier: [] for tier in (*TIERS, *findings)}
  for probability in probabilities:
    for k, name in enumerate(findings):
      one = balanced_accuracy(np.asarray(probability)[:, k], np.asarray(status)[:, k])
      parts[groups[name]].append(one)
      parts[name].append(one)
  return {tier: average(statistics) for tier, statistics in parts.items() if statistics}


def summarise_recipes(cells: Mapping[str, Sequence[Array]], status: Array, findings: Sequence[str],
                      groups: Mapping[str, str], *, without: Sequence[str], resamples: int,
                      seed: int = 0) -> dict:
  """Every recipe's balanced accuracy, and its gain over the best one without synthetic images.

  Args:
    cells: recipe → probabilities `[N, K]` of each seed; every test patient has one image.
    status: `[N, K]`.
    findings: K names.
    groups: finding → head, medium or tail.
    without: recipes without synthetic images; the best of them on the tail is what others are
      compared with.
    resamples, seed: of the bootstrap over patients, paired between recipes.

  Returns:
    "best": that recipe's name, "" where none was measured; "recipes": name → group or finding →
    `{"value", "low", "high", "n"}`; "gain": name → group → the same of the difference.
  """
  n = len(np.asarray(status))
  statistics = {name: group_statistics(runs, status, findings, groups)
                for name, runs in cells.items()}
  measure = lambda statistic: interval(statistic, n, resamples=resamples, seed=seed)
  recipes = {name: {label: measure(statistic) for label, statistic in rows.items()}
             for name, rows in statistics.items()}
  known = [name for name in without if "tail" in recipes.get(name, {})]
  best = max(known, key=lambda name: recipes[name]["tail"]["value"], default="")
  gain = {}
  for name, rows in statistics.items():
    if best and name != best:
      gain[name] = {tier: measure(_difference(rows[tier], statistics[best][tier]))
                    for tier in TIERS if tier in rows and tier in statistics[best]}
  return {"best": best, "recipes": recipes, "gain": gain}


def _difference(a: Statistic, b: Statistic) -> Statistic:
  return lambda weights: a(weights) - b(weights)
