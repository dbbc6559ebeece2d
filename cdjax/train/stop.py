"""Leaving in good order when the system asks."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cdjax.core.types import Array
from cdjax.sharding.hosts import gather_texts
from cdjax.sharding.mesh import AXES, replicated

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(Exception):
  """Training was asked to stop, has saved its state and can go on from it; all processes agree.

  Attributes:
    exit_code: what a shell expects of a process that the signal ended (143 for SIGTERM).
  """

  def __init__(self, message: str, signum: int):
    super().__init__(message)
    self.exit_code = 128 + signum


class StopRequest:
  """Filled by a signal handler: `signum` is None until one arrives."""

  signum: int | None = None


@contextlib.contextmanager
def stop_request() -> Iterator[StopRequest]:
  """Notes SIGTERM and SIGINT instead of dying of them; a second SIGINT interrupts at once.

  Outside of it a signal ends a process at once: what is made there is complete or absent. Signals
  can be caught in the main thread only; elsewhere the request never fills.
  """
  request = StopRequest()
  if threading.current_thread() is not threading.main_thread():
    yield request
    return

  def handle(signum, frame):
    if request.signum is not None and signum == signal.SIGINT:
      raise KeyboardInterrupt
    request.signum = signum

  before = {signum: signal.signal(signum, handle) for signum in SIGNALS}
  try:
    yield request
  finally:
    for signum, handler in before.items():
      signal.signal(signum, handler)


def make_agreement(mesh: Mesh) -> Callable[[int | None, Array], int | None]:
  """`agree(signum, after) -> signum`: the processes of a run stop at the same step.

  A pre-emption tells one host only, and one that leaves alone leaves the others waiting for it.
  Every process calls `agree` once a step, with its own signal and any array of the step. What comes
  back is the same in all of them: the largest signal that any of them had at the *call before*,
  which the devices have added up while they computed, so that nothing waits. A run of one process
  has its own signal at once.

  Args:
    mesh: of the run.
  """
  if jax.process_count() == 1:
    return lambda signum, after: signum
  sharding = NamedSharding(mesh, PartitionSpec(AXES))
  # `after` keeps the order of the devices' work the same everywhere.
  largest = jax.jit(lambda flags, after: flags.max(), keep_unused=True,
                    out_shardings=replicated(mesh))
  asked: list[Array] = []

  def agree(signum, after):
    before = int(jax.device_get(asked.pop())) if asked else 0
    mine = np.full(mesh.local_mesh.devices.size, signum or 0, np.int32)
    flags = jax.make_array_from_process_local_data(sharding, mine, (mesh.size,))
    asked.append(largest(flags, after))
    return before or None

  return agree


def any_signal(signum: int | None) -> int | None:
  """The largest signal that any process has; all of them must call it, and wait for each other."""
  return max(int(text) for text in gather_texts(str(signum or 0))) or None
