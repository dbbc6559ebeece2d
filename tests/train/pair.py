"""Two real processes of four devices each, on loopback."""

import os
import socket
import subprocess
import sys
from pathlib import Path


def run(program: str, *arguments) -> tuple[list[int], list[str]]:
  """Exit codes and outputs of both processes of `program`."""
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  environment = os.environ | {
      "PYTHONPATH": str(Path(__file__).resolve().parents[2]), "JAX_PLATFORMS": "cpu",
      "CDJAX_COORDINATOR": f"127.0.0.1:{port}", "CDJAX_NUM_PROCESSES": "2",
      "CDJAX_HEARTBEAT_SECONDS": "60",
      "XLA_FLAGS": "--xla_force_host_platform_device_count=4 "
                   "--xla_backend_optimization_level=0"}
  processes = [subprocess.Popen(
      [sys.executable, program, *map(str, arguments)], text=True,
      env=environment | {"CDJAX_PROCESS_ID": str(i)}, stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT) for i in range(2)]
  outputs = [process.communicate()[0] for process in processes]
  return [process.returncode for process in processes], outputs


def fingerprint(outputs: list[str]) -> str:
  """That both printed."""
  found = {line.split()[1] for text in outputs for line in text.splitlines()
           if line.startswith("fingerprint ")}
  assert len(found) == 1, outputs
  return found.pop()
