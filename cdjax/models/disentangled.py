"""Stage 1's model: an autoencoder that keeps identity, pathology and acquisition apart.

`acquisition code q(z_acq|x) -> x without its acquisition -> encoder -> slots q(z|x) -> causal
transformer T -> decoders -> acquisition(z_acq)` (DESIGN section 3). The last of the n slots is the
pathology; a healthy image has the null pathology, zeros.

The healthy film is decoded from the identity slots alone. The pathology slot, which sees them
through T, is decoded to a lesion and its opacity, and laid over the film: `film + opacity · (lesion
− film)`. So an effusion hides the ribs behind it instead of being added to them, and where the
opacity is zero an intervention on the pathology cannot touch the image.

Encoder and decoders are AutoencoderKL's. Beside those of the film runs a linear path of patches
with weights of their own at every place: radiographs are registered, so a local linear code (12
numbers of an 8 × 8 patch) is a good start that convolutions alone need thousands of steps to find.
Lesions have none: what a nodule looks like does not depend on where it is, and what is learnt of it
at one place should hold at another.
"""

import math
from collections.abc import Mapping

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from cdjax.core.images import from_unit, gaussian_blur, to_unit
from cdjax.core.types import Array, Posterior
from cdjax.losses.kl import cap_logvar, posterior_sample
from cdjax.models.acquisition import CODE_SIZE, apply_acquisition, remove_acquisition
from cdjax.models.autoencoder_kl import Decoder, Encoder
from cdjax.models.layers import dense, depth_to_space, space_to_depth
from cdjax.models.slot_transformer import SlotTransformer

_BINOMIAL = (2.0 * math.log(2.0)) ** -0.5   # sigma of the filter (1, 2, 1) / 4
_CLEAR, _GREY = 3.0, 0.5   # lesions start out transparent (by this logit) and light grey
_ACQUISITION_GRID = 32   # the code is read from the image averaged down to this side


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


@flax.struct.dataclass
class Layers:
  """What is seen of a patient, `[B, H, W, 1]` each.

  Attributes:
    film: the healthy patient, in about [-1, 1].
    lesion: what lies over it, in the same range.
    opacity: how much of the film that hides, in [0, 1].
  """

  film: Array
  lesion: Array
  opacity: Array


def join(z_id: Array, z_path: Array) -> Array:
  """`[B, h, w, n-1, c]` and `[B, h, w, c]` -> z, `[B, h, w, n, c]`."""
  return jnp.concatenate([z_id, z_path[..., None, :]], axis=-2)


def has_pathology(z: Array) -> Array:
  """0 where the pathology slot of `z` `[B, h, w, n, c]` is null, else 1: `[B, 1, 1, 1]` float32."""
  return (z[..., -1, :] != 0).any((1, 2, 3))[:, None, None, None].astype(jnp.float32)


class LocalLinear(nn.Module):
  """A linear map at every place of a grid, each place with weights of its own.

  Attributes:
    features: of the result.
    kernel_init: of the weights `[h, w, C, features]`.
  """

  features: int
  kernel_init: nn.initializers.Initializer

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """`[B, h, w, C]` -> `[B, h, w, features]`, float32."""
    shape = (*x.shape[1:], self.features)
    names = ("height", "width", "conv_in", "conv_out")
    init = nn.with_logical_partitioning(self.kernel_init, names)
    kernel = self.param("place_kernel", init, shape)
    bias = self.param("bias", nn.with_logical_partitioning(
        nn.initializers.zeros_init(), ("height", "width", "norm")), (*shape[:2], self.features))
    return jnp.einsum("bhwc,hwcf->bhwf", x.astype(jnp.float32), kernel) + bias


class DisentangledAutoencoder(nn.Module):
  """Encoder, causal transformer, decoder and acquisition; see the module's docstring.

  Attributes:
    block_out_channels, layers_per_block, norm_num_groups, mid_attention, patch: of AutoencoderKL's
      blocks; the grid is `H / (patch · 2^(blocks-1))`.
    slots: n, at least 2.
    slot_channels: c.
    transformer_layers, transformer_width, transformer_heads, causal: of T.
    lesion_channels: the lesion decoder's counterpart of `block_out_channels`; empty: one decoder
      turns all slots into the film (ablation).
    linear_path: the linear paths beside encoder and decoders.
    acquisition: False fixes the code to zeros (ablation).
    max_shift: see `apply_acquisition`.
    num_views: radiographic views with an embedding of their own; 1 for none.
    dtype: of the activations.
    remat: of the stages of encoder and decoders; a policy of `models.remat`.
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
  lesion_channels: tuple[int, ...]
  linear_path: bool
  acquisition: bool
  max_shift: float
  num_views: int
  dtype: jnp.dtype
  remat: str

  def setup(self):
    if self.slots < 2:
      raise ValueError(f"slots={self.slots}; identity and pathology need at least 2")
    if self.lesion_channels and len(self.lesion_channels) != len(self.block_out_channels):
      raise ValueError(f"lesion_channels={self.lesion_channels}; expected as many as "
                       f"block_out_channels={self.block_out_channels}, or none")
    latent = self.slots * self.slot_channels
    blocks = dict(
        layers_per_block=self.layers_per_block,
        norm_num_groups=self.norm_num_groups,
        mid_attention=self.mid_attention,
        patch=self.patch,
        dtype=self.dtype,
        remat=self.remat,
    )
    self.encoder = Encoder(2 * latent, self.block_out_channels, **blocks)
    self.decoder = Decoder(1, self.block_out_channels, **blocks)
    if self.lesion_channels:
      self.lesion_decoder = Decoder(2, self.lesion_channels, **blocks)
    self.transformer = SlotTransformer(
        self.transformer_layers, self.transformer_width, self.transformer_heads, self.causal,
        self.dtype)
    self.acquisition_hidden = [dense(256), dense(128)]
    self.acquisition_head = dense(
        2 * CODE_SIZE, ("mlp", "norm"), kernel_init=nn.initializers.normal(1e-3))
    if self.linear_path:
      per_place = nn.initializers.variance_scaling(0.1, "fan_in", "normal", batch_axis=(0, 1))
      self.linear_encoder = LocalLinear(2 * self.film_slots * self.slot_channels, per_place)
      self.linear_decoder = LocalLinear(self.downsampling**2, nn.initializers.zeros_init())
    if self.num_views > 1:
      self.view_embedding = nn.Embed(
          self.num_views, latent,
          embedding_init=nn.with_logical_partitioning(nn.initializers.zeros_init(),
                                                      ("norm", "embed")))

  @property
  def downsampling(self) -> int:
    """Pixels of a place of the grid, along a side."""
    return self.patch * 2 ** (len(self.block_out_channels) - 1)

  @property
  def film_slots(self) -> int:
    """How many of the slots, the first ones, make the film."""
    return self.slots - 1 if self.lesion_channels else self.slots

  def encode(self, x: Array) -> Encoding:
    """`x` `[B, H, W, 1]` in [-1, 1] -> posteriors, float32."""
    acquisition = self.encode_acquisition(x)
    # The identity is that of the study as an average acquisition would show it.
    x = from_unit(remove_acquisition(to_unit(x), acquisition.mean, max_shift=self.max_shift))
    by_slot = lambda a, n: a.astype(jnp.float32).reshape(*a.shape[:3], 2, n, self.slot_channels)
    moments = by_slot(self.encoder(x), self.slots)
    if self.linear_path:
      local = by_slot(self.linear_encoder(space_to_depth(x, self.downsampling)), self.film_slots)
      moments = moments.at[..., :self.film_slots, :].add(local)
    mean, logvar = moments[..., 0, :, :], moments[..., 1, :, :]
    # Posteriors start narrow, so that early training sees the signal.
    return Encoding(Posterior(mean, cap_logvar(logvar - 2.0)), acquisition)

  def encode_acquisition(self, x: Array) -> Posterior:
    """q(z_acq|x), `[B, CODE_SIZE]`, from the image's coarse grey values."""
    batch, height, width, _ = x.shape
    grid = min(_ACQUISITION_GRID, height, width)
    if height % grid or width % grid:
      raise ValueError(f"images of {height} × {width}; expected multiples of {grid}")
    coarse = x.reshape(batch, grid, height // grid, grid, width // grid).mean((2, 4))
    coarse = coarse.reshape(batch, -1)
    h = coarse.astype(jnp.float32)
    for layer in self.acquisition_hidden:
      h = nn.silu(layer(h))
    code = self.acquisition_head(h)
    mean, logvar = jnp.split(code, 2, axis=-1)
    posterior = Posterior(mean, cap_logvar(logvar))
    # Without a code: the prior, which costs nothing and means the average acquisition.
    return posterior if self.acquisition else jax.tree.map(jnp.zeros_like, posterior)

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
    return self.observe(self.paint(z, view), code)

  def paint(self, z: Array, view: Array | None = None) -> Layers:
    """The film and the lesion over it, before the acquisition; arguments as `decode`'s."""
    f = self.transform(z)
    if self.num_views > 1:
      view = jnp.zeros(f.shape[0], jnp.int32) if view is None else view
      f = f + self.view_embedding(view).reshape(-1, 1, 1, *f.shape[3:])
    flat = lambda f: f.reshape(*f.shape[:3], -1)
    seen = flat(f[..., :self.film_slots, :])
    film = self.decoder(seen.astype(self.dtype)).astype(jnp.float32)
    if self.linear_path:
      film = film + depth_to_space(self.linear_decoder(seen), self.downsampling)
    if not self.lesion_channels:
      return Layers(film, film, jnp.zeros_like(film))
    lesion, opacity = self._lesion(flat(f))
    return Layers(film, lesion, has_pathology(z) * opacity)

  def observe(self, layers: Layers, code: Array) -> Array:
    """What an acquisition `[B, CODE_SIZE]` shows of the layers: `[B, H, W, 1]` in about [-1, 1]."""
    film = layers.film + layers.opacity * (layers.lesion - layers.film)
    code = code if self.acquisition else jnp.zeros_like(code)
    return from_unit(apply_acquisition(to_unit(film), code, max_shift=self.max_shift))

  def _lesion(self, f: Array) -> tuple[Array, Array]:
    """`f` `[B, h, w, n·c]` -> what covers the film and how much of it, `[B, H, W, 1]` each."""
    out = self.lesion_decoder(f.astype(self.dtype)).astype(jnp.float32)
    # Pixels that come out of channels start as a chequerboard; this filter has none of it.
    out = gaussian_blur(out, _BINOMIAL, radius=1)
    return out[..., :1] + _GREY, nn.sigmoid(out[..., 1:] - _CLEAR)

  def __call__(self, x: Array, key: jax.Array) -> Array:
    """Reconstructs `x` from one draw of its own latents; used to make the parameters."""
    encoding = self.encode(x)
    z = posterior_sample(key, encoding.slots)
    return self.decode(z, encoding.acquisition.mean)


def make_autoencoder(model: Mapping) -> DisentangledAutoencoder:
  """Builds the module from `config.autoencoder.model`."""
  fields = {k: v for k, v in model.items() if k != "sample_latents"}
  for name in ("block_out_channels", "lesion_channels"):
    fields[name] = tuple(fields[name])
  fields["dtype"] = jnp.dtype(fields["dtype"])
  return DisentangledAutoencoder(**fields)
