"""What a set of answers is worth as images: do they look real, and do they show what was asked?

For subjects that answer questions; two folders of anybody's images go through `folder_comparison`,
which the fidelity here shares its measures and its names with.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from cdjax.core.types import PRESENT, Array, FindingsArrays
from cdjax.evaluate.features import Extractor, extract, pixel_extractor
from cdjax.evaluate.fidelity import fidelity_by_group, fidelity_metrics
from cdjax.evaluate.long_tail import TIERS, classification_metrics, tiers
from cdjax.evaluate.ms_ssim import diversity

LEAST = 50     # images of each set that a finding or a tier needs
SUBSETS = 20   # of the kernel distance of a group
PAIRS = 500    # of MS-SSIM


def finding_groups(findings: FindingsArrays, vocabulary: Sequence[str], train_counts: Array
                   ) -> dict[str, np.ndarray]:
  """Masks of N images by what they show.

  Args:
    findings: `[N, K]`.
    vocabulary: K names.
    train_counts: `[K]`, training images that show each: head, medium or tail.

  Returns:
    `[N]` bool by "finding/NAME" and "tier/TIER"; empty ones are left out.
  """
  shown = np.asarray(findings.status) == PRESENT
  tier = tiers(train_counts)
  groups = {f"finding/{name}": shown[:, k] for k, name in enumerate(vocabulary)}
  groups |= {f"tier/{name}": shown[:, tier == name].any(1) for name in TIERS}
  return {name: mask for name, mask in groups.items() if mask.any()}


def answer_fidelity(
    real: Array,
    answers: Array,
    real_groups: Mapping[str, Array],
    answer_groups: Mapping[str, Array],
    *,
    features_fn: Callable[[Array], Array] | None,
    seed: int,
) -> tuple[dict[str, dict], list[str]]:
  """Fidelity, coverage and diversity of answers, overall, by finding and by tier.

  Args:
    real: images `[N, S, S]` in [0, 1], best of patients who are not asked anything: a patient's
      answer is nearer to the patient's own image than a new image is.
    answers: `[M, S, S]`.
    real_groups: `[N]` bool by name.
    answer_groups: `[M]` bool by name.
    features_fn: of the run's classifier, see `Subject`; None: pixels.
    seed: of the random choices.

  Returns:
    `fidelity/fid/EXTRACTOR/N/RESIZE[/GROUP]` and so on, see `fidelity_metrics`, and
    `fidelity/ms_ssim/PAIRS` of the answers → `{"value", "low", "high", "n"}` without intervals;
    what was left out and why.

  Raises:
    ValueError: 5 images or fewer in a set.
  """
  size = np.shape(real)[-1]
  extractor = pixel_extractor(size=min(size, 32)) if features_fn is None else Extractor(
      "cdjax-classifier", size, features_fn)
  a, b = (extract(extractor, np.asarray(x, np.float32)) for x in (real, answers))
  values = fidelity_metrics(a, b, extractor=extractor, seed=seed)
  by_group, left_out = fidelity_by_group(a, b, real_groups, answer_groups, extractor=extractor,
                                         least=LEAST, seed=seed, subsets=SUBSETS)
  # The number of images is the third part of a name: metric/extractor/number/…
  result = {f"fidelity/{key}": _plain(value, int(key.split("/")[2]))
            for key, value in (values | by_group).items()}
  varied = diversity(answers, pairs=PAIRS, seed=seed)
  result[f"fidelity/ms_ssim/{varied['pairs']}"] = _plain(varied["mean"], varied["pairs"])
  return result, [f"fidelity/*/{line}" for line in left_out]


def answer_pathology(
    probability: Array, asked: FindingsArrays, *, vocabulary: Sequence[str], patient: Array,
    resamples: int, seed: int
) -> dict[str, dict]:
  """Do the answers show what was asked, and nothing else, in the eyes of a classifier?

  Args:
    probability: of each finding in N answers, `[N, K]`.
    asked: `[N, K]`; a status that is not known counts nowhere.
    vocabulary: K names.
    patient: `[N]`, whose answer it is.
    resamples, seed: of the bootstrap over patients.

  Returns:
    `pathology/METRIC/NAME` and `/macro` for every metric of `classification.METRICS`; what is not
    defined has no key.
  """
  measured = classification_metrics(probability, asked.status, patient=patient,
                                    findings=vocabulary, resamples=resamples, seed=seed)
  return {f"pathology/{key}": entry for key, entry in measured.items()
          if np.isfinite(entry["value"])}


def _plain(value: float, n: int) -> dict:
  return {"value": value, "low": None, "high": None, "n": n}
