"""Keeps each phase's result on disk, so that an interrupted evaluation goes on where it was."""

import hashlib
import json
import logging
import math
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def fingerprint_of(*parts: Any) -> str:
  """A short digest of JSON-like values: what a kept result depends on."""
  text = json.dumps(parts, sort_keys=True, default=str)
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def to_json(value: Any) -> Any:
  """The same structure with NaN and infinities as null, which JSON can hold."""
  if isinstance(value, dict):
    return {key: to_json(item) for key, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [to_json(item) for item in value]
  return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, value: Any) -> None:
  """Writes a file in one piece: readers see the old one or the whole new one."""
  text = json.dumps(to_json(value), indent=1) + "\n"
  _write_whole(path, lambda file: file.write(text.encode()))


def _write_whole(path: Path, write: Callable[[Any], Any]) -> None:
  """Calls `write` with an open file of another name, which then takes the place of `path`."""
  path.parent.mkdir(parents=True, exist_ok=True)
  # Two processes may write the same file: each has a part of its own, and the last one stays.
  part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
  try:
    with part.open("xb") as file:
      write(file)
      file.flush()
      os.fsync(file.fileno())
    os.replace(part, path)
  except BaseException:
    part.unlink(missing_ok=True)
    raise


def _read_kept(path: Path | None, read: Callable[[Path], Any]) -> Any:
  """What `read` gives, or None where there is nothing that can be read: it is computed again."""
  if path is None or not path.exists():
    return None
  try:
    return read(path)
  except Exception as error:   # a damaged file raises errors of every kind
    logging.warning("%s: cannot be read (%s: %s); computed again", path, type(error).__name__,
                    error)
    return None


def resumed(path: Path | None, fingerprint: str, compute: Callable[[], dict]) -> dict:
  """The kept result if it has this fingerprint, else `compute()`, kept for the next time.

  A file that cannot be read counts as none.

  Args:
    path: where the result is kept; None keeps nothing.
    fingerprint: of everything that the result depends on.
    compute: returns a dictionary that JSON can hold.

  Returns:
    The result.
  """
  def read(path):
    kept = json.loads(path.read_text())
    return dict(kept["result"]) if kept["fingerprint"] == fingerprint else None

  kept = _read_kept(path, read)
  if kept is not None:
    return kept
  result = to_json(compute())
  if path is not None:
    write_json(path, {"fingerprint": fingerprint, "result": result})
  return result


def resumed_arrays(path: Path | None, fingerprint: str,
                   compute: Callable[[], dict[str, np.ndarray]], *,
                   keep: Callable[[dict[str, np.ndarray]], bool] = lambda arrays: True
                   ) -> dict[str, np.ndarray]:
  """As `resumed`, for arrays by name, in an `.npz` file without pickles; `keep` may decline."""
  def read(path):
    with np.load(path, allow_pickle=False) as kept:
      if str(kept["fingerprint"]) != fingerprint:
        return None
      return {name: kept[name] for name in kept.files if name != "fingerprint"}

  kept = _read_kept(path, read)
  if kept is not None:
    return kept
  result = compute()
  if path is not None and keep(result):
    _write_whole(path, lambda file: np.savez(file, fingerprint=np.array(fingerprint), **result))
  return result
