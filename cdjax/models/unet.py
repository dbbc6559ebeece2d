"""Stable Diffusion's denoiser: diffusers' UNet2DConditionModel in linen, NHWC.

Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", arXiv:2112.10752.
The defaults are Stable Diffusion 1.5's (859.5 M parameters); `models.convert` loads its weights.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cdjax.core.types import Array
from cdjax.models.blocks import EPS, DownBlock, MidBlock, UpBlock
from cdjax.models.layers import KERNEL_INIT, conv, dense, group_norm, timestep_embedding
from cdjax.models.remat import rematerialise


class TimestepEmbedding(nn.Module):
  """Two dense layers with SiLU between, on the sinusoids of the time step."""

  features: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """`[B, E]` → `[B, features]`."""
    x = nn.silu(dense(self.features, dtype=self.dtype, name="linear_1")(x))
    return dense(self.features, ("mlp", "embed"), dtype=self.dtype, name="linear_2")(x)


class UNet2DCondition(nn.Module):
  """Denoiser of a feature map, given a time step and context tokens.

  diffusers calls the *number* of heads `attention_head_dim` in its configurations: a published
  `attention_head_dim=8` is `num_heads=8` here.

  Attributes:
    in_channels: channels of the noisy sample.
    out_channels: channels of the prediction.
    extra_in_channels: further input channels (conditions), after the sample's; their rows of the
      first kernel start at zero, so at the start they change nothing.
    block_out_channels: channels at each resolution, finest first.
    layers_per_block: ResNet blocks at each resolution on the way down; one more on the way up.
    attention_blocks: which resolutions have transformers; the middle always has.
    num_heads: attention heads, one number or one a resolution.
    transformer_layers: depth of each transformer, one number or one a resolution.
    linear_projection: dense layers around the transformers instead of 1×1 convolutions
      (`use_linear_projection` of Stable Diffusion 2).
    cross_attention_dim: width of the context tokens, checked.
    norm_num_groups: groups of every GroupNorm; must divide every entry of `block_out_channels`.
    flip_sin_to_cos: cosines first in the time embedding.
    freq_shift: as `timestep_embedding`'s.
    zero_init_out: the last convolution starts at zero.
    dropout: rate inside the ResNet blocks (rng collection "dropout").
    dtype: of the activations; parameters, norms and softmax are float32.
    remat: what the backward pass recomputes of each block; a policy of `models.remat`.
  """

  in_channels: int = 4
  out_channels: int = 4
  extra_in_channels: int = 0
  block_out_channels: Sequence[int] = (320, 640, 1280, 1280)
  layers_per_block: int = 2
  attention_blocks: Sequence[bool] = (True, True, True, False)
  num_heads: int | Sequence[int] = 8
  transformer_layers: int | Sequence[int] = 1
  linear_projection: bool = False
  cross_attention_dim: int = 768
  norm_num_groups: int = 32
  flip_sin_to_cos: bool = True
  freq_shift: float = 0.0
  zero_init_out: bool = False
  dropout: float = 0.0
  dtype: Any = jnp.float32
  remat: str = "none"

  @nn.compact
  def __call__(self, sample: Array, timesteps: Array, encoder_hidden_states: Array,
               context_mask: Array | None = None, *, deterministic: bool = True) -> Array:
    """Predicts what the training asks for (v, eps or x0).

    Args:
      sample: `[B, h, w, in_channels + extra_in_channels]`.
      timesteps: `[B]` or scalar, 0..T-1.
      encoder_hidden_states: context tokens `[B, L, cross_attention_dim]`.
      context_mask: `[B, L]` bool, True where a token may be attended to; None: all. Where every
        token of an example is masked the cross-attention reads zeros.
      deterministic: no dropout.

    Returns:
      `[B, h, w, out_channels]` float32.

    Raises:
      ValueError: channels, context width or a per-resolution setting do not fit.
    """
    channels = tuple(self.block_out_channels)
    heads = self._per_block("num_heads", self.num_heads)
    depths = self._per_block("transformer_layers", self.transformer_layers)
    attention = self._per_block("attention_blocks", self.attention_blocks)
    self._check(sample, encoder_hidden_states)
    # The numbers are the position of `deterministic`, and of `size`.
    down_block = rematerialise(DownBlock, self.remat, (5,))
    mid_block = rematerialise(MidBlock, self.remat, (5,))
    up_block = rematerialise(UpBlock, self.remat, (6, 7))
    shared = dict(groups=self.norm_num_groups, linear_projection=self.linear_projection,
                  dropout=self.dropout, dtype=self.dtype)

    timesteps = jnp.broadcast_to(timesteps, sample.shape[:1])
    temb = timestep_embedding(timesteps, channels[0], self.flip_sin_to_cos, self.freq_shift)
    temb = TimestepEmbedding(4 * channels[0], self.dtype, name="time_embedding")(temb)
    context = encoder_hidden_states.astype(self.dtype)

    x = conv(channels[0], kernel_init=_zero_rows_init(self.extra_in_channels), dtype=self.dtype,
             name="conv_in")(sample)
    skips = [x]
    for i, width in enumerate(channels):
      block = down_block(
          channels=width, layers=self.layers_per_block, heads=heads[i] if attention[i] else 0,
          transformer_layers=depths[i], downsample=i < len(channels) - 1,
          name=f"down_blocks_{i}", **shared)
      x, new = block(x, temb, context, context_mask, deterministic)
      skips.extend(new)
    x = mid_block(heads=heads[-1], transformer_layers=depths[-1], name="mid_block", **shared)(
        x, temb, context, context_mask, deterministic)
    for i, width in reversed(list(enumerate(channels))):
      layers = self.layers_per_block + 1
      skips, taken = skips[:-layers], tuple(skips[-layers:])
      block = up_block(
          channels=width, heads=heads[i] if attention[i] else 0,
          transformer_layers=depths[i], upsample=i > 0,
          name=f"up_blocks_{len(channels) - 1 - i}", **shared)
      size = skips[-1].shape[1:3] if skips else None
      x = block(x, taken, temb, context, context_mask, size, deterministic)

    x = nn.silu(group_norm(self.norm_num_groups, eps=EPS, dtype=self.dtype,
                           name="conv_norm_out")(x))
    init = nn.initializers.zeros_init() if self.zero_init_out else KERNEL_INIT
    x = conv(self.out_channels, kernel_init=init, dtype=self.dtype, name="conv_out")(x)
    return x.astype(jnp.float32)

  def _per_block(self, name: str, value: Any) -> tuple:
    """One value a resolution, from one number or a sequence of the right length."""
    number = len(self.block_out_channels)
    value = tuple(value) if isinstance(value, Sequence) else (value,) * number
    if len(value) != number:
      raise ValueError(f"{name}={value} has {len(value)} entries; block_out_channels has {number}")
    return value

  def _check(self, sample: Array, context: Array) -> None:
    expected = self.in_channels + self.extra_in_channels
    if sample.shape[-1] != expected:
      raise ValueError(f"sample has {sample.shape[-1]} channels; expected in_channels="
                       f"{self.in_channels} + extra_in_channels={self.extra_in_channels}")
    if context.shape[-1] != self.cross_attention_dim:
      raise ValueError(f"context tokens are {context.shape[-1]} wide; expected "
                       f"cross_attention_dim={self.cross_attention_dim}")


def _zero_rows_init(extra: int) -> nn.initializers.Initializer:
  """The usual initialiser for all but the last `extra` input channels, zero for those."""

  def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    h, w, channels, features = shape
    kernel = KERNEL_INIT(key, (h, w, channels - extra, features), dtype)
    return jnp.pad(kernel, ((0, 0), (0, 0), (0, extra), (0, 0)))

  return init
