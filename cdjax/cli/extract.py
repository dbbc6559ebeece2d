"""Turns radiology reports into structured findings.

Reads the sections of a report that state findings (not the indication or the history) and writes
one line a report: {"id": "…", "findings": [{"name", "status", "severity", "laterality", "zones",
"change", "evidence": [start, end]}], …}. `evidence` are the characters of the report that say so.
Reports that cannot be read are listed in OUTPUT's folder, NAME.quarantine.csv; the rest goes
through. The same command goes on after a stop and reads again only what has changed.

INPUT is a .csv or .jsonl file with the columns id and report, or a folder of .txt files, or a
folder of Open-i .xml files.

Backends:
  rules   phrases and the grammar of lists; nothing leaves this machine

examples:
  cdjax extract --input reports.csv --output findings.jsonl
  cdjax extract --input reports.csv --output findings.jsonl --columns id=study report=text
  cdjax extract --input openi/ --output findings.jsonl
  cdjax extract --compare mine.jsonl theirs.jsonl
"""

import argparse

from cdjax.cli.arguments import column


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the command's arguments."""
  parser.add_argument("--input", metavar="PATH", help="table or folder of reports")
  parser.add_argument("--output", metavar="FILE", help="the .jsonl file to make")
  parser.add_argument("--backend", default="rules", metavar="NAME",
                      help="who reads the reports, see above (default: %(default)s)")
  parser.add_argument("--columns", nargs="+", type=column, default=[], metavar="FIELD=COLUMN",
                      help="columns of other names: id=STUDY report=TEXT")
  parser.add_argument("--compare", nargs=2, metavar=("A", "B"),
                      help="instead: how far two findings files of the same reports agree")


def run(args: argparse.Namespace) -> int:
  """Extracts, or compares; raises where no report could be read."""
  if args.compare:
    if args.input or args.output:
      raise ValueError("--compare stands alone; leave out --input and --output")
    return _compare(*args.compare)
  if not (args.input and args.output):
    raise ValueError("give --input and --output, or --compare A B")
  return _extract(args)


def _extract(args: argparse.Namespace) -> int:
  """Reads the reports and prints what was found."""
  import collections
  from pathlib import Path

  from tqdm import tqdm

  from cdjax.data.extraction import extract_to_file
  from cdjax.data.quarantine import count_kinds, write_quarantine
  from cdjax.data.report_records import read_reports
  from cdjax.findings.extract import make_backend

  backend = make_backend(args.backend)
  reports, problems = read_reports(args.input, dict(args.columns))
  summary = extract_to_file(reports, args.output, backend,
                            progress=lambda todo: tqdm(todo, unit="report", disable=None))
  problems += summary.problems
  quarantine = Path(args.output).with_suffix(".quarantine.csv")
  quarantine.unlink(missing_ok=True)
  if problems:
    write_quarantine(quarantine, problems, what="report")
  if not summary.written:
    raise ValueError(f"{args.input}: none of the {len(problems)} reports could be read"
                     + (f"; see {quarantine}" if problems else ""))
  names = collections.Counter(name for name, _ in summary.findings.elements())
  print(f"{'reports that say':30}{'present':>10}{'uncertain':>10}{'absent':>10}")
  for name, _ in names.most_common():
    cells = [summary.findings[name, status] for status in ("present", "uncertain", "absent")]
    print(f"{name:30}" + "".join(f"{cell:>10}" for cell in cells))
  print(f"\n{summary.written} reports read ({summary.reused} of them by an earlier run), "
        f"{len(problems)} quarantined" + (f"; see {quarantine}:" if problems else "."))
  for kind, count in count_kinds(problems).items():
    print(f"  {count:6d}  {kind}")
  if summary.dropped:
    print(f"{summary.dropped} findings were left out: their evidence is not in the report.")
  print(f"{args.output}: written")
  return 0


def _compare(first: str, second: str) -> int:
  """Prints how far two files agree."""
  from cdjax.data.findings_file import read_findings_file, same_reports
  from cdjax.evaluate.agreement import agreement

  lists = read_findings_file(first), read_findings_file(second)
  same_reports(*lists, names=(first, second))
  result = agreement(*lists)
  print(f"{result['reports']} reports; A {first}, B {second}\n")
  print(f"{'presence':30}{'kappa':>8}{'F1':>8}{'both':>8}{'A':>8}{'B':>8}")
  names = [key.split("/")[1] for key in result if key.startswith("presence/")
           and key.endswith("/kappa") and key.count("/") == 2]
  for name, key in [("all", "presence"), *((name, f"presence/{name}") for name in names)]:
    shares = "".join(f"{result[f'{key}/{what}']:8.3f}" for what in ("kappa", "f1"))
    print(f"{name:30}{shares}" + "".join(f"{result[f'{key}/{what}']:8d}"
                                         for what in ("both", "first", "second")))
  for what in ("side", "severity"):
    print(f"the same {what} in {result[f'{what}/agreement']:.3f} of {result[f'{what}/n']} findings "
          "of which both state one")
  return 0
