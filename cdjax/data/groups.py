"""Order of the records in an epoch, and a mate for each: another study of the same patient.

Everything is a function of (seed, epoch, index), so that any batch can be made without the ones
before it. The random partner of an example is a permutation of the batch, made on the device.
"""

import dataclasses

import numpy as np

from cdjax.core.types import PRESENT, FindingsArrays

_ORDER, _MATE = 1, 2  # what a random number is for


@dataclasses.dataclass(frozen=True)
class Groups:
  """Who belongs together.

  Attributes:
    patient: `[N]` int.
    study: `[N]` int; images of one study are not mates, since they show the same findings.
    signature: `[N]` int, equal where the findings that are present, their sides and zones are.
    has_mate: `[N]` bool, the patient has another study.
    order: `[N]` record indices sorted by patient.
    start: `[P + 1]` where each patient's records begin in `order`.
  """

  patient: np.ndarray
  study: np.ndarray
  signature: np.ndarray
  has_mate: np.ndarray
  order: np.ndarray
  start: np.ndarray


def make_groups(patient: np.ndarray, study: np.ndarray, findings: FindingsArrays) -> Groups:
  """Indexes N records by patient.

  Args:
    patient: `[N]` int, 0..P-1, each at least once.
    study: `[N]` int.
    findings: `[N, K]`.
  """
  present = np.asarray(findings.status) == PRESENT
  shown = np.concatenate([present, np.where(present, findings.side, 0),
                          np.where(present, findings.zone, 0)], axis=1)
  signature = np.unique(shown, axis=0, return_inverse=True)[1].reshape(-1)
  studies = np.unique(np.stack([patient, study]), axis=1)[0]
  return Groups(patient=patient, study=study, signature=signature,
                has_mate=(np.bincount(studies) > 1)[patient],
                order=np.argsort(patient, kind="stable"),
                start=np.concatenate([[0], np.cumsum(np.bincount(patient))]))


def choose_mates(groups: Groups, index: np.ndarray, *, seed: int, epoch: np.ndarray
                 ) -> tuple[np.ndarray, np.ndarray]:
  """Chooses a mate of each anchor, at random among the patient's best.

  Best is another study with other findings, then another study; where the patient has one study
  only, the mate is the anchor itself.

  Args:
    groups: of the split.
    index: `[B]` int, anchors.
    seed: of the run.
    epoch: `[B]` int, the epoch that each anchor belongs to.

  Returns:
    mates `[B]` int, and whether each is another study, `[B]` bool.
  """
  draw = _uniform(seed, _MATE, epoch, index)
  mate = np.array(index)
  is_true = groups.has_mate[index]
  for row in np.flatnonzero(is_true):
    anchor = index[row]
    patient = groups.patient[anchor]
    members = groups.order[groups.start[patient]:groups.start[patient + 1]]
    members = members[groups.study[members] != groups.study[anchor]]
    differing = members[groups.signature[members] != groups.signature[anchor]]
    best = differing if differing.size else members
    mate[row] = best[int(draw[row] * best.size)]
  return mate, is_true


def epoch_order(size: int, *, seed: int, epoch: int, shuffle: bool = True,
                weights: np.ndarray | None = None) -> np.ndarray:
  """The records of one epoch as anchors.

  Args:
    size: N.
    seed: of the run.
    epoch: 0, 1, …
    shuffle: in random order.
    weights: `[N]` >= 0, or None. With weights, a record occurs N·w/Σw times, rounded up or down at
      random (systematic resampling); without, exactly once.

  Returns:
    `[N]` int64.
  """
  rng = np.random.default_rng([seed, _ORDER, epoch])
  order = np.arange(size)
  if weights is not None:
    ends = np.cumsum(weights, dtype=np.float64)
    order = np.searchsorted(ends, (order + rng.random()) * (ends[-1] / size), side="right")
  return rng.permutation(order) if shuffle else order


def _uniform(seed: int, purpose: int, epoch: np.ndarray, index: np.ndarray) -> np.ndarray:
  """`[B]` float64 in [0, 1): a hash, so that numbers need no order (splitmix64, Steele 2014)."""
  state = np.array([np.uint64(seed & 0xFFFFFFFFFFFFFFFF)])
  with np.errstate(over="ignore"):
    for word in (purpose, epoch, index):
      state = _splitmix64(state ^ np.asarray(word).astype(np.uint64))
  return (state >> np.uint64(11)) * 2.0 ** -53


def _splitmix64(x: np.ndarray) -> np.ndarray:
  x = x + np.uint64(0x9E3779B97F4A7C15)
  x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
  x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
  return x ^ (x >> np.uint64(31))
