"""The Colab notebooks: clean files; every cell runs and shows a picture where it says so."""

import base64
import io
import os
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "launch/colab"
NAMES = sorted(path.name for path in FOLDER.glob("*.ipynb"))

# What is put in place of the cell tagged `parameters`, and how many pictures there must be.
TINY = 'CONFIG, SOURCE, ACCELERATOR = "configs/quickstart.py:tiny", "", ""\n'
SMALL = {
  "quickstart.ipynb": (TINY + 'WORKDIR = "run"', 6),
  "explorer.ipynb": (TINY + 'WORKDIR = "run"', 4),
  "own_radiographs.ipynb": (
      TINY + 'IMAGES, MANIFEST, DATA = "xrays", "xrays/list.csv", "own"\n'
      'WORKDIR, RESOLUTION, STAND_INS = "own-run", 32, 40\n'
      'QUESTION = "large left pleural effusion"', 5),
  "tpu_training.ipynb": (
      TINY + 'PATIENTS, RESOLUTION, FOLDER, ON_DRIVE = 40, 32, "tpu", False', 3),
}
# A failing `!command` is no error for IPython; here it is one.
STRICT = """
def _strict(command, shell=get_ipython(), system=get_ipython().system):
  system(command)
  assert shell.user_ns["_exit_code"] == 0, command
get_ipython().system = _strict
"""


def read(name):
  return nbformat.read(FOLDER / name, as_version=4)


def test_there_is_one_for_each_purpose():
  assert set(SMALL) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_files_are_clean_and_made_to_be_read(name):
  notebook = read(name)
  nbformat.validate(notebook)
  cells = notebook.cells
  assert cells[0].cell_type == "markdown" and cells[0].source.startswith("# ")
  parameters = [cell for cell in cells if "parameters" in cell.metadata.get("tags", ())]
  assert len(parameters) == 1 and parameters[0] is cells[1]
  for cell in cells:
    assert len(cell.source.splitlines()) <= 20, cell.source
    assert not any(place in cell.source for place in ("/content", "/home", "/tmp", "/work")), (
        cell.source)
    if cell.cell_type == "code":
      assert not cell.outputs and cell.execution_count is None
  explained = sum(len(cell.source) for cell in cells if cell.cell_type == "markdown")
  assert explained > 800
  given = {line.partition(" = ")[0] for line in parameters[0].source.splitlines() if " = " in line}
  replaced = {word.strip() for line in SMALL[name][0].splitlines()
              for word in line.partition(" = ")[0].split(",")}
  assert given == replaced, "the tests' parameters are not the notebook's"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  """A folder to run in, and `cdjax` and `python` of this checkout on the path."""
  folder = tmp_path_factory.mktemp("colab")
  programs = folder / "bin"
  programs.mkdir()
  for name, words in (("cdjax", "-m cdjax "), ("python", "")):
    (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words}"$@"\n')
    (programs / name).chmod(0o755)
  patch = pytest.MonkeyPatch()
  patch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
  patch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
  yield folder
  patch.undo()


def pictures(notebook):
  """All pictures that a notebook shows, `[H, W, 3]`."""
  shown = [output.data["image/png"] for cell in notebook.cells if cell.cell_type == "code"
           for output in cell.outputs if "image/png" in output.get("data", {})]
  return [np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB"))
          for png in shown]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["quickstart.ipynb", *sorted(set(NAMES) - {"quickstart.ipynb"})])
def test_every_cell_runs_and_pictures_are_shown(name, place):
  """The quickstart's run comes first, and is what the explorer finds."""
  from nbclient import NotebookClient

  notebook, (settings, least) = read(name), SMALL[name]
  notebook.cells[1].source = settings + STRICT
  NotebookClient(notebook, timeout=1800, kernel_name="python3",
                 resources={"metadata": {"path": str(place)}}).execute()
  if keep := os.environ.get("CDJAX_KEEP_NOTEBOOKS"):   # to look at what they show
    nbformat.write(notebook, Path(keep) / name)
  shown = pictures(notebook)
  assert len(shown) >= least
  assert all(picture.std() > 5 for picture in shown)
  said = "".join(output.get("text", "") for cell in notebook.cells if cell.cell_type == "code"
                 for output in cell.outputs)
  if name == "own_radiographs.ipynb":   # the list that it made is the one that is looked into
    assert said.count("(from the manifest)") == 2 and "(from the classifier)" not in said
  if name == "explorer.ipynb":
    assert "application/vnd.jupyter.widget-view+json" in str(notebook.cells[-1].outputs)
