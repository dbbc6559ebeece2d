"""Guidance: functions from denoisers to a denoiser.

Convention: `uncond + s (cond - uncond)`, so s = 1 is no guidance and s = 0 is unconditional. The
same weights, which sum to 1, combine both x0 and eps, so `z_t = alpha x0 + sigma eps` stays true;
it is the combination of the v outputs, and it is defined where alpha is 0, where combining eps
alone would do nothing (there every eps is z_t).

Scales are Python numbers, or arrays `[B]` with one scale an example. Python numbers that give a
denoiser the weight 0 save its evaluation.
"""

import jax
import jax.numpy as jnp

from cdjax.core.types import Array, Prediction
from cdjax.diffusion.prediction import DenoiseFn
from cdjax.diffusion.schedule import Schedule, coefficients


def combine(terms: list[tuple[DenoiseFn, float | Array]], *, schedule: Schedule | None = None,
            rescale: float = 0.0) -> DenoiseFn:
  """Weighted sum of predictions; the weights sum to 1.

  With `rescale` the sum gets the spread of the last term, which has all conditions: guidance
  over-exposes. `x0' = rescale · x0 std(x0_last) / std(x0) + (1 - rescale) x0`, standard deviations
  over all of an example but the batch; eps follows from z_t.

  Args:
    terms: `(denoise_fn, weight)`; a weight is a Python number or `[B]`. Terms of a weight that is
      the Python number 0 are never evaluated, but for the last one's where it is the measure of
      the others; a single term of weight 1 is returned as it is.
    schedule: the schedule, where something is rescaled.
    rescale: strength (phi) in [0, 1], a Python number.

  References:
    Lin et al. 2023, arXiv:2305.08891, eq. 15 and 16.
  """
  if not 0 <= rescale <= 1 or (rescale and schedule is None):
    raise ValueError(f"rescale strength={rescale}; expected 0..1, and a schedule above 0")
  is_number = lambda w, value: isinstance(w, int | float) and w == value
  used = [(fn, w) for fn, w in terms[:-1] if not is_number(w, 0)]
  if not is_number(terms[-1][1], 0) or rescale:
    used.append(terms[-1])
  if len(used) == 1 and is_number(used[0][1], 1):
    return used[0][0]

  def denoise_fn(z_t: Array, t: Array) -> Prediction:
    def weighted(prediction, weight):
      weight = jnp.asarray(weight, jnp.float32)
      weight = weight.reshape(weight.shape + (1,) * (z_t.ndim - 1 if weight.ndim else 0))
      return jax.tree.map(lambda a: weight * a, prediction)

    # Each once: compilers do not find out that two evaluations are the same.
    predictions = [fn(z_t, t) for fn, _ in used]
    parts = [weighted(p, w) for p, (_, w) in zip(predictions, used, strict=True)]
    guided = jax.tree.map(lambda *a: sum(a[1:], a[0]), *parts)
    return _rescale(guided, predictions[-1], z_t, t, schedule, rescale) if rescale else guided

  return denoise_fn


def _rescale(guided: Prediction, cond: Prediction, z_t: Array, t: Array, schedule: Schedule,
             strength: float) -> Prediction:
  axes = tuple(range(1, z_t.ndim))
  ratio = cond.x0.std(axes, keepdims=True) / jnp.maximum(guided.x0.std(axes, keepdims=True), 1e-6)
  x0 = guided.x0 * (strength * ratio + (1.0 - strength))
  alpha, sigma = coefficients(schedule, t, z_t.ndim)
  return Prediction(x0=x0, eps=(z_t - alpha * x0) / sigma)


def classifier_free(cond_fn: DenoiseFn, uncond_fn: DenoiseFn, scale: float | Array, **how
                    ) -> DenoiseFn:
  """`uncond + scale (cond - uncond)`; with the Python number 1, cond_fn itself.

  `how` is `combine`'s.

  References:
    Ho & Salimans 2022, arXiv:2207.12598 (there w = s - 1).
  """
  return combine([(uncond_fn, 1 - scale), (cond_fn, scale)], **how)


def two_conditions(null_fn: DenoiseFn, identity_fn: DenoiseFn, both_fn: DenoiseFn, *,
                   identity_scale: float | Array, findings_scale: float | Array, **how
                   ) -> DenoiseFn:
  """Guidance by identity and by findings, each with its own scale.

  `e(null, null) + s_id (e(null, id) - e(null, null)) + s_f (e(f, id) - e(null, id))`, e(f, id)
  being the denoiser given findings f and identity id. Identity comes first: findings are guided
  within this patient, which is what a counterfactual asks; the other order would need
  e(f, null), a pathology of nobody. `identity_scale = 1` saves null_fn, equal scales save
  identity_fn, and both 1 are both_fn itself.

  Args:
    null_fn: without conditions.
    identity_fn: with identity, findings null.
    both_fn: with both.
    identity_scale: s_id.
    findings_scale: s_f.
    **how: `combine`'s.

  References:
    Brooks et al. 2023 (InstructPix2Pix), arXiv:2211.09800, eq. 3.
  """
  return combine([(null_fn, 1 - identity_scale), (identity_fn, identity_scale - findings_scale),
                  (both_fn, findings_scale)], **how)
