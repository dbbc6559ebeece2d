"""What a person sees while a stage trains: a bar on a terminal, else a line now and then."""

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator

from cdjax.sharding.hosts import is_primary

log = logging.getLogger(__name__)

# (steps done, short text or None where nothing new is known) → None
Update = Callable[[int, str | None], None]


def format_seconds(seconds: float) -> str:
  """`75` to "1:15", `3700` to "1:01:40"."""
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


@contextlib.contextmanager
def console_progress(name: str, start: int, total: int) -> Iterator[Update]:
  """A progress bar with the time left where stderr is a terminal, else log lines.

  Args:
    name: of the stage.
    start: steps done before.
    total: steps in all.
  """
  if not is_primary():
    yield lambda step, text: None
  elif sys.stderr.isatty():
    import tqdm
    with tqdm.tqdm(total=total, initial=start, desc=name, unit="step",
                   dynamic_ncols=True) as bar:
      def update(step, text):
        if text is not None:
          bar.set_postfix_str(text, refresh=False)
        bar.update(step - bar.n)
      yield update
  else:
    began = time.perf_counter()
    def update(step, text):
      if text is not None:
        left = (time.perf_counter() - began) / max(step - start, 1) * (total - step)
        log.info("%s %d/%d, %s left: %s", name, step, total, format_seconds(left), text)
    yield update
