"""DINOv2's ViT-B/14 up to its class token: features that nobody trained on labels.

Oquab et al., "DINOv2", arXiv:2304.07193; trained further on chest radiographs as RAD-DINO,
Pérez-García et al., arXiv:2401.10815. Pre-norm blocks with layer scale (Touvron et al.,
arXiv:2103.17239).

Weights: `model.safetensors` of facebook/dinov2-base or microsoft/rad-dino, in the names of
transformers' Dinov2Model.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cdjax.core.types import Array
from cdjax.models.frozen import PRECISION, frozen_dense

SIZE, RAD_DINO_SIZE, DIMENSION, CHANNELS = 224, 518, 768, 3
# The mask token belongs to pre-training.
UNUSED = (r"embeddings\.mask_token",)

_PATCH, _HEADS, _LAYERS, _EPSILON = 14, 12, 12, 1e-6
# DINOv2's images are normalised by ImageNet's colours, RAD-DINO's by its own grey.
COLOURS = {"dinov2": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
           "rad-dino": ((0.5307,) * 3, (0.2583,) * 3)}


def preprocess(x: Array, *, colours: str = "dinov2") -> Array:
  """`[B, S, S, 1]` in [0, 1] → `[B, S, S, 3]`, grey three times, normalised.

  Args:
    x: images, S a multiple of 14.
    colours: whose mean and spread, a key of `COLOURS`.
  """
  mean, spread = COLOURS[colours]
  return (x - jnp.array(mean)) / jnp.array(spread)


def _bicubic_matrix(source: int, target: int) -> np.ndarray:
  """`[target, source]` of Keys' cubic with a = −¾, edges repeated, as PyTorch interpolates."""
  a = -0.75
  at = (np.arange(target) + 0.5) * source / target - 0.5
  first = np.floor(at).astype(int)
  matrix = np.zeros((target, source))
  for tap in range(-1, 3):
    t = np.abs(at - first - tap)
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    np.add.at(matrix, (np.arange(target), np.clip(first + tap, 0, source - 1)),
              np.where(t <= 1, near, far))
  return matrix.astype(np.float32)


class Embeddings(nn.Module):
  """Patches of `[B, H, W, 3]` and a class token, with positions: `[B, 1 + H·W/14², 768]`.

  Attributes:
    positions: side of the grid of positions in the file (37 for 518 px); other sides are
      interpolated from it.
  """

  positions: int

  @nn.compact
  def __call__(self, x: Array) -> Array:
    batch, height, width, _ = x.shape
    if height % _PATCH or width % _PATCH:
      raise ValueError(f"images of {height} x {width}; expected multiples of {_PATCH}")
    rows, columns = height // _PATCH, width // _PATCH
    x = nn.Conv(DIMENSION, (_PATCH, _PATCH), strides=_PATCH, padding=0, precision=PRECISION,
                name="patch_embeddings__projection")(x).reshape(batch, rows * columns, DIMENSION)
    normal = nn.initializers.normal(0.02)
    token = self.param("cls_token", normal, (1, 1, DIMENSION))
    position = self.param("position_embeddings", normal, (1, 1 + self.positions**2, DIMENSION))
    first, grid = position[:, :1], position[:, 1:]
    if (rows, columns) != (self.positions,) * 2:
      grid = grid.reshape(self.positions, self.positions, DIMENSION)
      grid = jnp.einsum("hg,vw,gwd->hvd", _bicubic_matrix(self.positions, rows),
                        _bicubic_matrix(self.positions, columns), grid, precision=PRECISION)
      grid = grid.reshape(1, rows * columns, DIMENSION)
    token = jnp.broadcast_to(token + first, (batch, 1, DIMENSION))
    return jnp.concatenate([token, x + grid], 1)


class Block(nn.Module):
  """Attention and a feed-forward network on `[B, T, 768]`, each with norm, scale and residual."""

  @nn.compact
  def __call__(self, x: Array) -> Array:
    ones = nn.initializers.ones

    def norm(name):
      return nn.LayerNorm(epsilon=_EPSILON, use_fast_variance=False, name=name)

    h = norm("norm1")(x)
    query, key, value = (
        frozen_dense(DIMENSION, name=f"attention__attention__{part}")(h).reshape(
            *h.shape[:2], _HEADS, DIMENSION // _HEADS) for part in ("query", "key", "value"))
    logits = jnp.einsum("bqhd,bkhd->bhqk", query, key, precision=PRECISION)
    weights = jax.nn.softmax(logits / np.sqrt(DIMENSION // _HEADS), -1)
    h = jnp.einsum("bhqk,bkhd->bqhd", weights, value, precision=PRECISION).reshape(x.shape)
    h = frozen_dense(DIMENSION, name="attention__output__dense")(h)
    x = x + h * self.param("layer_scale1__lambda1", ones, (DIMENSION,))
    h = frozen_dense(4 * DIMENSION, name="mlp__fc1")(norm("norm2")(x))
    h = frozen_dense(DIMENSION, name="mlp__fc2")(nn.gelu(h, approximate=False))
    return x + h * self.param("layer_scale2__lambda1", ones, (DIMENSION,))


class DinoV2(nn.Module):
  """`[B, H, W, 3]`, normalised as `preprocess` does, H and W multiples of 14, → `[B, 768]`.

  Attributes:
    positions: see `Embeddings`; 37 in both published files.
    layers: blocks; 12 in a ViT-B.
  """

  positions: int = 37
  layers: int = _LAYERS

  @nn.compact
  def __call__(self, x: Array) -> Array:
    x = Embeddings(self.positions, name="embeddings")(x)
    for index in range(self.layers):
      x = Block(name=f"encoder__layer__{index}")(x)
    return nn.LayerNorm(epsilon=_EPSILON, use_fast_variance=False, name="layernorm")(x)[:, 0]
