"""Plain latent diffusion as a baseline: nothing is kept apart, strength decides what stays."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cdjax.core.config import base_config
from cdjax.core.types import FindingsArrays
from cdjax.counterfactual.answer import answer
from cdjax.counterfactual.causal_model import CausalParams, make_causal_model
from cdjax.models.denoiser import LatentStats
from cdjax.train.objectives import autoencoder, diffusion

KEY = jax.random.key(5)


def asked(*columns):
  status = np.zeros((2, 5), np.int8)
  status[:, list(columns)] = 1
  none = np.zeros((2, 5), np.int8)
  return FindingsArrays(status, np.where(status == 1, 0.5, -1.0).astype(np.float32), none, none)


@pytest.fixture(scope="module")
def edited():
  """`edited(before, after, **changes of config.counterfactual) -> Answer`, and the images."""
  c = base_config()
  with c.unlocked():
    c.data.resolution = 32
    c.autoencoder.model.update(dict(
        patch=8, block_out_channels=(8,), lesion_channels=(), norm_num_groups=4,
        mid_attention=False, transformer_layers=0, acquisition=False))
    c.diffusion.model.update(dict(
        block_out_channels=(8,), attention_blocks=(True,), norm_num_groups=4, attention_heads=2,
        context_width=8))
    c.diffusion.target, c.diffusion.condition.identity = "everything", "none"
  shaken = lambda params: jax.tree.map(
      lambda a: a + 0.03 * jax.random.normal(KEY, a.shape), nn.unbox(params))
  init = lambda fn, *args: shaken(jax.jit(lambda key: fn(c, *args, key))(KEY))
  params = CausalParams(
      autoencoder=init(autoencoder.init_params)["autoencoder"],
      denoiser=init(diffusion.init_params, (4, 4, 4, 4))["denoiser"],
      stats=LatentStats(jnp.zeros(16), jnp.ones(16), jnp.zeros((3, 4)), jnp.ones((3, 4)),
                        jnp.ones((4, 4, 16))))
  model = make_causal_model(c)
  x = jnp.clip(0.4 * jax.random.normal(KEY, (2, 32, 32, 1)), -1, 1)

  def edited(before, after, **changes):
    cfg = c.counterfactual.copy_and_resolve_references()
    with cfg.unlocked():
      cfg.update(dict(num_steps=20, inversion_steps=40) | changes)
    return jax.jit(lambda *q: answer(model, params, KEY, *q, cfg=cfg))(x, before, after)

  return edited, x


def test_inverted_and_asked_for_the_same_it_comes_back(edited):
  edit, x = edited
  exact = dict(sampler="ddim", inversion_order=1, inversion_refinements=4, inversion_steps=20)
  same, other = (edit(asked(0), asked(k), **exact) for k in (0, 1))
  to_x = lambda a: float(jnp.abs(a.image - x).mean())
  assert to_x(same) < 1e-3 and to_x(other) > 0.02
  assert same.z_path.shape == (2, 4, 4, 4, 4)


@pytest.mark.parametrize("noising", ["invert", "noise"])
def test_strength_decides_how_much_changes(edited, noising):
  edit, _ = edited
  still = edit(asked(0), asked(0), noising="invert").z_path
  moved = [float(jnp.abs(edit(asked(0), asked(1), noising=noising, strength=s).z_path
                         - still).mean()) for s in (0.05, 0.4, 1.0)]
  assert moved[0] < 0.3 * moved[2] and moved[0] < moved[1]


def test_an_unknown_noising_is_an_error(edited):
  with pytest.raises(ValueError, match="noising='blur'"):
    edited[0](asked(0), asked(1), noising="blur")
