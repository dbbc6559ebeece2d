"""A killed preparation goes on where it was and gives the same shards."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from published_fixture import MAKERS

from cdjax.data import prepare_rows
from cdjax.data.decoded import DecodedImages, image_key
from cdjax.data.image_io import load_image
from cdjax.data.prepare import prepare, prepare_published

SIZE = 16
COUNT = 9
# Ends the process where it stands, as the kernel does, in the middle of the sixth image.
KILLED = """
import os, signal, sys
from pathlib import Path
from cdjax.data import prepare_rows
from cdjax.data.prepare import prepare
load, calls = prepare_rows.load_image, []
def dying(*args, **kwargs):
  calls.append(args)
  if len(calls) == 6:
    os.kill(os.getpid(), signal.SIGKILL)
  return load(*args, **kwargs)
prepare_rows.load_image = dying
root = Path(sys.argv[1])
prepare(root / "images", root / "m.csv", root / "data", resolution=16)
"""


@pytest.fixture
def folder(tmp_path):
  (tmp_path / "images").mkdir()
  rng = np.random.default_rng(0)
  lines = ["image,patient_id,findings"]
  for i in range(COUNT):
    pixels = rng.integers(0, 256, (24, 20)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "images" / f"{i}.png")
    lines.append(f"{i}.png,p{i},{'Mass' if i % 2 else 'No Finding'}")
  (tmp_path / "m.csv").write_text("\n".join(lines) + "\n")
  return tmp_path


def contents(path: Path) -> dict[str, bytes]:
  return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*")
          if file.is_file()}


def count_loads(monkeypatch, stop_at=None):
  names = []

  def counting(root, name, **kwargs):
    names.append(name)
    if len(names) == stop_at:
      raise KeyboardInterrupt
    return load_image(root, name, **kwargs)

  monkeypatch.setattr(prepare_rows, "load_image", counting)
  return names


def run(folder, name="data", **kwargs):
  return prepare(folder / "images", folder / "m.csv", folder / name, resolution=SIZE, **kwargs)


def test_killed_and_given_again(folder, monkeypatch):
  run(folder, "whole")
  env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
  killed = subprocess.run([sys.executable, "-c", KILLED, folder], env=env, capture_output=True)
  assert killed.returncode == -signal.SIGKILL, killed.stderr
  assert not (folder / "data").exists()
  loads = count_loads(monkeypatch)
  run(folder)
  assert len(loads) == COUNT - 5
  assert contents(folder / "data") == contents(folder / "whole")
  assert not (folder / ".data.decoded").exists()


def test_interrupted_twice_torn_and_with_workers(folder, monkeypatch):
  run(folder, "whole")
  for stop_at, left in ((4, COUNT), (3, COUNT - 3)):
    loads = count_loads(monkeypatch, stop_at)
    with pytest.raises(KeyboardInterrupt):
      run(folder)
    assert len(loads) == stop_at <= left
  log = folder / ".data.decoded"
  data = log.read_bytes()
  log.write_bytes(data[:-7])   # half an entry: 4 of 5 are whole
  loads = count_loads(monkeypatch)
  run(folder)
  assert len(loads) == COUNT - 4
  assert contents(folder / "data") == contents(folder / "whole")
  monkeypatch.undo()
  log.write_bytes(data)
  run(folder, "data", workers=2)
  assert contents(folder / "data") == contents(folder / "whole")


def test_a_published_data_set_goes_on_with_its_reports_and_splits(tmp_path, monkeypatch):
  root = tmp_path / "published"
  root.mkdir()
  MAKERS["mimic-cxr"](root)
  (root / "files/p10/p10000032/s50414267/d1.jpg").write_bytes(b"damaged")
  again = lambda name: prepare_published(
      "mimic-cxr", root, tmp_path / name, reports=root / "mimic-cxr-reports.zip", views="all",
      resolution=SIZE)
  again("whole")
  count_loads(monkeypatch, 5)   # the first image of each split is read, d0, d3, d4; then d1, d2
  with pytest.raises(KeyboardInterrupt):
    again("data")
  loads = count_loads(monkeypatch)
  _, problems, _, _ = again("data")
  assert sorted(Path(name).stem for name in loads) == ["d1", "d2", "d5"]
  assert [Path(problem.image).stem for problem in problems] == ["d1"]
  assert contents(tmp_path / "data") == contents(tmp_path / "whole")


def test_a_changed_image_or_option_is_read_again(folder, monkeypatch):
  count_loads(monkeypatch, COUNT)
  with pytest.raises(KeyboardInterrupt):
    run(folder)
  Image.fromarray(np.arange(480, dtype=np.uint8).reshape(24, 20)).save(folder / "images" / "0.png")
  loads = count_loads(monkeypatch)
  run(folder)
  assert "0.png" in loads and len(loads) == 2
  count_loads(monkeypatch, COUNT)
  with pytest.raises(KeyboardInterrupt):
    run(folder, overwrite=True)
  loads = count_loads(monkeypatch)
  run(folder, overwrite=True, bits=16)
  assert len(loads) == COUNT


def test_a_damaged_entry_is_read_again(folder, monkeypatch):
  run(folder, "whole")
  count_loads(monkeypatch, COUNT)
  with pytest.raises(KeyboardInterrupt):
    run(folder)
  log = folder / ".data.decoded"
  data = bytearray(log.read_bytes())
  data[60] ^= 0xFF   # inside the first image, after its header of 40 bytes
  log.write_bytes(data)
  loads = count_loads(monkeypatch)
  run(folder)
  assert len(loads) == 2
  assert contents(folder / "data") == contents(folder / "whole")


def test_what_would_fail_again_leaves_nothing(folder):
  run(folder)
  Image.fromarray(np.arange(480, dtype=np.uint8).reshape(24, 20)).save(folder / "images" / "0.png")
  with pytest.raises(FileExistsError):
    run(folder)
  assert not (folder / ".data.decoded").exists()


def test_entries_come_back(tmp_path):
  keys = [image_key(Path(__file__), number=i) for i in range(3)]
  assert len(set(keys)) == 3
  images = DecodedImages(tmp_path / "log")
  images.put(keys[0], b"one")
  images.put(keys[1], b"")
  images.close()
  again = DecodedImages(tmp_path / "log")
  assert again.found == 2 and keys[2] not in again
  assert (again.get(keys[0]), again.get(keys[1])) == (b"one", b"")
  again.close()
  (tmp_path / "log").write_bytes((tmp_path / "log").read_bytes() + b"half an entry")
  torn = DecodedImages(tmp_path / "log")
  torn.put(keys[2], b"three")   # where the half was, not after it
  torn.close()
  whole = DecodedImages(tmp_path / "log")
  assert whole.found == 3 and whole.get(keys[2]) == b"three"
  whole.discard()
  assert not (tmp_path / "log").exists()


def test_a_file_of_equal_size_that_is_newer_is_another(tmp_path):
  file = tmp_path / "a.png"
  file.write_bytes(b"one")
  os.utime(file, ns=(1, 1))
  before = image_key(file)
  os.utime(file, ns=(1, 2))
  assert image_key(file) != before
