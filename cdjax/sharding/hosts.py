"""Processes of one run: who writes, and how they start."""

import contextlib
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

T = TypeVar("T")
log = logging.getLogger(__name__)

LOST = 75   # exit code of a process that another one has left: EX_TEMPFAIL, try again
# A process is lost when it has not been heard of for so long; the others end then.
_HEARTBEAT_SECONDS = "CDJAX_HEARTBEAT_SECONDS"


def is_primary() -> bool:
  """Whether this process writes metrics, images and configs; exactly one does."""
  return jax.process_index() == 0


def initialize_distributed(coordinator: str | None = None, num_processes: int | None = None,
                           process_id: int | None = None) -> bool:
  """Joins the processes of one run; call before anything touches a device.

  Args:
    coordinator: "host:port" of process 0; default the environment's `CDJAX_COORDINATOR`. "auto",
      without the other two, asks jax, which knows Cloud TPU, GKE, Slurm and MPI.
    num_processes: default `CDJAX_NUM_PROCESSES`.
    process_id: 0 .. num_processes - 1; default `CDJAX_PROCESS_ID`.

  `CDJAX_HEARTBEAT_SECONDS` (100) is how long a silent process is waited for. SIGTERM still ends a
  process, which jax would have it survive.

  Returns:
    False where nothing is given: a run of one process.

  Raises:
    ValueError: some of the three are given and others are not.
  """
  given = {"CDJAX_COORDINATOR": coordinator, "CDJAX_NUM_PROCESSES": num_processes,
           "CDJAX_PROCESS_ID": process_id}
  given = {key: os.environ.get(key) if value is None else value for key, value in given.items()}
  missing = [key for key, value in given.items() if value is None]
  if len(missing) == len(given):
    return False
  if given["CDJAX_COORDINATOR"] == "auto" and len(missing) == 2:
    _join(**_timeouts())
    return True
  if missing:
    raise ValueError(f"{', '.join(missing)} not set; expected all of {sorted(given)} or none")
  _join(given["CDJAX_COORDINATOR"], int(given["CDJAX_NUM_PROCESSES"]),
        int(given["CDJAX_PROCESS_ID"]), **_timeouts())
  return True


def _join(*arguments, **timeouts) -> None:
  before = signal.getsignal(signal.SIGTERM)
  jax.distributed.initialize(*arguments, **timeouts)
  if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGTERM, before)


def _timeouts() -> dict[str, int]:
  """How long the others are waited for, while they run and at the end."""
  text = os.environ.get(_HEARTBEAT_SECONDS, "100")
  if not text.isdigit() or int(text) < 1:
    raise ValueError(f"{_HEARTBEAT_SECONDS}={text!r}; expected a number of seconds")
  return {"heartbeat_timeout_seconds": int(text), "shutdown_timeout_seconds": int(text)}


@contextlib.contextmanager
def leave_when_others_are_lost(*agreed: type[Exception]) -> Iterator[None]:
  """Ends this process at once, with a message, where it or another one of the run has failed.

  Without it an error would lead to the end of the program, where jax waits for all processes: for
  those that are gone, and, if this one alone has failed, the others for it. The exit code is `LOST`
  where the devices of others no longer answer, else 1. Where jax itself notices the silence first
  it ends the process by SIGABRT, with a message of its own.

  Args:
    agreed: errors that all processes raise together, and which pass through.
  """
  try:
    yield
  except agreed:
    raise
  except jax.errors.JaxRuntimeError as error:
    if jax.process_count() == 1:
      raise
    _leave(LOST, f"the others cannot be reached ({str(error).splitlines()[0][:300]}). Start all of "
           "them again with the same command; they go on from the last checkpoint")
  except Exception as error:
    if jax.process_count() == 1:
      raise
    mistake = isinstance(error, (ValueError, OSError, FloatingPointError))
    _leave(1, "failed, and the others end with it: "
           f"{error if mistake else traceback.format_exc()}")


def _leave(code: int, message: str) -> None:
  log.error("process %d of %d: %s", jax.process_index(), jax.process_count(), message)
  logging.shutdown()
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)


def gather_texts(text: str) -> list[str]:
  """Every process's text, in order of the processes; all of them must call it."""
  if jax.process_count() == 1:
    return [text]
  data = np.frombuffer(text.encode(), np.uint8)
  sizes = multihost_utils.process_allgather(np.array([data.size], np.int32)).ravel()
  padded = np.zeros(sizes.max(), np.uint8)
  padded[:data.size] = data
  rows = multihost_utils.process_allgather(padded)
  return [bytes(row[:size]).decode() for row, size in zip(rows, sizes, strict=True)]


def primary_first(make: Callable[[], T]) -> T:
  """Calls `make` in process 0, then in the others, where it finds what was made; all must call it.

  Raises:
    RuntimeError: process 0 could not make it (there: its own error).
  """
  error, made = None, None
  if is_primary():
    try:
      made = make()
    except Exception as caught:   # the others must not wait for it
      error = caught
  fine = all_agree(error is None)
  if error is not None:
    raise error
  if not fine:
    raise RuntimeError("process 0 failed; its message says why")
  return made if is_primary() else make()


def all_agree(value: bool) -> bool:
  """Whether `value` is true in every process; all of them must call it, and wait for each other."""
  return all(text == "1" for text in gather_texts("1" if value else "0"))
