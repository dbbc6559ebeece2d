"""Scores extracted findings against a gold list.

PRED is what `cdjax extract` writes. The gold is a file of the same form, or a folder of Open-i
.xml files, whose indexing terms (`MeSH/major`) become gold for twenty findings. A report counts as
positive for a finding that it lists as present or uncertain; side, zone and severity are judged
where both are positive and the gold states them. A report of the gold that PRED does not have
counts as one without findings. Intervals: 95 %, bootstrap over reports.

examples:
  cdjax score-findings --pred findings.jsonl --gold gold.jsonl
  cdjax score-findings --pred findings.jsonl --openi openi/ --json scores.json
"""

import argparse

from cdjax.cli.arguments import name_list


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the command's arguments."""
  parser.add_argument("--pred", required=True, metavar="FILE", help="what `cdjax extract` wrote")
  gold = parser.add_mutually_exclusive_group(required=True)
  gold.add_argument("--gold", metavar="FILE", help="the truth, in the same form")
  gold.add_argument("--openi", metavar="DIR", help="the truth: a folder of Open-i .xml files")
  parser.add_argument("--names", type=name_list, default=None, metavar="A,B,C",
                      help="findings to score (default: all that either file lists; with --openi "
                      "the twenty that its terms stand for)")
  parser.add_argument("--resamples", type=int, default=1000, metavar="N",
                      help="of the bootstrap; 0: no intervals (default: %(default)s)")
  parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (default: %(default)s)")
  parser.add_argument("--json", metavar="FILE", help="also write all numbers to this file")


def run(args: argparse.Namespace) -> int:
  """Scores, prints a table and writes the numbers."""
  import sys
  from pathlib import Path

  from cdjax.data.findings_file import common_reports, read_findings_file
  from cdjax.data.openi import TERMS, read_gold
  from cdjax.evaluate.report_findings import score_findings
  from cdjax.evaluate.resume import write_json
  from cdjax.findings import canonical_name

  predicted = read_findings_file(args.pred)
  names = None if args.names is None else [canonical_name(name) for name in args.names]
  if args.openi:
    gold, problems = read_gold(args.openi)
    for problem in problems:
      print(f"{problem.image}: left out: {problem.reason}", file=sys.stderr)
    names = list(TERMS) if names is None else names
    # A case without a report could not be predicted.
    gold = {i: findings for i, (findings, has_report) in gold.items()
            if has_report or i in predicted}
  else:
    gold, problems = read_findings_file(args.gold), []
  common = common_reports(predicted, gold, names=(args.pred, args.openi or args.gold))
  read = {i: predicted.get(i, []) for i in gold}
  result = score_findings(read, gold, names=names, resamples=args.resamples, seed=args.seed)
  result |= {"reports/not_predicted": len(gold) - len(common),
             "reports/without_gold": len(predicted) - len(common),
             "reports/unreadable_gold": len(problems)}
  _print_table(result)
  if args.json:
    write_json(Path(args.json), result)
  return 0


def _print_table(result: dict[str, float]) -> None:
  """Prints the scores: each finding, then all."""
  columns = ("precision", "recall", "f1")
  print(f"{'presence':30}" + "".join(f"{c:>10}" for c in (*columns, "gold", "predicted")))
  names = [key.split("/")[1] for key in result if key.endswith("/gold")]
  for name in names:
    cells = "".join(f"{result[f'presence/{name}/{c}']:10.3f}" for c in columns)
    print(f"{name:30}{cells}{result[f'presence/{name}/gold']:10d}"
          f"{result[f'presence/{name}/predicted']:10d}")
  macro = f"macro ({result['presence/macro_names']} names with 10 gold cases)"
  for label, key in (("micro", "micro"), (macro, "macro")):
    print(f"{label:30}" + "".join(f"{result[f'presence/{key}_{c}']:10.3f}" for c in columns)
          + _range(result, f"presence/{key}_f1"))
  print()
  for what in ("side", "zone", "severity"):
    print(f"{what + ' accuracy':30}{result[f'{what}/accuracy']:10.3f}"
          f"{_range(result, f'{what}/accuracy')}  of {result[f'{what}/n']} matched findings")
  print(f"{'reports':30}{result['reports']:10d}")
  for key, text in (("not_predicted", "of them are not in PRED and counted as without findings"),
                    ("without_gold", "reports of PRED are not in the gold and were left out"),
                    ("unreadable_gold", "files of the gold could not be read")):
    if result[f"reports/{key}"]:
      print(f"{'':30}{result[f'reports/{key}']:10d} {text}")


def _range(result: dict[str, float], key: str) -> str:
  """The interval, where there is one."""
  if f"{key}/low" not in result:
    return ""
  return f"  [{result[f'{key}/low']:.3f}, {result[f'{key}/high']:.3f}]"
