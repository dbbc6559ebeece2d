"""Starting from trained parameters: a whole stage, or the parts that fit."""

import re
from pathlib import Path
from typing import Any

import flax.struct
import jax

from cdjax.core.trees import map_named, named_leaves
from cdjax.core.types import PyTree
from cdjax.train.checkpoint import load_params
from cdjax.train.record import read_record


@flax.struct.dataclass
class InitReport:
  """What `init_from` took, by parameter path.

  Attributes:
    source: the checkpoint.
    taken: replaced by the source's.
    shape_mismatch: (path, shape in the source, shape here); kept.
    missing: not in the source; kept.
    excluded: in the source, but not matched by the regular expression; kept.
    unused: in the source only.
  """

  source: str
  taken: tuple[str, ...]
  shape_mismatch: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
  missing: tuple[str, ...]
  excluded: tuple[str, ...]
  unused: tuple[str, ...]

  def __str__(self) -> str:
    lines = [f"init_from {self.source}: took {len(self.taken)} parameters"]
    lines += [f"  shape differs, kept: {name} (source {source}, here {here})"
              for name, source, here in self.shape_mismatch]
    lines += [f"  not in the source, kept: {name}" for name in self.missing]
    lines += [f"  excluded by init_include, kept: {name}" for name in self.excluded]
    lines += [f"  in the source only: {name}" for name in self.unused]
    return "\n".join(lines)


def find_checkpoints(path: str | Path, stage: str) -> Path:
  """The folder of checkpoints that `path` means.

  Args:
    path: a workdir, a stage's folder, its `checkpoints`, or one checkpoint.
    stage: which stage of a workdir.

  Raises:
    FileNotFoundError: no checkpoint there; lists where it looked.
  """
  path = Path(path)
  if (path / "state").is_dir():
    return path
  places = [path / stage / "checkpoints", path / "checkpoints", path]
  for place in places:
    if any(child.name.isdigit() for child in place.glob("*")):
      return place
  raise FileNotFoundError(f"init_from={str(path)!r} has no checkpoint; looked in "
                          f"{', '.join(map(str, places))}")


def init_from(path: str | Path, params: PyTree, include_regex: str = ".*", *,
              stage: str = "") -> tuple[PyTree, InitReport]:
  """Replaces parameters by those of a checkpoint where path and shape agree.

  The source's average (`ema_params`) is what is taken.

  Args:
    path: see `find_checkpoints`.
    params: the initial parameters; they keep their type and sharding.
    include_regex: only parameters whose whole path ("encoder/conv_in/kernel") matches.
    stage: which stage of a workdir.

  Returns:
    Parameters; a report.

  Raises:
    ValueError: nothing was taken, or the regular expression is not one.
  """
  try:
    pattern = re.compile(include_regex)
  except re.error as error:
    raise ValueError(f"init_include={include_regex!r} is not a regular expression: {error}"
                     ) from error
  source_params, source = load_params(find_checkpoints(path, stage))
  found = named_leaves(source_params)
  names = named_leaves(params)
  chosen = {name for name in found if pattern.fullmatch(name)}
  same = {name for name in names if name in chosen and found[name].shape == names[name].shape}
  report = InitReport(
      source=str(source),
      taken=tuple(sorted(same)),
      shape_mismatch=tuple((name, tuple(found[name].shape), tuple(names[name].shape))
                           for name in sorted(names.keys() & chosen - same)),
      missing=tuple(sorted(names.keys() - found.keys())),
      excluded=tuple(sorted(names.keys() & found.keys() - chosen)),
      unused=tuple(sorted(found.keys() - names.keys())))
  if not same:
    raise ValueError(f"nothing to take: {report}")

  def take(name, leaf):
    if name not in same:
      return leaf
    return jax.device_put(found[name].astype(leaf.dtype), leaf.sharding)

  return map_named(take, params), report


def load_stage(workdir: str | Path, name: str) -> tuple[PyTree, dict[str, Any]]:
  """A trained stage for inference, on whatever devices there are.

  Args:
    workdir: of the run.
    name: of the stage.

  Returns:
    The averaged parameters as NumPy arrays; the whole configuration it was trained with (JSON:
    tuples are lists).

  Raises:
    FileNotFoundError: the stage has not been trained.
  """
  folder = Path(workdir) / name
  record = read_record(folder)
  params, _ = load_params(folder / "checkpoints")
  return params, record["config"]
