"""Shapes alone are enough for every step and for the optimisation of noises."""

import jax
import pytest

from cdjax.core.config import load_config
from cdjax.counterfactual.ahead import lower_noise
from cdjax.counterfactual.causal_model import CausalParams
from cdjax.sharding.mesh import make_mesh
from cdjax.sharding.partition import batch_sharding
from cdjax.train import ahead

SIZE = 4


@pytest.fixture(scope="module")
def setting():
  config = load_config("configs/quickstart.py:tiny")
  return config, make_mesh({"data": 1, "fsdp": 1, "tensor": 1}, jax.devices()[:1])


@pytest.mark.parametrize("stage", ahead.STAGES)
def test_the_objective_takes_the_shapes_of_its_stage(setting, stage):
  config, mesh = setting
  _, loss_fn, frozen = ahead.objective(config, stage, mesh)
  params = ahead.abstract_stage(config, stage, mesh).params
  batch = ahead.abstract_batch(config, stage, SIZE, batch_sharding(mesh, SIZE))
  loss, aux = jax.eval_shape(lambda *args: loss_fn(*args, 0), params, frozen, batch,
                             ahead.abstract_key(mesh))
  assert loss.shape == () and aux and all(value.shape == () for value in aux.values())


def test_the_noises_that_are_compiled_are_those_of_the_configuration(setting):
  config, mesh = setting
  params = CausalParams(
      autoencoder=ahead.abstract_stage(config, "autoencoder", mesh).params["autoencoder"],
      denoiser=ahead.abstract_stage(config, "diffusion", mesh).params["denoiser"],
      stats=ahead.abstract_stats(config, mesh), text=None)
  findings = ahead.abstract_findings(config, SIZE, batch_sharding(mesh, SIZE))
  found = lower_noise(config, mesh, params, findings, ahead.latent_shape(config)).out_info
  assert found.z_T.shape == (SIZE, 4, 4, 4)
  assert found.curves["distance"].shape == (config.noise.steps + 1, SIZE)
