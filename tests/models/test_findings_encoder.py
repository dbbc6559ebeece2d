"""Findings as tokens and as a region map; the denoiser's conditions."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cdjax.core.config import base_config
from cdjax.core.types import FindingsArrays
from cdjax.models.denoiser import drop_details, drop_findings, make_denoiser
from cdjax.models.findings_encoder import FindingsEncoder, labels_only, region_map

KEY = jax.random.key(0)


def findings(status, severity=None, side=None, zone=None) -> FindingsArrays:
  """One example over `len(status)` names."""
  n = len(status)
  return FindingsArrays(
      status=jnp.array([status], jnp.int8),
      severity=jnp.array([severity or [-1.0] * n], jnp.float32),
      side=jnp.array([side or [0] * n], jnp.int8), zone=jnp.array([zone or [0] * n], jnp.int8))


def encoder(k=3, width=8):
  module = FindingsEncoder(k, width)
  params = nn.unbox(module.init(KEY, findings([0] * k)))
  return lambda f: module.apply(params, f)


def test_unknown_findings_are_masked_and_cannot_speak():
  encode = encoder()
  tokens, mask = encode(findings([1, -1, 0], side=[1, 0, 0]))
  np.testing.assert_array_equal(mask, [[True, True, False, True]])
  other, _ = encode(findings([1, -1, 0], side=[1, 2, 0], zone=[0, 4, 0], severity=[-1, 0.5, -1]))
  np.testing.assert_array_equal(np.asarray(tokens)[:, [0, 1, 3]], np.asarray(other)[:, [0, 1, 3]])


@pytest.mark.parametrize("other", [
    dict(side=[2, 0, 0]), dict(zone=[4, 0, 0]), dict(severity=[0.8, -1, -1]),
    dict(side=[3, 0, 0]), dict()])
def test_every_detail_of_a_present_finding_changes_its_token_alone(other):
  encode = encoder()
  base = dict(side=[1, 0, 0], zone=[1, 0, 0], severity=[0.3, -1.0, -1.0])
  first, _ = encode(findings([1, 0, 1], **base))
  changed = base | other if other else dict(side=None, zone=None, severity=None)
  second, _ = encode(findings([1, 0, 1], **changed))
  difference = np.abs(np.asarray(first - second)).max(-1)[0] > 1e-6
  np.testing.assert_array_equal(difference, [False, True, False, False])


def test_the_place_is_joint_and_belongs_to_its_finding():
  """Left upper is not the sum of left and upper, nor the same for two findings."""
  encode = encoder()
  token = lambda side, zone, k=0: np.asarray(encode(findings(
      [1, 1, 0], side=[side] * 2 + [0], zone=[zone] * 2 + [0]))[0])[0, 1 + k]
  interaction = token(1, 1) - token(1, 4) - token(2, 1) + token(2, 4)
  assert np.abs(interaction).max() > 0.1
  shift = lambda k: token(1, 1, k) - token(2, 4, k)
  assert np.abs(shift(0) - shift(1)).max() > 0.1


def test_no_place_of_a_finding_has_parameters_of_its_own():
  """Every parameter behind "left upper" of one finding is learnt from other places or findings."""
  module = FindingsEncoder(3, 8)
  params = nn.unbox(module.init(KEY, findings([0] * 3)))

  def used(k, side, zone):
    at = lambda value: [value if i == k else 0 for i in range(3)]
    token = lambda p: module.apply(p, findings(at(1), side=at(side), zone=at(zone)))[0][0, 1 + k]
    grads = jax.grad(lambda p: (token(p) ** 2).sum())(params)
    return jnp.concatenate([jnp.abs(g).ravel() for g in jax.tree.leaves(grads)]) > 0

  seen = used(0, 1, 4) | used(0, 2, 1) | used(1, 1, 1)
  unseen = used(0, 1, 1)
  assert unseen.any() and not (unseen & ~seen).any()


def test_labels_only_forgets_where_and_how_much():
  full = findings([1, 0, 1], side=[1, 0, 2], zone=[4, 0, 0], severity=[0.5, -1.0, 0.9])
  bare = labels_only(full)
  np.testing.assert_array_equal(bare.status, full.status)
  assert not np.any(bare.side) and not np.any(bare.zone) and np.all(np.asarray(bare.severity) == -1)


def test_a_wrong_number_of_findings_is_an_error():
  with pytest.raises(ValueError, match="2 names; the model knows 3"):
    encoder(3)(findings([0, 1]))


def test_region_map_is_where_the_finding_was_asked():
  f = findings([1, 1, 0], side=[1, 0, 2], zone=[4, 0, 1], severity=[0.5, -1.0, 0.7])
  maps = np.asarray(region_map(f, 8, 8))[0]
  # The patient's left is the picture's right; the lower zone is its lower part.
  assert maps[7, 7, 0] == pytest.approx(0.5, abs=0.05)
  assert maps[7, 0, 0] < 0.05 and maps[0, 7, 0] < 0.05
  np.testing.assert_allclose(maps[..., 1], 1.0, atol=1e-3)   # nowhere in particular: everywhere
  assert not np.any(maps[..., 2])                            # absent
  both = np.asarray(region_map(findings([1], side=[3], zone=[7]), 8, 8))[0, ..., 0]
  assert both.min() > 0.9


def test_dropping_findings_and_details():
  f = findings([1, 0], side=[1, 0], zone=[4, 0], severity=[0.5, -1.0])
  assert np.all(np.asarray(drop_findings(f, jnp.array([True])).status) == -1)
  np.testing.assert_array_equal(drop_findings(f, jnp.array([False])).status, f.status)
  yes, no = jnp.array([True]), jnp.array([False])
  dropped = drop_details(f, yes, no, yes)
  assert dropped.side[0, 0] == 0 and dropped.zone[0, 0] == 4 and dropped.severity[0, 0] == -1


@pytest.fixture(scope="module")
def denoiser():
  config = base_config()
  config.diffusion.model.update(dict(block_out_channels=(8, 8), norm_num_groups=4,
                                     attention_heads=2, context_width=8))
  with config.unlocked():
    config.diffusion.condition.region_map = True
  module = make_denoiser(config.diffusion, config.autoencoder.model, 3)
  args = (jnp.zeros((1, 4, 4, 4)), jnp.zeros(1, jnp.int32), findings([1, 0, 0]),
          jnp.zeros((1, 4, 4, 3, 4)), jnp.ones(1, bool))
  params = nn.unbox(module.init(KEY, *args))
  leaves, tree = jax.tree.flatten(params)
  params = jax.tree.unflatten(tree, [
      0.2 * jax.random.normal(jax.random.fold_in(KEY, i), a.shape) for i, a in enumerate(leaves)])
  return lambda z, t, f, z_id, keep: module.apply(params, z, t, f, z_id, keep)


def test_a_hidden_identity_cannot_be_read(denoiser):
  z = jax.random.normal(KEY, (1, 4, 4, 4))
  ids = [jax.random.normal(jax.random.key(i), (1, 4, 4, 3, 4)) for i in (1, 2)]
  f, t = findings([1, 0, 0], side=[1, 0, 0]), jnp.array([500])
  hidden = [denoiser(z, t, f, z_id, jnp.array([False])) for z_id in ids]
  shown = [denoiser(z, t, f, z_id, jnp.array([True])) for z_id in ids]
  np.testing.assert_array_equal(*hidden)
  assert np.abs(shown[0] - shown[1]).max() > 1e-3
  assert np.abs(shown[0] - hidden[0]).max() > 1e-3


def test_dropped_findings_cannot_be_read(denoiser):
  z, z_id = jax.random.normal(KEY, (1, 4, 4, 4)), jnp.zeros((1, 4, 4, 3, 4))
  asked = [findings([1, 0, 0], side=[1, 0, 0]), findings([0, 1, 0], zone=[0, 4, 0])]
  ask = lambda f: np.asarray(denoiser(z, jnp.array([500]), f, z_id, jnp.array([True])))
  assert np.abs(ask(asked[0]) - ask(asked[1])).max() > 1e-3
  dropped = [ask(drop_findings(f, jnp.array([True]))) for f in asked]
  np.testing.assert_array_equal(*dropped)
