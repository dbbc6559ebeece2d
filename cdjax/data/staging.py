"""A folder that appears complete or not at all, and is never overwritten by accident."""

import contextlib
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

DATASET_FILE = "dataset.json"
QUARANTINE_FILE = "quarantine.csv"
SPLITS_FILE = "splits.csv"


def read_info(path: str | Path) -> dict:
  """The `dataset.json` of a prepared data set.

  Raises:
    FileNotFoundError: `path` is not a prepared data set.
  """
  file = Path(path) / DATASET_FILE
  if not file.is_file():
    raise FileNotFoundError(f"{path} is not a prepared data set (no {DATASET_FILE}); "
                            "make one with `cdjax prepare --output`")
  return json.loads(file.read_text(encoding="utf-8"))


def check_output(output: Path, *, request: dict, overwrite: bool) -> None:
  """Refuses early what `staged_output` would refuse after the work.

  Args:
    output: the folder that is to be made.
    request: what was asked for; the same request may be made again and again.
    overwrite: replace another data set.

  Raises:
    FileExistsError: `output` holds something else than a data set, or another data set.
  """
  if not output.exists():
    return
  if not output.is_dir():
    raise FileExistsError(f"{output} is a file; --output must name a folder")
  names = {path.name for path in output.iterdir()}
  if names <= {QUARANTINE_FILE}:
    return
  if DATASET_FILE not in names:
    raise FileExistsError(f"{output} is not empty and not a prepared data set; it is left alone")
  if not overwrite and read_info(output)["request"] != request:
    raise FileExistsError(f"{output} holds a data set made with other settings or from another "
                          "manifest; choose another folder or pass --overwrite")


def _old(output: Path) -> Path:
  """Where the previous data set waits while the new one takes its place."""
  return output.with_name(f".{output.name}.old")


def restore_output(output: Path) -> None:
  """Undoes half of a replacement: a run was killed between its two renames."""
  if _old(output).exists() and not output.exists():
    _old(output).rename(output)


@contextlib.contextmanager
def staged_output(output: str | Path, *, request: dict, overwrite: bool) -> Iterator[Path]:
  """Yields a folder beside `output` that takes its place when the block ends without error.

  A killed run leaves the hidden folder `.NAME.partial`, which the next run empties. Where `output`
  already holds a data set of the same fingerprint, it is kept and the new one dropped. An `output`
  that is a link means the folder that it points to.

  Raises:
    FileExistsError: see `check_output`; or the data in `output` differ and `overwrite` is False.
    BlockingIOError: another process is writing the same output.
    OSError: the disk is full; says so.
  """
  output = Path(output).resolve()
  staged = output.with_name(f".{output.name}.partial")
  old = _old(output)
  restore_output(output)
  check_output(output, request=request, overwrite=overwrite)
  with _disk_full_message(output), _locked(staged):
    _empty(staged)
    try:
      yield staged
    except Exception:
      shutil.rmtree(staged)  # Quarantine or not, a part of a data set is of no use.
      raise
    new = read_info(staged)
    if output.exists() and (output / DATASET_FILE).exists():
      if read_info(output)["fingerprint"] == new["fingerprint"]:
        shutil.rmtree(staged)
        return
      if not overwrite:
        shutil.rmtree(staged)
        raise FileExistsError(f"{output} holds other data (fingerprint "
                              f"{read_info(output)['fingerprint'][:12]}, now "
                              f"{new['fingerprint'][:12]}); pass --overwrite to replace it")
    if output.exists():
      output.rename(old)
    staged.rename(output)
    if old.exists():
      shutil.rmtree(old)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
  """Holds `folder` for this process; a killed process lets go by itself."""
  folder.mkdir(parents=True, exist_ok=True)
  handle = os.open(folder, os.O_RDONLY)
  try:
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError as error:
    os.close(handle)
    raise BlockingIOError(errno.EWOULDBLOCK, f"another process is writing {folder}") from error
  try:
    yield
  finally:
    os.close(handle)


def _empty(folder: Path) -> None:
  for path in folder.iterdir():
    if path.is_dir() and not path.is_symlink():
      shutil.rmtree(path)
    else:
      path.unlink()


@contextlib.contextmanager
def _disk_full_message(output: Path) -> Iterator[None]:
  """Turns "no space left", however wrapped, into one sentence with the numbers."""
  try:
    yield
  except Exception as error:
    cause: BaseException | None = error
    while cause is not None:
      full = getattr(cause, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
      if full or os.strerror(errno.ENOSPC) in str(cause):
        free = shutil.disk_usage(output.parent).free
        raise OSError(errno.ENOSPC, f"disk full while writing {output}; nothing was kept, now "
                      f"{free / 2**20:.0f} MiB are free: make room and run it again") from error
      cause = cause.__cause__ or cause.__context__
    raise
