"""Asking again where an endpoint is busy, failing or slow."""

from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0


class Busy(Exception):
  """A request failed in a way that may pass.

  Attributes:
    reason: what happened, in words that quote nothing that was sent.
    wait_s: how long the endpoint asks to be left alone, or None.
  """

  def __init__(self, reason: str, wait_s: float | None = None):
    """Takes the attributes."""
    super().__init__(reason)
    self.reason, self.wait_s = reason, wait_s


def with_retries(ask: Callable[[], Result], *, retries: int, wait: Callable[[float], object]
                 ) -> Result:
  """`ask()`, again after each `Busy` and a pause that doubles, at most `retries` times more.

  Args:
    ask: the request.
    retries: 0 or more.
    wait: called with the seconds of each pause: FIRST_WAIT_S·2^k before attempt k + 2, or what the
      endpoint asks for where that is longer; never more than LONGEST_WAIT_S. What it raises ends
      the attempts.

  Raises:
    Busy: of the last attempt.
  """
  for attempt in range(retries + 1):
    try:
      return ask()
    except Busy as busy:
      if attempt == retries:
        raise
      pause = max(FIRST_WAIT_S * 2**attempt, busy.wait_s or 0.0)
    wait(min(pause, LONGEST_WAIT_S))
  raise ValueError(f"retries={retries}; expected 0 or more")
