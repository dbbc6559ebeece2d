"""The table of an ablation: a row for each variant, mean and spread over training seeds."""

from collections.abc import Mapping, Sequence

import numpy as np

# Key of METRICS: heading.
COLUMNS = {
    "autoencoder/psnr": "rebuilt dB",
    "swap/psnr": "swap dB",
    "healthy/left_inside": "healthy: left",
    "counterfactual/gain_inside": "gain inside",
    "counterfactual/rmse_outside": "RMSE outside",
    "counterfactual/ssim": "SSIM",
    "counterfactual/finding": "finding",
    "counterfactual/side": "side",
    "counterfactual/zone": "zone",
    "counterfactual/factual_left": "factual left",
    "counterfactual/unasked": "unasked",
    "diversity/ratio": "diversity",
    "multi/finding": "two asked",
    "severity/spearman": "severity ρ",
    "leakage/findings_from_identity": "leakage",
    "leakage/from_means": "of means",
    "leakage/patient_from_pathology": "patient in z_path",
    "composition/l1": "null edit L1",
}


def summarise(runs: Sequence[Mapping]) -> dict[str, dict]:
  """Mean, smallest and largest value of each column over the training seeds of one row.

  Args:
    runs: metrics as `evaluate_phantom` returns them, one for each seed.

  Returns:
    key → `{"mean", "low", "high", "seeds"}`; keys that no run has are left out.
  """
  out = {}
  for key in COLUMNS:
    values = [run[key]["value"] for run in runs if key in run and run[key]["value"] is not None]
    if values:
      out[key] = {"mean": float(np.mean(values)), "low": min(values), "high": max(values),
                  "seeds": len(values)}
  return out


def _cell(entry: Mapping | None) -> str:
  if entry is None:
    return "–"
  digits = 1 if abs(entry["mean"]) >= 10 else 4 if abs(entry["mean"]) < 0.03 else 2
  text = f"{entry['mean']:.{digits}f}"
  if entry["seeds"] > 1:
    text += f" ({entry['low']:.{digits}f}–{entry['high']:.{digits}f})"
  return text


def markdown_table(rows: Mapping[str, Mapping[str, Mapping]],
                   meaning: Mapping[str, str]) -> str:
  """A Markdown table of rows that `summarise` made, and what each of them means.

  Args:
    rows: name → its summary.
    meaning: name → what is different.
  """
  used = [key for key in COLUMNS if any(key in summary for summary in rows.values())]
  lines = ["| row | " + " | ".join(COLUMNS[key] for key in used) + " |",
           "|---" * (len(used) + 1) + "|"]
  for name, summary in rows.items():
    lines.append(f"| {name} | " + " | ".join(_cell(summary.get(key)) for key in used) + " |")
  lines += ["", *(f"* {name}: {meaning[name]}" for name in rows), "",
            "Means over training seeds, with the smallest and the largest where there are several."]
  return "\n".join(lines) + "\n"
