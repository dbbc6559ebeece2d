"""Stage 2's network: the latent UNet on the pathology slot, told the findings and the identity.

The findings enter by cross-attention (and as a map of the asked regions, if configured), the
identity by channel concatenation; the new input channels start at zero, so that a published UNet's
weights stay valid.
"""

from collections.abc import Mapping

import flax.linen as nn
import flax.struct
import jax.numpy as jnp

from cdjax.core.types import UNKNOWN, Array, FindingsArrays
from cdjax.models.findings_encoder import FindingsEncoder, labels_only, region_map
from cdjax.models.text_tokens import PhraseTable, TextTokens
from cdjax.models.unet import UNet2DCondition


@flax.struct.dataclass
class LatentStats:
  """What standardises latents: per-channel mean and standard deviation over the training data.

  Attributes:
    path_mean, path_std: `[c]`, of z_path of sick images, as it is denoised: means or samples. Where
      the diffusion's target is everything, "path" is all slots of all images here, `[n·c]`.
    id_mean, id_std: `[n-1, c]`, of samples of z_id.
    path_information: `[h, w, c]` in [0, 1], the share of the variance of z_path that its posterior
      knows; the rest is noise that nothing can predict.
  """

  path_mean: Array
  path_std: Array
  id_mean: Array
  id_std: Array
  path_information: Array


def drop_findings(findings: FindingsArrays, drop: Array) -> FindingsArrays:
  """Forgets everything about the findings of examples where `drop` `[B]` is True."""
  status = jnp.where(drop[:, None], jnp.int8(UNKNOWN), findings.status)
  return findings.replace(status=status)


def drop_details(findings: FindingsArrays, side: Array, zone: Array, severity: Array
                 ) -> FindingsArrays:
  """Leaves side, zone or severity unsaid in the examples where its mask `[B]` is True."""
  return findings.replace(
      side=jnp.where(side[:, None], jnp.int8(0), findings.side),
      zone=jnp.where(zone[:, None], jnp.int8(0), findings.zone),
      severity=jnp.where(severity[:, None], -1.0, findings.severity))


class Denoiser(nn.Module):
  """`(z_t, t, findings, z_id, has_identity) -> output` of z_t's shape.

  Attributes:
    num_findings: K.
    block_out_channels, layers_per_block, attention_blocks, attention_heads, norm_num_groups: of
      the UNet.
    context_width: D of the findings tokens.
    use_region_map: adds K channels with the asked regions.
    condition: "findings", or "labels" to withhold side, zone and severity.
    use_tokens: findings have tokens of their own; False: only their words, if those are given.
    text_findings: most findings of an image whose words are read.
    latent_channels, identity_channels: c, and (n-1)·c.
    dtype: of the activations.
    remat: of the UNet's blocks; a policy of `models.remat`.
  """

  num_findings: int
  block_out_channels: tuple[int, ...]
  layers_per_block: int
  attention_blocks: tuple[bool, ...]
  attention_heads: int
  norm_num_groups: int
  context_width: int
  use_region_map: bool
  condition: str
  use_tokens: bool
  text_findings: int
  latent_channels: int
  identity_channels: int
  dtype: jnp.dtype
  remat: str

  @nn.compact
  def __call__(self, z_t: Array, t: Array, findings: FindingsArrays, z_id: Array,
               has_identity: Array, text: PhraseTable | None = None) -> Array:
    """Predicts what the schedule's `prediction` says, for standardised latents.

    Args:
      z_t: noisy pathology, `[B, h, w, c]`.
      t: `[B]` int32.
      findings: conditions, `[B, K]`.
      z_id: identity, `[B, h, w, n-1, c]`.
      has_identity: `[B]` bool; False hides it.
      text: the words of every finding, or None.

    Returns:
      `[B, h, w, c]` float32.
    """
    if self.condition not in ("findings", "labels"):
      raise ValueError(f"condition.findings={self.condition!r}; expected 'findings' or 'labels'")
    if self.condition == "labels":
      findings = labels_only(findings)
    batch, height, width, _ = z_t.shape
    encoder = FindingsEncoder(self.num_findings, self.context_width, name="findings")
    context, mask = encoder(findings)
    if not self.use_tokens:   # all but the token that says nothing
      context, mask = context[:, :1], mask[:, :1]
    if text is not None:
      words, said = TextTokens(self.context_width, self.text_findings, name="text")(findings, text)
      context, mask = jnp.concatenate([context, words], 1), jnp.concatenate([mask, said], 1)
    keep = has_identity.astype(z_t.dtype)[:, None, None, None]
    extra = [keep * z_id.reshape(batch, height, width, -1),
             jnp.broadcast_to(keep, (batch, height, width, 1))]
    if self.use_region_map:
      extra.append(region_map(findings, height, width))
    inputs = jnp.concatenate([z_t, *extra], -1)
    unet = UNet2DCondition(
        in_channels=self.latent_channels, out_channels=self.latent_channels,
        extra_in_channels=inputs.shape[-1] - self.latent_channels,
        block_out_channels=self.block_out_channels, layers_per_block=self.layers_per_block,
        attention_blocks=self.attention_blocks, num_heads=self.attention_heads,
        norm_num_groups=self.norm_num_groups, cross_attention_dim=self.context_width,
        dtype=self.dtype, remat=self.remat, name="unet")
    return unet(inputs, t, context, mask).astype(jnp.float32)


def make_denoiser(diffusion: Mapping, autoencoder_model: Mapping, num_findings: int) -> Denoiser:
  """Builds the module from `config.diffusion` and `config.autoencoder.model`."""
  fields = dict(diffusion["model"])
  for name in ("block_out_channels", "attention_blocks"):
    fields[name] = tuple(fields[name])
  fields["dtype"] = jnp.dtype(fields["dtype"])
  channels = autoencoder_model["slot_channels"]
  slots = {"pathology": 1, "everything": autoencoder_model["slots"]}
  if diffusion["target"] not in slots:
    raise ValueError(f"diffusion.target={diffusion['target']!r}; expected one of {sorted(slots)}")
  return Denoiser(
      num_findings=num_findings, use_region_map=diffusion["condition"]["region_map"],
      condition=diffusion["condition"]["findings"],
      use_tokens=diffusion["condition"]["tokens"],
      text_findings=diffusion["condition"]["text_findings"],
      latent_channels=slots[diffusion["target"]] * channels,
      identity_channels=channels * (autoencoder_model["slots"] - 1), **fields)
