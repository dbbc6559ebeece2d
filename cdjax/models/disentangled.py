"""Stage 1's model: an autoencoder that keeps identity, pathology and acquisition apart.

`encoder -> slots q(z|x) and acquisition code q(z_acq|x) -> causal transformer T -> decoder ->
acquisition(z_acq)` (DESIGN section 3). Encoder and decoder are AutoencoderKL's. The last of the n
slots is the pathology; a healthy image has the null pathology, zeros.
"""

from collections.abc import Mapping

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from cdjax.core.types import Array, Posterior
from cdjax.losses.kl import cap_logvar, posterior_sample
from cdjax.models.acquisition import CODE_SIZE, apply_acquisition
from cdjax.models.autoencoder_kl import Decoder, Encoder
from cdjax.models.layers import dense
from cdjax.models.slot_transformer import SlotTransformer

_ACQUISITION_CHANNELS = 8


@flax.struct.dataclass
class Encoding:
  """What an image says about its causes.

  Attributes:
    slots: posterior of z, `[B, h, w, n, c]`.
    acquisition: posterior of z_acq, `[B, CODE_SIZE]`.
  """

  slots: Posterior
  acquisition: Posterior

  @property
  def identity(self) -> Posterior:
    """Posterior of the identity slots, `[B, h, w, n-1, c]`."""
    return jax.tree.map(lambda a: a[..., :-1, :], self.slots)

  @property
  def pathology(self) -> Posterior:
    """Posterior of the pathology slot, `[B, h, w, c]`."""
    return jax.tree.map(lambda a: a[..., -1, :], self.slots)


def join(z_id: Array, z_path: Array) -> Array:
  """`[B, h, w, n-1, c]` and `[B, h, w, c]` -> z, `[B, h, w, n, c]`."""
  return jnp.concatenate([z_id, z_path[..., None, :]], axis=-2)


class DisentangledAutoencoder(nn.Module):
  """Encoder, causal transformer, decoder and acquisition; see the module's docstring.

  Attributes:
    block_out_channels, layers_per_block, norm_num_groups, mid_attention, patch: of AutoencoderKL's
      blocks; the grid is `H / (patch · 2^(blocks-1))`.
    slots: n, at least 2.
    slot_channels: c.
    transformer_layers, transformer_width, transformer_heads, causal: of T.
    acquisition: False fixes the code to zeros (ablation).
    max_shift: see `apply_acquisition`.
    num_views: radiographic views with an embedding of their own; 1 for none.
    dtype: of the activations.
  """

  block_out_channels: tuple[int, ...]
  layers_per_block: int
  norm_num_groups: int
  mid_attention: bool
  patch: int
  slots: int
  slot_channels: int
  transformer_layers: int
  transformer_width: int
  transformer_heads: int
  causal: bool
  acquisition: bool
  max_shift: float
  num_views: int
  dtype: jnp.dtype

  def setup(self):
    if self.slots < 2:
      raise ValueError(f"slots={self.slots}; identity and pathology need at least 2")
    latent = self.slots * self.slot_channels
    blocks = dict(
        block_out_channels=self.block_out_channels,
        layers_per_block=self.layers_per_block,
        norm_num_groups=self.norm_num_groups,
        mid_attention=self.mid_attention,
        patch=self.patch,
        dtype=self.dtype,
    )
    self.encoder = Encoder(out_channels=2 * latent + _ACQUISITION_CHANNELS, **blocks)
    self.decoder = Decoder(out_channels=1, **blocks)
    self.transformer = SlotTransformer(
        self.transformer_layers, self.transformer_width, self.transformer_heads, self.causal,
        self.dtype)
    self.acquisition_head = dense(
        2 * CODE_SIZE, ("embed", "norm"), kernel_init=nn.initializers.normal(1e-3))
    if self.num_views > 1:
      self.view_embedding = nn.Embed(
          self.num_views, latent,
          embedding_init=nn.with_logical_partitioning(nn.initializers.zeros_init(),
                                                      ("norm", "embed")))

  def encode(self, x: Array) -> Encoding:
    """`x` `[B, H, W, 1]` in [-1, 1] -> posteriors, float32."""
    moments = self.encoder(x).astype(jnp.float32)
    acquisition, moments = jnp.split(moments, [_ACQUISITION_CHANNELS], axis=-1)
    mean, logvar = jnp.split(moments, 2, axis=-1)
    to_slots = lambda a: a.reshape(*a.shape[:3], self.slots, self.slot_channels)
    # Posteriors start narrow, so that early training sees the signal.
    slots = Posterior(to_slots(mean), cap_logvar(to_slots(logvar) - 2.0))
    code = self.acquisition_head(nn.silu(acquisition).reshape(acquisition.shape[0], -1))
    code_mean, code_logvar = jnp.split(code, 2, axis=-1)
    acquisition = Posterior(code_mean, cap_logvar(code_logvar))
    if not self.acquisition:   # the prior, which costs nothing
      acquisition = jax.tree.map(jnp.zeros_like, acquisition)
    return Encoding(slots, acquisition)

  def transform(self, z: Array) -> Array:
    """T, `[B, h, w, n, c]` -> `[B, h, w, n, c]`."""
    return self.transformer(z)

  def decode(self, z: Array, code: Array, view: Array | None = None) -> Array:
    """Latents to image.

    Args:
      z: `[B, h, w, n, c]`.
      code: acquisition, `[B, CODE_SIZE]`.
      view: `[B]` int32; None is view 0.

    Returns:
      `[B, H, W, 1]` in about [-1, 1].
    """
    f = self.transform(z)
    f = f.reshape(*f.shape[:3], -1)
    if self.num_views > 1:
      f = f + self.view_embedding(jnp.zeros(f.shape[0], jnp.int32) if view is None else view)[
          :, None, None]
    film = 0.5 * (self.decoder(f.astype(self.dtype)).astype(jnp.float32) + 1.0)
    code = code if self.acquisition else jnp.zeros_like(code)
    return 2.0 * apply_acquisition(film, code, max_shift=self.max_shift) - 1.0

  def __call__(self, x: Array, key: jax.Array) -> Array:
    """Reconstructs `x` from one draw of its own latents; used to make the parameters."""
    encoding = self.encode(x)
    z = posterior_sample(key, encoding.slots)
    return self.decode(z, encoding.acquisition.mean)


def make_autoencoder(model: Mapping) -> DisentangledAutoencoder:
  """Builds the module from `config.autoencoder.model`."""
  fields = {k: v for k, v in model.items() if k != "sample_latents"}
  fields["block_out_channels"] = tuple(fields["block_out_channels"])
  fields["dtype"] = jnp.dtype(fields["dtype"])
  return DisentangledAutoencoder(**fields)
