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
  return nn.meta.unbox(model.init(jax.random.key(0), x))


def test_patch_is_the_unpatched_model_on_rearranged_pixels(image):
  patched = AutoencoderKL(**TINY, patch=2)
  plain = AutoencoderKL(**{**TINY, "in_channels": 4, "out_channels": 4})
  params = init(patched, image)
  ours, posterior = patched.apply(params, image)
  theirs, expected = plain.apply(params, space_to_depth(image, 2))
  np.testing.assert_array_equal(ours, depth_to_space(theirs, 2))
  np.testing.assert_array_equal(posterior.mean, expected.mean)
  assert posterior.mean.shape == (2, 4, 2, 2)   # two halvings of 16×8: the patch's, the stages'


def test_remat_changes_neither_result_nor_gradient(image):
  results = []
  for remat in (False, True):
    model = AutoencoderKL(**TINY, dropout=0.1, remat=remat)
    params = init(model, image)

    def loss(params, model=model):
      out, _ = model.apply(params, image, jax.random.key(1), deterministic=False,
                           rngs={"dropout": jax.random.key(2)})
      return ((out - image) ** 2).mean()

    results.append(jax.jit(jax.value_and_grad(loss))(params))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *results)


def test_sampling_spreads_as_the_posterior_says(image):
  """With logvar at its floor the sample is the mean; the clip keeps it finite beyond."""
  model = AutoencoderKL(**TINY)
  params = init(model, image)
  params["params"]["quant_conv"]["bias"] = np.array([0, 0, -500, -500], np.float32)
  posterior = model.apply(params, image, method="encode")
  np.testing.assert_array_equal(posterior.logvar, -30)
  mean, _ = model.apply(params, image)
  sample, _ = model.apply(params, image, jax.random.key(1))
  np.testing.assert_allclose(sample, mean, rtol=0, atol=1e-4)
  params["params"]["quant_conv"]["bias"] = np.array([0, 0, 500, 500], np.float32)
  np.testing.assert_array_equal(model.apply(params, image, method="encode").logvar, 20)
  wide, _ = model.apply(params, image, jax.random.key(1))
  assert np.isfinite(wide).all()
  assert np.abs(wide - mean).max() > 1e-2


@pytest.mark.parametrize("attention", [False, True])
def test_attention_is_what_carries_one_corner_to_the_other(attention):
  """Gradient support of one corner of the latent, GroupNorm's own reach held fixed.

  GroupNorm reads the whole map too, so its statistics are replaced: with scale 0 in the norms of
  the ResNet blocks those pass their input on, and the attention's norm is what is left.
  """
  x = np.random.default_rng(1).normal(size=(1, 32, 32, 1)).astype(np.float32)
  model = AutoencoderKL(**{**TINY, "block_out_channels": (8, 8), "mid_attention": attention})
  params = init(model, x)
  params = jax.tree_util.tree_map_with_path(
      lambda path, p: p * 0 if path[-1].key == "scale" and "norm2" in jax.tree_util.keystr(path)
      else p, params)
  features = lambda x: model.apply(params, x, method=lambda m, x: m.encoder.stages(x))  # noqa: E731
  grad = np.abs(jax.grad(lambda x: (features(x)[0, 0, 0] ** 2).sum())(x))[0, :, :, 0]
  assert grad[:2, :2].max() > 0
  assert (grad[-4:, -4:].max() > 0) == attention


@pytest.mark.parametrize("remat", [False, True])
def test_every_parameter_names_an_axis_for_each_dimension(image, remat):
  variables = AutoencoderKL(**TINY, remat=remat).init(jax.random.key(0), image)
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
