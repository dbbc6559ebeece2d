"""A run that was stopped, or killed, and started again equals one that was not, bit for bit."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import toy

from cdjax.core.trees import tree_fingerprint
from cdjax.train.init_from import load_stage
from cdjax.train.stop import Stopped


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
  """Parameters and rows of the log of a run without a stop."""
  workdir = tmp_path_factory.mktemp("reference")
  return toy.train(workdir), log(workdir)


def log(workdir):
  """Rows without their times."""
  lines = (Path(workdir) / toy.STAGE / "metrics.jsonl").read_text().splitlines()
  return [{key: value for key, value in json.loads(line).items() if key != "steps_per_second"}
          for line in lines]


@pytest.mark.parametrize("stops", [[6], [3, 9], [1, 2, 11]])
def test_stopped_and_resumed_is_the_same_run(tmp_path, reference, stops):
  params, reference_log = reference
  for stop in stops:
    def before(index, stop=stop):
      if index == stop:
        os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Stopped, match=f"step {stop} of"):
      toy.train(tmp_path, loader=toy.Loader(before=before))
  toy.assert_equal(toy.train(tmp_path), params)
  found = {row["step"]: row for row in log(tmp_path)}
  assert list(found) == [row["step"] for row in reference_log]  # in order, none twice
  # A row is the mean over its interval: equal where no stop fell into the interval.
  whole = [row for row in reference_log
           if not any(row["step"] - 3 < stop < row["step"] for stop in stops)]
  assert whole and all(found[row["step"]] == row for row in whole)


def test_killed_and_resumed_is_the_same_run(tmp_path, reference):
  params, reference_log = reference
  root = Path(__file__).resolve().parents[2]
  environment = os.environ | {"PYTHONPATH": str(root)}
  killed = subprocess.run([sys.executable, toy.__file__, str(tmp_path), "SIGKILL", "9"],
                          env=environment, capture_output=True, check=False)
  assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
  assert toy.checkpoint_steps(tmp_path) == [5]
  # What a process leaves that dies while it writes: half a row, half a checkpoint.
  stage = tmp_path / toy.STAGE
  with (stage / "metrics.jsonl").open("a") as file:
    file.write('{"step": 9, "lo')
  (stage / "checkpoints" / "10.orbax-checkpoint-tmp").mkdir()
  toy.assert_equal(toy.train(tmp_path), params)
  found = log(tmp_path)
  assert [row["step"] for row in found] == [row["step"] for row in reference_log]
  assert [found[0], *found[2:]] == [reference_log[0], *reference_log[2:]]  # 5 is in 4..6
  assert tree_fingerprint(load_stage(tmp_path, toy.STAGE)[0]) == tree_fingerprint(params)


def test_the_seed_decides(tmp_path, reference):
  config = toy.make_config()
  config.seed = 1
  assert tree_fingerprint(toy.train(tmp_path, config=config)) != tree_fingerprint(reference[0])
