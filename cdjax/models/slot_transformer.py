"""The causal transformer T over slots (DESIGN section 3; the paper's causal disentanglement).

Identity slots attend to identity slots only, the pathology slot (the last) attends to everything:
the gradient of the transformed identity with respect to the pathology is exactly zero. Attention is
factorised, across the n slots at each place and then across places within a slot, and every
residual branch ends in a zero-initialised projection, so that T starts as the identity map.
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from cdjax.core.types import Array
from cdjax.models.layers import ZEROS, dense


def causal_slot_mask(slots: int) -> np.ndarray:
  """Who may look at whom, `[n, n]` bool, `[query, key]`: all but (identity, pathology)."""
  mask = np.ones((slots, slots), bool)
  mask[:-1, -1] = False
  return mask


def _layer_norm(**kwargs):
  return nn.LayerNorm(
      scale_init=nn.with_logical_partitioning(nn.initializers.ones_init(), ("norm",)),
      bias_init=nn.with_logical_partitioning(nn.initializers.zeros_init(), ("norm",)),
      **kwargs,
  )


class SelfAttention(nn.Module):
  """Multi-head self-attention over the last axis but one; softmax in float32."""

  heads: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Array, mask: Array | None = None) -> Array:
    """`x` `[..., L, D]`, `mask` `[L, L]` bool (query, key) -> `[..., L, D]`."""
    width = x.shape[-1]
    if width % self.heads:
      raise ValueError(f"width {width} is not divisible by heads={self.heads}")
    qkv = dense(3 * width, ("embed", "heads"), dtype=self.dtype, name="qkv")(x)
    qkv = qkv.reshape(*x.shape[:-1], 3, self.heads, width // self.heads)
    q, k, v = (qkv[..., i, :, :] for i in range(3))
    logits = jnp.einsum("...qhd,...khd->...hqk", q, k).astype(jnp.float32)
    logits *= (width // self.heads) ** -0.5
    if mask is not None:
      logits = jnp.where(mask, logits, -1e30)
    weights = nn.softmax(logits)
    self.sow("intermediates", "attention", weights)
    out = jnp.einsum("...hqk,...khd->...qhd", weights.astype(self.dtype), v)
    out = out.reshape(x.shape)
    return dense(width, ("heads", "embed"), kernel_init=ZEROS, dtype=self.dtype, name="out")(out)


class SlotTransformer(nn.Module):
  """T: `[B, h, w, n, c]` -> `[B, h, w, n, c]`, causal from identity to pathology.

  Attributes:
    layers: 0 makes T the identity map.
    width: of the tokens.
    heads: of both attentions.
    causal: False lets identity slots see the pathology (ablation).
    dtype: of the activations.
  """

  layers: int
  width: int
  heads: int
  causal: bool = True
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, z: Array) -> Array:
    if self.layers == 0:
      return z
    _, height, width, slots, channels = z.shape
    param = lambda name, shape, axes, init: self.param(
        name, nn.with_logical_partitioning(init, axes), shape)
    small = nn.initializers.normal(0.02)
    # Each slot has its own embedding matrix: slots carry different things.
    per_slot = nn.initializers.variance_scaling(1.0, "fan_in", "normal", batch_axis=(0,))
    slot_embedding = param("slot_embedding", (slots, self.width), ("slots", "embed"), small)
    place = param(
        "place_embedding", (height, width, self.width), ("norm", "norm", "embed"), small)
    embed = param(
        "slot_kernel", (slots, channels, self.width), ("slots", "norm", "embed"), per_slot)
    h = jnp.einsum("bhwnc,ncd->bhwnd", z.astype(self.dtype), embed.astype(self.dtype))
    h = h + slot_embedding + place[:, :, None]
    mask = causal_slot_mask(slots) if self.causal else None
    norm = lambda name: _layer_norm(dtype=self.dtype, name=name)
    for i in range(self.layers):
      h = h + SelfAttention(self.heads, self.dtype, name=f"slots_{i}")(norm(f"norm_a{i}")(h), mask)
      # [B, h, w, n, D] -> [B, n, h*w, D]: across places within a slot.
      places = jnp.moveaxis(norm(f"norm_b{i}")(h), 3, 1)
      places = places.reshape(-1, slots, height * width, self.width)
      places = SelfAttention(self.heads, self.dtype, name=f"places_{i}")(places)
      h = h + jnp.moveaxis(places.reshape(-1, slots, height, width, self.width), 1, 3)
      m = dense(2 * self.width, dtype=self.dtype, name=f"mlp_in_{i}")(
          norm(f"norm_c{i}")(h))
      h = h + dense(self.width, ("mlp", "embed"), kernel_init=ZEROS, dtype=self.dtype,
                    name=f"mlp_out_{i}")(nn.gelu(m))
    out = dense(channels, ("embed", "norm"), kernel_init=ZEROS, dtype=self.dtype, name="out")(
        norm("norm")(h))
    return z + out.astype(z.dtype)
