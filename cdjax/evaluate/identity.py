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
    patient: Array | None = None,
) -> dict[str, Statistic]:
  """What the answers share with the images that they answer for.

  Args:
    x: factual images `[N, H, W]` in [0, 1], of 2 or more patients.
    answers: counterfactuals of the same.
    embed: a verifier, images → `[N, D]` of length 1; None leaves its keys out.
    threshold: likeness from which it says "one patient", from real pairs.
    features: images → `[N, D]`; None leaves their key out.
    patient: `[N]`, whose image it is; None where every image is another patient's. A stranger is
      the next image of somebody else.

  Returns:
    `identity/l1`, `/ssim`; `/likeness` and `/verified` (share that the verifier takes for the
    patient), and the same of each image and another patient's answer, `/stranger_likeness` and
    `/stranger_verified`; `/features`: distance over the mean distance between two patients, 0 for
    a copy and about 1 for somebody else.

  Raises:
    ValueError: one patient only, to whom nobody is a stranger, although strangers are needed.
  """
  stranger = None
  if embed is not None or features is not None:
    stranger = strangers(np.arange(len(x)) if patient is None else patient)
  statistics = {"identity/l1": mean(l1(answers, x)), "identity/ssim": mean(ssim(answers, x))}
  if embed is not None:
    own, theirs = np.asarray(embed(x)), np.asarray(embed(answers))
    for name, other in (("", theirs), ("stranger_", theirs[stranger])):
      score = likeness(own, other)
      statistics[f"identity/{name}likeness"] = mean(score)
      statistics[f"identity/{name}verified"] = mean(score >= threshold)
  if features is not None:
    a, b = (np.asarray(features(images), np.float64) for images in (x, answers))
    between = np.linalg.norm(a - a[stranger], axis=-1).mean()
    statistics["identity/features"] = mean(
        np.linalg.norm(a - b, axis=-1) / max(between, np.finfo(np.float64).tiny))
  return statistics


def strangers(patient: Array) -> np.ndarray:
  """For each image the nearest earlier one, around the end, that is not of the same patient.

  Args:
    patient: `[N]`.

  Returns:
    `[N]` int.

  Raises:
    ValueError: all images are of one patient.
  """
  patient = np.asarray(patient)
  if len(np.unique(patient)) < 2:
    raise ValueError(f"{len(patient)} images of {len(np.unique(patient))} patient; a stranger "
                     "needs 2 patients")
  rows = np.arange(len(patient))
  found = rows - 1
  while (same := patient[found] == patient).any():
    found = np.where(same, found - 1, found)
  return found % len(patient)
