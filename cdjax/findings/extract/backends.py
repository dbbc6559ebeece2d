"""Who reads the reports: a name to a function that makes a `Backend`."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import resources

from cdjax.findings.extract.rules import extract_findings
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
  """

  name: str
  fingerprint: str
  extract: Callable[[Iterable[str]], Iterator[Sequence[Finding] | ValueError]]


def make_rules() -> Backend:
  """The backend of phrases and grammar; its fingerprint covers its files and the ontology."""
  digest = hashlib.sha256()
  for package in ("cdjax.findings", "cdjax.findings.extract"):
    files = [f for f in resources.files(package).iterdir() if f.name.endswith((".py", ".json"))]
    for file in sorted(files, key=lambda file: file.name):
      digest.update(file.name.encode() + file.read_bytes())
  return Backend("rules", digest.hexdigest()[:16], lambda reports: map(extract_findings, reports))


BACKENDS: dict[str, Callable[[], Backend]] = {"rules": make_rules}


def make_backend(name: str) -> Backend:
  """The backend of a name.

  Raises:
    ValueError: there is none.
  """
  if name not in BACKENDS:
    raise ValueError(f"backend={name!r}; expected one of {sorted(BACKENDS)}")
  return BACKENDS[name]()
