"""Who reads the reports: a name to a function that makes a `Backend`."""

import hashlib
import inspect
from collections.abc import Callable
from importlib import resources
from typing import Any

from cdjax.findings.extract.backend import Backend
from cdjax.findings.extract.local import make_local
from cdjax.findings.extract.rules import extract_findings
from cdjax.findings.extract.server import make_server


def make_rules() -> Backend:
  """The backend of phrases and grammar; its fingerprint covers its files and the ontology."""
  digest = hashlib.sha256()
  for package in ("cdjax.findings", "cdjax.findings.extract"):
    files = [f for f in resources.files(package).iterdir() if f.name.endswith((".py", ".json"))]
    for file in sorted(files, key=lambda file: file.name):
      digest.update(file.name.encode() + file.read_bytes())
  return Backend("rules", digest.hexdigest()[:16], lambda reports: map(extract_findings, reports))


BACKENDS: dict[str, Callable[..., Backend]] = {
  "rules": make_rules, "local": make_local, "server": make_server}


def make_backend(name: str, **options: Any) -> Backend:
  """The backend of a name.

  Args:
    name: of `BACKENDS`.
    options: keyword arguments of its function.

  Raises:
    ValueError: there is no such backend, or it has no such option, or needs one more.
    ImportError: the extra that it needs is not installed.
  """
  if name not in BACKENDS:
    raise ValueError(f"backend={name!r}; expected one of {list(BACKENDS)}")
  known = inspect.signature(BACKENDS[name]).parameters
  flag = lambda option: "--" + option.replace("_", "-")
  if unknown := [option for option in options if option not in known]:
    raise ValueError(f"{flag(unknown[0])} is no option of the backend {name!r}; it has "
                     f"{', '.join(map(flag, known)) or 'none'}")
  for option, parameter in known.items():
    if parameter.default is parameter.empty and option not in options:
      raise ValueError(f"the backend {name!r} needs {flag(option)}")
  return BACKENDS[name](**options)
