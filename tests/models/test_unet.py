"""UNet2DCondition: the mask, extra channels, remat, named axes, clear errors."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cdjax.models.unet import UNet2DCondition

TINY = dict(in_channels=2, out_channels=2, block_out_channels=(8, 16), layers_per_block=1,
            attention_blocks=(True, False), num_heads=2, cross_attention_dim=6, norm_num_groups=4)


@pytest.fixture(scope="module")
def inputs():
  rng = np.random.default_rng(0)
  return (rng.normal(size=(2, 5, 8, 2)).astype(np.float32), np.array([3, 700]),
          rng.normal(size=(2, 4, 6)).astype(np.float32),
          np.array([[1, 0, 1, 0], [0, 0, 0, 0]], bool))


@pytest.fixture(scope="module")
def model_and_params(inputs):
  model = UNet2DCondition(**TINY)
  return model, nn.meta.unbox(jax.jit(model.init)(jax.random.key(0), *inputs))


def test_masked_tokens_have_no_gradient_and_attended_ones_do(model_and_params, inputs):
  model, params = model_and_params
  x, t, context, mask = inputs
  loss = lambda c: (model.apply(params, x, t, c, mask) ** 2).sum()
  grad = np.abs(jax.jit(jax.grad(loss))(context)).sum(-1)
  assert (grad[mask] > 0).all()
  np.testing.assert_array_equal(grad[~mask], 0)


def test_masked_tokens_cannot_change_the_output_whatever_they_hold(model_and_params, inputs):
  model, params = model_and_params
  x, t, context, mask = inputs
  apply_fn = jax.jit(model.apply)
  out = apply_fn(params, x, t, context, mask)
  other = np.where(mask[..., None], context, 1e4)
  np.testing.assert_array_equal(out, apply_fn(params, x, t, other, mask))
  assert np.isfinite(out).all()   # the second example's tokens are all masked
  assert np.abs(out - apply_fn(params, x, t, context, None)).max() > 1e-3
  padded = np.concatenate([context, np.ones((2, 3, 6), np.float32)], 1)   # longer padding
  longer = apply_fn(params, x, t, padded, np.pad(mask, ((0, 0), (0, 3))))
  np.testing.assert_allclose(out, longer, rtol=0, atol=1e-5)


def test_examples_do_not_see_each_other(model_and_params, inputs):
  model, params = model_and_params
  x, t, context, mask = inputs
  loss = lambda x: (model.apply(params, x, t, context, mask)[0] ** 2).sum()
  grad = jax.jit(jax.grad(loss))(x)
  assert np.abs(grad[0]).min() > 0   # the whole of its own input
  np.testing.assert_array_equal(grad[1], 0)


def test_scalar_time_step_is_the_same_for_all(model_and_params, inputs):
  model, params = model_and_params
  x, _, context, mask = inputs
  apply_fn = jax.jit(model.apply)
  scalar = apply_fn(params, x, 9, context, mask)
  np.testing.assert_array_equal(scalar, apply_fn(params, x, np.array([9, 9]), context, mask))
  assert np.abs(scalar - apply_fn(params, x, 500, context, mask)).max() > 1e-3


def test_extra_input_channels_start_without_influence(inputs):
  model = UNet2DCondition(**TINY, extra_in_channels=3)
  x, t, context, mask = inputs
  extra = np.random.default_rng(1).normal(size=(*x.shape[:3], 3)).astype(np.float32)
  wide = np.concatenate([x, extra], -1)
  params = nn.meta.unbox(jax.jit(model.init)(jax.random.key(0), wide, t, context, mask))
  kernel = params["params"]["conv_in"]["kernel"]
  np.testing.assert_array_equal(kernel[:, :, 2:], 0)
  assert np.abs(kernel[:, :, :2]).min() > 0

  narrow = jax.tree.map(lambda p: p, params)
  narrow["params"]["conv_in"]["kernel"] = kernel[:, :, :2]
  apply_fn = jax.jit(model.apply)
  expected = jax.jit(UNet2DCondition(**TINY).apply)(narrow, x, t, context, mask)
  np.testing.assert_allclose(apply_fn(params, wide, t, context, mask), expected,
                             rtol=0, atol=1e-5)
  loss = lambda p: (model.apply(p, wide, t, context, mask) ** 2).sum()
  grad = jax.jit(jax.grad(loss))(params)["params"]["conv_in"]["kernel"]
  assert np.abs(grad[:, :, 2:]).max() > 0   # and can learn one


def test_zero_init_out_is_zero_at_the_start_only(inputs):
  model = UNet2DCondition(**TINY, zero_init_out=True)
  params = nn.meta.unbox(jax.jit(model.init)(jax.random.key(0), *inputs))
  loss = lambda p: ((model.apply(p, *inputs) - 1) ** 2).sum()
  value, grad = jax.jit(jax.value_and_grad(loss))(params)
  assert value == inputs[0].size
  assert np.abs(grad["params"]["conv_out"]["kernel"]).max() > 0


def test_remat_changes_neither_result_nor_gradient(inputs):
  results = []
  for remat in (False, True):
    model = UNet2DCondition(**TINY, dropout=0.1, remat=remat)
    params = nn.meta.unbox(jax.jit(model.init)(jax.random.key(0), *inputs))

    def loss(params, model=model):
      out = model.apply(params, *inputs, deterministic=False,
                        rngs={"dropout": jax.random.key(2)})
      return (out ** 2).mean()

    results.append(jax.jit(jax.value_and_grad(loss))(params))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), *results)


@pytest.mark.parametrize("remat", [False, True])
def test_every_parameter_names_an_axis_for_each_dimension(inputs, remat):
  variables = jax.eval_shape(UNet2DCondition(**TINY, remat=remat).init, jax.random.key(0), *inputs)
  leaves = jax.tree.leaves(variables, is_leaf=lambda p: isinstance(p, nn.LogicallyPartitioned))
  assert leaves
  for leaf in leaves:
    assert isinstance(leaf, nn.LogicallyPartitioned)
    assert len(leaf.names) == leaf.value.ndim
    assert None not in leaf.names
  specs = nn.get_partition_spec(variables)["params"]   # a few by hand
  block = specs["down_blocks_0"]["attentions_0"]["transformer_blocks_0"]
  assert tuple(block["attn2"]["to_k"]["kernel"]) == ("embed", "heads")
  assert tuple(block["attn2"]["to_out_0"]["kernel"]) == ("heads", "embed")
  assert tuple(block["ff"]["net_0"]["proj"]["kernel"]) == ("embed", "mlp")
  assert tuple(block["ff"]["net_2"]["kernel"]) == ("mlp", "embed")
  assert tuple(specs["conv_in"]["kernel"]) == ("conv_h", "conv_w", "conv_in", "conv_out")


def test_bfloat16_activations_stay_near_float32(model_and_params, inputs):
  model, params = model_and_params
  half = UNet2DCondition(**TINY, dtype=jnp.bfloat16)
  exact = jax.jit(model.apply)(params, *inputs)
  out = jax.jit(half.apply)(params, *inputs)
  assert out.dtype == jnp.float32
  difference = np.abs(out - exact).max()
  assert 1e-5 < difference < 0.05 * np.abs(exact).max()


def test_errors_name_what_does_not_fit(inputs):
  x, t, context, mask = inputs
  key = jax.random.key(0)
  with pytest.raises(ValueError, match=r"2 channels; expected in_channels=2 \+ extra_in_chan.*=1"):
    UNet2DCondition(**TINY, extra_in_channels=1).init(key, *inputs)
  with pytest.raises(ValueError, match="5 wide; expected cross_attention_dim=6"):
    UNet2DCondition(**TINY).init(key, x, t, context[..., :5], mask)
  with pytest.raises(ValueError, match=r"num_heads=\(2, 2, 2\) has 3 entries; .* has 2"):
    UNet2DCondition(**{**TINY, "num_heads": (2, 2, 2)}).init(key, *inputs)
