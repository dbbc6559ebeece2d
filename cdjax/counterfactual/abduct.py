"""Abduction: what must have caused this image (Pearl's first step; DESIGN section 5)."""

import functools

import flax.struct
import jax
import jax.numpy as jnp

from cdjax.core.images import to_unit
from cdjax.core.rng import stream
from cdjax.core.types import Array, FindingsArrays
from cdjax.counterfactual.causal_model import CausalModel, CausalParams
from cdjax.diffusion.inversion import invert
from cdjax.losses.anchor import null_pathology
from cdjax.losses.kl import posterior_sample


@flax.struct.dataclass
class Abduction:
  """The causes of a batch of images.

  Attributes:
    z: slots, `[B, h, w, n, c]`; the pathology is zeros where healthy.
    code: acquisition, `[B, a]`.
    view: `[B]` int32 or None.
    explained: `D(T(z))`, `[B, H, W, 1]` in [0, 1].
    residual: u_x, what the decoder leaves of the image, of the same shape.
  """

  z: Array
  code: Array
  view: Array | None
  explained: Array
  residual: Array

  @property
  def z_id(self) -> Array:
    """Identity slots, `[B, h, w, n-1, c]`."""
    return self.z[..., :-1, :]

  @property
  def z_path(self) -> Array:
    """Pathology slot, `[B, h, w, c]`."""
    return self.z[..., -1, :]


def abduct(model: CausalModel, params: CausalParams, key: jax.Array, x: Array,
           findings: FindingsArrays, view: Array | None = None) -> Abduction:
  """Draws the causes of `x` `[B, H, W, 1]` in [-1, 1], given its findings `[B, K]`.

  What the diffusion denoises is abducted with the noise that it was denoised with.
  """
  encoding = model.encode(params, x)
  take = functools.partial(posterior_sample, spread=float(model.sample_latents))
  z = take(stream(key, "slots"), encoding.slots)
  denoised = slice(None) if model.whole else slice(-1, None)
  z = z.at[..., denoised, :].set(posterior_sample(
      stream(key, "denoised"), jax.tree.map(lambda a: a[..., denoised, :], encoding.slots),
      model.target_noise))
  if not model.whole:
    z = null_pathology(z, findings.healthy)
  code = take(stream(key, "acquisition"), encoding.acquisition)
  explained = to_unit(model.decode(params, z, code, view))
  return Abduction(z, code, view, explained, to_unit(x) - explained)


def abduct_noise(model: CausalModel, params: CausalParams, abduction: Abduction,
                 findings: FindingsArrays, *, num_steps: int, order: int = 2,
                 refinements: int = 0) -> Array:
  """u_path: the noise that the sampler turns into this pathology under the factual findings.

  `num_steps`, `order` and `refinements` are `diffusion.inversion.invert`'s.

  Returns:
    `[B, h, w, c]`, about standard normal.
  """
  stats = params.stats
  z_0 = (abduction.z_path - stats.path_mean) / stats.path_std
  denoise_fn = model.denoise_fn(params, findings, abduction.z_id)
  return invert(denoise_fn, z_0, schedule=model.schedule, num_steps=num_steps, order=order,
                refinements=refinements)


def fresh_noise(key: jax.Array, like: Array) -> Array:
  """A new u_path of the shape of `like`: another answer to the same question."""
  return jax.random.normal(stream(key, "noise"), like.shape, jnp.float32)
