"""A convolutional classifier of findings with side, zone and severity.

Used twice with separate weights: as the user's classifier, which names the factual findings where
nobody else does and whose features can tell the autoencoder what is seen, and as the phantom's
judge, which only measures.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp

from cdjax.core.types import Array, PyTree
from cdjax.models.heads import AttentionReadout, FindingsLogits, FindingsReadout, read_out
from cdjax.models.layers import Downsample, ResnetBlock, conv, space_to_depth


class FindingsClassifier(nn.Module):
  """`[B, H, W, 1]` in [-1, 1] -> `FindingsLogits` of K findings.

  Attributes:
    num_findings: K.
    block_out_channels: one resolution each, halved in between.
    layers_per_block, norm_num_groups, dropout, dtype: of the residual blocks.
  """

  num_findings: int
  block_out_channels: tuple[int, ...]
  layers_per_block: int
  norm_num_groups: int
  dropout: float
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: Array, *, deterministic: bool = True) -> FindingsLogits:
    h = space_to_depth(x.astype(self.dtype), 2)
    # Where a thing is decides its side and zone: two coordinates as channels.
    batch, height, width, _ = h.shape
    rows, columns = jnp.linspace(-1, 1, height), jnp.linspace(-1, 1, width)
    places = jnp.stack(jnp.meshgrid(rows, columns, indexing="ij"), -1).astype(self.dtype)
    h = jnp.concatenate([h, jnp.broadcast_to(places, (batch, height, width, 2))], -1)
    h = conv(self.block_out_channels[0], dtype=self.dtype, name="conv_in")(h)
    grids = []
    for i, channels in enumerate(self.block_out_channels):
      for j in range(self.layers_per_block):
        h = ResnetBlock(channels, self.norm_num_groups, dtype=self.dtype, name=f"block_{i}_{j}")(
            h, deterministic=deterministic)
      grids.append(nn.silu(h))
      if i + 1 < len(self.block_out_channels):
        h = Downsample(channels, dtype=self.dtype, name=f"down_{i}")(h)
    self.sow("intermediates", "grids", tuple(grids))   # kept only where a caller asks for it
    # A small lesion is a maximum, a large one a mean; pooling lets any size of image in.
    h = jnp.concatenate([grids[-1].mean((1, 2)), grids[-1].max((1, 2))], -1)
    self.sow("intermediates", "features", h)   # likewise
    h = nn.Dropout(self.dropout, deterministic=deterministic)(h)
    whole = FindingsReadout(self.num_findings, name="readout")(h)
    # The last grid is too coarse for a zone, so each finding looks at the one before.
    local = AttentionReadout(self.num_findings, self.dropout, name="look")(
        grids[-2:][0], deterministic=deterministic)
    return read_out(whole + local)


def feature_grids(model: FindingsClassifier, params: PyTree, x: Array) -> tuple[Array, ...]:
  """What it makes of `x` `[B, H, W, 1]` in [-1, 1] at each resolution, `[B, h, w, c]`."""
  _, kept = model.apply({"params": params}, x, mutable=["intermediates"])
  return kept["intermediates"]["grids"][0]


def make_classifier(model: Mapping, num_findings: int) -> FindingsClassifier:
  """Builds the module from `config.classifier.model` (or `judge`)."""
  fields = dict(model)
  fields["block_out_channels"] = tuple(fields["block_out_channels"])
  fields["dtype"] = jnp.dtype(fields["dtype"])
  return FindingsClassifier(num_findings=num_findings, **fields)
