"""Checkpoints: written in the background, complete or absent, restored onto any mesh.

A checkpoint is `STEP/{state,position,record}`: the training state (arrays, sharded files), where
the data were and how long training took (JSON), and the configuration with its provenance (JSON).
Random keys are not in it: they are functions of the seed and the step. `checksums.json` beside them
is compared when a checkpoint is read.
"""

import itertools
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from cdjax.core.types import PyTree
from cdjax.sharding.hosts import all_agree, gather_texts, is_primary, primary_first
from cdjax.train.checksums import verify_checksums, write_checksums
from cdjax.train.disk import disk_errors
from cdjax.train.state import TrainState

log = logging.getLogger(__name__)

_UNNAMED = ".orbax-checkpoint-tmp"   # in the name of a checkpoint that is being written


def open_checkpoints(folder: Path, keep: int) -> ocp.CheckpointManager:
  """Opens a folder of checkpoints, of which the newest `keep` stay; clears interrupted writes."""
  if keep < 1:
    raise ValueError(f"keep_checkpoints={keep}; expected 1 or more")
  folder = folder.absolute()

  def before_it_is_named():
    if is_primary():
      for path in folder.glob(f"*{_UNNAMED}*"):   # one at a time is written
        write_checksums(path)

  # Threads that wait minutes for folders made in the background have kept a process from ending.
  return ocp.CheckpointManager(
      folder, options=ocp.CheckpointManagerOptions(
          max_to_keep=keep, create=True, cleanup_tmp_directories=True,
          async_options=ocp.AsyncOptions(
              create_directories_asynchronously=False,
              post_finalization_callback=before_it_is_named)))


def save_checkpoint(manager: ocp.CheckpointManager, state: TrainState, *, step: int,
                    position: Mapping[str, Any], record: Mapping[str, Any]) -> None:
  """Starts writing a checkpoint; it is complete after `finish_checkpoints` or the next save.

  Args:
    manager: from `open_checkpoints`.
    state: copied before this returns, so it may be donated to the next step.
    step: its number.
    position: JSON: where the data are.
    record: JSON: configuration and provenance.

  Raises:
    OSError: the disk is full, now or since the last save.
    RuntimeError: there is a checkpoint of this step or of a later one.
  """
  with disk_errors(Path(manager.directory)):
    saved = manager.save(step, args=ocp.args.Composite(
        state=ocp.args.StandardSave(state), position=ocp.args.JsonSave(dict(position)),
        record=ocp.args.JsonSave(dict(record))))
  if not saved:
    raise RuntimeError(f"step {step} was not saved in {manager.directory}, which has the steps "
                       f"{list(manager.all_steps())}")


def finish_checkpoints(manager: ocp.CheckpointManager) -> None:
  """Waits until what was saved is on the disk.

  Raises:
    OSError: the disk is full.
  """
  with disk_errors(Path(manager.directory)):
    manager.wait_until_finished()


def restore_newest(manager: ocp.CheckpointManager, abstract_state: TrainState
                   ) -> tuple[TrainState, dict[str, Any], int] | None:
  """Restores the newest checkpoint that can be read, with the shardings of `abstract_state`.

  A newer one that cannot be read, or whose files are not what was written, is reported and set
  aside as `STEP.unreadable`. All processes call it and take the same one: the first one checks the
  files, and what one of them cannot read none of them takes.

  Returns:
    State, position and step; None where there is no checkpoint.

  Raises:
    ValueError: there are checkpoints and none can be read; lists why.
    JaxRuntimeError, MemoryError: the devices' fault, not the files'.
  """
  failures: dict[int, Exception] = {}
  for step in sorted(manager.all_steps(), reverse=True):
    found, error = None, _damage(Path(manager.directory) / str(step))
    if error is None:
      try:
        found = manager.restore(step, args=ocp.args.Composite(
            state=ocp.args.StandardRestore(abstract_state), position=ocp.args.JsonRestore()))
      except (jax.errors.JaxRuntimeError, MemoryError):
        raise
      except Exception as caught:  # whatever a damaged file makes the readers raise
        error = caught
      if not all_agree(error is None):
        error = error or ValueError("another process cannot read it")
    if error is None:
      _set_aside(manager, failures)
      return found.state, found.position, step
    log.warning("checkpoint %s cannot be read (%s); trying the one before",
                Path(manager.directory) / str(step), _first_line(error))
    failures[step] = error
  if failures:
    raise _none_readable(Path(manager.directory), failures)
  return None


def _damage(path: Path) -> ValueError | None:
  """What is wrong with a checkpoint's files, as the first process finds them."""
  found = ""
  if is_primary():
    try:
      verify_checksums(path)
    except (ValueError, OSError) as error:
      found = str(error)
  message = gather_texts(found)[0]
  return ValueError(message) if message else None


def load_params(folder: Path) -> tuple[PyTree, Path]:
  """The averaged parameters of the newest readable checkpoint, as NumPy arrays.

  Args:
    folder: of checkpoints (`STEP` folders), or one checkpoint.

  Returns:
    Parameters; the checkpoint they are from.

  Raises:
    FileNotFoundError: no checkpoint there.
    ValueError: none of them can be read.
  """
  steps = [folder] if (folder / "state").is_dir() else sorted(
      (path for path in folder.glob("*") if path.name.isdigit()),
      key=lambda path: int(path.name), reverse=True)
  if not steps:
    raise FileNotFoundError(f"no checkpoint in {folder}; expected folders named after their step")
  failures: dict[int, Exception] = {}
  for path in steps:
    try:
      verify_checksums(path)
      return _read_params(path.absolute() / "state"), path
    except Exception as error:  # whatever a damaged file makes the readers raise
      log.warning("checkpoint %s cannot be read (%s)", path, _first_line(error))
      failures[int(path.name)] = error
  raise _none_readable(folder, failures)


def _read_params(path: Path) -> PyTree:
  """`ema_params` of a saved state, and nothing else of it, whatever devices wrote it."""
  handler = ocp.PyTreeCheckpointHandler()
  saved = handler.metadata(path).tree
  wanted = {"ema_params": saved["ema_params"]}
  args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
  return handler.restore(path, args=ocp.args.PyTreeRestore(
      item=wanted, restore_args=args, partial_restore=True))["ema_params"]


def _set_aside(manager: ocp.CheckpointManager, failures: Mapping[int, Exception]) -> None:
  """Renames unreadable checkpoints, so that training can save at their steps again."""
  def rename():
    for step in failures if is_primary() else ():
      path = Path(manager.directory) / str(step)
      names = (path.with_name(f"{step}.unreadable" + (f"-{n}" if n > 1 else ""))
               for n in itertools.count(1))
      path.rename(next(name for name in names if not name.exists()))

  if failures:
    primary_first(rename)   # the others must not list the folder before
    manager.reload()


def _none_readable(folder: Path, failures: Mapping[int, Exception]) -> ValueError:
  reasons = "\n".join(f"  {step}: {_first_line(error)}" for step, error in failures.items())
  return ValueError(
      f"none of the checkpoints in {folder} can be read with this model and optimizer:\n{reasons}\n"
      f"Restore one from a copy, or remove the folder to start again")


def _first_line(error: Exception) -> str:
  return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}"
