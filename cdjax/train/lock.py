"""One process at a time trains in a folder."""

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
  """Holds `folder/.lock`; the system lets go of it when the process ends, however it ends.

  Raises:
    BlockingIOError: another process holds it; names the process.
  """
  with open(folder / ".lock", "a+") as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      file.seek(0)
      raise BlockingIOError(
          error.errno, f"in use by {file.read().strip() or 'another process'}, which trains here; "
          "wait for it or stop it, or give another folder", str(folder)) from None
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    yield
