"""Abduct, act, predict: properties that hold for any weights, so tested on random ones."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cdjax.core.config import base_config
from cdjax.core.images import to_unit
from cdjax.core.types import FindingsArrays
from cdjax.counterfactual.abduct import abduct, abduct_noise
from cdjax.counterfactual.answer import answer, make_counterfactual_fn
from cdjax.counterfactual.causal_model import CausalParams, make_causal_model
from cdjax.counterfactual.predict import add_residual, changed_region
from cdjax.models.denoiser import LatentStats
from cdjax.train.objectives import autoencoder, diffusion

KEY = jax.random.key(5)
K = 5


def findings(*rows):
  """`[B, K]`; each row is {name's number: (side, zone, severity)}."""
  status, side, zone = (np.zeros((len(rows), K), np.int8) for _ in range(3))
  severity = np.full((len(rows), K), -1.0, np.float32)
  for b, row in enumerate(rows):
    for k, (s, z, g) in row.items():
      status[b, k], side[b, k], zone[b, k], severity[b, k] = 1, s, z, g
  return FindingsArrays(*map(jnp.asarray, (status, severity, side, zone)))


HEALTHY, LEFT, RIGHT = {}, {0: (1, 4, 0.5)}, {1: (2, 0, 0.9)}


@pytest.fixture(scope="module")
def trained():
  """A small causal model with random weights: config, model, params, images."""
  c = base_config()
  with c.unlocked():
    c.data.resolution = 32
    c.autoencoder.model.update(dict(
        patch=8, block_out_channels=(8,), lesion_channels=(4,), norm_num_groups=4,
        mid_attention=False, transformer_width=8, transformer_heads=2))
    c.diffusion.model.update(dict(
        block_out_channels=(8,), attention_blocks=(True,), norm_num_groups=4, attention_heads=2,
        context_width=8))
    c.counterfactual.update(dict(num_steps=8, inversion_steps=16))

  def shaken(params, scale):
    leaves, tree = jax.tree.flatten(nn.unbox(params))
    return jax.tree.unflatten(tree, [
        a + scale * jax.random.normal(jax.random.fold_in(KEY, i), a.shape)
        for i, a in enumerate(leaves)])

  params = CausalParams(
      autoencoder=shaken(jax.jit(lambda key: autoencoder.init_params(c, key))(KEY)["autoencoder"],
                         0.05),
      denoiser=shaken(jax.jit(lambda key: diffusion.init_params(c, (4, 4, 4, 4), key))(KEY)[
          "denoiser"], 0.05),
      stats=LatentStats(jnp.zeros(4), jnp.ones(4), jnp.zeros((3, 4)), jnp.ones((3, 4)),
                        jnp.ones((4, 4, 4))))
  x = jnp.clip(0.4 * jax.random.normal(KEY, (3, 32, 32, 1)), -1, 1)
  return c, make_causal_model(c), params, x


def ask(trained, before, after, key=KEY, **changes):
  config, model, params, x = trained
  cfg = config.counterfactual.copy_and_resolve_references()
  with cfg.unlocked():
    cfg.update(changes)
  return jax.jit(lambda *question: answer(model, params, *question, cfg=cfg))(key, x, before, after)


def test_the_null_question_gives_the_image_back(trained):
  """Up to the inversion's error, which falls with the steps; no diffusion where healthy."""
  before = findings(LEFT, RIGHT, HEALTHY)
  errors = []
  for steps in (8, 64):
    got = ask(trained, before, before, num_steps=steps, inversion_steps=2 * steps)
    difference = np.abs(np.asarray(to_unit(got.image) - to_unit(trained[3])))
    errors.append(difference[:2].mean())
    assert difference[2].max() < 1e-5
  assert errors[1] < 0.7 * errors[0] and errors[1] < 0.01


def test_the_identity_is_drawn_and_the_pathology_is_what_the_diffusion_denoises(trained):
  _, model, params, x = trained
  sick = findings(LEFT, LEFT, LEFT)
  draw = lambda model, seed: abduct(model, params, jax.random.key(seed), x, sick)
  first, second = draw(model, 1), draw(model, 2)
  assert np.abs(first.z_id - second.z_id).max() > 0.1
  np.testing.assert_array_equal(first.z_path, second.z_path)
  drawn = dataclasses.replace(model, target_noise=1.0)
  assert np.abs(draw(drawn, 1).z_path - draw(drawn, 2).z_path).max() > 0.1


def test_asking_for_nothing_gives_the_null_pathology(trained):
  got = ask(trained, findings(LEFT, RIGHT, HEALTHY), findings(HEALTHY, HEALTHY, HEALTHY))
  assert not np.any(got.z_path)


def test_the_answer_follows_the_question_and_the_key(trained):
  before = findings(HEALTHY, HEALTHY, HEALTHY)
  left, right = findings(LEFT, LEFT, LEFT), findings(RIGHT, RIGHT, RIGHT)
  first = ask(trained, before, left)
  assert np.abs(first.z_path - ask(trained, before, right).z_path).max() > 1e-3
  assert np.abs(first.z_path - ask(trained, before, left, key=jax.random.key(9)).z_path).max() > 0.1
  np.testing.assert_array_equal(first.image, ask(trained, before, left).image)


def test_a_new_finding_does_not_see_the_factual_pathology(trained):
  """With fresh noise the asked pathology depends on image and findings through z_id only."""
  after = findings(RIGHT, RIGHT, RIGHT)
  from_sick = ask(trained, findings(LEFT, LEFT, LEFT), after)
  from_healthy = ask(trained, findings(HEALTHY, HEALTHY, HEALTHY), after)
  np.testing.assert_allclose(from_sick.z_path, from_healthy.z_path, rtol=0, atol=1e-5)


def test_a_kept_finding_keeps_its_noise_and_can_be_told_not_to(trained):
  before, graded = findings(LEFT, LEFT, LEFT), findings(*[{0: (1, 4, 0.9)}] * 3)
  keys = jax.random.key(1), jax.random.key(2)
  config, model, params, x = trained
  abductions = [abduct(model, params, k, x, before) for k in keys]
  # The same abduction under two keys for the noise: the noise key must not matter where it is kept.
  from cdjax.counterfactual.answer import act
  cfg = config.counterfactual
  kept = [act(model, params, k, abductions[0], before, graded, cfg) for k in keys]
  np.testing.assert_array_equal(*kept)
  never = cfg.copy_and_resolve_references()
  with never.unlocked():
    never.invert = "never"
  fresh = [act(model, params, k, abductions[0], before, graded, never) for k in keys]
  assert np.abs(fresh[0] - fresh[1]).max() > 0.1


def test_abducted_noise_is_inverted_by_the_sampler(trained):
  from cdjax.diffusion.samplers import ddim
  _, model, params, x = trained
  before = findings(LEFT, RIGHT, LEFT)
  abduction = abduct(model, params, KEY, x, before)
  denoise_fn = model.denoise_fn(params, before, abduction.z_id)
  errors = []
  for steps in (10, 40):
    u = abduct_noise(model, params, abduction, before, num_steps=steps)
    back = ddim(denoise_fn, u, schedule=model.schedule, num_steps=200, spacing="log_snr")
    errors.append(float(jnp.abs(back - abduction.z_path).mean()))
  assert errors[1] < 0.5 * errors[0]


def test_guidance_of_one_is_no_guidance_and_more_goes_further(trained):
  _, model, params, x = trained
  asked = findings(LEFT, LEFT, LEFT)
  abduction = abduct(model, params, KEY, x, asked)
  z, t = jax.random.normal(KEY, abduction.z_path.shape), jnp.array([500] * 3)
  plain = model.denoise_fn(params, asked, abduction.z_id)(z, t)
  guided = lambda s, s_id=1.0: model.guided_denoise_fn(
      params, asked, abduction.z_id, guidance_findings=jnp.full(3, s), guidance_identity=s_id)(z, t)
  np.testing.assert_allclose(guided(1.0).x0, plain.x0, rtol=0, atol=1e-5)
  np.testing.assert_allclose(guided(1.0, jnp.float32(1.0)).x0, plain.x0, rtol=0, atol=1e-5)
  none, two = guided(0.0).x0, guided(2.0).x0
  np.testing.assert_allclose(two - plain.x0, plain.x0 - none, rtol=0, atol=1e-5)
  assert np.abs(two - plain.x0).max() > 1e-4


@pytest.mark.parametrize("kind", ["none", "plain", "masked", "split"])
def test_the_residual_is_put_back_where_it_belongs(kind):
  rng = np.random.default_rng(0)
  decoded, residual = (jnp.asarray(rng.normal(size=(1, 32, 32, 1)), jnp.float32) for _ in range(2))
  changed = jnp.zeros((1, 32, 32, 1)).at[:, 8:24, 8:24].set(1.0)
  got = np.asarray(add_residual(decoded, residual, changed, kind=kind, sigma=1.5) - decoded)
  outside = np.asarray(residual)
  inside = got[:, 8:24, 8:24]
  if kind == "none":
    assert not np.any(got)
    return
  np.testing.assert_allclose(got[:, :8], outside[:, :8], atol=1e-6)
  if kind == "plain":
    np.testing.assert_allclose(got, outside, atol=1e-6)
  elif kind == "masked":
    np.testing.assert_allclose(inside, 0.0, atol=1e-6)
  else:
    # The fine band: what is left is high-pass, its local mean almost gone, its detail there.
    smooth = jnp.full((1, 32, 32, 1), 0.3)
    kept = add_residual(decoded, smooth, changed, kind=kind, sigma=1.5) - decoded
    np.testing.assert_allclose(kept[:, 12:20, 12:20], 0.0, atol=1e-5)
    assert 0.5 < inside.std() / outside[:, 8:24, 8:24].std() < 1.0


def test_an_unknown_residual_or_inversion_is_an_error(trained):
  with pytest.raises(ValueError, match="expected one of"):
    add_residual(*[jnp.zeros((1, 8, 8, 1))] * 3, kind="banded", sigma=1.0)
  with pytest.raises(ValueError, match=r"expected one of .*never"):
    ask(trained, findings(LEFT, LEFT, LEFT), findings(LEFT, LEFT, LEFT), invert="sometimes")


def test_changed_region_is_dilated_and_empty_for_equal_images():
  before = jnp.zeros((1, 16, 16, 1))
  after = before.at[0, 8, 8].set(0.5)
  assert not np.any(changed_region(before, before, threshold=0.04, dilation=2))
  region = np.asarray(changed_region(before, after, threshold=0.04, dilation=2))[0, :, :, 0]
  assert np.all(region[6:11, 6:11] == 1.0) and np.all(region[:2] < 1e-3)


def test_the_public_function_is_pure_and_jittable(trained):
  config, _, params, x = trained
  fn = make_counterfactual_fn(config, jax.device_get(params))   # NumPy, as `load_trained` has them
  question = KEY, x, findings(LEFT, RIGHT, HEALTHY), findings(RIGHT, HEALTHY, LEFT)
  np.testing.assert_allclose(jax.jit(fn)(*question), fn(*question), rtol=0, atol=2e-4)
