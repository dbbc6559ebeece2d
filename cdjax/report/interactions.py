"""The interactions of latent parts as tables and pictures: who holds what, who looks at whom."""

import html
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from cdjax.report.figures import contact_sheet

_TABLES = {
    "probe": ("What a linear probe reads of a finding (balanced accuracy, 0.5 is nothing)", 0.5, 1),
    "attention": ("How much the pathology slot attends to each slot where the finding is", 0, 1),
}
_LISTS = {
    "patient": "patient's other study found",
    "nats": "nats held",
    "nats_of_study": "nats between two studies of a patient",
}


def heat_table(values: Mapping[tuple[str, str], float], *, low: float, high: float) -> str:
  """An HTML table of numbers, the cells darker from `low` to `high`.

  Args:
    values: (row, column) → number; the order of first appearance is kept.
    low, high: numbers without colour and with full colour.
  """
  rows, columns = (list(dict.fromkeys(key[i] for key in values)) for i in (0, 1))
  head = "".join(f"<th>{html.escape(c)}</th>" for c in columns)
  lines = [f"<tr><th></th>{head}</tr>"]
  for row in rows:
    cells = [f"<td>{html.escape(row)}</td>"]
    for column in columns:
      value = values.get((row, column))
      if value is None:
        cells.append("<td>–</td>")
        continue
      alpha = 0.75 * min(max((value - low) / (high - low), 0.0), 1.0)
      cells.append(f'<td style="background: rgba(200, 80, 0, {alpha:.2f})">{value:.2f}</td>')
    lines.append(f"<tr>{''.join(cells)}</tr>")
  return f"<table>{''.join(lines)}</table>"


def interaction_tables(metrics: Mapping) -> str:
  """The keys `interactions/*` of an evaluation as HTML; empty where there are none."""
  split = {tuple(key.split("/")[1:]): entry["value"] for key, entry in metrics.items()
           if key.startswith("interactions/") and entry["value"] is not None}
  out = []
  for name, (caption, low, high) in _TABLES.items():
    values = {(key[1], key[2]): value for key, value in split.items() if key[0] == name}
    if values:
      out.append(f"<p>{html.escape(caption)}</p>{heat_table(values, low=low, high=high)}")
  lists = {(key[1], _LISTS[key[0]]): value for key, value in split.items() if key[0] in _LISTS}
  if lists:
    out.append(heat_table(lists, low=0.0, high=1e9))
  return "".join(out)


def effect_sheet(effects: np.ndarray, names: Sequence[str], *, size: int = 192) -> np.ndarray:
  """Where each slot acts, brighter where the image changes more: `[H, W, 3]` uint8.

  Args:
    effects: `[n, S, S]`, mean absolute changes.
    names: n headings.
    size: side of each picture.
  """
  full = max(float(np.quantile(effects, 0.995)), 1e-6)
  pictures = []
  for effect in effects:
    tone = np.clip(effect / full, 0.0, 1.0)
    heat = np.stack([tone**0.6, tone, tone**2.5], -1)   # black, orange, white
    pictures.append(np.asarray(Image.fromarray(np.rint(255 * heat).astype(np.uint8)).resize(
        (size, size), Image.Resampling.BILINEAR)))
  return contact_sheet([pictures], columns=names,
                       labels=[f"mean change of the image; white is {full:.3f}"], size=size)
