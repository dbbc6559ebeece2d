"""A run goes on with another number of processes, on as many devices."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pair
import pytest
import toy
import two_processes

from cdjax.train.checkpoint import load_params

pytestmark = pytest.mark.slow


def by_two(*arguments) -> int:
  codes, outputs = pair.run(two_processes.__file__, *arguments)
  assert len(set(codes)) == 1, outputs
  return codes[0]


def by_one(*arguments) -> int:
  environment = os.environ | {
      "PYTHONPATH": str(Path(__file__).resolve().parents[2]), "JAX_PLATFORMS": "cpu",
      "XLA_FLAGS": "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"}
  return subprocess.run([sys.executable, two_processes.__file__, *map(str, arguments)],
                        env=environment, check=False).returncode


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("undisturbed")
  assert by_two(workdir) == 0
  return load_params(workdir / toy.STAGE / "checkpoints")[0]


@pytest.mark.parametrize("first, second", [(by_two, by_one), (by_one, by_two)])
def test_another_number_goes_on(tmp_path, undisturbed, first, second):
  assert first(tmp_path, "SIGTERM", "6", "0") == 128 + signal.SIGTERM
  assert 6 <= toy.checkpoint_steps(tmp_path)[-1] < 12
  assert second(tmp_path) == 0
  params, source = load_params(tmp_path / toy.STAGE / "checkpoints")
  assert source.name == "12"
  # Sums over devices may be taken in another order.
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
               params, undisturbed)
