"""Writing small files whole or not at all, and what to say when the disk is full."""

import contextlib
import errno
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
  """Turns "no space left" from whatever writes below `path` into an error that says what to do.

  Raises:
    OSError: with errno ENOSPC, naming the path and the room left there.
  """
  try:
    yield
  except Exception as error:  # the checkpoint library wraps the system's error in its own types
    if getattr(error, "errno", None) != errno.ENOSPC and "No space left" not in str(error):
      raise
    free = shutil.disk_usage(path if path.exists() else path.parent).free
    raise OSError(
        errno.ENOSPC, f"the disk is full ({free / 1e6:.0f} MB free) while writing; the checkpoints "
        f"finished before are whole. Make room, or lower keep_checkpoints, and run the same "
        f"command again: it goes on from the last one", str(path)) from error


def write_json(path: Path, value: Any) -> None:
  """Writes JSON so that the file is either the old one or the new one, never half of it."""
  temporary = path.with_name(path.name + ".tmp")
  with disk_errors(path.parent):
    temporary.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")
    temporary.replace(path)
