"""Answers and optimised noises of eight devices are those of one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MESHES = ("8x1x1", "1x8x1", "2x2x2")   # data, fsdp, mixed with tensor


@pytest.mark.slow
def test_eight_devices_answer_and_optimise_as_one_does():
  program = Path(__file__).with_name("mesh_programs.py")
  done = subprocess.run(
      [sys.executable, program, *MESHES], cwd=ROOT, capture_output=True, text=True, check=False,
      env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS":
                        "--xla_force_host_platform_device_count=8"})
  assert done.returncode == 0, done.stderr[-3000:]
  line = next(line for line in done.stdout.splitlines() if line.startswith("result "))
  result = json.loads(line.removeprefix("result "))
  assert result.pop("moved") > 1e-2 and result.pop("differ") > 1e-2
  assert set(result) == set(MESHES)
  for mesh, found in result.items():
    assert max(found["answers"], found["z_T"], found["curves"]) < 1e-4, (mesh, found)
    data, fsdp, tensor = map(int, mesh.split("x"))
    assert found["noises_a_device"] == 8 // (data * fsdp) and found["everywhere"]
    assert bool(found["split"]) == (fsdp * tensor > 1), mesh
