"""Every `cdjax …` that the README, the notebooks, the helps or the configs show can be given so."""

import functools
import importlib
import json
import re
import shlex
from pathlib import Path

import pytest

from cdjax.cli.main import COMMANDS, parse_arguments
from cdjax.cli.overrides import parse_overrides
from cdjax.core.config import list_configs, load_config

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "launch/colab").glob("*.ipynb"))


def shell_lines(text):
  """Commands of a text, continued lines joined; options in brackets count as given."""
  return re.sub(r"\\\n\s*", "", text).replace("[", "").replace("]", "").splitlines()


def readme():
  """Lines of the README's shell blocks."""
  blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.M | re.S)
  return shell_lines("\n".join(blocks))


def notebook(path):
  """Lines that a notebook gives to the shell; 1 stands for what Python fills in."""
  cells = json.loads(path.read_text("utf-8"))["cells"]
  code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
  return [re.sub(r"\{\w+\}", "1", line).removeprefix("!") for line in shell_lines(code)]


def explained():
  """Lines of the commands' helps and the configs' headers."""
  helps = [importlib.import_module(module).__doc__ for module, _ in COMMANDS.values()]
  return [line.strip() for text in (*helps, *list_configs().values()) for line in shell_lines(text)]


def commands(lines):
  """What follows `cdjax`, or the ` -- ` of a launch script, as words."""
  for line in lines:
    launched = re.match(r"launch/(tpu_vm|gke|slurm)\.sh .*? -- (.*)", line)
    if line.startswith("cdjax ") or launched:
      yield shlex.split(launched[2] if launched else line.removeprefix("cdjax "), comments=True)


def check(words):
  """Parses as `main` does, and looks the configuration's keys up.

  Raises:
    SystemExit, ValueError, OSError: it cannot be given so.
  """
  name, *rest = words
  if words == ["--help"] or "--help" in rest:
    return
  args = parse_arguments(name, importlib.import_module(COMMANDS[name][0]), rest)
  spec = getattr(args, "config", None)
  if name == "train" and spec != "1" and "NAME" not in spec:
    parse_overrides(load_config(spec), args.overrides)


SOURCES = {"README.md": (readme, 25), "helps and configs": (explained, 40),
           **{path.name: (functools.partial(notebook, path), 1) for path in NOTEBOOKS}}


@pytest.mark.parametrize("source", SOURCES)
def test_what_is_shown_can_be_given(source):
  read, least = SOURCES[source]
  shown = list(commands(read()))
  assert len(shown) >= least and all(words[0] in COMMANDS or words == ["--help"]
                                     for words in shown), shown
  wrong = []
  for words in shown:
    try:
      check(words)
    except (SystemExit, ValueError, OSError) as error:
      wrong.append(f"cdjax {shlex.join(words)}: {error}")
  assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("line", [
  "cdjax train --config configs/quickstart.py", "cdjax prepare --dataset imagenet --output x",
  "cdjax train --config configs/none.py --workdir w",
  "launch/slurm.sh --gpus 4 -- train --config configs/quickstart.py --workdir w --config.sed=1"])
def test_the_check_sees_what_cannot(line):
  words, = commands(shell_lines(line))
  with pytest.raises((SystemExit, ValueError, OSError)):
    check(words)
