"""DenseNet-121 on one grey channel, up to its pooled features: torchxrayvision's classifier.

Huang et al., "Densely Connected Convolutional Networks", arXiv:1608.06993, table 1; trained on
chest radiographs by Cohen et al., "TorchXRayVision", arXiv:2111.00595.

Weights: torchxrayvision's downloads are pickles of whole models. In an environment of your own that
has the library, and where you trust the file:

    from safetensors.torch import save_file
    import torchxrayvision as xrv
    model = xrv.models.DenseNet(weights="densenet121-res224-all")
    state = {k: v.contiguous() for k, v in model.state_dict().items()}
    save_file(state, "densenet121-res224-all.safetensors")
"""

import flax.linen as nn
import jax.numpy as jnp

from cdjax.core.types import Array
from cdjax.models.frozen import FrozenBatchNorm, frozen_conv

SIZE, DIMENSION, CHANNELS = 224, 1024, 1
# The classifier, and thresholds that scale its probabilities.
UNUSED = (r"classifier\..*", "op_threshs")

_EPSILON = 1e-5
_GROWTH, _BOTTLENECK, _FIRST = 32, 4, 64
_BLOCKS = (6, 12, 24, 16)


def preprocess(x: Array) -> Array:
  """`[B, 224, 224, 1]` in [0, 1] → [-1024, 1024], the range torchxrayvision is trained on."""
  return 1024.0 * (2.0 * x - 1.0)


class DenseLayer(nn.Module):
  """Adds 32 channels to `[B, H, W, C]`: norm, ReLU, 1 x 1, norm, ReLU, 3 x 3."""

  @nn.compact
  def __call__(self, x: Array) -> Array:
    h = nn.relu(FrozenBatchNorm(_EPSILON, name="norm1")(x))
    h = frozen_conv(_BOTTLENECK * _GROWTH, 1, name="conv1")(h)
    h = nn.relu(FrozenBatchNorm(_EPSILON, name="norm2")(h))
    h = frozen_conv(_GROWTH, 3, padding=1, name="conv2")(h)
    return jnp.concatenate([x, h], -1)


class Transition(nn.Module):
  """Halves channels, height and width of `[B, H, W, C]`."""

  @nn.compact
  def __call__(self, x: Array) -> Array:
    h = nn.relu(FrozenBatchNorm(_EPSILON, name="norm")(x))
    h = frozen_conv(x.shape[-1] // 2, 1, name="conv")(h)
    return nn.avg_pool(h, (2, 2), (2, 2))


class DenseNet121(nn.Module):
  """`[B, H, W, 1]` in [-1024, 1024], H and W ≥ 32, → `[B, 1024]`."""

  @nn.compact
  def __call__(self, x: Array) -> Array:
    x = frozen_conv(_FIRST, 7, strides=2, padding=3, name="features__conv0")(x)
    x = nn.relu(FrozenBatchNorm(_EPSILON, name="features__norm0")(x))
    x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
    for block, layers in enumerate(_BLOCKS, 1):
      for layer in range(1, layers + 1):
        x = DenseLayer(name=f"features__denseblock{block}__denselayer{layer}")(x)
      if block < len(_BLOCKS):
        x = Transition(name=f"features__transition{block}")(x)
    x = nn.relu(FrozenBatchNorm(_EPSILON, name="features__norm5")(x))
    return x.mean((1, 2))
