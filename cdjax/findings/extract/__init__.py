"""Reports in free text to findings."""

from cdjax.findings.extract.rules import extract_findings

__all__ = ["extract_findings"]
