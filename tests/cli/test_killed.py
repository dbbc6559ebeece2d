"""SIGKILL in each stage of a real run, then the same command: the same parameters, bit for bit."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
STAGES = ("autoencoder", "diffusion", "classifier", "judge")


def train(workdir: Path, *, kill_after: tuple[str, int] | None = None) -> int:
  """Runs `cdjax train` on the tiny configuration; kills it at a step of a stage."""
  command = [sys.executable, "-m", "cdjax", "train", "--config", "configs/quickstart.py:tiny",
             "--workdir", str(workdir), "--stages", ",".join(STAGES)]
  process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE, text=True,
                             env=os.environ | {"PYTHONPATH": str(ROOT)})
  for line in process.stderr:   # a line is logged every second step, in every stage
    if kill_after and f"{kill_after[0]} {kill_after[1]}/" in line:
      process.send_signal(signal.SIGKILL)
  return process.wait()


def fingerprints(workdir: Path) -> dict[str, str]:
  return {s: json.loads((workdir / s / "done.json").read_text())["fingerprint"] for s in STAGES}


def test_a_kill_in_each_stage_leaves_no_trace(tmp_path):
  assert train(tmp_path / "whole") == 0
  for stage in STAGES:
    assert train(tmp_path / "killed", kill_after=(stage, 4)) == -signal.SIGKILL
    assert not (tmp_path / "killed" / stage / "done.json").exists()
  assert train(tmp_path / "killed") == 0
  assert fingerprints(tmp_path / "killed") == fingerprints(tmp_path / "whole")
