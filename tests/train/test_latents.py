"""Latents are encoded once, by any number of processes, and go on where they were stopped."""

import json
import os
import subprocess
import sys

import encoding_processes
import numpy as np
import pair
import pytest

from cdjax.train import latents

pytestmark = pytest.mark.slow
COUNT = encoding_processes.COUNT
FINGERPRINT = "f" * 64


@pytest.fixture(scope="module")
def data(tmp_path_factory):
  path = tmp_path_factory.mktemp("latents") / "data"
  encoding_processes.write_data(path)
  return path


@pytest.fixture(scope="module")
def setting(data):
  return encoding_processes.setting(data)


def read(folder):
  return {path.name: np.load(path) for path in sorted(folder.glob("*.npy"))}


def test_an_interrupted_encoding_goes_on_and_is_the_same(setting, tmp_path, monkeypatch):
  config, params, source = setting
  encode = lambda folder: latents.encode_dataset(
      config, params, source, folder, fingerprint=FINGERPRINT)
  whole = read(encode(tmp_path / "whole"))
  assert len(whole["id_mean.npy"]) == COUNT and all(
      (np.abs(array).reshape(COUNT, -1).max(1) > 0).all() for array in whole.values())

  real, made = latents.eval_batches, []

  def counted(*args, **kwargs):
    for batch in real(*args, **kwargs):
      made.append(batch)
      yield batch

  def failing(*args, **kwargs):
    for batch in counted(*args, **kwargs):
      if len(made) == 1 + 3:   # one for the shapes
        raise KeyboardInterrupt
      yield batch

  monkeypatch.setattr(latents, "_PART", 64)
  with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
    patch.setattr(latents, "eval_batches", failing)
    encode(tmp_path / "again")
  made.clear()
  monkeypatch.setattr(latents, "eval_batches", counted)
  again = read(encode(tmp_path / "again"))
  assert len(made) == 1 + 1   # only the batch that was missing
  for name, array in whole.items():
    np.testing.assert_array_equal(again[name], array)
  assert sorted(path.name for path in encode(tmp_path / "again").iterdir()) == sorted(
      [*whole, "stats.json"])
  assert len(made) == 2   # done is done


def test_it_goes_on_where_joining_was_interrupted(setting, tmp_path, monkeypatch):
  config, params, source = setting
  encode = lambda: latents.encode_dataset(
      config, params, source, tmp_path / "cut", fingerprint=FINGERPRINT)
  join, joined = latents._join, []

  def failing(folder, name, *args):
    if len(joined) == 3:
      raise KeyboardInterrupt
    joined.append(name)
    join(folder, name, *args)

  monkeypatch.setattr(latents, "_PART", 64)
  with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
    patch.setattr(latents, "_join", failing)
    encode()
  monkeypatch.setattr(latents, "_join", lambda folder, name, *args: (
      joined.append(name), join(folder, name, *args)))
  folder = encode()
  assert len(joined) == len(set(joined)) == len(read(folder)) == 8
  whole = latents.encode_dataset(config, params, source, tmp_path / "w", fingerprint=FINGERPRINT)
  assert (whole / "stats.json").read_text() == (folder / "stats.json").read_text()
  for name, array in read(whole).items():
    np.testing.assert_array_equal(read(folder)[name], array)


def test_files_without_parts_are_not_trusted(setting, tmp_path):
  """Half-written arrays of unknown origin do not count as encoded."""
  config, params, source = setting
  encode = lambda: latents.encode_dataset(config, params, source, tmp_path, fingerprint=FINGERPRINT)
  folder = encode()
  whole = read(folder)
  (folder / "stats.json").unlink()
  np.save(folder / "id_mean.npy", np.zeros_like(whole["id_mean.npy"]))
  encode()
  np.testing.assert_array_equal(np.load(folder / "id_mean.npy"), whole["id_mean.npy"])


def encode_alone(*arguments):
  """In one process of four devices."""
  environment = os.environ | {
      "PYTHONPATH": str(encoding_processes.ROOT), "JAX_PLATFORMS": "cpu",
      "XLA_FLAGS": "--xla_force_host_platform_device_count=4 "
                   "--xla_backend_optimization_level=0"}
  return subprocess.run([sys.executable, encoding_processes.__file__, *map(str, arguments)],
                        env=environment, text=True, capture_output=True, check=False)


def test_two_processes_encode_what_one_does_and_each_goes_on_for_the_other(data, tmp_path):
  assert encode_alone(data, tmp_path / "one").returncode == 0
  codes, outputs = pair.run(encoding_processes.__file__, data, tmp_path / "two")
  assert codes == [0, 0], outputs
  assert encode_alone(data, tmp_path / "cut", "1").returncode == 3   # stopped after a part
  assert len(list((tmp_path / "cut").glob("*/parts/id_mean-*"))) == 1
  codes, outputs = pair.run(encoding_processes.__file__, data, tmp_path / "cut")
  assert codes == [0, 0], outputs
  (one,) = (tmp_path / "one").iterdir()
  for name in ("two", "cut"):
    (other,) = (tmp_path / name).iterdir()
    assert sorted(path.name for path in other.iterdir()) == sorted(
        path.name for path in one.iterdir())
    assert json.loads((other / "stats.json").read_text()) == json.loads(
        (one / "stats.json").read_text())
    for key, array in read(one).items():
      np.testing.assert_array_equal(read(other)[key], array)
