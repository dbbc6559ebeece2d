"""What is kept of an evaluation: a damaged file costs a computation, never the run."""

import json

import numpy as np
import pytest

from cdjax.evaluate import resume
from cdjax.evaluate.resume import resumed, resumed_arrays, write_json


def damage_whole(data):
  middle = len(data) // 2
  return {"empty": b"", "half": data[:middle], "start": data[:3], "noise": b"\xff" * 99,
          "flipped": data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1:]}


@pytest.mark.parametrize("how", ["empty", "half", "start", "noise", "flipped"])
def test_damaged_arrays_are_computed_again(tmp_path, how, caplog):
  path, calls = tmp_path / "kept.npz", []

  def compute():
    calls.append(0)
    return {"a": np.arange(300)}

  resumed_arrays(path, "1", compute)
  path.write_bytes(damage_whole(path.read_bytes())[how])
  for expected in (2, 2):
    assert resumed_arrays(path, "1", compute)["a"].tolist() == list(range(300))
    assert len(calls) == expected
  assert len(caplog.records) == 1 and str(path) in caplog.text


@pytest.mark.parametrize("text", ["", "[1, 2]", "7", "{", "{}", '{"fingerprint": "1"}', "\0",
                                  '{"fingerprint": "1", "result": 3}'])
def test_a_damaged_result_is_computed_again(tmp_path, text):
  path = tmp_path / "kept.json"
  path.write_text(text)
  assert resumed(path, "1", lambda: {"a": 1.5}) == {"a": 1.5}
  assert json.loads(path.read_text()) == {"fingerprint": "1", "result": {"a": 1.5}}


def test_what_cannot_be_written_leaves_the_old_file_and_no_part(tmp_path, monkeypatch):
  path = tmp_path / "kept.json"
  write_json(path, {"a": 1})

  def full(descriptor):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(resume.os, "fsync", full)
  with pytest.raises(OSError, match="No space left"):
    write_json(path, {"a": 2})
  assert json.loads(path.read_text()) == {"a": 1}
  assert [p.name for p in tmp_path.iterdir()] == ["kept.json"]


def test_two_that_write_one_file_do_not_meet(tmp_path, monkeypatch):
  """The second begins and ends while the first writes, as two shards on one disk may."""
  path, save = tmp_path / "kept.npz", np.savez

  def interrupted(file, **arrays):
    monkeypatch.setattr(np, "savez", save)
    file.write(b"half a file")
    resumed_arrays(path, "2", lambda: {"a": np.arange(2)})
    file.seek(0)
    save(file, **arrays)

  monkeypatch.setattr(np, "savez", interrupted)
  assert len(resumed_arrays(path, "1", lambda: {"a": np.arange(1)})["a"]) == 1
  assert len(resumed_arrays(path, "1", None)["a"]) == 1
  assert [p.name for p in tmp_path.iterdir()] == ["kept.npz"]
