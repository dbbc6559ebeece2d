"""UNet2DCondition: the mask, extra channels, remat, named axes, clear errors."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cdjax.models.unet import UNet2DCondition

TINY = dict(in_channels=2, out_channels=2, block_out_channels=(8, 16), layers_per_block=1,
            attention_blocks=(True, False), num_heads=2, cross_attention_dim=6, norm_num_groups=4)
ONE = {**TINY, "block_out_channels": (8,), "attention_blocks": (True,)}   # one resolution


@pytest.fixture(scope="module")
def inputs():
  rng = np.random.default_rng(0)
  return (rng.normal(size=(2, 5, 8, 2)).astype(np.float32), np.array([3, 700]),
          rng.normal(size=(2, 4, 6)).astype(np.float32),
          np.array([[1, 0, 1, 0], [0, 0, 0, 0]], bool))


def random_params(model, inputs):
  """Every weight random, scaled by its fan-in; NumPy, because compiling an init takes long."""
  rng = np.random.default_rng(1)
  shapes = nn.meta.unbox(jax.eval_shape(model.init, jax.random.key(0), *inputs))
  return jax.tree.map(
      lambda p: (rng.normal(size=p.shape) / np.sqrt(np.prod(p.shape[:-1]))).astype(np.float32)
      if len(p.shape) > 1 else (1 + 0.2 * rng.normal(size=p.shape)).astype(np.float32), shapes)


@pytest.fixture(scope="module")
def params(inputs):
  return random_params(UNet2DCondition(**TINY), inputs)


@pytest.fixture(scope="module")
def apply_fn():
  return jax.jit(UNet2DCondition(**TINY).apply)


@pytest.fixture(scope="module")
def gradients(inputs):
  """Of the first example's output, with respect to the samples and the context of both."""
  _, t, _, mask = inputs
  model = UNet2DCondition(**ONE)
  params = random_params(model, inputs)
  mask = mask[:, ::-1] | np.array([[False], [True]])

  def first(x, context):
    return (model.apply(params, x, t, context, mask)[0] ** 2).sum()

  return mask, *jax.jit(jax.grad(first, argnums=(0, 1)))(inputs[0], inputs[2])


def test_only_attended_tokens_of_the_same_example_have_a_gradient(gradients):
  mask, _, context = gradients
  context = np.abs(context).sum(-1)
  assert (context[0][mask[0]] > 0).all()
  np.testing.assert_array_equal(context[0][~mask[0]], 0)
  np.testing.assert_array_equal(context[1], 0)   # attended to, but by the other example


def test_examples_do_not_see_each_other_and_see_all_of_themselves(gradients):
  _, x, _ = gradients
  assert np.abs(x[0]).min() > 0
  np.testing.assert_array_equal(x[1], 0)


def test_masked_tokens_cannot_change_the_output_whatever_they_hold(apply_fn, params, inputs):
  x, t, context, mask = inputs
  out = apply_fn(params, x, t, context, mask)
  other = np.where(mask[..., None], context, np.float32(1e4))
  np.testing.assert_array_equal(out, apply_fn(params, x, t, other, mask))
  assert np.isfinite(out).all()   # the second example's tokens are all masked
  assert np.abs(out - apply_fn(params, x, t, context, np.ones_like(mask))).max(
      (1, 2, 3)).min() > 1e-3


def test_the_time_step_is_one_for_all_or_one_each(apply_fn, params, inputs):
  x, t, context, mask = inputs
  same = apply_fn(params, x, np.full_like(t, 9), context, mask)
  scalar = UNet2DCondition(**TINY).apply
  np.testing.assert_allclose(jax.jit(scalar)(params, x, 9, context, mask), same,
                             rtol=0, atol=1e-5)
  assert np.abs(same - apply_fn(params, x, t, context, mask)).max((1, 2, 3)).min() > 1e-3


def test_extra_input_channels_start_without_influence_and_can_gain_one(inputs):
  x, t, context, mask = inputs
  narrow, model = UNet2DCondition(**ONE), UNet2DCondition(**ONE, extra_in_channels=3)
  params = random_params(narrow, inputs)
  extra = np.random.default_rng(1).normal(size=(*x.shape[:3], 3)).astype(np.float32)
  wide = np.concatenate([x, extra], -1)

  @jax.jit
  def first_kernel(key):   # the compiler drops the other initialisers
    return nn.meta.unbox(model.init(key, wide, t, context, mask))["params"]["conv_in"]["kernel"]

  kernel = np.array(first_kernel(jax.random.key(0)))
  np.testing.assert_array_equal(kernel[:, :, 2:], 0)
  assert abs(kernel[:, :, :2].std() * np.sqrt(18) - 1) < 0.2   # fan-in without the extra ones

  def with_kernel(kernel):
    conv_in = {**params["params"]["conv_in"], "kernel": kernel}
    return {"params": {**params["params"], "conv_in": conv_in}}

  def loss(kernel):
    out = model.apply(with_kernel(kernel), wide, t, context, mask)
    return (out ** 2).sum(), out

  (_, out), grad = jax.jit(jax.value_and_grad(loss, has_aux=True))(kernel)
  expected = jax.jit(narrow.apply)(with_kernel(kernel[:, :, :2]), x, t, context, mask)
  np.testing.assert_allclose(out, expected, rtol=0, atol=1e-5)
  assert np.abs(grad[:, :, 2:]).max() > 0


@pytest.mark.parametrize("zero", [False, True])
def test_zero_init_out_is_about_the_last_kernel(inputs, zero):
  model = UNet2DCondition(**TINY, zero_init_out=zero)

  @jax.jit
  def last_kernel(key):
    return nn.meta.unbox(model.init(key, *inputs))["params"]["conv_out"]["kernel"]

  assert (np.abs(last_kernel(jax.random.key(0))).max() == 0) == zero


def test_remat_changes_neither_result_nor_gradient(inputs):
  results, params = [], random_params(UNet2DCondition(**ONE), inputs)
  for remat in ("none", "products", "full"):
    model = UNet2DCondition(**ONE, remat=remat)
    loss = lambda p, model=model: (model.apply(p, *inputs, deterministic=False) ** 2).mean()
    assert ("remat" in str(jax.make_jaxpr(loss)(params))) == (remat != "none")
    results.append(jax.jit(jax.value_and_grad(loss))(params))
  for again in results[1:]:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
                 results[0], again)


def test_an_unknown_remat_policy_is_an_error(inputs):
  with pytest.raises(ValueError, match=r"remat='some'; expected one of \['full', 'none'"):
    jax.eval_shape(UNet2DCondition(**ONE, remat="some").init, jax.random.key(0), *inputs)


@pytest.mark.parametrize("remat", ["none", "full"])
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


def test_bfloat16_activations_stay_near_float32(inputs):
  params = random_params(UNet2DCondition(**ONE), inputs)
  exact, out = (jax.jit(UNet2DCondition(**ONE, dtype=dtype).apply)(params, *inputs)
                for dtype in (jnp.float32, jnp.bfloat16))
  assert out.dtype == jnp.float32
  difference = np.abs(out - exact).max()
  assert 1e-5 < difference < 0.1 * np.abs(exact).max()


def test_errors_name_what_does_not_fit(inputs):
  x, t, context, mask = inputs
  key = jax.random.key(0)
  with pytest.raises(ValueError, match=r"2 channels; expected in_channels=2 \+ extra_in_chan.*=1"):
    UNet2DCondition(**TINY, extra_in_channels=1).init(key, *inputs)
  with pytest.raises(ValueError, match="5 wide; expected cross_attention_dim=6"):
    UNet2DCondition(**TINY).init(key, x, t, context[..., :5], mask)
  with pytest.raises(ValueError, match=r"num_heads=\(2, 2, 2\) has 3 entries; .* has 2"):
    UNet2DCondition(**{**TINY, "num_heads": (2, 2, 2)}).init(key, *inputs)
