"""Layers: exact rearrangements, reference arithmetic, float32 statistics, named axes."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cdjax.models.attention import attend
from cdjax.models.layers import (
  Downsample,
  ResnetBlock,
  SpatialAttention,
  Upsample,
  depth_to_space,
  group_norm,
  resize_nearest,
  space_to_depth,
  timestep_embedding,
)


def init(module, *args):
  return nn.meta.unbox(jax.jit(module.init)(jax.random.key(0, impl="rbg"), *args))


def test_space_to_depth_moves_each_square_to_one_place():
  x = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
  y = np.asarray(space_to_depth(x, 2))
  assert y.shape == (2, 2, 3, 12)
  np.testing.assert_array_equal(y[1, 1, 2], x[1, 2:4, 4:6].reshape(-1))
  np.testing.assert_array_equal(depth_to_space(y, 2), x)


def test_space_to_depth_names_the_size_that_does_not_fit():
  with pytest.raises(ValueError, match=r"patch=2.*5×4"):
    space_to_depth(np.zeros((1, 5, 4, 1)), 2)
  with pytest.raises(ValueError, match="divisible by 4; got 6"):
    depth_to_space(np.zeros((1, 5, 4, 6)), 2)


def test_resize_nearest_by_two_equals_repetition_and_the_general_rule():
  x = np.random.default_rng(0).normal(size=(2, 3, 5, 4)).astype(np.float32)
  repeated = x.repeat(2, axis=1).repeat(2, axis=2)
  np.testing.assert_array_equal(resize_nearest(x, (6, 10)), repeated)
  np.testing.assert_array_equal(resize_nearest(x, (5, 9)), x[:, [0, 0, 1, 1, 2]][:, :, [
    0, 0, 1, 1, 2, 2, 3, 3, 4]])


def test_timestep_embedding_is_the_formula():
  t = np.array([0, 7, 999])
  out = np.asarray(timestep_embedding(t, 8))
  angles = t[:, None] * 10000.0 ** (-np.arange(4) / 4)
  expected = np.concatenate([np.cos(angles), np.sin(angles)], -1)
  np.testing.assert_allclose(out, expected, rtol=0, atol=2e-4)   # float32 angles up to 999
  flipped = np.asarray(timestep_embedding(t, 9, flip_sin_to_cos=False))
  np.testing.assert_array_equal(flipped[:, :4], out[:, 4:])
  np.testing.assert_array_equal(flipped[:, 8], 0)


def test_group_norm_statistics_are_float32_even_with_bfloat16_activations():
  """A small spread on a large mean, which bfloat16 statistics would lose altogether."""
  x = 100 + np.random.default_rng(0).normal(size=(2, 8, 8, 8)).astype(np.float32)
  norm = group_norm(2, dtype=jnp.bfloat16)
  out = norm.apply(init(norm, x), x)
  groups = x.reshape(2, 64, 2, 4).astype(np.float64)
  expected = (groups - groups.mean((1, 3), keepdims=True)) / groups.std((1, 3), keepdims=True)
  assert out.dtype == jnp.bfloat16
  np.testing.assert_allclose(np.asarray(out, np.float32).reshape(groups.shape), expected,
                             rtol=0, atol=0.02)


def test_resnet_block_with_zero_second_convolution_is_the_identity():
  x = np.random.default_rng(0).normal(size=(1, 4, 4, 8)).astype(np.float32)
  block = ResnetBlock(8, groups=2)
  params = init(block, x)
  params["params"]["conv2"]["kernel"] *= 0
  np.testing.assert_array_equal(block.apply(params, x), x)


def test_resnet_block_reads_the_time_embedding_and_drops_out_only_in_training():
  rng = np.random.default_rng(0)
  x, temb = (rng.normal(size=s).astype(np.float32) for s in [(2, 4, 4, 8), (2, 6)])
  block = ResnetBlock(12, groups=4, dropout=0.5)
  params = init(block, x, temb)
  out = block.apply(params, x, temb)
  np.testing.assert_array_equal(out, block.apply(params, x, temb))
  assert np.abs(out - block.apply(params, x, -temb)).max() > 1e-2
  dropped = block.apply(params, x, temb, deterministic=False,
                        rngs={"dropout": jax.random.key(1, impl="rbg")})
  assert np.abs(out - dropped).max() > 1e-2


@pytest.mark.parametrize(("asymmetric", "first_row"), [(True, [0, 1, 2]), (False, [0, 1])])
def test_downsample_pads_where_its_original_does(asymmetric, first_row):
  """Gradient support: which rows of the image the first output row reads."""
  x = np.random.default_rng(0).normal(size=(1, 8, 8, 2)).astype(np.float32)
  layer = Downsample(2, asymmetric=asymmetric)
  params = init(layer, x)
  grad = jax.grad(lambda x: layer.apply(params, x)[0, 0].sum())(x)
  rows = np.flatnonzero(np.abs(grad).sum((0, 2, 3)))
  assert rows.tolist() == first_row


def test_upsample_reaches_only_the_neighbours():
  x = np.random.default_rng(0).normal(size=(1, 6, 6, 2)).astype(np.float32)
  layer = Upsample(3)
  params = init(layer, x)
  grad = jax.grad(lambda x: layer.apply(params, x)[0, 4, 5].sum())(x)
  support = np.argwhere(np.abs(grad).sum((0, 3)) > 0)
  assert {tuple(p) for p in support.tolist()} == {(i, j) for i in (1, 2) for j in (2, 3)}


def test_spatial_attention_is_softmax_attention_and_moves_with_its_places():
  x = np.random.default_rng(0).normal(size=(1, 2, 3, 8)).astype(np.float32)
  layer = SpatialAttention(groups=2, heads=2)
  params = init(layer, x)
  out = layer.apply(params, x)
  flipped = layer.apply(params, x[:, ::-1])   # no notion of position
  np.testing.assert_allclose(out[:, ::-1], flipped, rtol=0, atol=1e-5)

  p = params["params"]
  norm = group_norm(2)
  tokens = np.asarray(norm.apply({"params": p["group_norm"]}, x)).reshape(6, 8)
  q, k, v = ((tokens @ p[n]["kernel"] + p[n]["bias"]).reshape(6, 2, 4)
             for n in ("to_q", "to_k", "to_v"))
  weights = jax.nn.softmax(np.einsum("tnd,snd->nts", q, k) / 2, -1)
  mixed = np.einsum("nts,snd->tnd", weights, v).reshape(6, 8)
  expected = x + (mixed @ p["to_out_0"]["kernel"] + p["to_out_0"]["bias"]).reshape(x.shape)
  np.testing.assert_allclose(out, expected, rtol=0, atol=1e-5)


def test_spatial_attention_with_heads_that_do_not_divide():
  with pytest.raises(ValueError, match="8 channels cannot be shared out over heads=3"):
    SpatialAttention(groups=2, heads=3).init(jax.random.key(0), np.zeros((1, 2, 2, 8)))


def test_attend_with_everything_masked_is_zero_with_finite_gradients():
  q, k, v = np.random.default_rng(0).normal(size=(3, 2, 4, 2, 3)).astype(np.float32)
  mask = np.array([[1, 1, 0, 0], [0, 0, 0, 0]], bool)
  out = attend(q, k, v, mask)
  np.testing.assert_array_equal(out[1], 0)
  np.testing.assert_allclose(out[0], attend(q, k[:, :2], v[:, :2])[0], rtol=0, atol=1e-6)
  grads = jax.grad(lambda *a: (attend(*a, mask) ** 2).sum(), argnums=(0, 1, 2))(q, k, v)
  for grad in grads:
    assert np.isfinite(grad).all()
    assert np.abs(grad[0]).max() > 0
    np.testing.assert_array_equal(grad[1], 0)
