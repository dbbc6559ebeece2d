"""Killed again and again, the newest checkpoint damaged in between: the end is the same.

`CDJAX_KILLS` says how many times (30).
"""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import killed_toy
import numpy as np
import pair
import pytest
import toy

pytestmark = pytest.mark.slow
KILLS = int(os.environ.get("CDJAX_KILLS", "30"))
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2]),
                            "JAX_PLATFORMS": "cpu"}


def run(workdir, *arguments, prefix=()):
  return subprocess.run([*prefix, sys.executable, killed_toy.__file__, str(workdir), *arguments],
                        env=ENVIRONMENT, capture_output=True, text=True, check=False)


def fingerprint(done) -> str:
  assert done.returncode == 0, done.stderr[-3000:]
  return next(line for line in done.stdout.splitlines() if line.startswith("fingerprint "))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
  return fingerprint(run(tmp_path_factory.mktemp("undisturbed")))


def damage(rng, checkpoint: Path) -> None:
  """Truncates one of a checkpoint's files, or flips one of its bits."""
  files = sorted(path for path in checkpoint.rglob("*") if path.is_file() and path.stat().st_size
                 and path.name != "_CHECKPOINT_METADATA")   # times, no part of what was trained
  path = files[rng.integers(len(files))]
  data = bytearray(path.read_bytes())
  place = int(rng.integers(len(data)))
  if rng.integers(2):
    data[place] ^= 1 << int(rng.integers(8))
    path.write_bytes(data)
  else:
    path.write_bytes(data[:place])


def test_kills_and_damage_leave_no_trace(tmp_path, undisturbed):
  rng = np.random.default_rng(7)
  expected = 0   # warnings of the next run
  for kill in range(KILLS):
    place = ("data", "step", "save")[kill % 3]
    done = run(tmp_path, place, str(rng.integers(4, 12)))
    assert done.returncode == -signal.SIGKILL, (kill, place, done.stderr[-3000:])
    assert done.stderr.count("cannot be read") == expected, (kill, done.stderr[-3000:])
    steps = toy.checkpoint_steps(tmp_path)
    assert steps, (kill, place)
    expected = 0
    if len(steps) > 1 and rng.integers(2):
      damage(rng, tmp_path / toy.STAGE / "checkpoints" / str(steps[-1]))
      expected = 1
  assert fingerprint(run(tmp_path)) == undisturbed


def test_killing_either_of_two_processes_leaves_no_trace(tmp_path):
  codes, outputs = pair.run(killed_toy.__file__, tmp_path / "undisturbed")
  assert codes == [0, 0], outputs
  undisturbed = pair.fingerprint(outputs)
  rng, expected = np.random.default_rng(8), False
  for kill in range(KILLS):
    place, process = ("data", "step", "save")[kill % 3], int(rng.integers(2))
    if place == "save":
      process = 0   # the one that makes the folder
    codes, outputs = pair.run(killed_toy.__file__, tmp_path / "killed", place,
                              rng.integers(4, 12), process)
    assert codes[process] == -signal.SIGKILL, (kill, place, outputs)
    assert codes[1 - process] not in (0, -signal.SIGKILL), (kill, place, outputs)
    assert any("cannot be read" in text for text in outputs) == expected, (kill, outputs)
    steps = toy.checkpoint_steps(tmp_path / "killed")
    assert steps, (kill, place)
    expected = len(steps) > 1 and bool(rng.integers(2))
    if expected:
      damage(rng, tmp_path / "killed" / toy.STAGE / "checkpoints" / str(steps[-1]))
  codes, outputs = pair.run(killed_toy.__file__, tmp_path / "killed")
  assert codes == [0, 0], outputs
  assert pair.fingerprint(outputs) == undisturbed


FULL = """
set -e
mount -t tmpfs -o size=1200k none "$1"
code=0
"$2" "$3" "$1" || code=$?
echo "full: $code, $(ls "$1/$4/checkpoints" | grep -c '^[0-9]*$') whole"
mount -o remount,size=100m "$1"
exec "$2" "$3" "$1"
"""


@pytest.mark.skipif(subprocess.run(["unshare", "-rm", "true"], check=False).returncode != 0,
                    reason="needs a file system of its own")
def test_a_disk_that_fills_while_saving_leaves_the_older_checkpoint_whole(tmp_path, undisturbed):
  done = subprocess.run(
      ["unshare", "-rm", "sh", "-c", FULL, "sh", str(tmp_path), sys.executable,
       killed_toy.__file__, toy.STAGE],
      env=ENVIRONMENT, capture_output=True, text=True, check=False)
  whole = re.search(r"full: 1, (\d+) whole", done.stdout)
  assert whole and int(whole[1]) >= 1, (done.stdout, done.stderr[-3000:])
  assert "the disk is full" in done.stderr
  assert int(re.findall(r"from step (\d+)", done.stdout)[1]) > 0
  assert fingerprint(done) == undisturbed
