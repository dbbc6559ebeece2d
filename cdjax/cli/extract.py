r"""Turns radiology reports into structured findings.

Reads the sections of a report that state findings (not the indication or the history) and writes
one line a report: {"id": "…", "findings": [{"name", "status", "severity", "laterality", "zones",
"change", "evidence": [start, end]}], …}. `evidence` are the characters of the report that say so.
Reports that cannot be read are listed in OUTPUT's folder, NAME.quarantine.csv; the rest goes
through. The same command goes on after a stop and reads again only what has changed.

INPUT is a .csv or .jsonl file with the columns id and report, or a folder of .txt files, or a
folder of Open-i .xml files.

Backends:
  rules    phrases and the grammar of lists; nothing leaves this machine
  local    a language model in this process: --model FOLDER (config.json, tokenizer.json and
           safetensors; nothing is downloaded). Nothing leaves this machine. Needs the extra
           llm-local: pip install 'cdjax[llm-local]'
  server   a language model behind an OpenAI-compatible endpoint (vLLM, llama.cpp, Ollama):
           --model NAME --allow-endpoint URL. The sections that state findings are sent to that
           address and to no other; without it nothing is sent. Needs the extra llm:
           pip install 'cdjax[llm]'

Both models have to answer in JSON of a fixed schema and to quote the words of the report that
support each finding; a finding whose words are not in the report is left out and counted. What a
model makes of a report is another matter: small ones are much weaker than the rules.

examples:
  cdjax extract --input reports.csv --output findings.jsonl
  cdjax extract --input reports.csv --output findings.jsonl --columns id=study report=text
  cdjax extract --input openi/ --output findings.jsonl
  cdjax extract --input reports.csv --output f.jsonl --backend local --model models/medium
  cdjax extract --input reports.csv --output f.jsonl --backend server --model medium \
    --allow-endpoint http://127.0.0.1:8080/v1
  cdjax extract --compare mine.jsonl theirs.jsonl --json agreement.json
"""

import argparse

from cdjax.cli.arguments import column

# Of the backends; which one has which is said where it is made.
_OPTIONS = ("model", "device", "batch_size", "max_tokens", "allow_endpoint", "api_key_env",
            "response_format", "concurrency", "timeout", "retries")


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the command's arguments."""
  parser.add_argument("--input", metavar="PATH", help="table or folder of reports")
  parser.add_argument("--output", metavar="FILE", help="the .jsonl file to make")
  parser.add_argument("--backend", default="rules", metavar="NAME",
                      help="who reads the reports, see above (default: %(default)s)")
  parser.add_argument("--columns", nargs="+", type=column, default=[], metavar="FIELD=COLUMN",
                      help="columns of other names: id=STUDY report=TEXT")
  parser.add_argument("--compare", nargs=2, metavar=("A", "B"),
                      help="instead: how far two findings files agree about the reports that both "
                      "have")
  parser.add_argument("--json", metavar="FILE",
                      help="with --compare: also write all numbers to this file")
  models = parser.add_argument_group("options of --backend local and server")
  models.add_argument("--model", metavar="M", help="local: a folder; server: a name it knows")
  models.add_argument("--max-tokens", type=int, metavar="N",
                      help="longest answer (default: local 2048, server 4096)")
  local = parser.add_argument_group("options of --backend local")
  local.add_argument("--device", metavar="D", help="cpu or cuda (default: a GPU if there is one)")
  local.add_argument("--batch-size", type=int, metavar="N", help="reports at a time (default: 4)")
  server = parser.add_argument_group("options of --backend server")
  server.add_argument("--allow-endpoint", metavar="URL",
                      help="where reports may be sent, e.g. http://127.0.0.1:8080/v1")
  server.add_argument("--api-key-env", metavar="NAME",
                      help="environment variable that holds the key (default: no key is sent)")
  server.add_argument("--response-format", metavar="F",
                      help="how the schema is asked for: json_schema (default), or json_object for "
                      "llama-cpp-python's own server")
  server.add_argument("--concurrency", type=int, metavar="N",
                      help="requests at a time (default: 4)")
  server.add_argument("--timeout", type=float, metavar="S",
                      help="seconds of silence until a request counts as failed (default: 120)")
  server.add_argument("--retries", type=int, metavar="N",
                      help="after HTTP 429, 5xx and silence, with growing pauses (default: 4)")


def run(args: argparse.Namespace) -> int:
  """Extracts, or compares; raises where no report could be read."""
  if args.compare:
    if args.input or args.output:
      raise ValueError("--compare stands alone; leave out --input and --output")
    return _compare(*args.compare, args.json)
  if args.json:
    raise ValueError("--json is for --compare")
  if not (args.input and args.output):
    raise ValueError("give --input and --output, or --compare A B")
  return _extract(args)


def _extract(args: argparse.Namespace) -> int:
  """Reads the reports and prints what was found."""
  import collections
  import sys
  from pathlib import Path

  from tqdm import tqdm

  from cdjax.data.extraction import extract_to_file
  from cdjax.data.quarantine import count_kinds, write_quarantine
  from cdjax.data.report_records import read_reports
  from cdjax.findings.extract import make_backend

  given = {name: getattr(args, name) for name in _OPTIONS if getattr(args, name) is not None}
  backend = make_backend(args.backend, **given)
  if backend.notice:
    print(f"cdjax: warning: {backend.notice}", file=sys.stderr, flush=True)
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


def _compare(first: str, second: str, output: str | None) -> int:
  """Prints how far two files agree about the reports that both have."""
  from pathlib import Path

  from cdjax.data.findings_file import common_reports, read_findings_file
  from cdjax.evaluate.agreement import agreement
  from cdjax.evaluate.resume import write_json

  lists = read_findings_file(first), read_findings_file(second)
  common = common_reports(*lists, names=(first, second))
  result = agreement(*({i: found[i] for i in common} for found in lists))
  result |= {f"reports/only_{name}": len(found) - len(common)
             for name, found in zip(("first", "second"), lists, strict=True)}
  print(f"{result['reports']} reports in both; A {first}, {result['reports/only_first']} more; "
        f"B {second}, {result['reports/only_second']} more\n")
  print(f"{'presence':30}{'kappa':>8}{'F1':>8}{'both':>8}{'A':>8}{'B':>8}")
  names = [key.split("/")[1] for key in result if key.startswith("presence/")
           and key.endswith("/kappa") and key.count("/") == 2]
  for name, key in [("all", "presence"), *((name, f"presence/{name}") for name in names)]:
    shares = "".join(f"{result[f'{key}/{what}']:8.3f}" for what in ("kappa", "f1"))
    print(f"{name:30}{shares}" + "".join(f"{result[f'{key}/{what}']:8d}"
                                         for what in ("both", "first", "second")))
  print(f"the same status in {result['status/agreement']:.3f} of {result['status/n']} findings "
        "that both list")
  for what in ("side", "zone", "severity"):
    print(f"the same {what} in {result[f'{what}/agreement']:.3f} of {result[f'{what}/n']} findings "
          "of which both state one")
  if output:
    write_json(Path(output), result)
  return 0
