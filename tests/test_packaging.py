"""The launch scripts parse, and the package describes itself as it is."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

import cdjax

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = [*sorted((ROOT / "launch").glob("*.sh")), ROOT / ".ci" / "run"]


def _setup_arguments() -> dict[str, ast.expr]:
  """Keyword arguments of `setup(...)`, unevaluated."""
  tree = ast.parse((ROOT / "setup.py").read_text("utf-8"))
  call = next(node for node in ast.walk(tree) if isinstance(node, ast.Call)
              and isinstance(node.func, ast.Name) and node.func.id == "setup")
  return {keyword.arg: keyword.value for keyword in call.keywords}


def _pins() -> dict[str, str]:
  """Normalised name to version in launch/constraints.txt."""
  lines = (ROOT / "launch/constraints.txt").read_text("utf-8").splitlines()
  pins = dict(line.split("==") for line in lines if not line.startswith("#"))
  return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins.items()}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_parse_and_stop_at_errors(script):
  result = subprocess.run(["bash", "-n", script], capture_output=True, text=True)
  assert result.returncode == 0, result.stderr
  text = script.read_text("utf-8")
  assert text.startswith("#!/usr/bin/env bash\n") and "\nset -euo pipefail\n" in text
  assert script.stat().st_mode & 0o111, f"{script.name} is not executable"


def test_setup_refuses_a_folder_that_is_not_its_own(tmp_path):
  (tmp_path / "thesis.tex").write_text("years of work")
  result = subprocess.run(
    ["bash", ROOT / "launch/setup_venv.sh"], capture_output=True, text=True,
    env={"CDJAX_VENV": str(tmp_path), "PATH": "/usr/local/bin:/usr/bin:/bin"})
  assert result.returncode == 1 and "error" in result.stderr
  assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_every_requirement_is_pinned_and_the_pin_is_new_enough():
  arguments = _setup_arguments()
  extras = ast.literal_eval(arguments["extras_require"])
  requirements = [*ast.literal_eval(arguments["install_requires"]),
                  *(need for name in ("test", "parity", "text", "llm", "llm-local")
                    for need in extras[name])]
  pins = _pins()
  for requirement in requirements:
    name, operator, bound = re.fullmatch(r"([\w-]+)(>=|==)([\d.]+)", requirement).groups()
    pin = pins[re.sub(r"[-_.]+", "-", name).lower()]
    numbers = [tuple(map(int, version.split("."))) for version in (pin, bound)]
    assert numbers[0] == numbers[1] if operator == "==" else numbers[0] >= numbers[1], requirement


def test_core_is_light():
  core = " ".join(ast.literal_eval(_setup_arguments()["install_requires"]))
  for heavy in ("torch", "transformers", "tensorflow>", "tensorflow=", "diffusers", "scikit",
                "openai", "pydantic"):
    assert heavy not in core


def test_python_version_is_said_once():
  arguments = _setup_arguments()
  assert ast.literal_eval(arguments["python_requires"]) == ">=3.11"
  settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
  assert settings["tool"]["ruff"]["target-version"] == "py311"
  assert "project" not in settings, "setup.py describes the package"


def test_version_can_be_read_as_text():
  text = (ROOT / "cdjax/__init__.py").read_text("utf-8")
  assert re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE).group(1) == cdjax.__version__


def test_pins_name_no_place():
  assert not re.search(r"[/@:]", "\n".join(
    line for line in (ROOT / "launch/constraints.txt").read_text("utf-8").splitlines()
    if not line.startswith("#")))
