"""Metrics of training: averaged on the device, written by the first process.

The device keeps the averages and the first step that was not finite, so that the host reads them
once a log interval and training never waits for it.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from clu import metrics as clu_metrics

from cdjax.core.types import Array
from cdjax.sharding.hosts import is_primary
from cdjax.train.disk import disk_errors


@flax.struct.dataclass
class Totals:
  """Metrics of the steps since the last line of the log.

  Attributes:
    averages: of every metric.
    bad_step: the first step with a number that is not finite; -1: none.
    bad_terms: which metrics were not finite at that step.
  """

  averages: dict[str, clu_metrics.Average]
  bad_step: Array
  bad_terms: dict[str, Array]


def make_accumulate() -> Any:
  """`accumulate(totals or None, metrics, step) -> totals`, jitted; totals are donated."""
  def accumulate(totals: Totals | None, metrics: Mapping[str, Array], step: Array) -> Totals:
    values = {name: value for name, value in metrics.items() if name != "finite"}
    now = Totals(
        averages={name: clu_metrics.Average.from_model_output(v) for name, v in values.items()},
        bad_step=jnp.where(metrics["finite"], -1, step),
        bad_terms={name: ~jnp.isfinite(value) for name, value in values.items()})
    if totals is None:
      return now
    keep = totals.bad_step >= 0
    return Totals(
        averages={name: totals.averages[name].merge(now.averages[name]) for name in values},
        bad_step=jnp.where(keep, totals.bad_step, now.bad_step),
        bad_terms=jax.tree.map(lambda old, new: jnp.where(keep, old, new),
                               totals.bad_terms, now.bad_terms))

  return jax.jit(accumulate, donate_argnums=0)


def read_totals(totals: Totals) -> dict[str, float]:
  """The averages, on the host.

  Raises:
    FloatingPointError: a step was not finite; names it and the terms.
  """
  totals = jax.device_get(totals)
  if totals.bad_step >= 0:
    bad = sorted(name for name, value in totals.bad_terms.items() if value)
    # The sums of bad terms are bad too: name the causes, and them only where nothing else is.
    causes = [name for name in bad if name not in ("loss", "grad_norm")] or bad
    raise FloatingPointError(
        f"step {int(totals.bad_step)}: {', '.join(causes)} not finite. A lower learning_rate, a "
        f"smaller grad_clip or a longer warm-up may help; the last checkpoint is from before it")
  return {name: float(average.compute()) for name, average in totals.averages.items()}


def truncate_rows(path: Path, step: int) -> None:
  """Removes the rows after `step`, and a last row that was cut off, from a JSONL file."""
  if not path.exists():
    return
  kept = []
  for line in path.read_text().splitlines():
    try:
      row = json.loads(line)
    except json.JSONDecodeError:
      break  # the process died while it wrote this row
    if row["step"] <= step:
      kept.append(line + "\n")
  temporary = path.with_suffix(".tmp")
  temporary.write_text("".join(kept))
  temporary.replace(path)


def image_grid(images: np.ndarray, columns: int = 8) -> np.ndarray:
  """Tiles images into one, with a line of a pixel between them.

  Args:
    images: `[H, W]`, `[H, W, C]` with C of 1 or 3, `[N, H, W]` or `[N, H, W, C]`, in [0, 1]; an
      array of three axes is one image where the last is 1 or 3, else N grey ones.
    columns: images a row.

  Returns:
    uint8 `[rows, columns]` or `[rows, columns, 3]`.
  """
  images = np.asarray(images, np.float32)
  if images.ndim == 2 or (images.ndim == 3 and images.shape[-1] in (1, 3)):
    images = images[None]
  if images.ndim == 3:
    images = images[..., None]
  if images.ndim != 4 or images.shape[-1] not in (1, 3):
    raise ValueError(f"images of shape {images.shape}; expected [N, H, W, C] with C of 1 or 3")
  count, height, width, channels = images.shape
  columns = min(columns, count)
  rows = math.ceil(count / columns)
  grid = np.zeros((rows * (height + 1) - 1, columns * (width + 1) - 1, channels), np.float32)
  for i, image in enumerate(images):
    top, left = i // columns * (height + 1), i % columns * (width + 1)
    grid[top:top + height, left:left + width] = image
  grid = np.round(np.clip(grid, 0, 1) * 255).astype(np.uint8)
  return grid[..., 0] if channels == 1 else grid


class MetricWriter:
  """Writes a stage's metrics: `metrics.jsonl`, TensorBoard event files, sample grids as PNG.

  Only the first process writes. Opened at a step, it forgets what was written after it.
  """

  def __init__(self, folder: Path, step: int):
    self._folder = folder
    self._rows = self._events = None
    if not is_primary():
      return
    from tensorboardX import SummaryWriter  # slow to import, and only one process needs it

    path = folder / "metrics.jsonl"
    with disk_errors(folder):
      truncate_rows(path, step)
      self._rows = path.open("a")
      self._events = SummaryWriter(str(folder / "events"), purge_step=step + 1)

  def __enter__(self) -> "MetricWriter":
    return self

  def __exit__(self, *exception: Any) -> None:
    if self._rows is not None:
      self._rows.close()
      self._events.close()

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    """One row of `metrics.jsonl` and one point of each curve; NaN and infinity become null."""
    if self._rows is None:
      return
    values = {name: float(value) for name, value in values.items()}
    row = {name: value if math.isfinite(value) else None for name, value in values.items()}
    with disk_errors(self._folder):
      self._rows.write(json.dumps({"step": step, **row}) + "\n")
      self._rows.flush()
      for name, value in values.items():
        self._events.add_scalar(name, value, step)

  def images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
    """`samples/NAME_STEP.png` for each; images as `image_grid` takes them."""
    if self._rows is None:
      return
    from PIL import Image

    with disk_errors(self._folder):
      (self._folder / "samples").mkdir(exist_ok=True)
      for name, array in images.items():
        grid = image_grid(array)
        Image.fromarray(grid).save(self._folder / "samples" / f"{name}_{step:07d}.png")
        self._events.add_image(name, grid, step, dataformats="HW" if grid.ndim == 2 else "HWC")
