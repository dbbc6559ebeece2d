"""Prediction: the image that the changed causes bring about, with the residual put back.

The decoder's residual u_x is part of the patient (fine texture, noise), but where the edit changes
the image it also holds what is left of the old lesion. There only its fine band is kept.
"""

import flax.struct
import jax.numpy as jnp

from cdjax.core.images import dilate, gaussian_blur, to_unit
from cdjax.core.types import Array
from cdjax.counterfactual.abduct import Abduction
from cdjax.counterfactual.causal_model import CausalModel, CausalParams
from cdjax.models.disentangled import join

RESIDUALS = ("none", "plain", "masked", "split")


@flax.struct.dataclass
class Answer:
  """A counterfactual and how it came about; images `[B, H, W, 1]`.

  Attributes:
    image: the counterfactual, in [-1, 1].
    decoded: the decoder's part of it, in [0, 1], before the residual.
    changed: where the edit changes the image, in [0, 1].
    z_path: the pathology it shows, as `act` gives it.
  """

  image: Array
  decoded: Array
  changed: Array
  z_path: Array


def changed_region(before: Array, after: Array, *, threshold: float, dilation: int) -> Array:
  """Where two images in [0, 1] differ by more than `threshold`, dilated and feathered: [0, 1]."""
  changed = jnp.abs(after - before) > threshold
  grown = dilate(changed, dilation).astype(jnp.float32)
  return jnp.maximum(grown, gaussian_blur(grown, 1.0)) if dilation else grown


def add_residual(decoded: Array, residual: Array, changed: Array, *, kind: str,
                 sigma: float) -> Array:
  """Puts u_x back.

  Args:
    decoded: `[B, H, W, 1]` in [0, 1].
    residual: u_x, the same shape.
    changed: the edited region, in [0, 1].
    kind: "none"; "plain": all of it everywhere; "masked": nothing where the image changes; "split":
      there the part finer than `sigma` only.
    sigma: pixels.

  Raises:
    ValueError: unknown kind.
  """
  if kind not in RESIDUALS:
    raise ValueError(f"residual={kind!r}; expected one of {sorted(RESIDUALS)}")
  if kind == "none":
    return decoded
  if kind == "plain":
    return decoded + residual
  inside = 0.0 if kind == "masked" else residual - gaussian_blur(residual, sigma)
  return decoded + (1.0 - changed) * residual + changed * inside


def predict(model: CausalModel, params: CausalParams, abduction: Abduction, z_path: Array, *,
            residual: str, mask_threshold: float, mask_dilation: int,
            residual_sigma: float) -> Answer:
  """The image of the abducted causes with another pathology `[B, h, w, c]`.

  Of a model without slots, `z_path` is all of z, `[B, h, w, n, c]`.

  `mask_dilation` and `residual_sigma` are in pixels at 64 px and scale with the image.
  """
  z = z_path if model.whole else join(abduction.z_id, z_path)
  decoded = to_unit(model.decode(params, z, abduction.code, abduction.view))
  scale = decoded.shape[1] / 64.0
  changed = changed_region(abduction.explained, decoded, threshold=mask_threshold,
                           dilation=max(round(mask_dilation * scale), 0))
  image = add_residual(decoded, abduction.residual, changed, kind=residual,
                       sigma=residual_sigma * scale)
  return Answer(2.0 * jnp.clip(image, 0.0, 1.0) - 1.0, decoded, changed, z_path)
