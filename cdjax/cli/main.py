"""The command `cdjax`: finds the command's module, imports only that, and reports errors.

A command module has a docstring (its help, with examples), `add_arguments(parser)` and
`run(args) -> int`. If it has an argument `--config`, strings `--config.key=value` are allowed and
come as `args.overrides`, for `cdjax.cli.overrides.parse_overrides`.
"""

import argparse
import difflib
import errno
import importlib
import sys
import traceback
from collections.abc import Sequence

import cdjax
from cdjax.cli.environment import configure_jax, configure_logging
from cdjax.cli.overrides import PREFIX

# Command: (module, what `cdjax --help` says of it). Modules are imported when they are run.
COMMANDS = {
  "quickstart": ("cdjax.cli.quickstart", "the whole method on a phantom, in twenty minutes"),
  "prepare": ("cdjax.cli.prepare", "turn your radiographs, or a published data set, into shards"),
  "extract": ("cdjax.cli.extract", "turn radiology reports into structured findings"),
  "score-findings": ("cdjax.cli.score_findings", "score extracted findings against a gold list"),
  "throughput": ("cdjax.cli.throughput", "images a second and core that `prepare` gets through"),
  "configs": ("cdjax.cli.configs", "the configs, their keys, and what the keys mean"),
  "train": ("cdjax.cli.train", "train the stages that a config names"),
  "encode": ("cdjax.cli.encode", "the latents of a data set, by a trained autoencoder"),
  "compile": ("cdjax.cli.compile", "will it fit on a TPU, what bounds it; needs no TPU"),
  "counterfactual": ("cdjax.cli.counterfactual", "this patient, but with other findings"),
  "optimize-noise": ("cdjax.cli.optimize_noise", "noises that lead to findings of few images"),
  "generate": ("cdjax.cli.generate", "an augmentation set: images of findings, and a manifest"),
  "evaluate": ("cdjax.cli.evaluate", "measure a trained model, or two folders of images"),
  "report": ("cdjax.cli.report", "pages, pictures and tables of evaluated runs"),
  "benchmark": ("cdjax.cli.benchmark", "remedies for findings of few images: one table"),
  "ablate": ("cdjax.cli.ablate", "what each part of the method is worth: one table"),
}

_HELP = """usage: cdjax COMMAND [OPTION...]

Counterfactual chest radiographs: this patient, but with other findings.

commands:
{commands}

`cdjax COMMAND --help` explains a command, with examples. Every command takes --debug.

the way through:
  cdjax quickstart --workdir demo
  cdjax counterfactual --workdir demo --image xray.png --findings "large left pleural effusion"

  cdjax extract --input reports.csv --output findings.jsonl
  cdjax prepare --images folder --manifest list.csv --output data
  cdjax train --config configs/NAME.py --workdir run --config.data.path=data
  cdjax counterfactual --workdir run --image xray.dcm --add "mild right lower consolidation"

findings are written `severity side zone finding; …`: "small left lower pleural effusion;
no cardiomegaly", "possible nodule", "healthy".
"""

# Mistakes of the user or of the machine: one line says enough. What is not listed is a fault of
# the program and keeps its traceback.
EXPECTED_ERRORS = (ValueError, OSError, ImportError, FloatingPointError)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs a command.

  Args:
    argv: the arguments after `cdjax`; None takes the process's.

  Returns:
    0 done; 1 an error, said in one line on stderr; 2 wrong usage; 130 interrupted; or what the
    command gives.
  """
  argv = list(sys.argv[1:] if argv is None else argv)
  if not argv or argv[0] in ("-h", "--help", "help"):
    print(_help(), file=sys.stdout if argv else sys.stderr)
    return 0 if argv else 2
  if argv[0] == "--version":
    print(f"cdjax {cdjax.__version__}")
    return 0
  name, *rest = argv
  if name not in COMMANDS:
    near = difflib.get_close_matches(name, COMMANDS, n=1)
    hint = f" (nearest: {near[0]})" if near else ""
    return _fail(f"unknown command {name!r}{hint}; expected one of {', '.join(COMMANDS)}", 2)
  debug = "--debug" in rest
  try:
    configure_jax()
    module = importlib.import_module(COMMANDS[name][0])
    args = parse_arguments(name, module, rest)
    configure_logging(debug)
    return module.run(args)
  except KeyboardInterrupt:
    return _fail("interrupted; the same command goes on where it was", 130)
  except SystemExit as leave:  # argparse: help, or wrong usage
    return leave.code if isinstance(leave.code, int) else 1
  except EXPECTED_ERRORS as error:
    if debug:
      traceback.print_exc()
    return _fail(explain(error))


def parse_arguments(name: str, module, rest: Sequence[str]) -> argparse.Namespace:
  """The command's arguments, with `overrides` where it has a `--config`.

  Args:
    name: of the command.
    module: of the command.
    rest: the arguments after the name.

  Raises:
    SystemExit: help was asked (0), or the usage is wrong (2).
  """
  parser = argparse.ArgumentParser(
    prog=f"cdjax {name}", description=module.__doc__, allow_abbrev=False,
    formatter_class=argparse.RawDescriptionHelpFormatter)
  module.add_arguments(parser)
  parser.add_argument("--debug", action="store_true",
                      help="show the traceback of an error, and every library's log lines")
  overrides = [word for word in rest if word.startswith(PREFIX)]
  args = parser.parse_args([word for word in rest if not word.startswith(PREFIX)])
  if hasattr(args, "config"):
    args.overrides = overrides
  elif overrides:
    parser.error(f"{overrides[0]}: this command takes no config")
  return args


def explain(error: BaseException) -> str:
  """What went wrong, in one line; what follows an empty line in the message stays as it is."""
  if isinstance(error, OSError) and error.strerror:
    where = "".join(f": {name}" for name in (error.filename, error.filename2) if name)
    if error.errno == errno.ENOSPC:
      return f"no space left{where}; make room, the same command then goes on where it was"
    return f"{error.strerror}{where}"
  message, blank, details = str(error).partition("\n\n")
  return (" ".join(message.split()) or type(error).__name__) + blank + details


def _fail(message: str, code: int = 1) -> int:
  """Says `message` on stderr; returns `code`."""
  print(f"cdjax: error: {message}", file=sys.stderr)
  return code


def _help() -> str:
  """The text of `cdjax --help`."""
  width = max(map(len, COMMANDS))
  return _HELP.format(commands="\n".join(
    f"  {name:{width}}  {summary}" for name, (_, summary) in COMMANDS.items()))
