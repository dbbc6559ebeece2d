"""Reports in free text to findings."""

from cdjax.findings.extract.backend import Backend
from cdjax.findings.extract.backends import BACKENDS, make_backend
from cdjax.findings.extract.rules import extract_findings

__all__ = ["BACKENDS", "Backend", "extract_findings", "make_backend"]
