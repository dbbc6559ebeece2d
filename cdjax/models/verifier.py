"""A siamese network that says whether two radiographs are of one patient: it only measures.

Packhäuser et al., "Deep learning-based patient re-identification is able to exploit the biometric
nature of medical chest X-ray data", arXiv:2103.08562, with a small network of our own layers.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp

from cdjax.core.types import Array
from cdjax.models.layers import Downsample, ResnetBlock, conv, dense, space_to_depth


class PatientVerifier(nn.Module):
  """`[B, H, W, 1]` in [-1, 1] → `[B, D]` of length 1; the likeness of two is their product.

  Attributes:
    block_out_channels: one resolution each, halved in between.
    layers_per_block, norm_num_groups, dropout, dtype: of the residual blocks.
    embedding: D.
    grid: anatomy is where things are, so that features are averaged over grid x grid places and
      not over the whole image.
  """

  block_out_channels: tuple[int, ...]
  layers_per_block: int
  norm_num_groups: int
  dropout: float
  dtype: jnp.dtype
  embedding: int
  grid: int

  @nn.compact
  def __call__(self, x: Array, *, deterministic: bool = True) -> Array:
    h = space_to_depth(x.astype(self.dtype), 2)
    h = conv(self.block_out_channels[0], dtype=self.dtype, name="conv_in")(h)
    for i, channels in enumerate(self.block_out_channels):
      for j in range(self.layers_per_block):
        h = ResnetBlock(channels, self.norm_num_groups, self.dropout, dtype=self.dtype,
                        name=f"block_{i}_{j}")(h, deterministic=deterministic)
      if i + 1 < len(self.block_out_channels):
        h = Downsample(channels, dtype=self.dtype, name=f"down_{i}")(h)
    h = nn.silu(h)
    side = min(self.grid, *h.shape[1:3])
    window = tuple(size // side for size in h.shape[1:3])
    h = nn.avg_pool(h, window, window)
    h = dense(self.embedding, dtype=jnp.float32, name="embedding")(
        h.reshape(len(h), -1).astype(jnp.float32))
    return h / jnp.maximum(jnp.linalg.norm(h, axis=-1, keepdims=True), 1e-6)


def make_verifier(model: Mapping) -> PatientVerifier:
  """Builds the module from `config.verifier.model`."""
  fields = dict(model)
  fields["block_out_channels"] = tuple(fields["block_out_channels"])
  fields["dtype"] = jnp.dtype(fields["dtype"])
  return PatientVerifier(**fields)
