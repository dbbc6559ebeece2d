"""The files that throughput is measured on cost what radiographs cost; what is measured is real."""

import numpy as np
import pytest
from PIL import Image

from cdjax.cli.main import main
from cdjax.data import source, throughput
from cdjax.data.prepare import prepare
from cdjax.data.throughput import make_jpegs, measure, measure_training, measure_whole


def test_files_have_the_bits_of_radiographs(tmp_path):
  paths = make_jpegs(tmp_path, 2, 0.5)
  for path in paths:
    with Image.open(path) as image:
      assert image.mode == "L" and image.width * image.height == pytest.approx(0.5e6, rel=0.01)
      assert 1.6 <= path.stat().st_size * 8 / (image.width * image.height) < 2.6
      assert np.asarray(image).std() > 20
  assert paths[0].read_bytes() != paths[1].read_bytes()


def test_every_file_is_prepared_and_the_time_is_that_of_the_work(tmp_path, monkeypatch):
  paths = make_jpegs(tmp_path, 3, 0.05)
  clock = {"cpu": 0.0, "wall": 10.0}
  done = []

  def load(root, name, **kwargs):
    done.append((name, kwargs["resolution"]))
    clock["cpu"] += 0.5
    clock["wall"] += 2.0

  monkeypatch.setattr(throughput, "load_image", load)
  monkeypatch.setattr(throughput.time, "process_time", lambda: clock["cpu"])
  monkeypatch.setattr(throughput.time, "perf_counter", lambda: clock["wall"])
  result = measure(paths, resolution=32)
  assert [name for name, _ in done[1:]] == [path.name for path in paths]
  assert (result.cpu_seconds, result.wall_seconds, result.per_core) == (1.5, 6.0, 2.0)


def test_the_whole_preparation_is_measured(tmp_path, monkeypatch):
  paths = make_jpegs(tmp_path, 3, 0.05)
  seen = []

  def recording(images, manifest, output, **kwargs):
    seen.append((manifest.read_text().count(".jpg"), kwargs["resolution"]))
    return prepare(images, manifest, output, **kwargs)

  monkeypatch.setattr(throughput, "prepare", recording)
  result = measure_whole(paths, resolution=32)
  assert seen == [(6, 16), (6, 32)] and result.images == 3 and result.cpu_seconds > 0


def test_training_reads_every_image_at_its_size(tmp_path, monkeypatch):
  shapes = []
  decode = source.decode_png

  def recording(*args):
    shapes.append(decode(*args).shape)
    return decode(*args)

  monkeypatch.setattr(source, "decode_png", recording)
  result = measure_training(make_jpegs(tmp_path, 3, 0.05), resolution=32)
  assert shapes == [(32, 32)] * 6 and result.images == 3 and result.cpu_seconds > 0


def test_command(tmp_path, capsys):
  assert main(["throughput", "--count", "2", "--megapixels", "0.05", "--resolution", "32"]) == 0
  out = capsys.readouterr().out
  assert "2 JPEG files of 0.05 megapixels" in out
  assert out.count("images/s a core") == 3 and "whole preparation: " in out
  make_jpegs(tmp_path, 3, 0.05)
  assert main(["throughput", "--count", "2", "--images", str(tmp_path)]) == 0
  assert "images/s a core" in capsys.readouterr().out
  assert main(["throughput", "--count", "1"]) == 1
  (tmp_path / "empty").mkdir()
  assert main(["throughput", "--images", str(tmp_path / "empty")]) == 1
  assert "no file" in capsys.readouterr().err
