"""Checksums of a checkpoint's files: a flipped bit is found when it is read, not much later.

`STEP/checksums.json` is written before a checkpoint gets its final name, so that every complete
one has it.
"""

import hashlib
import json
from pathlib import Path

from cdjax.train.disk import write_json

FILE = "checksums.json"
# Orbax notes the time here when it gives the folder its name; no part of the state.
_WRITTEN_LATER = {FILE, "_CHECKPOINT_METADATA"}


def _files(folder: Path) -> list[Path]:
  return sorted(path for path in folder.rglob("*") if path.is_file()
                and str(path.relative_to(folder)) not in _WRITTEN_LATER)


def _sha256(path: Path) -> str:
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def write_checksums(folder: Path) -> None:
  """Writes the checksums of every file of a checkpoint into it."""
  write_json(folder / FILE, {str(path.relative_to(folder)): _sha256(path)
                             for path in _files(folder)})


def verify_checksums(folder: Path) -> None:
  """Compares a checkpoint's files with their checksums.

  Raises:
    ValueError: a file, or that of the checksums, is missing or is not what was written; names the
      files.
  """
  try:
    expected = json.loads((folder / FILE).read_text())
  except FileNotFoundError as error:
    raise ValueError(f"{FILE} is missing") from error
  except ValueError as error:
    raise ValueError(f"{FILE} is damaged ({error})") from error
  present = {str(path.relative_to(folder)) for path in _files(folder)}
  missing = sorted(expected.keys() - present)
  changed = sorted(name for name in expected.keys() & present
                   if _sha256(folder / name) != expected[name])
  if missing or changed:
    parts = [f"{what}: {', '.join(names[:3])}" + (", …" if len(names) > 3 else "")
             for what, names in (("missing", missing), ("not as written", changed)) if names]
    raise ValueError(f"its files are damaged ({'; '.join(parts)})")
