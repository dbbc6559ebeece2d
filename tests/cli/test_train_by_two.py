"""`cdjax train` by two processes of four devices: every stage to its end, as by one process."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
STAGES = ("judge", "autoencoder", "diffusion", "classifier")


def train(workdir: Path, processes: int) -> list[str]:
  """What each process says of itself; every one of them must end well."""
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    address = f"127.0.0.1:{free.getsockname()[1]}"
  environment = os.environ | {
      "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu",
      "XLA_FLAGS": f"--xla_force_host_platform_device_count={8 // processes} "
                   "--xla_backend_optimization_level=0"}
  several = lambda i: ["--coordinator", address, "--num-processes", str(processes),
                       "--process-id", str(i)] if processes > 1 else []
  started = [subprocess.Popen(
      [sys.executable, "-m", "cdjax", "train", "--config", "configs/quickstart.py:tiny",
       "--workdir", str(workdir), "--stages", ",".join(STAGES), "--config.mesh.fsdp=2",
       *(f"--config.{stage}.batch_size=8" for stage in STAGES), *several(i)],
      cwd=ROOT, env=environment, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
      for i in range(processes)]
  errors = [process.communicate()[1] for process in started]
  assert [process.returncode for process in started] == [0] * processes, errors
  return errors


def losses(workdir: Path, stage: str) -> list[dict]:
  return [json.loads(line) for line in (workdir / stage / "metrics.jsonl").open()]


def test_two_processes_train_what_one_does(tmp_path):
  train(tmp_path / "one", 1)
  train(tmp_path / "two", 2)
  for stage in STAGES:
    assert (tmp_path / "two" / stage / "done.json").exists()
    one, two = losses(tmp_path / "one", stage), losses(tmp_path / "two", stage)
    assert [row.keys() for row in one] == [row.keys() for row in two]
    for a, b in zip(one, two, strict=True):
      np.testing.assert_allclose(
          [b[key] for key in a if key != "steps_per_second"],
          [a[key] for key in a if key != "steps_per_second"], rtol=2e-3, err_msg=stage)
  stats = [json.loads((tmp_path / name / "diffusion" / "stats.json").read_text())
           for name in ("one", "two")]
  for key in stats[0]:
    np.testing.assert_allclose(stats[1][key], stats[0][key], rtol=1e-2, atol=1e-4)
  train(tmp_path / "two", 2)   # everything is there: both come back at once
