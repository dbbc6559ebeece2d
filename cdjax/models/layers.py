"""Layers shared by the autoencoder, the UNet and the classifier. NHWC throughout.

The blocks are those of Stable Diffusion's networks (Rombach et al., arXiv:2112.10752) as the
diffusers library defines them, and parameters carry its names, so that `models.convert` can load
published weights. Parameters are float32; `dtype` is that of the activations; the statistics of
GroupNorm and the softmax of attention are float32 whatever `dtype` is.

Every parameter carries logical axis names: convolution kernels
('conv_h', 'conv_w', 'conv_in', 'conv_out'), dense kernels ('embed', 'mlp'), attention
projections ('embed', 'heads'), biases and norm scales ('norm',).
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.nn.initializers import Initializer

from cdjax.core.types import Array
from cdjax.sharding import logical

KERNEL_INIT = nn.initializers.lecun_normal()
ZEROS = nn.initializers.zeros_init()
CONV_AXES = ("conv_h", "conv_w", "conv_in", "conv_out")
ACTIVATION_AXES = ("batch", "height", "width", "channels")


def constrain(x: Array) -> Array:
  """Names the axes of a feature map `[B, H, W, C]` for the partitioner; identity without a mesh."""
  return logical.constrain(x, ACTIVATION_AXES)


def conv(features: int, kernel: int = 3, *, strides: int = 1, padding: Any = None,
         kernel_init: Initializer = KERNEL_INIT, dtype: Any = jnp.float32,
         name: str | None = None) -> nn.Conv:
  """A square 2-D convolution with named axes; padding defaults to `kernel // 2` on every side."""
  return nn.Conv(
      features, (kernel, kernel), strides=strides,
      padding=kernel // 2 if padding is None else padding, dtype=dtype,
      kernel_init=nn.with_logical_partitioning(kernel_init, CONV_AXES),
      bias_init=nn.with_logical_partitioning(ZEROS, ("norm",)), name=name)


def dense(features: int, axes: tuple[str, str] = ("embed", "mlp"), *, use_bias: bool = True,
          kernel_init: Initializer = KERNEL_INIT, dtype: Any = jnp.float32,
          name: str | None = None) -> nn.Dense:
  """A dense layer over the last axis with named axes (input, output)."""
  return nn.Dense(
      features, use_bias=use_bias, dtype=dtype,
      kernel_init=nn.with_logical_partitioning(kernel_init, axes),
      bias_init=nn.with_logical_partitioning(ZEROS, ("norm",)), name=name)


def embed(rows: int, features: int, *, dtype: Any = jnp.float32,
          name: str | None = None) -> nn.Embed:
  """A table of `rows` vectors with named axes."""
  return nn.Embed(rows, features, dtype=dtype, name=name,
                  embedding_init=nn.with_logical_partitioning(
                      nn.initializers.normal(0.02), ("vocab", "embed")))


def group_norm(groups: int, *, eps: float = 1e-6, dtype: Any = jnp.float32,
               name: str | None = None) -> nn.GroupNorm:
  """GroupNorm over `[B, ..., C]` with float32 statistics and named axes."""
  return nn.GroupNorm(
      groups, epsilon=eps, dtype=dtype, use_fast_variance=False,
      scale_init=nn.with_logical_partitioning(nn.initializers.ones_init(), ("norm",)),
      bias_init=nn.with_logical_partitioning(ZEROS, ("norm",)), name=name)


def layer_norm(*, eps: float = 1e-5, dtype: Any = jnp.float32,
               name: str | None = None) -> nn.LayerNorm:
  """LayerNorm over the last axis with float32 statistics and named axes."""
  return nn.LayerNorm(
      epsilon=eps, dtype=dtype, use_fast_variance=False,
      scale_init=nn.with_logical_partitioning(nn.initializers.ones_init(), ("norm",)),
      bias_init=nn.with_logical_partitioning(ZEROS, ("norm",)), name=name)


class ResnetBlock(nn.Module):
  """GroupNorm → SiLU → 3×3 → (+ time) → GroupNorm → SiLU → dropout → 3×3, and the residual.

  Attributes:
    out_channels: channels of the result; where they differ from the input's the residual passes
      a 1×1 convolution.
    groups: groups of both norms; must divide the input's channels and `out_channels`.
    dropout: rate, active when `deterministic` is False (rng collection "dropout").
    dtype: of the activations.
    eps: of the norms; 1e-6 in AutoencoderKL, 1e-5 in the UNet.
  """

  out_channels: int
  groups: int
  dropout: float = 0.0
  dtype: Any = jnp.float32
  eps: float = 1e-6

  @nn.compact
  def __call__(self, x: Array, temb: Array | None = None, *, deterministic: bool = True) -> Array:
    """`x` is `[B, H, W, C]`, `temb` `[B, E]` or None; returns `[B, H, W, out_channels]`."""
    h = group_norm(self.groups, eps=self.eps, dtype=self.dtype, name="norm1")(x)
    h = conv(self.out_channels, dtype=self.dtype, name="conv1")(nn.silu(h))
    if temb is not None:
      shift = dense(self.out_channels, dtype=self.dtype, name="time_emb_proj")(nn.silu(temb))
      h = h + shift[:, None, None, :]
    h = group_norm(self.groups, eps=self.eps, dtype=self.dtype, name="norm2")(h)
    h = nn.Dropout(self.dropout)(nn.silu(h), deterministic=deterministic)
    h = conv(self.out_channels, dtype=self.dtype, name="conv2")(h)
    if x.shape[-1] != self.out_channels:
      x = conv(self.out_channels, 1, dtype=self.dtype, name="conv_shortcut")(x)
    return constrain(x.astype(self.dtype) + h)


class Downsample(nn.Module):
  """Halves height and width by a strided 3×3 convolution.

  Attributes:
    channels: channels of the result.
    asymmetric: pad only below and right, as AutoencoderKL does; otherwise one pixel on every
      side, as the UNet does.
    dtype: of the activations.
  """

  channels: int
  asymmetric: bool = True
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """`[B, H, W, C]` → `[B, H', W', channels]`; H' is ⌊H/2⌋ if asymmetric, else ⌈H/2⌉."""
    padding = ((0, 1), (0, 1)) if self.asymmetric else 1
    return constrain(
        conv(self.channels, strides=2, padding=padding, dtype=self.dtype, name="conv")(x))


class Upsample(nn.Module):
  """Nearest-neighbour enlargement followed by a 3×3 convolution."""

  channels: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Array, size: tuple[int, int] | None = None) -> Array:
    """`[B, H, W, C]` → `[B, *size, channels]`; `size` defaults to (2H, 2W)."""
    # Without the names here the gradient of the kernel gathers the enlarged map of all devices.
    x = constrain(resize_nearest(x, size or (2 * x.shape[1], 2 * x.shape[2])))
    return constrain(conv(self.channels, dtype=self.dtype, name="conv")(x))


class SpatialAttention(nn.Module):
  """Self-attention over all places of a feature map, with GroupNorm before and a residual.

  Attributes:
    groups: groups of the norm.
    heads: number of heads; AutoencoderKL has one.
    head_dim: channels of a head; None shares the map's channels out over the heads.
    dtype: of the activations; the softmax is float32.
    eps: of the norm.
  """

  groups: int
  heads: int = 1
  head_dim: int | None = None
  dtype: Any = jnp.float32
  eps: float = 1e-6

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """`[B, H, W, C]` → the same shape."""
    b, h, w, c = x.shape
    if self.head_dim is None and c % self.heads:
      raise ValueError(f"{c} channels cannot be shared out over heads={self.heads}")
    head_dim = self.head_dim or c // self.heads
    tokens = group_norm(self.groups, eps=self.eps, dtype=self.dtype, name="group_norm")(x)
    tokens = tokens.reshape(b, h * w, c)
    q, k, v = (
        dense(self.heads * head_dim, ("embed", "heads"), dtype=self.dtype, name=name)(tokens)
        .reshape(b, h * w, self.heads, head_dim) for name in ("to_q", "to_k", "to_v"))
    out = jax.nn.dot_product_attention(q, k, v).reshape(b, h * w, -1)
    out = dense(c, ("heads", "embed"), dtype=self.dtype, name="to_out_0")(out)
    return constrain(x.astype(self.dtype) + out.reshape(x.shape))


def timestep_embedding(t: Array, dim: int, flip_sin_to_cos: bool = True,
                       freq_shift: float = 0.0, max_period: float = 10000.0) -> Array:
  """Sinusoids of the time step (Vaswani et al., arXiv:1706.03762; Ho et al., arXiv:2006.11239).

  Args:
    t: `[B]` integer or float time steps.
    dim: width of the embedding; an odd one has a zero at its end.
    flip_sin_to_cos: cosines first, as Stable Diffusion has it.
    freq_shift: the frequencies are `max_period ** (-i / (dim // 2 - freq_shift))`.
    max_period: the longest period over 2π.

  Returns:
    `[B, dim]` float32 in [-1, 1].
  """
  half = dim // 2
  exponent = np.arange(half, dtype=np.float32) / (half - freq_shift)
  frequencies = np.exp(-np.log(max_period) * exponent).astype(np.float32)
  angles = jnp.asarray(t, jnp.float32)[:, None] * frequencies
  parts = [jnp.sin(angles), jnp.cos(angles)]
  if flip_sin_to_cos:
    parts.reverse()
  return jnp.pad(jnp.concatenate(parts, -1), ((0, 0), (0, dim % 2)))


def resize_nearest(x: Array, size: tuple[int, int]) -> Array:
  """Nearest-neighbour resize of `[B, H, W, C]`; output row i reads input row ⌊i·H/size⌋."""
  b, h, w, c = x.shape
  if size == (2 * h, 2 * w):   # a broadcast is much cheaper than a gather
    x = jnp.broadcast_to(x[:, :, None, :, None, :], (b, h, 2, w, 2, c))
    return x.reshape(b, 2 * h, 2 * w, c)
  rows, columns = (np.arange(n) * m // n for n, m in zip(size, (h, w), strict=True))
  return x[:, rows][:, :, columns]


def space_to_depth(x: Array, patch: int) -> Array:
  """`[B, H, W, C]` → `[B, H/patch, W/patch, patch²·C]`; the inverse of `depth_to_space`.

  Raises:
    ValueError: `patch` does not divide the height or the width.
  """
  b, h, w, c = x.shape
  if h % patch or w % patch:
    raise ValueError(f"patch={patch} does not divide an image of {h}×{w} pixels")
  x = x.reshape(b, h // patch, patch, w // patch, patch, c).transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(b, h // patch, w // patch, patch * patch * c)


def depth_to_space(x: Array, patch: int) -> Array:
  """`[B, H, W, patch²·C]` → `[B, H·patch, W·patch, C]`; the inverse of `space_to_depth`.

  Raises:
    ValueError: patch² does not divide the channels.
  """
  b, h, w, c = x.shape
  if c % (patch * patch):
    raise ValueError(f"patch={patch} needs channels divisible by {patch * patch}; got {c}")
  x = x.reshape(b, h, w, patch, patch, c // (patch * patch)).transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(b, h * patch, w * patch, c // (patch * patch))
