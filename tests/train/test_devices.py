"""One device and eight simulated ones train the same model, on every mesh."""

import json
import os
import subprocess
import sys
from pathlib import Path

import eight_devices


def test_eight_devices_are_one(tmp_path):
  environment = os.environ | {
      "PYTHONPATH": str(Path(__file__).resolve().parents[2]), "JAX_PLATFORMS": "cpu",
      "XLA_FLAGS": "--xla_force_host_platform_device_count=8 "
                   "--xla_backend_optimization_level=0"}  # compiles faster
  done = subprocess.run([sys.executable, eight_devices.__file__, str(tmp_path)], env=environment,
                        capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr[-3000:]
  result = json.loads(done.stdout.splitlines()[-1])
  assert result["moved"] > 1e-3  # there is something to agree about
  for mesh in ("(8, 1, 1)", "(1, 8, 1)", "resumed"):
    assert result[mesh] < 1e-4, (mesh, result)
  assert result["stopped_at"] == 3
  assert result["restored"] == 0
  assert result["specs"] == [["fsdp", "tensor"]] * 3
  assert result["shards"] == 8
