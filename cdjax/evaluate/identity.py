"""Is it still this patient? Factual and counterfactual by SSIM, L1, features and a verifier."""

from collections.abc import Callable

import numpy as np

from cdjax.core.types import Array
from cdjax.evaluate.axioms import l1
from cdjax.evaluate.bootstrap import Statistic, mean
from cdjax.evaluate.image_metrics import ssim
from cdjax.evaluate.verification import likeness


def identity_statistics(
    x: Array,
    answers: Array,
    *,
    embed: Callable[[Array], Array] | None = None,
    threshold: float = 0.0,
    features: Callable[[Array], Array] | None = None,
) -> dict[str, Statistic]:
  """What the answers share with the images that they answer for.

  Args:
    x: factual images `[N, H, W]` in [0, 1], N ≥ 2 different patients.
    answers: counterfactuals of the same.
    embed: a verifier, images → `[N, D]` of length 1; None leaves its keys out.
    threshold: likeness from which it says "one patient", from real pairs.
    features: images → `[N, D]`; None leaves their key out.

  Returns:
    `identity/l1`, `/ssim`; `/likeness` and `/verified` (share that the verifier takes for the
    patient), and the same of each image and another patient's answer, `/stranger_likeness` and
    `/stranger_verified`; `/features`: distance over the mean distance between two patients, 0 for
    a copy and about 1 for somebody else.
  """
  statistics = {"identity/l1": mean(l1(answers, x)), "identity/ssim": mean(ssim(answers, x))}
  if embed is not None:
    own, theirs = np.asarray(embed(x)), np.asarray(embed(answers))
    for name, other in (("", theirs), ("stranger_", np.roll(theirs, 1, 0))):
      score = likeness(own, other)
      statistics[f"identity/{name}likeness"] = mean(score)
      statistics[f"identity/{name}verified"] = mean(score >= threshold)
  if features is not None:
    a, b = (np.asarray(features(images), np.float64) for images in (x, answers))
    between = np.linalg.norm(a - np.roll(a, 1, 0), axis=-1).mean()
    statistics["identity/features"] = mean(
        np.linalg.norm(a - b, axis=-1) / max(between, np.finfo(np.float64).tiny))
  return statistics
