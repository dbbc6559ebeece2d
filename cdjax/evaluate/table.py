"""The metrics as a table on the terminal: grouped, ceilings and baselines in the same row."""

# Column's title → prefix of its keys; the first is the subject's own.
_YARDSTICKS = {
    "copy": "baseline/copy/",
    "nearest": "baseline/swap_nearest/",
    "pca256": "baseline/pca256/",
    "nuisance": "ceiling/nuisance/",
    "autoenc.": "ceiling/autoencoder/",
    "judge": "ceiling/judge/",
    "probe": "ceiling/probe/",
    "exact": "ceiling/exact/",
}
_GROUPS = ("autoencoder", "classifier", "swap", "healthy", "counterfactual", "diversity",
           "sharpness", "severity", "multi", "unseen", "leakage", "composition", "reversibility",
           "single_study", "fidelity", "identity", "pathology", "axioms", "privacy", "seconds")
# Own key → the yardstick's key where it has another name, for yardsticks of one key only.
_RENAMED = {("pca256", "autoencoder/psnr"): "psnr",
            ("probe", "leakage/findings_from_identity"): "accuracy"}


def _number(entry: dict | None) -> str:
  if entry is None:
    return ""
  value = entry["value"]
  if value is None:
    return "–"
  decimals = 1 if abs(value) >= 10 else 4 if abs(value) < 0.1 else 3
  return f"{value:.{decimals}f}"


def _row(key: str, metrics: dict) -> list[str]:
  entry = metrics[key]
  spread = ""
  if entry["low"] is not None and entry["high"] is not None:
    spread = f"{_number({'value': entry['low']})} … {_number({'value': entry['high']})}"
  cells = [key, _number(entry), spread, str(entry["n"])]
  for title, prefix in _YARDSTICKS.items():
    same = None if title in ("pca256", "probe") else key.removeprefix("counterfactual/")
    cells.append(_number(metrics.get(f"{prefix}{_RENAMED.get((title, key), same)}")))
  return cells


def format_table(metrics: dict) -> str:
  """A readable table of `evaluate_phantom`'s result.

  Args:
    metrics: flat keys → `{"value", "low", "high", "n"}`, with `machine`, `seed`, `left_out`.

  Returns:
    Lines with one key each: value, 95 % interval, number of patients, then the same quantity of
    the baselines and ceilings that have it. "–" is a quantity that is not defined.
  """
  header = ["key", "value", "95 % interval", "n", *_YARDSTICKS]
  rows = []
  for group in _GROUPS:
    keys = [key for key in metrics if key.startswith(group + "/")]
    rows += [_row(key, metrics) for key in keys] + ([[]] if keys else [])
  used = [i for i in range(len(header)) if i < 4 or any(row and row[i] for row in rows)]
  widths = [max(len(row[i]) for row in [header, *rows] if row) for i in used]

  def line(cells):
    parts = (cells[i].ljust(w) if i == 0 else cells[i].rjust(w)
             for i, w in zip(used, widths, strict=True))
    return "  ".join(parts).rstrip()

  lines = [line(header), "-" * (sum(widths) + 2 * len(widths) - 2)]
  lines += [line(row) if row else "" for row in rows]
  lines.append(f"seed {metrics['seed']}, measured on {metrics['machine']}")
  lines += [f"left out: {text}" for text in metrics["left_out"]]
  return "\n".join(lines)
