"""The rules of the code layout, read from the syntax tree of every file.

Imports only point down the floors, packages on one floor do not know each other, heavy packages
are imported where they are needed, nothing unpickles, everything public is explained.
"""

import ast
import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

FLOORS = {
  "core": 0,
  "findings": 1, "diffusion": 1, "sharding": 1, "losses": 1,
  "models": 2, "data": 2,
  "train": 3, "counterfactual": 3,
  "evaluate": 4,
  "report": 5,
  "cli": 6,
}

# Optional or slow: imported inside the function that needs them.
HEAVY = {"torch", "torchvision", "transformers", "diffusers", "openai", "tensorflow", "sklearn",
         "skimage", "pydantic", "llguidance"}
# Anything that can run code from a file.
PICKLES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}

TOP_LEVEL = {"setup.py", "README.md", "LICENSE", "pyproject.toml", "cdjax", "configs", "launch",
             "tests"}
# Made by tools; .gitignore names them too.
MADE = ("*.egg-info", "build", "dist", "workdir*", "__pycache__")

MAX_LINES = 400

# Called by flax, not by people.
UNDOCUMENTED_METHODS = {"setup"}


def module_name(path: Path, root: Path) -> str:
  """Dotted name of a file: cdjax/core/rng.py is "cdjax.core.rng"."""
  parts = path.relative_to(root).with_suffix("").parts
  return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree: ast.Module, name: str, is_package: bool) -> list[tuple[str, int, bool]]:
  """Every imported module: (dotted name, line, whether at module level)."""
  found = []

  def visit(node, at_module_level):
    for child in ast.iter_child_nodes(node):
      inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
      if isinstance(child, ast.Import):
        found.extend((alias.name, child.lineno, at_module_level) for alias in child.names)
      elif isinstance(child, ast.ImportFrom):
        up = name.split(".")[: None if is_package else -1]
        base = up[: len(up) - child.level + 1] if child.level else []
        base = ".".join([*base, *([child.module] if child.module else [])])
        # `from cdjax import models` names the package in the alias.
        found.extend((f"{base}.{alias.name}", child.lineno, at_module_level)
                     for alias in child.names)
      else:
        visit(child, at_module_level and not inside)

  visit(tree, True)
  return found


def import_faults(source: str, name: str, is_package: bool = False) -> list[str]:
  """What in a module of this name breaks the rules of imports."""
  faults = []
  parts = name.split(".")
  own = parts[1] if parts[0] == "cdjax" and len(parts) > 1 and parts[1] in FLOORS else None
  for target, line, at_module_level in imports(ast.parse(source), name, is_package):
    top, *rest = target.split(".")
    if top in PICKLES:
      faults.append(f"{name}:{line} imports {top}")
    if top in HEAVY and at_module_level:
      faults.append(f"{name}:{line} imports {top} at module level")
    if top == "cdjax" and own and rest and rest[0] in FLOORS and rest[0] != own:
      if FLOORS[rest[0]] == FLOORS[own]:
        faults.append(f"{name}:{line} imports {rest[0]}, which is on its own floor")
      elif FLOORS[rest[0]] > FLOORS[own]:
        faults.append(f"{name}:{line} imports {rest[0]}, which is above it")
  return faults


def undocumented(source: str) -> list[str]:
  """Public modules, classes, functions and methods without a docstring."""
  tree = ast.parse(source)
  missing = [] if ast.get_docstring(tree) else ["the module"]

  def visit(node, prefix):
    for child in node.body:
      if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        continue
      is_method = isinstance(node, ast.ClassDef)
      if child.name.startswith("_") or (is_method and child.name in UNDOCUMENTED_METHODS):
        continue
      if not ast.get_docstring(child):
        missing.append(f"{prefix}{child.name}")
      if isinstance(child, ast.ClassDef):
        visit(child, f"{child.name}.")

  visit(tree, "")
  return missing


FILES = sorted((ROOT / "cdjax").rglob("*.py"))


def _ids(path: Path) -> str:
  return str(path.relative_to(ROOT))


def test_every_package_has_a_floor():
  packages = {path.name for path in (ROOT / "cdjax").iterdir()
              if path.is_dir() and path.name != "__pycache__"}
  assert packages == set(FLOORS)
  assert all((ROOT / "cdjax" / name / "__init__.py").is_file() for name in packages)


@pytest.mark.parametrize("path", FILES, ids=_ids)
def test_imports_point_down(path):
  name = module_name(path, ROOT)
  faults = import_faults(path.read_text("utf-8"), name, path.name == "__init__.py")
  assert not faults, "\n".join(faults)


@pytest.mark.parametrize("path", FILES, ids=_ids)
def test_everything_public_has_a_docstring(path):
  missing = undocumented(path.read_text("utf-8"))
  assert not missing, f"{_ids(path)}: no docstring on {', '.join(missing)}"


def test_files_are_short():
  files = [*FILES, *(ROOT / "configs").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
  lengths = {_ids(path): len(path.read_text("utf-8").splitlines()) for path in files}
  assert not {path: n for path, n in lengths.items() if n > MAX_LINES}


def test_no_pickle_in_tests_and_configs():
  for path in [*(ROOT / "configs").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]:
    name = module_name(path, ROOT)
    faults = [f for f in import_faults(path.read_text("utf-8"), name) if "at module" not in f]
    assert not faults, "\n".join(faults)


def test_top_level_is_fixed():
  entries = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
  strange = {name for name in entries - TOP_LEVEL
             if not any(fnmatch.fnmatch(name, pattern) for pattern in MADE)}
  assert not strange
  assert entries >= TOP_LEVEL


@pytest.mark.parametrize(("name", "source", "fault"), [
  ("cdjax.core.x", "from cdjax.models import layers", "above"),
  ("cdjax.core.x", "import cdjax.models.layers", "above"),
  ("cdjax.core.x", "from cdjax import models", "above"),
  ("cdjax.core.x", "from ..models import layers", "above"),
  ("cdjax.core.x", "def f():\n  from cdjax.cli import main", "above"),
  ("cdjax.losses.x", "from cdjax.diffusion import schedule", "own floor"),
  ("cdjax.models.x", "from cdjax.data.groups import g", "own floor"),
  ("cdjax.models.x", "import torch", "torch at module level"),
  ("cdjax.models.x", "class A:\n  from torch import nn", "torch at module level"),
  ("cdjax.models.x", "def f():\n  import pickle", "pickle"),
  ("cdjax.models.x", "from cdjax.core import rng\nfrom cdjax.findings import Finding", None),
  ("cdjax.models.x", "from cdjax.models import layers\nfrom . import attention", None),
  ("cdjax.models.x", "import cdjax\ndef f():\n  import torch", None),
  ("cdjax.__main__", "from cdjax.cli.main import main", None),
])
def test_the_check_sees_what_it_should(name, source, fault):
  faults = import_faults(source, name)
  assert (len(faults) == 1 and fault in faults[0]) if fault else not faults


def test_the_docstring_check_sees_what_it_should():
  source = ('"""M."""\nclass A:\n  """A."""\n  def f(self): pass\n  def setup(self): pass\n'
            "  def __call__(self): pass\ndef g(): pass\ndef _h(): pass\n")
  assert undocumented(source) == ["A.f", "g"]
  assert undocumented("x = 1") == ["the module"]
