"""What every reader of reports offers."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence

from cdjax.findings.types import Finding


@dataclasses.dataclass(frozen=True)
class Backend:
  """A reader of reports.

  Attributes:
    name: as given on the command line.
    fingerprint: changes whenever the same report could be read differently.
    extract: reports → for each, in order, its findings, or the `ValueError` that says without
      quoting the report why it cannot be read. It may read ahead, so that a backend can work in
      batches or on several reports at a time.
    notice: what the user should read before the first report is read, or "".
  """

  name: str
  fingerprint: str
  extract: Callable[[Iterable[str]], Iterator[Sequence[Finding] | ValueError]]
  notice: str = ""


def require(module: str, extra: str) -> None:
  """Checks that an optional package is there.

  Raises:
    ImportError: it is not; names the extra that brings it.
  """
  import importlib.util

  if importlib.util.find_spec(module) is None:
    raise ImportError(f"{module} is not installed; it comes with the extra {extra!r}: "
                      f"pip install 'cdjax[{extra}]'")
