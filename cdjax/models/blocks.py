"""Stages of the UNet: diffusers' (CrossAttn)DownBlock2D, mid block and (CrossAttn)UpBlock2D."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from cdjax.core.types import Array
from cdjax.models.attention import Transformer2D
from cdjax.models.layers import Downsample, ResnetBlock, Upsample

EPS = 1e-5   # of the UNet's GroupNorms, except those of its transformers


class DownBlock(nn.Module):
  """ResNet blocks, each with a transformer if `heads`, then an optional halving.

  Attributes:
    channels: channels of the result.
    layers: number of ResNet blocks.
    groups: groups of the norms.
    heads: attention heads; 0: no transformers (DownBlock2D).
    transformer_layers: depth of each transformer.
    linear_projection: as `Transformer2D`'s.
    downsample: halve the resolution at the end.
    dropout: rate inside the ResNet blocks.
    dtype: of the activations.
  """

  channels: int
  layers: int
  groups: int
  heads: int = 0
  transformer_layers: int = 1
  linear_projection: bool = False
  downsample: bool = True
  dropout: float = 0.0
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Array, temb: Array, context: Array, mask: Array | None,
               deterministic: bool = True) -> tuple[Array, tuple[Array, ...]]:
    """Returns the last feature map and all that the way up takes as skips, in order.

    Args:
      x: `[B, H, W, C]`.
      temb: time embedding `[B, E]`.
      context: `[B, L, D]`; unused without heads.
      mask: `[B, L]` bool or None.
      deterministic: no dropout.
    """
    skips = []
    for i in range(self.layers):
      block = ResnetBlock(self.channels, self.groups, self.dropout, self.dtype, EPS,
                          name=f"resnets_{i}")
      x = block(x, temb, deterministic=deterministic)
      if self.heads:
        x = Transformer2D(self.heads, self.transformer_layers, self.groups,
                          self.linear_projection, self.dtype,
                          name=f"attentions_{i}")(x, context, mask)
      skips.append(x)
    if self.downsample:
      x = Downsample(self.channels, asymmetric=False, dtype=self.dtype, name="downsamplers_0")(x)
      skips.append(x)
    return x, tuple(skips)


class MidBlock(nn.Module):
  """ResNet block, transformer, ResNet block (UNetMidBlock2DCrossAttn); channels stay."""

  groups: int
  heads: int
  transformer_layers: int = 1
  linear_projection: bool = False
  dropout: float = 0.0
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Array, temb: Array, context: Array, mask: Array | None,
               deterministic: bool = True) -> Array:
    """Arguments as `DownBlock`'s; `[B, H, W, C]` → the same shape."""
    for i in range(2):
      if i == 1:
        x = Transformer2D(self.heads, self.transformer_layers, self.groups,
                          self.linear_projection, self.dtype,
                          name="attentions_0")(x, context, mask)
      block = ResnetBlock(x.shape[-1], self.groups, self.dropout, self.dtype, EPS,
                          name=f"resnets_{i}")
      x = block(x, temb, deterministic=deterministic)
    return x


class UpBlock(nn.Module):
  """ResNet blocks over the map and one skip each, transformers if `heads`, then enlargement.

  Attributes:
    upsample: enlarge at the end.
    Others: as `DownBlock`'s.
  """

  channels: int
  groups: int
  heads: int = 0
  transformer_layers: int = 1
  linear_projection: bool = False
  upsample: bool = True
  dropout: float = 0.0
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Array, skips: tuple[Array, ...], temb: Array, context: Array,
               mask: Array | None, size: tuple[int, int] | None = None,
               deterministic: bool = True) -> Array:
    """`[B, H, W, C]` → `[B, *size, channels]`, or `[B, H, W, channels]` without enlargement.

    Args:
      x: `[B, H, W, C]`.
      skips: `[B, H, W, C_i]` for each ResNet block, in the order in which the way down made
        them; the last is used first.
      temb: time embedding `[B, E]`.
      context: `[B, L, D]`; unused without heads.
      mask: `[B, L]` bool or None.
      size: height and width after the enlargement (that of the next skip).
      deterministic: no dropout.
    """
    for i, skip in enumerate(reversed(skips)):
      x = jnp.concatenate([x, skip], axis=-1)
      block = ResnetBlock(self.channels, self.groups, self.dropout, self.dtype, EPS,
                          name=f"resnets_{i}")
      x = block(x, temb, deterministic=deterministic)
      if self.heads:
        x = Transformer2D(self.heads, self.transformer_layers, self.groups,
                          self.linear_projection, self.dtype,
                          name=f"attentions_{i}")(x, context, mask)
    if self.upsample:
      x = Upsample(self.channels, dtype=self.dtype, name="upsamplers_0")(x, size)
    return x
