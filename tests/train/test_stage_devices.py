"""Every stage trains alike on one device, on eight, and on two processes of four."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import stage_steps

from cdjax.train import ahead

ROOT = Path(__file__).resolve().parents[2]
MESHES = ("8x1x1", "1x8x1", "1x2x4", "2x2x2")   # data, fsdp, tensor (with the rest), mixed
OVER_HOSTS = "1x1x8"   # the axis tensor over both processes, which share the rows of a batch


def run(devices: int, *arguments: str, processes: int = 1) -> dict:
  """What `stage_steps` prints."""
  environment = os.environ | {
      "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu",
      "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} "
                   "--xla_backend_optimization_level=0"}
  if processes > 1:
    with socket.socket() as free:
      free.bind(("127.0.0.1", 0))
      environment |= {"CDJAX_COORDINATOR": f"127.0.0.1:{free.getsockname()[1]}",
                      "CDJAX_NUM_PROCESSES": str(processes)}
  started = [subprocess.Popen(
      [sys.executable, stage_steps.__file__, *arguments], cwd=ROOT, text=True,
      env=environment | ({"CDJAX_PROCESS_ID": str(i)} if processes > 1 else {}),
      stdout=subprocess.PIPE, stderr=subprocess.PIPE) for i in range(processes)]
  outputs = [process.communicate() for process in started]
  for process, (_, errors) in zip(started, outputs, strict=True):
    assert process.returncode == 0, errors[-3000:]
  line = next(line for line in outputs[0][0].splitlines() if line.startswith("result "))
  return json.loads(line.removeprefix("result "))


def check(found: dict, reference: list[float]) -> None:
  for mesh, result in found.items():
    np.testing.assert_allclose(result["losses"], reference, rtol=1e-4, err_msg=mesh)
    assert result["donated"] and result["traced"] == 1, mesh
    assert not result["misplaced"], (mesh, result["misplaced"])
    _, fsdp, tensor = (int(size) for size in mesh.split("x"))
    if fsdp * tensor > 1:
      assert result["split"], mesh
    # A gather makes one parameter where it is used; one of several together would make more.
    assert result["largest_gather"] <= result["largest"], mesh
    assert result["largest_gather"] > 0 or fsdp == 1, mesh


@pytest.mark.slow
@pytest.mark.parametrize("stage", ahead.STAGES)
def test_twenty_steps_are_the_same_on_every_mesh(stage):
  found = run(8, stage, "20", "1x1x1", *MESHES)
  reference = found.pop("1x1x1")["losses"]
  assert abs(reference[-1] - reference[0]) > 1e-2 * abs(reference[0])   # it has learnt
  check(found, reference)
  check(run(4, stage, "20", *MESHES, OVER_HOSTS, processes=2), reference)
