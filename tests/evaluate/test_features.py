"""Extractors: from a file to features, PyTorch's resizing, and names that say what was measured."""

import flax.traverse_util
import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from cdjax.evaluate import features
from cdjax.models import efficientnet_lite
from cdjax.models.classifier import make_classifier
from cdjax.models.frozen import load_frozen, torch_key

MODULE = efficientnet_lite.EfficientNetLite0()


@pytest.fixture(scope="module")
def weights():
  """Template, state and what else is in the package's file: its classifier and counters."""
  template = jax.eval_shape(MODULE.init, jax.random.key(0),
                            np.zeros((1, 224, 224, 3), np.float32))["params"]
  generator = np.random.default_rng(0)
  state = {}
  for path, leaf in flax.traverse_util.flatten_dict(template).items():
    if path[-1] == "kernel":
      value = generator.standard_normal(leaf.shape) * np.sqrt(2 / np.prod(leaf.shape[:-1]))
      value = value.transpose(3, 2, 0, 1)
    else:
      value = np.full(leaf.shape, float(path[-1] in ("scale", "running_var")))
    state[torch_key(path)] = np.ascontiguousarray(value, np.float32)
  extra = {"_fc.weight": np.zeros((1000, 1280), np.float32), "_fc.bias": np.zeros(1000, np.float32),
           "_bn0.num_batches_tracked": np.array(9)}
  return template, state, extra


def test_features_from_a_file_are_those_of_the_module(weights, tmp_path):
  template, state, extra = weights
  save_file(state | extra, tmp_path / "lite0.safetensors")
  extractor = features.load_extractor("efficientnet-lite0", tmp_path / "lite0.safetensors")
  x = np.random.default_rng(1).random((3, 40, 40)).astype(np.float32)
  got = features.extract(extractor, x, batch_size=2)
  large = np.asarray(features.resize(x, size=224))
  expected = jax.jit(MODULE.apply)({"params": load_frozen(state, template)},
                          np.repeat((255 * large - 127) / 128, 3, axis=-1))
  assert got.shape == (3, 1280) and got.dtype == np.float32
  np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())
  assert features.metric_name("fid", extractor, 3) == "fid/efficientnet-lite0/3/bilinear224"


def test_errors_say_what_is_wrong(weights, tmp_path):
  _, state, extra = weights
  save_file({k: v for k, v in state.items() if k != "_conv_head.weight"} | extra,
            tmp_path / "cut.safetensors")
  with pytest.raises(ValueError, match=r"missing: _conv_head\.weight \(1280, 320, 1, 1\)"):
    features.load_extractor("efficientnet-lite0", tmp_path / "cut.safetensors")
  # Another network's file, also one that decides the shape of its module.
  with pytest.raises(ValueError, match=r"missing: embeddings\.position_embeddings \(1, 1370, "):
    features.load_extractor("dinov2-vit-b", tmp_path / "cut.safetensors")
  with pytest.raises(ValueError, match=r"extractor='vgg16'; expected one of \['densenet-121',"):
    features.load_extractor("vgg16", tmp_path / "cut.safetensors")
  with pytest.raises(ValueError, match=r"only \.safetensors is read"):
    features.load_extractor("inception-v3", tmp_path / "weights.pth")
  one = features.Extractor("one", 8, lambda x: x.mean((1, 2)))
  with pytest.raises(ValueError, match=r"from -1\.0 to 1\.0; expected \[0, 1\]"):
    features.extract(one, np.linspace(-1, 1, 64).reshape(1, 8, 8))
  with pytest.raises(ValueError, match=r"\(2, 8, 8, 1\); expected \[N, H, W\]"):
    features.extract(one, np.zeros((2, 8, 8, 1)))


def test_the_projects_classifier_gives_what_its_readout_sees():
  model = make_classifier({"block_out_channels": (8, 16), "layers_per_block": 1,
                           "norm_num_groups": 4, "dropout": 0.0, "dtype": "float32"}, 3)
  x = np.random.default_rng(2).random((4, 32, 32)).astype(np.float32)
  x11 = 2 * x[..., None] - 1
  params = jax.tree.map(np.asarray, jax.jit(model.init)(jax.random.key(0), x11)["params"])
  extractor = features.classifier_extractor(model, params, size=32)
  got = features.extract(extractor, x, batch_size=3)
  assert got.shape == (4, 32) and np.ptp(got, axis=0).max() > 1e-3
  status = params["readout"]["status"]
  unbox = lambda v: np.asarray(getattr(v, "value", v))
  logits = got @ unbox(status["kernel"]) + unbox(status["bias"])
  # The readout of the whole image alone, without each finding's look at its own place.
  whole = params | {"look": jax.tree.map(np.zeros_like, params["look"])}
  np.testing.assert_allclose(logits, model.apply({"params": whole}, x11).status, atol=1e-5)
  assert features.metric_name("kid", extractor, 4) == "kid/cdjax-classifier/4/bilinear32"


@pytest.mark.parity
@pytest.mark.parametrize(("source", "target"), [(64, 299), (50, 75), (256, 224), (500, 224)])
def test_resizing_is_pytorchs(source, target):
  import torch

  x = np.random.default_rng(3).random((2, source, source)).astype(np.float32)
  expected = torch.nn.functional.interpolate(
      torch.tensor(x)[:, None], size=(target, target), mode="bilinear", align_corners=False,
      antialias=True)[:, 0]
  got = np.asarray(features.resize(x, size=target))[..., 0]
  np.testing.assert_allclose(got, expected, atol=1e-5)


def test_resizing_does_not_alias():
  stripes = np.tile(np.array([0.0, 1.0], np.float32), (1, 128, 64))   # finer than the target sees
  small = np.asarray(features.resize(stripes, size=48))[0, :, 3:-3, 0]
  np.testing.assert_allclose(small, 0.5, atol=0.15)
  assert np.ptp(stripes[:, :, ::3]) == 1.0
