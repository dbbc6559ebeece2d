"""InceptionV3 up to its pooled features, as the Fréchet Inception Distance has always used it.

Szegedy et al., "Rethinking the Inception Architecture", arXiv:1512.00567; weights and deviations
of the network that TensorFlow published in December 2015, which published FIDs are taken with
(Heusel et al., arXiv:1706.08500). It differs from torchvision's in three things: averages over
3 x 3 leave padding out, the last block takes a maximum instead, and the weights.

Weights: the file of the pytorch-fid project, `pt_inception-2015-12-05-6726825d.pth`, a pickle.
Convert it where you trust it (`models.convert.load_safetensors` says how).
"""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp

from cdjax.core.types import Array
from cdjax.models.frozen import FrozenBatchNorm, frozen_conv

SIZE, DIMENSION, CHANNELS = 299, 2048, 3
# The classifier over 1,008 classes and, in torchvision's files, the auxiliary one.
UNUSED = (r"fc\..*", r"AuxLogits\..*")

_EPSILON = 1e-3

# One convolution: name, features, kernel, stride; padding keeps the size where the stride is 1.
Conv = tuple[str, int, int | tuple[int, int], int]
_ROW, _COLUMN = (1, 7), (7, 1)


def preprocess(x: Array) -> Array:
  """`[B, 299, 299, 1]` in [0, 1] → `[B, 299, 299, 3]` in [-1, 1], grey three times."""
  return jnp.broadcast_to(2.0 * x - 1.0, (*x.shape[:-1], CHANNELS))


class ConvNorm(nn.Module):
  """Convolution, batch norm, ReLU.

  Attributes:
    features, kernel, strides: of the convolution.
    padding: zeros on each side, rows and columns.
  """

  features: int
  kernel: int | tuple[int, int]
  strides: int = 1
  padding: int | tuple[int, int] = 0

  @nn.compact
  def __call__(self, x: Array) -> Array:
    rows, columns = self.padding if isinstance(self.padding, tuple) else (self.padding,) * 2
    x = frozen_conv(self.features, self.kernel, strides=self.strides,
                    padding=((rows, rows), (columns, columns)), name="conv")(x)
    return nn.relu(FrozenBatchNorm(_EPSILON, name="bn")(x))


def _chain(x: Array, convs: Sequence[Conv]) -> Array:
  for name, features, kernel, strides in convs:
    rows, columns = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    padding = (rows // 2, columns // 2) if strides == 1 else 0
    x = ConvNorm(features, kernel, strides, padding, name=name)(x)
  return x


def _average(x: Array) -> Array:
  return nn.avg_pool(x, (3, 3), (1, 1), ((1, 1), (1, 1)), count_include_pad=False)


def _maximum(x: Array, strides: int, padding: int = 0) -> Array:
  return nn.max_pool(x, (3, 3), (strides, strides), ((padding, padding),) * 2)


class Branches(nn.Module):
  """Chains of convolutions side by side, with a pooled branch, joined over channels.

  Attributes:
    chains: of convolutions, each from the block's input.
    pool_features: of a 1 x 1 convolution after a 3 x 3 average; 0 for a maximum with stride 2.
  """

  chains: tuple[tuple[Conv, ...], ...]
  pool_features: int = 0

  @nn.compact
  def __call__(self, x: Array) -> Array:
    parts = [_chain(x, chain) for chain in self.chains]
    if self.pool_features:
      parts.append(_chain(_average(x), (("branch_pool", self.pool_features, 1, 1),)))
    else:
      parts.append(_maximum(x, 2))
    return jnp.concatenate(parts, -1)


class ForkedBranches(nn.Module):
  """The last two blocks: two branches end in a row and a column convolution side by side.

  Attributes:
    pool: over 3 x 3 with stride 1.
  """

  pool: str

  @nn.compact
  def __call__(self, x: Array) -> Array:
    def fork(x, first, second):
      return [ConvNorm(384, (1, 3), 1, (0, 1), name=first)(x),
              ConvNorm(384, (3, 1), 1, (1, 0), name=second)(x)]

    parts = [_chain(x, (("branch1x1", 320, 1, 1),))]
    h = _chain(x, (("branch3x3_1", 384, 1, 1),))
    parts += fork(h, "branch3x3_2a", "branch3x3_2b")
    h = _chain(x, (("branch3x3dbl_1", 448, 1, 1), ("branch3x3dbl_2", 384, 3, 1)))
    parts += fork(h, "branch3x3dbl_3a", "branch3x3dbl_3b")
    pooled = _average(x) if self.pool == "average" else _maximum(x, 1, 1)
    parts.append(_chain(pooled, (("branch_pool", 192, 1, 1),)))
    return jnp.concatenate(parts, -1)


def _block_a(pool_features: int, name: str) -> Branches:
  return Branches((
      (("branch1x1", 64, 1, 1),),
      (("branch5x5_1", 48, 1, 1), ("branch5x5_2", 64, 5, 1)),
      (("branch3x3dbl_1", 64, 1, 1), ("branch3x3dbl_2", 96, 3, 1), ("branch3x3dbl_3", 96, 3, 1)),
  ), pool_features, name=name)


def _block_b(name: str) -> Branches:
  return Branches((
      (("branch3x3", 384, 3, 2),),
      (("branch3x3dbl_1", 64, 1, 1), ("branch3x3dbl_2", 96, 3, 1), ("branch3x3dbl_3", 96, 3, 2)),
  ), name=name)


def _block_c(c: int, name: str) -> Branches:
  return Branches((
      (("branch1x1", 192, 1, 1),),
      (("branch7x7_1", c, 1, 1), ("branch7x7_2", c, _ROW, 1), ("branch7x7_3", 192, _COLUMN, 1)),
      (("branch7x7dbl_1", c, 1, 1), ("branch7x7dbl_2", c, _COLUMN, 1),
       ("branch7x7dbl_3", c, _ROW, 1), ("branch7x7dbl_4", c, _COLUMN, 1),
       ("branch7x7dbl_5", 192, _ROW, 1)),
  ), 192, name=name)


def _block_d(name: str) -> Branches:
  return Branches((
      (("branch3x3_1", 192, 1, 1), ("branch3x3_2", 320, 3, 2)),
      (("branch7x7x3_1", 192, 1, 1), ("branch7x7x3_2", 192, _ROW, 1),
       ("branch7x7x3_3", 192, _COLUMN, 1), ("branch7x7x3_4", 192, 3, 2)),
  ), name=name)


class InceptionV3(nn.Module):
  """`[B, H, W, 3]` in [-1, 1], H and W ≥ 75, → `[B, 2048]`."""

  @nn.compact
  def __call__(self, x: Array) -> Array:
    x = ConvNorm(32, 3, 2, name="Conv2d_1a_3x3")(x)
    x = ConvNorm(32, 3, name="Conv2d_2a_3x3")(x)
    x = ConvNorm(64, 3, padding=1, name="Conv2d_2b_3x3")(x)
    x = _maximum(x, 2)
    x = ConvNorm(80, 1, name="Conv2d_3b_1x1")(x)
    x = ConvNorm(192, 3, name="Conv2d_4a_3x3")(x)
    x = _maximum(x, 2)
    for name, pool_features in (("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)):
      x = _block_a(pool_features, name)(x)
    x = _block_b("Mixed_6a")(x)
    for name, c in (("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)):
      x = _block_c(c, name)(x)
    x = _block_d("Mixed_7a")(x)
    x = ForkedBranches("average", name="Mixed_7b")(x)
    x = ForkedBranches("maximum", name="Mixed_7c")(x)
    return x.mean((1, 2))
