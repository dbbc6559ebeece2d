"""Is a synthetic image a copy of a training image, and does the set give away who trained it?

A space is any vectors of the images: pixels, an autoencoder's latents, or a re-identification
verifier's embedding, in which two studies of one patient are near although the images differ. What
is "too near" is read off real images of *other* patients: as near as the nearest of them come to
the training images by chance.

Copies: after Fernandez et al., "Privacy Distillation", arXiv:2306.01322, and Dar et al.,
"Unconditional Latent Diffusion Models Memorize Patient Imaging Data", arXiv:2402.01054, with a
threshold from held-out images. Membership: the full black-box attack of Chen et al., "GAN-Leaks",
arXiv:1909.03935.
"""

import dataclasses

import numpy as np

from cdjax.core.types import ABSENT, PRESENT, Array
from cdjax.evaluate.bootstrap import by_patient, interval, mean
from cdjax.evaluate.classification import auroc
from cdjax.evaluate.distances import CHUNK, nearest

QUANTILE = 0.01
# Training images that copies are looked for among: so many, and so many pixels, at most.
COMPARED, COMPARED_PIXELS = 20_000, 2**27


@dataclasses.dataclass(frozen=True)
class Neighbours:
  """Distances to the nearest training image, in one space.

  Attributes:
    synthetic: `[S]` float64.
    training: `[S]` int, which training image that is: to be shown side by side.
    held_out: `[H]` float64, of real images of other patients.
  """

  synthetic: np.ndarray
  training: np.ndarray
  held_out: np.ndarray


def half_of_patients(patient: Array, *, seed: int) -> np.ndarray:
  """`[N]` bool: all images of a random half of the patients `[N]`, the smaller half of an odd
  number, but at least one patient's.
  """
  names, rows = np.unique(np.asarray(patient), return_inverse=True)
  half = np.random.default_rng(seed).permutation(len(names)) < max(1, len(names) // 2)
  return half[rows]


def compared_rows(total: int, side: int, *, least: int, seed: int) -> np.ndarray:
  """`[M]` int, rising: which of `total` training images of `side` pixels copies are looked for
  among; `least` of them if there are so many.
  """
  return some_rows(total, max(min(COMPARED, COMPARED_PIXELS // side**2), least), seed=seed)


def some_rows(total: int, most: int, *, seed: int) -> np.ndarray:
  """`[min(total, most)]` int, rising: which of `total` rows are used, each equally likely."""
  return np.sort(np.random.default_rng(seed).permutation(total)[:most])


def check_other_patients(train: Array, held_out: Array) -> None:
  """Refuses a yardstick that holds training patients: it would call copies normal.

  Args:
    train: `[T]` patient names.
    held_out: `[H]` patient names.

  Raises:
    ValueError: some are in both; names up to five.
  """
  shared = np.intersect1d(np.asarray(train), np.asarray(held_out))
  if shared.size:
    raise ValueError(f"{shared.size} patients are in training and held out: "
                     f"{shared[:5].tolist()}; expected none")


def neighbours(
    synthetic: Array, train: Array, held_out: Array, *, chunk: int = CHUNK
) -> Neighbours:
  """Nearest training images of synthetic images, and of held-out real ones.

  Args:
    synthetic: `[S, D]` float.
    train: `[T, D]`, what the generator was trained on.
    held_out: `[H, D]`, of patients that are not in `train` (`check_other_patients`).
    chunk: rows at a time.
  """
  distance, index = nearest(synthetic, train, chunk=chunk)
  return Neighbours(distance, index, nearest(held_out, train, chunk=chunk)[0])


def copies(found: Neighbours, *, quantile: float = QUANTILE) -> np.ndarray:
  """Which synthetic images are nearer to a training image than held-out real ones ever are.

  The threshold is the `quantile` of `found.held_out`. Images that are new, and as varied as real
  ones, are called copies at a rate of `quantile`: that, not 0, is the reference. The rate is also
  above it where the generator is merely less varied than real images, in a space in which
  distances grow with detail; look at the pairs before calling them copies.

  Returns:
    `[S]` bool.

  Raises:
    ValueError: a quantile outside (0, 1), or fewer than 1 / quantile held-out images, for which
      there is no such quantile.
  """
  if not 0 < quantile < 1:
    raise ValueError(f"quantile={quantile}; expected above 0 and below 1")
  if len(found.held_out) * quantile < 1 - 1e-9:
    raise ValueError(f"{len(found.held_out)} held-out images have no quantile {quantile}; expected "
                     f"at least {int(np.ceil(1 / quantile - 1e-9))}, or a larger quantile")
  return found.synthetic < np.quantile(found.held_out, quantile)


def membership_scores(
    train: Array, held_out: Array, synthetic: Array, *, chunk: int = CHUNK
) -> tuple[np.ndarray, np.ndarray]:
  """What an attacker who sees only the synthetic images knows about who was trained on.

  Args:
    train: `[T, D]`, members.
    held_out: `[H, D]`, non-members from the same source, of other patients.
    synthetic: `[S, D]`.
    chunk: rows at a time.

  Returns:
    scores and status (PRESENT for members), each `[T + H]`: minus the distance to the nearest
    synthetic image.
  """
  scores = [-nearest(rows, synthetic, chunk=chunk)[0] for rows in (train, held_out)]
  status = np.concatenate([np.full(len(train), PRESENT), np.full(len(held_out), ABSENT)])
  return np.concatenate(scores), status


def privacy_metrics(
    synthetic: Array,
    train: Array,
    held_out: Array,
    *,
    space: str,
    synthetic_patient: Array | None = None,
    train_patient: Array | None = None,
    held_out_patient: Array | None = None,
    quantile: float = QUANTILE,
    resamples: int = 1000,
    seed: int = 0,
    chunk: int = CHUNK,
) -> dict[str, dict[str, float | int]]:
  """Share of copies, nearest distances and the membership attack, in one space.

  Args:
    synthetic: `[S, D]`.
    train: `[T, D]`.
    held_out: `[H, D]`, of other patients and from the same source as `train`: another hospital's
      images would be told apart by their look, not by membership.
    space: the name of the vectors, e.g. "pixel", part of every key.
    synthetic_patient: `[S]`, whose image it was made from; several of one patient are not
      independent. None: each is its own.
    train_patient: `[T]`, whose image it is; patients are resampled, not images. Where it is not
      known (None), every image counts as a patient, and nobody checks that the held-out images
      are of others.
    held_out_patient: `[H]`; given exactly where `train_patient` is.
    quantile: of the held-out distances, below which an image counts as a copy.
    resamples, seed: of the bootstrap.
    chunk: rows at a time.

  Returns:
    `privacy/<space>/copies/q<quantile>`: share of synthetic images that are copies, reference
    `quantile`; `privacy/<space>/nearest_synthetic` and `/nearest_held_out`: mean distances to the
    nearest training image; `privacy/<space>/membership_auc`: of the attack, reference ½. Each with
    an interval; that of copies does not hold the uncertainty of the threshold.

  Raises:
    ValueError: shapes that do not fit, too few held-out images for the quantile, or a patient in
      training and held out.
  """
  if (train_patient is None) != (held_out_patient is None):
    raise ValueError("train_patient and held_out_patient: expected both or neither")
  if train_patient is None:
    names = np.arange(len(train) + len(held_out))
    train_patient, held_out_patient = names[:len(train)], names[len(train):]
  if (len(train_patient), len(held_out_patient)) != (len(train), len(held_out)):
    raise ValueError(f"{len(train_patient)} and {len(held_out_patient)} patients for {len(train)} "
                     f"training and {len(held_out)} held-out images; expected one each")
  check_other_patients(train_patient, held_out_patient)
  if synthetic_patient is None:
    synthetic_patient = np.arange(len(synthetic))
  if len(synthetic_patient) != len(synthetic):
    raise ValueError(f"{len(synthetic_patient)} patients for {len(synthetic)} synthetic images; "
                     "expected one each")
  found = neighbours(synthetic, train, held_out, chunk=chunk)
  scores, status = membership_scores(train, held_out, synthetic, chunk=chunk)
  statistics = {
      f"copies/q{quantile:g}": (mean(copies(found, quantile=quantile)), synthetic_patient),
      "nearest_synthetic": (mean(found.synthetic), synthetic_patient),
      "nearest_held_out": (mean(found.held_out), held_out_patient),
      "membership_auc": (auroc(scores, status), np.concatenate([train_patient, held_out_patient])),
  }
  result = {}
  for name, (statistic, patient) in statistics.items():
    expanded, patients = by_patient(statistic, patient)
    result[f"privacy/{space}/{name}"] = interval(expanded, patients, resamples=resamples, seed=seed)
  return result
