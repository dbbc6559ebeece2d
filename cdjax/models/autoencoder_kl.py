"""Stable Diffusion's autoencoder: diffusers' AutoencoderKL in linen, NHWC.

With `patch=1` the networks are exactly diffusers' (`models.convert` loads its weights). `patch=2`
moves each 2×2 block of pixels to channels first, which saves a convolution stage at full
resolution. Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models",
arXiv:2112.10752.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cdjax.core.types import Array, Posterior
from cdjax.models.layers import (
  Downsample,
  ResnetBlock,
  SpatialAttention,
  Upsample,
  conv,
  depth_to_space,
  group_norm,
  space_to_depth,
)
from cdjax.models.remat import rematerialise

LOGVAR_RANGE = (-30.0, 20.0)


class Stage(nn.Module):
  """ResNet blocks at one resolution, then an optional change of resolution.

  Attributes:
    channels: channels of every block.
    layers: number of ResNet blocks.
    groups: groups of the norms.
    resample: "down", "up" or None.
    dropout: rate inside the blocks.
    dtype: of the activations.
  """

  channels: int
  layers: int
  groups: int
  resample: str | None = None
  dropout: float = 0.0
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Array, deterministic: bool = True) -> Array:
    """`[B, H, W, C]` → `[B, H', W', channels]`."""
    for i in range(self.layers):
      block = ResnetBlock(self.channels, self.groups, self.dropout, self.dtype,
                          name=f"resnets_{i}")
      x = block(x, deterministic=deterministic)
    if self.resample == "down":
      x = Downsample(self.channels, dtype=self.dtype, name="downsamplers_0")(x)
    elif self.resample == "up":
      x = Upsample(self.channels, dtype=self.dtype, name="upsamplers_0")(x)
    return x


class MidBlock(nn.Module):
  """ResNet block, optional one-head self-attention, ResNet block; channels stay."""

  groups: int
  attention: bool = True
  dropout: float = 0.0
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Array, deterministic: bool = True) -> Array:
    """`[B, H, W, C]` → the same shape."""
    for i in range(2):
      if i == 1 and self.attention:
        x = SpatialAttention(self.groups, dtype=self.dtype, name="attentions_0")(x)
      block = ResnetBlock(x.shape[-1], self.groups, self.dropout, self.dtype, name=f"resnets_{i}")
      x = block(x, deterministic=deterministic)
    return x


class Encoder(nn.Module):
  """Image to a grid of latent features.

  Attributes:
    out_channels: channels of the result: twice the latent's for mean and log-variance.
    block_out_channels: channels at each resolution, finest first; one halving between two.
    layers_per_block: ResNet blocks at each resolution.
    norm_num_groups: groups of every GroupNorm; must divide every entry of `block_out_channels`.
    mid_attention: self-attention at the coarsest resolution.
    patch: side of the square of pixels moved to channels before the first convolution.
    dropout: rate inside the ResNet blocks (rng collection "dropout").
    dtype: of the activations; parameters, norms and softmax are float32.
    remat: what the backward pass recomputes of each stage; a policy of `models.remat`.
  """

  out_channels: int
  block_out_channels: tuple[int, ...]
  layers_per_block: int = 2
  norm_num_groups: int = 32
  mid_attention: bool = True
  patch: int = 1
  dropout: float = 0.0
  dtype: Any = jnp.float32
  remat: str = "none"

  @nn.compact
  def __call__(self, x: Array, deterministic: bool = True) -> Array:
    """`[B, H, W, C]` → `[B, h, w, out_channels]` float32, h = H / (patch · 2^(stages-1)).

    Raises:
      ValueError: height or width is not a multiple of `patch · 2^(stages-1)`.
    """
    factor = self.patch * 2 ** (len(self.block_out_channels) - 1)
    if x.shape[1] % factor or x.shape[2] % factor:
      raise ValueError(f"an image of {x.shape[1]}×{x.shape[2]} pixels cannot be encoded: "
                       f"both sides must be multiples of {factor}")
    stage, mid = _stages(self.remat)
    x = space_to_depth(x, self.patch) if self.patch > 1 else x
    x = conv(self.block_out_channels[0], dtype=self.dtype, name="conv_in")(x)
    for i, channels in enumerate(self.block_out_channels):
      last = i == len(self.block_out_channels) - 1
      x = stage(channels, self.layers_per_block, self.norm_num_groups, None if last else "down",
                self.dropout, self.dtype, name=f"down_blocks_{i}")(x, deterministic)
    x = mid(self.norm_num_groups, self.mid_attention, self.dropout, self.dtype,
            name="mid_block")(x, deterministic)
    x = nn.silu(group_norm(self.norm_num_groups, dtype=self.dtype, name="conv_norm_out")(x))
    x = conv(self.out_channels, dtype=self.dtype, name="conv_out")(x)
    return x.astype(jnp.float32)


class Decoder(nn.Module):
  """Grid of latent features to an image; attributes as `Encoder`'s.

  `block_out_channels` is finest first here too, and each resolution has `layers_per_block + 1`
  ResNet blocks. `out_channels` counts the image's channels.
  """

  out_channels: int
  block_out_channels: tuple[int, ...]
  layers_per_block: int = 2
  norm_num_groups: int = 32
  mid_attention: bool = True
  patch: int = 1
  dropout: float = 0.0
  dtype: Any = jnp.float32
  remat: str = "none"

  @nn.compact
  def __call__(self, z: Array, deterministic: bool = True) -> Array:
    """`[B, h, w, c]` → `[B, H, W, out_channels]` float32, not clipped."""
    stage, mid = _stages(self.remat)
    x = conv(self.block_out_channels[-1], dtype=self.dtype, name="conv_in")(z)
    x = mid(self.norm_num_groups, self.mid_attention, self.dropout, self.dtype,
            name="mid_block")(x, deterministic)
    for i, channels in enumerate(reversed(self.block_out_channels)):
      last = i == len(self.block_out_channels) - 1
      x = stage(channels, self.layers_per_block + 1, self.norm_num_groups, None if last else "up",
                self.dropout, self.dtype, name=f"up_blocks_{i}")(x, deterministic)
    x = nn.silu(group_norm(self.norm_num_groups, dtype=self.dtype, name="conv_norm_out")(x))
    x = conv(self.out_channels * self.patch ** 2, dtype=self.dtype, name="conv_out")(x)
    x = depth_to_space(x, self.patch) if self.patch > 1 else x
    return x.astype(jnp.float32)


class AutoencoderKL(nn.Module):
  """Encoder, posterior and decoder of Stable Diffusion's first stage.

  The defaults are Stable Diffusion's (83.65 M parameters). The scaling of the latent (0.18215
  there) is the caller's.

  Attributes:
    in_channels: channels of the image, checked.
    out_channels: channels of the reconstruction.
    latent_channels: channels of the latent.
    quant_conv: a 1×1 convolution after the encoder.
    post_quant_conv: a 1×1 convolution before the decoder.
    Others: as `Encoder`'s.
  """

  in_channels: int = 3
  out_channels: int = 3
  latent_channels: int = 4
  block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
  layers_per_block: int = 2
  norm_num_groups: int = 32
  mid_attention: bool = True
  quant_conv: bool = True
  post_quant_conv: bool = True
  patch: int = 1
  dropout: float = 0.0
  dtype: Any = jnp.float32
  remat: str = "none"

  def setup(self):
    shared = dict(
        block_out_channels=self.block_out_channels, layers_per_block=self.layers_per_block,
        norm_num_groups=self.norm_num_groups, mid_attention=self.mid_attention, patch=self.patch,
        dropout=self.dropout, dtype=self.dtype, remat=self.remat)
    self.encoder = Encoder(2 * self.latent_channels, **shared)
    self.decoder = Decoder(self.out_channels, **shared)
    if self.quant_conv:
      self.quant = conv(2 * self.latent_channels, 1, name="quant_conv")
    if self.post_quant_conv:
      self.post_quant = conv(self.latent_channels, 1, name="post_quant_conv")

  def encode(self, x: Array, *, deterministic: bool = True) -> Posterior:
    """Images `[B, H, W, in_channels]` in [-1, 1] to q(z|x) of `[B, h, w, latent_channels]`.

    Raises:
      ValueError: another number of channels, or sides the stages do not divide.
    """
    if x.shape[-1] != self.in_channels:
      raise ValueError(f"image has {x.shape[-1]} channels; expected in_channels={self.in_channels}")
    h = self.encoder(x, deterministic)
    h = self.quant(h) if self.quant_conv else h
    mean, logvar = jnp.split(h, 2, axis=-1)
    return Posterior(mean=mean, logvar=jnp.clip(logvar, *LOGVAR_RANGE))

  def decode(self, z: Array, *, deterministic: bool = True) -> Array:
    """Latents `[B, h, w, latent_channels]` to images `[B, H, W, out_channels]`, not clipped."""
    z = self.post_quant(z) if self.post_quant_conv else z
    return self.decoder(z, deterministic)

  def __call__(self, x: Array, rng: jax.Array | None = None, *,
               deterministic: bool = True) -> tuple[Array, Posterior]:
    """Reconstructs `x` from a sample of its posterior, or from the mean where `rng` is None."""
    posterior = self.encode(x, deterministic=deterministic)
    z = posterior.mean
    if rng is not None:
      z = z + jnp.exp(0.5 * posterior.logvar) * jax.random.normal(rng, z.shape)
    return self.decode(z, deterministic=deterministic), posterior


def _stages(remat: str) -> tuple[type[Stage], type[MidBlock]]:
  """The stage classes under a policy; argument 2 is the flag `deterministic`."""
  return rematerialise(Stage, remat, (2,)), rematerialise(MidBlock, remat, (2,))
