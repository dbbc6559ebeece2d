"""One self-contained HTML page: what the model answers, how well, and how it was trained."""

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cdjax.report.figures import SYNTHETIC

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em;
       color: #222 }
h1 { font-size: 1.6em } h2 { font-size: 1.2em; margin-top: 2em }
img { max-width: 100%; image-rendering: pixelated; border: 1px solid #ddd }
table { border-collapse: collapse; font-size: 13px } td, th { padding: 2px 10px; text-align: right;
       border-bottom: 1px solid #eee } td:first-child, th:first-child { text-align: left;
       font-family: ui-monospace, monospace }
.note { background: #fff6e0; padding: .6em 1em; border-left: 4px solid #e0a000 }
pre { background: #f6f6f6; padding: 1em; overflow-x: auto; font-size: 12px }
"""


def picture(pixels: np.ndarray, caption: str) -> str:
  """`[H, W, 3]` uint8 as an `<img>` with its data inside."""
  buffer = io.BytesIO()
  Image.fromarray(pixels).save(buffer, "PNG")
  data = base64.b64encode(buffer.getvalue()).decode()
  text = html.escape(caption, quote=True)
  return f'<figure><img src="data:image/png;base64,{data}" alt="{text}"></figure>'


def metrics_table(metrics: Mapping, *, spread: str = "95 % interval") -> str:
  """Every key with its value, `spread` (what `low` and `high` are) and n, as an HTML table."""
  rows = [f"<tr><th>key</th><th>value</th><th>{html.escape(spread)}</th><th>n</th></tr>"]
  for key, entry in metrics.items():
    if not isinstance(entry, Mapping) or "value" not in entry:
      continue
    number = lambda v: "–" if v is None else f"{v:.4g}"
    interval = "" if entry["low"] is None else f"{number(entry['low'])} … {number(entry['high'])}"
    rows.append(f"<tr><td>{html.escape(key)}</td><td>{number(entry['value'])}</td>"
                f"<td>{interval}</td><td>{entry['n']}</td></tr>")
  return f"<table>{''.join(rows)}</table>"


def write_page(path: Path, *, title: str, sections: Sequence[tuple[str, str]],
               provenance: Mapping) -> None:
  """Writes the page.

  Args:
    path: of the file; written whole or not at all.
    title: plain text.
    sections: heading (plain text) and body (HTML) of each.
    provenance: JSON values, shown at the end.
  """
  body = "".join(f"<h2>{html.escape(heading)}</h2>{content}" for heading, content in sections)
  text = html.escape(json.dumps(provenance, indent=2, default=str))
  page = (f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}'
          f"</title><style>{_STYLE}</style><h1>{html.escape(title)}</h1>"
          f'<p class="note">{html.escape(SYNTHETIC)}</p>{body}'
          f"<h2>Provenance</h2><pre>{text}</pre></html>")
  partial = path.with_name(path.name + ".partial")
  partial.write_text(page, encoding="utf-8")
  partial.replace(path)
