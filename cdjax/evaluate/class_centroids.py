"""Where a finding of few cases lies in the encoder's space, and how far its real cases reach.

A class is a finding, a side *and* a zone: the mean over places is a place where nothing is. A zone
of few cases is shrunk towards its side's mean.
"""

import numpy as np

from cdjax.evaluate.references import LatentSpace, References

_MOST = 256   # references whose reach is measured: more do not move the mean


def class_centroid(references: References, side: int, zone: int, *, without: int | None = None
                   ) -> np.ndarray | None:
  """The place's centroid, `[h, w, c]`: n / (n + 1) of its n cases' mean, the rest the side's.

  Args:
    references: of the finding.
    side, zone: bit masks; a side that no reference has stands for all.
    without: a training row that is left out, with its mirror image.

  Returns:
    The centroid; None where nothing is left.
  """
  keep = np.ones(len(references), bool) if without is None else references.rows != without
  there = keep & (references.side == side)
  there = there if there.any() else keep
  if not there.any():
    return None
  cell = there & (references.zone == zone)
  mean = references.path[there].mean(0)
  return (references.path[cell].sum(0) + mean) / (cell.sum() + 1)


def class_reach(space: LatentSpace, references: References) -> float:
  """How far real cases lie from the healthy mean towards their class, in units of the spread.

  Mean over references of the part along the direction that the *others* give. A single case, which
  has no others, is measured along its own.

  Returns:
    Above 0.
  """
  scores, own = [], []
  for i in np.unique(np.linspace(0, len(references) - 1, _MOST).round().astype(int)):
    place = int(references.side[i]), int(references.zone[i])
    case = (references.path[i] - space.healthy) / space.spread
    own.append(_score(case, space, class_centroid(references, *place)))
    others = class_centroid(references, *place, without=int(references.rows[i]))
    if others is not None:
      scores.append(_score(case, space, others))
  reach = float(np.mean(scores or own))
  # Cases that point nowhere together still have a length.
  return reach if reach > 0 else 0.5 * float(np.mean(own))


def _score(case: np.ndarray, space: LatentSpace, centroid: np.ndarray) -> float:
  direction = (centroid - space.healthy) / space.spread
  return float((case * direction).sum() / max(np.linalg.norm(direction), 1e-12))
