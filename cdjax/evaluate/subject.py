"""What is evaluated: a handful of pure functions, closed over trained parameters.

Whatever can answer "this patient, but with ..." can be measured; a baseline fills in
`counterfactual_fn` alone. Keys whose function is missing are left out of the metrics and listed
there under `left_out`.
"""

import dataclasses
from collections.abc import Callable

from cdjax.core.types import Array, FindingsArrays, Posterior


@dataclasses.dataclass(frozen=True)
class Subject:
  """The functions that the evaluation calls. All are jitted and pure.

  Images are float32 `[B, H, W, 1]` in [-1, 1], findings `[B, K]`. One key is given for each
  batch; every example of it uses randomness of its own. All batches have the same size.

  Attributes:
    counterfactual_fn: `(key, x, findings, do_findings) -> x_cf`. The key drives the posterior's
      draws and the fresh pathology noise, so another key is another answer.
    reconstruct_fn: `(key, x, findings) -> x_hat`, the autoencoder with the image's own latents
      as they are used (sampled where they are sampled), without residual.
    swap_fn: `(key, x, findings, x_other, findings_other) -> x_swapped`, the other patient's
      pathology slot put into x.
    encoded_fn: `(key, x, findings, x_exact, do_findings) -> x_cf`, a counterfactual whose
      pathology slot is encoded from the exact answer: what the autoencoder allows at best.
    null_fn: `(key, x, findings, residual: bool) -> x`, the null intervention through the whole
      path without a short cut; `residual=False` leaves the abducted residual out.
    encode_fn: `(x, findings) -> {"id": Posterior [B, h, w, n-1, c], "path": Posterior
      [B, h, w, c], "acq": Posterior [B, a]}`. The pathology of an image whose findings are all
      known to be absent is the null (mean and variance zero); where findings are unknown it is
      what the encoder reads. "acq" may be missing where there is no such code.
    attention_fn: `(x, findings) -> [B, h, w, n]`, how much the pathology slot attends to each slot
      in the causal transformer (mean over heads and layers).
    effect_fn: `(key, x, findings, x_other, findings_other) -> [B, n, H, W]`, how much the image
      changes (absolute, images in [0, 1]) where one slot alone is the other patient's.
    judge_fn: `(x) -> {"finding": [B, K], "side": [B, K, 2], "zone": [B, K, 3], "severity":
      [B, K]}`, all in [0, 1]; used for measurement and for nothing else.
    verifier_fn: `(x) -> [B, D]` of length 1, near for two studies of one patient; measures only.
    features_fn: images `[B, H, W, 1]` in [0, 1] → `[B, D]`, of the run's classifier.
  """

  counterfactual_fn: Callable[[Array, Array, FindingsArrays, FindingsArrays], Array]
  reconstruct_fn: Callable[[Array, Array, FindingsArrays], Array] | None = None
  swap_fn: Callable[[Array, Array, FindingsArrays, Array, FindingsArrays], Array] | None = None
  encoded_fn: Callable[[Array, Array, FindingsArrays, Array, FindingsArrays], Array] | None = None
  null_fn: Callable[[Array, Array, FindingsArrays, bool], Array] | None = None
  encode_fn: Callable[[Array, FindingsArrays], dict[str, Posterior]] | None = None
  attention_fn: Callable[[Array, FindingsArrays], Array] | None = None
  effect_fn: Callable[[Array, Array, FindingsArrays, Array, FindingsArrays], Array] | None = None
  judge_fn: Callable[[Array], dict[str, Array]] | None = None
  verifier_fn: Callable[[Array], Array] | None = None
  features_fn: Callable[[Array], Array] | None = None
