"""The comparison of two folders as tables: one row a group, one column a measure."""

from collections.abc import Sequence

_MEASURES = ("fid", "kid", "kid_sd", "precision", "recall", "density", "coverage")
_NOTED = 10   # lines of what was not used that are shown; the metrics file has all


def format_folder_table(metrics: dict) -> str:
  """A readable form of `compare_folders`' result.

  Args:
    metrics: `fid/EXTRACTOR/N/RESIZE[/GROUP]` and so on, with or without `reference/` before.

  Returns:
    A table for each extractor: all images, two halves of the real ones, then the groups; then what
    else was measured, what could not be used, and what was left out.
  """
  tables, others = {}, []
  for key, entry in metrics.items():
    words = key.split("/")
    reference = words[0] == "reference"
    words = words[reference:]
    if words[0] in _MEASURES and len(words) >= 4:
      measure, extractor, count, resize, *group = words
      name = "real, half against half" if reference else "/".join(group) or "all"
      table = tables.setdefault(f"{extractor}, {resize}", {})
      table.setdefault((not reference and bool(group), name, count), {})[measure] = entry["value"]
    elif isinstance(entry, dict) and "value" in entry:
      others.append((key, entry))
  lines = []
  for title, table in tables.items():
    header = [title, "N", *_MEASURES]
    rows = [[name, count, *(_number(values.get(m)) for m in _MEASURES)]
            for (_, name, count), values in sorted(table.items(), key=lambda item: item[0])]
    lines += [*_aligned(header, rows), ""]
  lines += [*_aligned(["", "value", "95 % interval", "n"],
                      [[key, _number(entry["value"]), _interval(entry), str(entry["n"])]
                       for key, entry in others]), ""]
  counts = ", ".join(f"{n['used']} of {n['folder']} {kind.replace('_', '-')}"
                     for kind, n in metrics["images"].items())
  lines.append(f"{counts} images used; suite {metrics['suite']}, seed {metrics['seed']}; "
               f"{metrics['machine']}")
  unusable = [f"{item['set']}: {item['image']}: {item['reason']}" for item in metrics["unusable"]]
  return "\n".join(lines + _noted("note", metrics["notes"]) + _noted("not usable", unusable)
                   + _noted("left out", metrics["left_out"]))


def _noted(title: str, texts: Sequence[str]) -> list[str]:
  more = len(texts) - _NOTED
  return [f"{title}: {text}" for text in texts[:_NOTED]] + (
      [f"{title}: and {more} more, all in the metrics file"] if more > 0 else [])


def _aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
  widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

  def line(cells):
    first, *rest = (cell.ljust(width) if i == 0 else cell.rjust(width)
                    for i, (cell, width) in enumerate(zip(cells, widths, strict=True)))
    return "  ".join([first, *rest]).rstrip()

  return [line(header), "-" * (sum(widths) + 2 * len(widths) - 2), *map(line, rows)]


def _number(value: float | None) -> str:
  if value is None:
    return "–"
  return f"{value:.1f}" if abs(value) >= 100 else f"{value:.3f}" if abs(value) >= 0.1 else \
      f"{value:.5f}"


def _interval(entry: dict) -> str:
  if entry["low"] is None or entry["high"] is None:
    return ""
  return f"{_number(entry['low'])} … {_number(entry['high'])}"
