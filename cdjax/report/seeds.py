"""One table of several training seeds."""

from collections.abc import Mapping, Sequence


def mean_over_runs(runs: Sequence[Mapping]) -> dict:
  """The mean of every key over runs that differ in their training seed.

  Args:
    runs: one or more results of `evaluate_phantom`.

  Returns:
    The same form: `value` is the mean, `low` and `high` the smallest and the largest, `n` the
    number of runs that have a value. Keys that some run lacks are left out. Of one run: itself.

  Raises:
    ValueError: no run, or runs measured with different seeds or numbers of questions.
  """
  if not runs or len({run["seed"] for run in runs}) != 1:
    raise ValueError(f"runs measured with the seeds {[run['seed'] for run in runs]}; expected one "
                     "or more runs measured with the same seed")
  asked = [run.get("counterfactual/finding", {}).get("n") for run in runs]
  if len(set(asked)) != 1:
    raise ValueError(f"runs measured with {asked} questions; expected one number")
  first = runs[0]
  if len(runs) == 1:
    return dict(first)
  out = {}
  for key, entry in first.items():
    if not isinstance(entry, Mapping) or "value" not in entry:
      out[key] = entry
    elif all(key in run for run in runs):
      values = [run[key]["value"] for run in runs if run[key]["value"] is not None]
      out[key] = {"value": sum(values) / len(values) if values else None,
                  "low": min(values, default=None), "high": max(values, default=None),
                  "n": len(values)}
  return out


def markdown_metrics(metrics: Mapping) -> str:
  """`| key | value | low … high |` of all keys but `interactions/*`."""
  number = lambda v: "–" if v is None else f"{v:.4f}" if abs(v) < 0.1 else f"{v:.3g}"
  lines = ["| key | value | low … high |", "|---|---|---|"]
  for key, entry in metrics.items():
    if key.startswith("interactions/") or not isinstance(entry, Mapping) or "value" not in entry:
      continue
    spread = "" if entry["low"] is None else f"{number(entry['low'])} … {number(entry['high'])}"
    lines.append(f"| `{key}` | {number(entry['value'])} | {spread} |")
  return "\n".join(lines) + "\n"
