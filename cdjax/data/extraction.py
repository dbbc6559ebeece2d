"""Reports to `findings.jsonl`: cached by content, resumable, nothing of a report in any message."""

import collections
import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from cdjax.data.quarantine import Problem
from cdjax.data.report_records import Report
from cdjax.findings import Finding, finding_to_dict
from cdjax.findings.extract import Backend


@dataclasses.dataclass
class Summary:
  """What an extraction did.

  Attributes:
    written: reports in the output.
    reused: of those, taken over from an earlier run.
    dropped: findings left out because their evidence is not in their report.
    problems: reports that the backend could not read.
    findings: (name, status) to how many.
  """

  written: int = 0
  reused: int = 0
  dropped: int = 0
  problems: list[Problem] = dataclasses.field(default_factory=list)
  findings: collections.Counter = dataclasses.field(default_factory=collections.Counter)


def content_key(backend: Backend, text: str) -> str:
  """What a result depends on: the backend's name and fingerprint, and the text."""
  parts = (backend.name, backend.fingerprint, text)
  return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def extract_to_file(reports: Sequence[Report], output: str | Path, backend: Backend, *,
                    progress: Callable[[Sequence], Iterable] = iter) -> Summary:
  """Reads every report and writes one line each.

  A result is kept under a key of the text and the backend. What an earlier run wrote, finished or
  not, is taken over where its key is the same; so a stopped run goes on, and only reports that have
  changed are read again, and equal texts once. OUTPUT appears, or changes, only when everything is
  done and something could be read.

  Args:
    reports: with unique ids.
    output: a `.jsonl` file.
    backend: reads the texts.
    progress: wraps the iteration over reports, e.g. `tqdm`.

  Returns:
    What was done.

  Raises:
    ValueError: the output is not a file of this kind.
  """
  output = Path(output)
  if output.suffix != ".jsonl" or output.is_dir():
    raise ValueError(f"--output {output}; expected the name of a .jsonl file")
  output.parent.mkdir(parents=True, exist_ok=True)
  unfinished = output.with_name(f".{output.name}.unfinished")
  known = {**_known(output), **_known(unfinished)}
  summary = Summary()
  # What is known goes first into the new unfinished file: a second stop loses nothing either.
  fresh = unfinished.with_name(unfinished.name + ".new")
  keys = [content_key(backend, report.text) for report in reports]
  wanted = set(keys) & set(known)
  with fresh.open("w", encoding="utf-8") as file:
    for report, key in zip(reports, keys, strict=True):
      if key in wanted:
        _write(file, report.id, key, known[key], backend)
    file.flush()
    os.replace(fresh, unfinished)
    todo: dict[str, list[Report]] = {}
    for report, key in zip(reports, keys, strict=True):
      if key not in wanted:
        todo.setdefault(key, []).append(report)
    _read_new(file, todo, backend, known, summary, progress)
  summary.reused = sum(key in wanted for key in keys)
  with fresh.open("w", encoding="utf-8") as file:
    for report, key in zip(reports, keys, strict=True):
      if key in known:
        _write(file, report.id, key, known[key], backend)
        summary.written += 1
        summary.findings.update((f["name"], f["status"]) for f in known[key])
  if summary.written:   # else what an earlier run wrote is worth more than an empty file
    os.replace(fresh, output)
  fresh.unlink(missing_ok=True)
  unfinished.unlink()
  return summary


def _read_new(file, todo: Mapping[str, Sequence[Report]], backend: Backend,
              known: dict[str, list[dict]], summary: Summary,
              progress: Callable[[Sequence], Iterable]) -> None:
  """Has the backend read what is not known yet; writes each result as soon as it is there.

  Args:
    todo: key to the reports of one text.
  """
  results = backend.extract(same[0].text for same in todo.values())
  for (key, same), result in zip(progress(list(todo.items())), results, strict=True):
    if isinstance(result, ValueError):
      summary.problems += [Problem(report.row, report.id, "not extracted", str(result))
                           for report in same]
      continue
    report = same[0]
    kept = supported(result, report.text)
    summary.dropped += (len(result) - len(kept)) * len(same)
    known[key] = [finding_to_dict(finding) for finding in kept]
    _write(file, report.id, key, known[key], backend)
    file.flush()


def supported(findings: Iterable[Finding], text: str) -> list[Finding]:
  """The findings whose evidence is a piece of the report."""
  return [f for f in findings if f.evidence is not None and f.evidence[1] <= len(text)
          and text[slice(*f.evidence)].strip()]


def _write(file, name: str, key: str, findings: Sequence[Mapping], backend: Backend) -> None:
  file.write(json.dumps({"id": name, "findings": findings, "backend": backend.name, "key": key})
             + "\n")


def _known(path: Path) -> dict[str, list[dict]]:
  """Key to findings of an earlier run; a last line that was cut off is left out.

  Raises:
    ValueError: the file is something else.
  """
  if not path.exists():
    return {}
  return dict(_lines(path))


def _lines(path: Path) -> Iterator[tuple[str, list[dict]]]:
  """The (key, findings) of each whole line."""
  with path.open(encoding="utf-8", errors="replace") as file:
    for number, line in enumerate(file, start=1):
      if not line.endswith("\n"):
        return
      try:
        record = json.loads(line)
        yield record["key"], record["findings"]
      except (json.JSONDecodeError, KeyError, TypeError):
        raise ValueError(f"{path}, line {number}: not written by `cdjax extract` (no 'key'); "
                         "choose another --output") from None
