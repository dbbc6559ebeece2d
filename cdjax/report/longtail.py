"""The long-tail benchmark as one table and one figure."""

from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFont

GROUPS = ("head", "medium", "tail")
COLUMNS = {
    "effectiveness": "effectiveness", "ceiling/autoencoder/effectiveness": "autoencoder's",
    "direct": "direct", "reuse": "reuse", "side": "side", "side_seen": "side where seen",
    "coverage": "coverage", "density": "density", "ms_ssim": "MS-SSIM",
    "exact/ms_ssim": "exact MS-SSIM", "copies": "copies", "seconds": "s an image",
    "noise/seconds": "s a noise", "evaluations": "evaluations",
    "noise/evaluations": "evaluations a noise",
}
_COLOURS = ((60, 90, 160), (200, 110, 40), (60, 140, 80))
_CHART, _PAD, _LABEL = (620, 260), 50, 150


def _number(value: float) -> str:
  return f"{value:.0f}" if abs(value) >= 30 else f"{value:.3f}" if abs(value) < 0.1 else (
      f"{value:.2f}")


def _cell(entry: Mapping | None) -> str:
  if entry is None or entry.get("mean", entry.get("value")) is None:
    return "–"
  if "value" in entry:
    return f"{_number(entry['value'])} ({_number(entry['low'])} to {_number(entry['high'])})"
  text = _number(entry["mean"])
  if entry["seeds"] > 1:
    text += f" ({_number(entry['low'])}–{_number(entry['high'])})"
  return text


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
  return ["| " + " | ".join(header) + " |", "|---" * len(header) + "|",
          *("| " + " | ".join(row) + " |" for row in rows)]


def markdown_longtail(result: Mapping) -> str:
  """The tables of methods, of the rarest finding, of the curve and of the recipes.

  Args:
    result: "counts", "groups", "rarest", "methods", "gain", "best", "head", "meaning", "curve",
      "memory", "memory_ratio", "downstream", as the command writes them into `longtail.json`;
      parts that were not measured yet are left out.
  """
  lines = ["Training images: " + ", ".join(f"{name} {count}" for name, count in
                                           result["counts"].items()), ""]
  rarest = result["rarest"]
  for group in (*GROUPS, rarest):
    rows = [[name, *(_cell(summary[group].get(key)) for key in COLUMNS)]
            for name, summary in result["methods"].items() if group in summary]
    if rows:
      title = f"{group}, {result['counts'][group]} training images" if group == rarest else group
      lines += [f"**{title}**", "", *_table(["method", *COLUMNS.values()], rows), ""]
  lines += _notes(result)
  if result["gain"]:
    labels = (*GROUPS, rarest)
    rows = [[name, *(_cell(entry.get(label)) for label in labels)]
            for name, entry in result["gain"].items()]
    lines += ["**effectiveness over that of nothing, the same seeds**", "",
              *_table(["method", *labels], rows), ""]
  if result["curve"]:
    rows = [[steps, *(_cell(summary.get("tail", {}).get(key)) for key in
                      ("effectiveness", "coverage", "side", "copies"))]
            for steps, summary in result["curve"].items()]
    lines += ["**tail, by gradient steps**", "",
              *_table(["steps", "effectiveness", "coverage", "side", "copies"], rows), ""]
  found = result["downstream"]
  if found["recipes"]:
    rows = [[name, *(_cell(entry.get(group)) for group in GROUPS),
             *(_cell(found["gain"].get(name, {}).get(group)) for group in GROUPS)]
            for name, entry in found["recipes"].items()]
    lines += [f"**classifier, balanced accuracy; gain over {found['best'] or 'nothing'}**", "",
              *_table(["recipe", *GROUPS, *(f"gain, {group}" for group in GROUPS)], rows), ""]
  lines += [f"* {name}: {text}" for name, text in result["meaning"].items()]
  lines += ["", "Means over training seeds (smallest–largest); intervals are 95 % over patients."]
  return "\n".join(lines) + "\n"


def _notes(result: Mapping) -> list[str]:
  """What is one number or one word."""
  lines = [f"Best remedy of the {group}: {name}" for group, name in result["best"].items() if name]
  equal = [entry["equal"] for entry in result["head"].values() if entry["equal"] is not None]
  if equal:
    lines.append("Images of the head with noises for the others, and without: "
                 + (f"bit by bit equal ({len(equal)} of {len(equal)} seeds)" if all(equal) else
                    f"they differ in {equal.count(False)} of {len(equal)} seeds"))
  if result["memory"]:
    lines.append("Memory of a gradient: " + ", ".join(
        f"{size / 2**20:.0f} MiB at {steps} sampler steps"
        for steps, size in result["memory"].items())
        + f" ({result['memory_ratio']:.2f} times as much)")
  return [text for line in lines for text in (line, "")]


def figure_longtail(result: Mapping) -> np.ndarray:
  """Effectiveness of each method by group, and of the tail against gradient steps.

  Args:
    result: see `markdown_longtail`.

  Returns:
    `[H, W, 3]` uint8.
  """
  width, height = _CHART
  image = Image.new("RGB", (width + 2 * _PAD + _LABEL, 2 * (height + 2 * _PAD)), "white")
  pen, font = ImageDraw.Draw(image), ImageFont.load_default(size=12)
  _bars(pen, font, result, top=_PAD)
  _curves(pen, font, result, top=height + 3 * _PAD)
  return np.asarray(image)


def _axes(pen, font, title: str, top: int) -> None:
  width, height = _CHART
  pen.text((_PAD, top - 30), title, fill="black", font=font)
  for value in (0.0, 0.25, 0.5, 0.75, 1.0):
    y = top + height * (1 - value)
    pen.line((_PAD, y, _PAD + width, y), fill=(220, 220, 220))
    pen.text((10, y - 7), f"{value:.2f}", fill="black", font=font)


def _bars(pen, font, result: Mapping, top: int) -> None:
  """A bar for each method and group, a whisker from the smallest to the largest seed."""
  width, height = _CHART
  _axes(pen, font, "effectiveness over the judge's ceiling", top)
  step = width / max(len(result["methods"]), 1)
  at = lambda value: top + height * (1 - min(max(value, 0.0), 1.0))
  for i, (name, summary) in enumerate(result["methods"].items()):
    for g, group in enumerate(GROUPS):
      entry = summary.get(group, {}).get("effectiveness")
      if entry:
        x = _PAD + i * step + g * step / 4 + 4
        pen.rectangle((x, at(entry["mean"]), x + step / 4 - 3, top + height), fill=_COLOURS[g])
        middle = x + step / 8
        pen.line((middle, at(entry["low"]), middle, at(entry["high"])), fill="black")
    short = name if font.getlength(name) < step else name[:int(step / 7)] + "…"
    pen.text((_PAD + i * step, top + height + 4), short, fill="black", font=font)
  _legend(pen, font, GROUPS, top)


def _curves(pen, font, result: Mapping, top: int) -> None:
  """Effectiveness and coverage of the tail against steps."""
  width, height = _CHART
  _axes(pen, font, "tail, mixed references: against gradient steps", top)
  steps = sorted(result["curve"], key=int)
  largest = max([int(s) for s in steps], default=1) or 1
  for c, key in enumerate(("effectiveness", "coverage")):
    points = [(_PAD + width * int(s) / largest, top + height * (1 - min(entry["mean"], 1.0)))
              for s in steps if (entry := result["curve"][s].get("tail", {}).get(key))]
    if len(points) > 1:
      pen.line(points, fill=_COLOURS[c], width=2)
    for x, y in points:
      pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill=_COLOURS[c])
  for s in steps:
    pen.text((_PAD + width * int(s) / largest, top + height + 4), s, fill="black", font=font)
  _legend(pen, font, ("effectiveness", "coverage"), top)


def _legend(pen, font, names, top: int) -> None:
  for i, name in enumerate(names):
    x, y = _PAD + _CHART[0] + 12, top + 20 * i
    pen.rectangle((x, y, x + 12, y + 12), fill=_COLOURS[i])
    pen.text((x + 18, y - 1), name, fill="black", font=font)
