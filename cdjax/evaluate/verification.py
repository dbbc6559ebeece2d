"""How well an embedding tells whether two images are of one patient: its ROC on real pairs."""

import dataclasses

import numpy as np

from cdjax.core.types import ABSENT, PRESENT, Array
from cdjax.evaluate.bootstrap import Statistic
from cdjax.evaluate.classification import auroc


@dataclasses.dataclass(frozen=True)
class Pairs:
  """P pairs of images.

  Attributes:
    first, second: `[P]` int, numbers of the images.
    same: `[P]` bool, of one patient.
    patient: `[P]`, the first image's.
  """

  first: np.ndarray
  second: np.ndarray
  same: np.ndarray
  patient: np.ndarray


def make_pairs(patient: Array, study: Array, *, seed: int) -> Pairs:
  """One pair of each patient with two studies, and as many of that patient and a stranger.

  Args:
    patient: `[N]` int.
    study: `[N]`; two images of one study are not two pictures of the same chest on two days.
    seed: of the choice.

  Returns:
    2 Q pairs for Q patients with several studies, so that a patient's two pairs share a weight.

  Raises:
    ValueError: fewer than two patients have several studies.
  """
  generator = np.random.default_rng(seed)
  patient, study = np.asarray(patient), np.asarray(study)
  own = []
  for p in np.unique(patient):
    images = generator.permutation(np.flatnonzero(patient == p))
    other = images[study[images] != study[images[0]]]
    if other.size:
      own.append((images[0], other[0]))
  if len(own) < 2:
    raise ValueError(f"{len(own)} patients have several studies; pairs need at least 2")
  first, second = np.array(own).T
  # Everybody meets the next one of a random circle: never oneself, nobody twice.
  circle = generator.permutation(len(own))
  stranger = np.empty(len(own), int)
  stranger[circle] = second[np.roll(circle, 1)]
  return Pairs(np.concatenate([first, first]), np.concatenate([second, stranger]),
               np.arange(2 * len(own)) < len(own), np.concatenate([patient[first]] * 2))


def likeness(a: Array, b: Array) -> np.ndarray:
  """Product of embeddings of length 1, `[N, D]` and `[N, D]` → `[N]` in [-1, 1]."""
  return (np.asarray(a, np.float64) * np.asarray(b, np.float64)).sum(-1)


def verification_auc(embedding: Array, pairs: Pairs) -> Statistic:
  """Area under the ROC of "one patient", a weight a pair; chance is ½.

  Args:
    embedding: `[N, D]` of length 1.
    pairs: of the N images.
  """
  score = likeness(embedding[pairs.first], embedding[pairs.second])
  return auroc(score, np.where(pairs.same, PRESENT, ABSENT))


def equal_error_threshold(score: Array, same: Array) -> float:
  """The likeness at which as many strangers are taken for one patient as patients for strangers.

  Args:
    score: `[P]`.
    same: `[P]` bool, both occur.

  Raises:
    ValueError: only pairs of one kind.
  """
  score, same = np.asarray(score, np.float64), np.asarray(same, bool)
  if same.all() or not same.any():
    raise ValueError("pairs of one kind only; expected some of one patient and some of two")
  candidates = np.unique(score)
  accepted = (score[~same][None, :] >= candidates[:, None]).mean(1)
  rejected = (score[same][None, :] < candidates[:, None]).mean(1)
  return float(candidates[np.abs(accepted - rejected).argmin()])
