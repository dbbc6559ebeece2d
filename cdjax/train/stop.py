"""Leaving in good order when the system asks."""

import contextlib
import signal
import threading
from collections.abc import Iterator

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(Exception):
  """Training was asked to stop, has saved its state and can go on from it.

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

  Signals can be caught in the main thread only; elsewhere the request never fills.
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
