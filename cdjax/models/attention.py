"""The transformer of the UNet: self-attention over places, cross-attention to the findings.

diffusers' Transformer2DModel with BasicTransformerBlock (GEGLU feed-forward, layer norms before).
Rombach et al., arXiv:2112.10752, section 3.3; Shazeer, "GLU Variants Improve Transformer",
arXiv:2002.05202, for GEGLU.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cdjax.core.types import Array
from cdjax.models.flash import attend_by_tiles, fits_tiles
from cdjax.models.layers import constrain, conv, dense, group_norm, layer_norm


def attend(q: Array, k: Array, v: Array, mask: Array | None = None) -> Array:
  """Scaled dot-product attention with a float32 softmax.

  Args:
    q: queries `[B, T, N, D]`, N heads.
    k: keys `[B, S, N, D]`.
    v: values `[B, S, N, D]`.
    mask: `[B, S]` bool, True where a key may be attended to; None: everywhere.

  Returns:
    `[B, T, N, D]`; zeros for an example whose keys are all masked.
  """
  if mask is None:
    plain = jax.nn.dot_product_attention
    if fits_tiles(q, k):
      return jax.lax.platform_dependent(q, k, v, tpu=attend_by_tiles, default=plain)
    return plain(q, k, v)
  out = jax.nn.dot_product_attention(q, k, v, mask=mask[:, None, None, :])
  # With every key masked the softmax is uniform over keys that must not be read.
  return jnp.where(mask.any(-1)[:, None, None, None], out, 0)


class Attention(nn.Module):
  """Multi-head attention from tokens to themselves or to a context.

  Attributes:
    heads: number of heads.
    head_dim: channels of each.
    dtype: of the activations.
  """

  heads: int
  head_dim: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Array, context: Array | None = None, mask: Array | None = None) -> Array:
    """`x` `[B, T, C]`, `context` `[B, S, D]` (None: x), `mask` `[B, S]` bool → `[B, T, C]`."""
    context = x if context is None else context

    def project(tokens, name):
      width = self.heads * self.head_dim
      out = dense(width, ("embed", "heads"), use_bias=False, dtype=self.dtype, name=name)(tokens)
      return out.reshape(*tokens.shape[:2], self.heads, self.head_dim)

    out = attend(project(x, "to_q"), project(context, "to_k"), project(context, "to_v"), mask)
    out = out.reshape(*x.shape[:2], self.heads * self.head_dim)
    return dense(x.shape[-1], ("heads", "embed"), dtype=self.dtype, name="to_out_0")(out)


class GEGLU(nn.Module):
  """One dense layer to twice the width; the second half gates the first by an exact GELU."""

  features: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """`[B, T, C]` → `[B, T, features]`."""
    h, gate = jnp.split(dense(2 * self.features, dtype=self.dtype, name="proj")(x), 2, axis=-1)
    return h * nn.gelu(gate, approximate=False)


class FeedForward(nn.Module):
  """GEGLU of four times the width and the way back."""

  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """`[B, T, C]` → the same shape."""
    h = GEGLU(4 * x.shape[-1], self.dtype, name="net_0")(x)
    return dense(x.shape[-1], ("mlp", "embed"), dtype=self.dtype, name="net_2")(h)


class BasicTransformerBlock(nn.Module):
  """Self-attention, cross-attention, feed-forward, each on layer-normed input and residual."""

  heads: int
  head_dim: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Array, context: Array, mask: Array | None = None) -> Array:
    """`x` `[B, T, C]`, `context` `[B, L, D]`, `mask` `[B, L]` bool or None → `[B, T, C]`."""
    norm1, norm2, norm3 = (layer_norm(dtype=self.dtype, name=f"norm{i}") for i in (1, 2, 3))
    attn1, attn2 = (Attention(self.heads, self.head_dim, self.dtype, name=f"attn{i}")
                    for i in (1, 2))
    x = x + attn1(norm1(x))
    x = x + attn2(norm2(x), context, mask)
    return x + FeedForward(self.dtype, name="ff")(norm3(x))


class Transformer2D(nn.Module):
  """Transformer blocks over the places of a feature map, with a residual around all of it.

  Attributes:
    heads: number of heads; must divide the channels.
    layers: number of transformer blocks.
    groups: groups of the norm before the projection.
    linear_projection: project in and out by dense layers, not 1×1 convolutions. The arithmetic
      is the same; the shape of the weights is not (Stable Diffusion 2 has dense ones).
    dtype: of the activations.
  """

  heads: int
  layers: int
  groups: int
  linear_projection: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Array, context: Array, mask: Array | None = None) -> Array:
    """`x` `[B, H, W, C]`, `context` `[B, L, D]`, `mask` `[B, L]` bool or None → `[B, H, W, C]`."""
    channels = x.shape[-1]
    if channels % self.heads:
      raise ValueError(f"{channels} channels cannot be shared out over heads={self.heads}")
    h = group_norm(self.groups, dtype=self.dtype, name="norm")(x)
    h = self.project(channels, "proj_in")(h)
    tokens = h.reshape(x.shape[0], -1, channels)
    for i in range(self.layers):
      block = BasicTransformerBlock(self.heads, channels // self.heads, self.dtype,
                                    name=f"transformer_blocks_{i}")
      tokens = block(tokens, context, mask)
    return constrain(x + self.project(channels, "proj_out")(tokens.reshape(x.shape)))

  def project(self, channels: int, name: str) -> nn.Module:
    """The layer before or after the transformer blocks."""
    if self.linear_projection:
      return dense(channels, dtype=self.dtype, name=name)
    return conv(channels, 1, dtype=self.dtype, name=name)
