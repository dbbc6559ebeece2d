"""Keeps each phase's result on disk, so that an interrupted evaluation goes on where it was."""

import hashlib
import json
import math
import os
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
  path.parent.mkdir(parents=True, exist_ok=True)
  part = path.with_suffix(path.suffix + ".part")
  part.write_text(json.dumps(to_json(value), indent=1) + "\n")
  os.replace(part, path)


def resumed(path: Path | None, fingerprint: str, compute: Callable[[], dict]) -> dict:
  """The kept result if it has this fingerprint, else `compute()`, kept for the next time.

  Args:
    path: where the result is kept; None keeps nothing.
    fingerprint: of everything that the result depends on.
    compute: returns a dictionary that JSON can hold.

  Returns:
    The result.

  Raises:
    ValueError: the file is not JSON; delete it to have the phase computed again.
  """
  if path is not None and path.exists():
    try:
      kept = json.loads(path.read_text())
    except json.JSONDecodeError as error:
      raise ValueError(f"{path}: not JSON ({error}); delete it to compute it again") from error
    if kept.get("fingerprint") == fingerprint:
      return kept["result"]
  result = to_json(compute())
  if path is not None:
    write_json(path, {"fingerprint": fingerprint, "result": result})
  return result


def resumed_arrays(path: Path | None, fingerprint: str,
                   compute: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
  """As `resumed`, for arrays by name, in an `.npz` file without pickles."""
  if path is not None and path.exists():
    with np.load(path, allow_pickle=False) as kept:
      if str(kept["fingerprint"]) == fingerprint:
        return {name: kept[name] for name in kept.files if name != "fingerprint"}
  result = compute()
  if path is not None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("wb") as file:
      np.savez(file, fingerprint=np.array(fingerprint), **result)
    os.replace(part, path)
  return result
