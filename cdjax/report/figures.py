"""Pictures: grey images, signed differences and contact sheets, marked as synthetic."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

SYNTHETIC = "Synthetic image made by cdjax; not a radiograph of a patient; not for diagnosis."
_PAD, _LABEL = 4, 14


def grey(image: np.ndarray) -> np.ndarray:
  """`[H, W]` or `[H, W, 1]` in [0, 1] -> `[H, W, 3]` uint8."""
  image = np.asarray(image, np.float32).reshape(image.shape[:2])
  pixels = np.rint(np.clip(image, 0.0, 1.0) * 255).astype(np.uint8)
  return np.repeat(pixels[..., None], 3, -1)


def signed(difference: np.ndarray, *, full: float = 0.3) -> np.ndarray:
  """A difference `[H, W]` as colours: red denser, blue less dense, white unchanged, uint8.

  `full` is the difference, in units of the image's range, that has full colour.
  """
  d = np.clip(np.asarray(difference, np.float32).reshape(difference.shape[:2]) / full, -1.0, 1.0)
  up, down = np.maximum(d, 0.0), np.maximum(-d, 0.0)
  rgb = np.stack([1.0 - 0.9 * down, 1.0 - 0.85 * (up + down), 1.0 - 0.9 * up], -1)
  return np.rint(255 * rgb).astype(np.uint8)


def save_png(path: Path, pixels: np.ndarray, provenance: Mapping | None = None) -> None:
  """Writes `[H, W]` or `[H, W, 3]` uint8, with the synthetic mark and its provenance as text.

  Args:
    path: of the file; written whole or not at all.
    pixels: the picture.
    provenance: JSON values; None for a picture that shows nothing generated.
  """
  info = PngImagePlugin.PngInfo()
  if provenance is not None:
    info.add_itxt("Comment", SYNTHETIC)
    info.add_itxt("Software", "cdjax")
    info.add_itxt("cdjax", json.dumps({"synthetic": True, **provenance}))
  buffer = io.BytesIO()
  Image.fromarray(pixels).save(buffer, "PNG", pnginfo=info)
  partial = path.with_name(path.name + ".partial")
  partial.write_bytes(buffer.getvalue())
  partial.replace(path)


def contact_sheet(rows: Sequence[Sequence[np.ndarray | None]], *, columns: Sequence[str],
                  labels: Sequence[str], size: int = 128) -> np.ndarray:
  """A table of pictures with a heading over each column and a line of text over each row.

  Args:
    rows: pictures `[h, w, 3]` uint8; None leaves a gap.
    columns: headings.
    labels: one text a row.
    size: side of each picture in the sheet; small ones are enlarged without smoothing.

  Returns:
    `[H, W, 3]` uint8.
  """
  step = size + _PAD
  width = _PAD + step * len(columns)
  height = _LABEL + 2 * _PAD + len(rows) * (step + _LABEL)
  sheet = Image.new("RGB", (width, height), "white")
  pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=10)
  for i, heading in enumerate(columns):
    pen.text((_PAD + i * step, 1), _fit(heading, font, size), fill="black", font=font)
  for r, (pictures, label) in enumerate(zip(rows, labels, strict=True)):
    top = _LABEL + _PAD + r * (step + _LABEL)
    pen.text((_PAD, top), _fit(label, font, width - 2 * _PAD), fill="black", font=font)
    for i, picture in enumerate(pictures):
      if picture is not None:
        nearest = Image.Resampling.NEAREST if picture.shape[0] <= size else Image.Resampling.BOX
        tile = Image.fromarray(picture).resize((size, size), nearest)
        sheet.paste(tile, (_PAD + i * step, top + _LABEL))
  return np.asarray(sheet)


def _fit(text: str, font, width: int) -> str:
  """The text, shortened to fit `width` pixels."""
  if font.getlength(text) <= width:
    return text
  while text and font.getlength(text + "…") > width:
    text = text[:-1]
  return text + "…"
