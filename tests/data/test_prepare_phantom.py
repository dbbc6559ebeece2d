"""`cdjax prepare --dataset phantom`: the population it says, going on after a kill, plain TFDS."""

import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from cdjax.cli.main import main
from cdjax.data import prepare_phantom as module
from cdjax.data.phantom import FIVE, phantom_records
from cdjax.data.prepare_phantom import prepare_phantom
from cdjax.data.source import open_split
from cdjax.data.staging import read_info

ASKED = dict(patients=40, resolution=16, seed=5, frequencies=(8, 4, 2, 1, 1))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """A data set of 32 + 4 + 4 patients."""
  output = tmp_path_factory.mktemp("phantom") / "deep" / "data"
  prepare_phantom(output, **ASKED)
  return output


def contents(path):
  return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*")
          if file.is_file()}


def test_it_holds_the_population_with_its_reports(whole):
  info = read_info(whole)
  assert info["vocabulary"] == list(FIVE)
  for split, patients in (("train", 32), ("validation", 4), ("test", 4)):
    assert info["splits"][split]["patients"] == patients
    expected = {record["image_id"]: record for record in phantom_records(
        **{**ASKED, "patients": patients}, vocabulary=FIVE, split=split)}
    records = list(open_split(whole, split))
    assert sorted(expected) == sorted(record["image_id"] for record in records)
    for record in records:
      drawn = expected[record["image_id"]]
      assert np.array_equal(record["image"], drawn["image"])
      assert record["report"] == drawn["report"] and record["report"]
      for key in ("patient_id", "study", "view", "sex", "age"):
        assert record[key] == drawn[key]
      present = lambda findings: {f for f in findings if f.status == "present"}
      assert present(record["findings"]) == present(drawn["findings"])


def test_tfds_alone_reads_it_without_tensorflow(whole):
  """Whoever has TFDS can read the shards: nothing of cdjax is needed, and no TensorFlow."""
  ours = {record["image_id"]: record for record in open_split(whole, "train")}
  for source in (
      tfds.data_source("radiographs", split="train", data_dir=str(whole)),
      tfds.builder_from_directory(str(whole / "radiographs" / "1.0.0")).as_data_source("train")):
    assert len(source) == len(ours)
    for example in (source[0], source[len(source) - 1]):
      record = ours[example["image_id"].decode()]
      assert np.array_equal(example["image"][..., 0], record["image"])
      assert example["report"].decode() == record["report"] and example["age"] == record["age"]
  assert "tensorflow" not in sys.modules


def test_killed_and_given_again_it_gives_the_same_shards(whole, tmp_path, monkeypatch):
  drawn, calls, stop = [], [], []

  def dying(**kwargs):
    calls.append(kwargs["start"])
    for record in phantom_records(**kwargs):
      if [len(drawn)] == stop:
        raise KeyboardInterrupt
      drawn.append(record["image_id"])
      yield record

  monkeypatch.setattr(module, "phantom_records", dying)
  for limit in (70, 5):   # in the second batch of rendering, then five images later
    drawn.clear()
    stop[:] = [limit]
    with pytest.raises(KeyboardInterrupt):
      prepare_phantom(tmp_path / "data", **ASKED)
    assert not (tmp_path / "data").exists()
  drawn.clear()
  stop.clear()
  prepare_phantom(tmp_path / "data", **ASKED)
  splits = read_info(whole)["splits"]
  # The first record of every split is taken before the rest of any.
  assert calls == [0, 0, 0, 68, 73, 1, 1]
  assert len(drawn) == sum(split["images"] for split in splits.values()) - 75
  assert contents(tmp_path / "data") == contents(whole)
  assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_the_command_prints_the_counts_and_knows_what_is_there(whole, capsys):
  command = ["prepare", "--dataset", "phantom", "--patients", "40", "--output", str(whole),
             "--resolution", "16", "--seed", "5", "--frequencies", "8,4,2,1,1"]
  assert main(command) == 0
  out = capsys.readouterr().out
  found = read_info(whole)["splits"]["train"]["findings"]["consolidation"]
  assert f"{found['images']} / {found['patients']}" in out and "already there, unchanged" in out
  assert main([*command, "--seed", "6"]) == 1
  assert "--overwrite" in capsys.readouterr().err


@pytest.mark.parametrize("words, says", [
    (["--output", "x"], "--patients is missing"),
    (["--output", "x", "--patients", "9", "--images", "y"], "--images is for radiographs"),
    (["--output", "x", "--patients", "1", "--val-share", "1"], "someone to train on"),
    (["--output", "x", "--patients", "9", "--frequencies", "1,2"], "one number >= 0 for each of"),
    (["--output", "x", "--patients", "9", "--vocabulary", "edema,tuberculosis"], "can show"),
])
def test_what_cannot_be_is_said(words, says, capsys, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert main(["prepare", "--dataset", "phantom", *words]) == 1
  assert says in capsys.readouterr().err and not list(tmp_path.iterdir())
