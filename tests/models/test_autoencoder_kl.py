"""AutoencoderKL: options that may not change results, gradient support, clear errors."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from cdjax.models.autoencoder_kl import AutoencoderKL
from cdjax.models.layers import depth_to_space, space_to_depth

TINY = dict(in_channels=1, out_channels=1, latent_channels=2, block_out_channels=(8, 12),
            layers_per_block=1, norm_num_groups=4)


@pytest.fixture(scope="module")
def image():
  return np.random.default_rng(0).normal(size=(2, 16, 8, 1)).astype(np.float32)


def init(model, x):
  """Random weights scaled by their fan-in; NumPy, because compiling an init takes long."""
  rng = np.random.default_rng(1)
  shapes = nn.meta.unbox(jax.eval_shape(model.init, jax.random.key(0), x))
  return jax.tree.map(
      lambda p: (rng.normal(size=p.shape) / np.sqrt(np.prod(p.shape[:-1]))).astype(np.float32)
      if len(p.shape) > 1 else (1 + 0.2 * rng.normal(size=p.shape)).astype(np.float32), shapes)


def test_patch_is_the_unpatched_model_on_rearranged_pixels(image):
  patched = AutoencoderKL(**TINY, patch=2)
  plain = AutoencoderKL(**{**TINY, "in_channels": 4, "out_channels": 4})
  params = init(patched, image)
  ours, posterior = jax.jit(patched.apply)(params, image)
  theirs, expected = jax.jit(plain.apply)(params, space_to_depth(image, 2))
  np.testing.assert_allclose(ours, depth_to_space(theirs, 2), rtol=0, atol=1e-5)
  np.testing.assert_allclose(posterior.mean, expected.mean, rtol=0, atol=1e-5)
  assert posterior.mean.shape == (2, 4, 2, 2)   # two halvings of 16×8: the patch's, the stages'


def test_remat_changes_neither_result_nor_gradient(image):
  results = []
  for remat in ("none", "full"):
    model = AutoencoderKL(**{**TINY, "block_out_channels": (8,)}, dropout=0.1, remat=remat)
    params = init(model, image)

    def loss(params, model=model):
      out, _ = model.apply(params, image, deterministic=False,
                           rngs={"dropout": jax.random.key(2, impl="rbg")})
      return ((out - image) ** 2).mean()

    assert ("remat" in str(jax.make_jaxpr(loss)(params))) == (remat != "none")
    results.append(jax.jit(jax.value_and_grad(loss))(params))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), *results)


def test_sampling_spreads_as_the_posterior_says(image):
  """With logvar at its floor the sample is the mean; the clip keeps it finite beyond."""
  model = AutoencoderKL(**TINY)
  params, apply_fn = init(model, image), jax.jit(model.apply)
  params["params"]["quant_conv"]["bias"] = np.array([0, 0, -500, -500], np.float32)
  mean, posterior = apply_fn(params, image)
  np.testing.assert_array_equal(posterior.logvar, -30)
  sample, _ = apply_fn(params, image, jax.random.key(1, impl="rbg"))
  np.testing.assert_allclose(sample, mean, rtol=0, atol=1e-4)
  params["params"]["quant_conv"]["bias"] = np.array([0, 0, 500, 500], np.float32)
  wide, posterior = apply_fn(params, image, jax.random.key(1, impl="rbg"))
  np.testing.assert_array_equal(posterior.logvar, 20)
  assert np.isfinite(wide).all()
  assert np.abs(wide - mean).max() > 1e-2


@pytest.mark.parametrize("remat", ["none", "full"])
def test_every_parameter_names_an_axis_for_each_dimension(image, remat):
  model = AutoencoderKL(**TINY, remat=remat)
  variables = jax.eval_shape(model.init, jax.random.key(0), image)
  leaves = jax.tree.leaves(variables, is_leaf=lambda p: isinstance(p, nn.LogicallyPartitioned))
  assert leaves
  for leaf in leaves:
    assert isinstance(leaf, nn.LogicallyPartitioned)
    assert len(leaf.names) == leaf.value.ndim
    assert None not in leaf.names


def test_errors_name_the_size(image):
  model = AutoencoderKL(**TINY, patch=2)
  with pytest.raises(ValueError, match=r"16×10.*multiples of 4"):
    model.init(jax.random.key(0), np.zeros((1, 16, 10, 1)))
  with pytest.raises(ValueError, match=r"3 channels; expected in_channels=1"):
    model.init(jax.random.key(0), np.zeros((1, 16, 8, 3)))
