"""From which distance on a generated case counts as a copy of a real one.

New real cases come this close to a finding's references too, though they copy nothing: the
threshold is a low quantile of their distances. Of a rare finding hardly any case was held out, so
that more frequent ones, with as few references, stand for it; the smallest of their thresholds is
taken, since findings differ in how alike their cases are.
"""

import numpy as np

from cdjax.core.types import PRESENT
from cdjax.evaluate.distances import nearest
from cdjax.evaluate.references import LatentSpace, References


def copy_threshold(own: np.ndarray, references: np.ndarray,
                   others: dict[str, tuple[np.ndarray, np.ndarray]], *, quantile: float,
                   seed: int = 0) -> tuple[float, str]:
  """The distance to a finding's references below which a case is a copy.

  Args:
    own: held-out cases of the finding, `[H, D]`, in units in which distances mean something.
    references: its training images, `[R, D]`.
    others: other findings' names → their held-out cases and training images; those that have enough
      cases and at least R images count, the images being drawn down to R.
    quantile: of the distances, above 0 and below 1; 1 / quantile cases are enough.
    seed: of the draw.

  Returns:
    The distance, and whose it is, for the record.

  Raises:
    ValueError: a quantile outside (0, 1), or no held-out case of any finding.
  """
  if not 0 < quantile < 1:
    raise ValueError(f"copy_quantile={quantile}; expected above 0 and below 1")
  enough, size = int(np.ceil(1 / quantile - 1e-9)), len(references)
  if len(own) >= enough:
    return (float(np.quantile(nearest(own, references)[0], quantile)),
            f"{len(own)} held-out cases of the finding")
  generator, distances = np.random.default_rng(seed), {}
  for name, (cases, images) in others.items():
    if len(cases) and len(images) >= size:
      chosen = np.sort(generator.choice(len(images), size, replace=False))
      distances[name] = nearest(cases, images[chosen])[0]
  if full := {name: d for name, d in distances.items() if len(d) >= enough}:
    limits = {name: float(np.quantile(d, quantile)) for name, d in full.items()}
    name = min(limits, key=limits.get)
    return limits[name], (f"{len(full[name])} held-out cases of {name}, the closest of "
                          f"{len(full)} findings with as many references")
  if len(own):
    distances[""] = nearest(own, references)[0]
  if not distances:
    raise ValueError("no held-out image shows a finding with as many training images; there is "
                     "nothing to tell how close a new case comes")
  pooled = np.concatenate(list(distances.values()))
  return (float(np.quantile(pooled, quantile)),
          f"{len(pooled)} held-out cases of {len(distances)} findings together (few)")


def threshold_of(space: LatentSpace, references: References, *, quantile: float
                 ) -> tuple[float, str]:
  """`copy_threshold` of these references, `real` ones, from the validation split's cases."""
  flat = lambda path: (path / space.spread).reshape(len(path), space.spread.size)
  shown = np.asarray(space.held_out_findings.status) == PRESENT
  most = max(len(references), 1)
  others = {}
  for k, name in enumerate(space.source.vocabulary):
    rows = np.flatnonzero(space.status[:, k] == PRESENT)
    if k != references.k and rows.size >= most:
      others[name] = flat(space.held_out[shown[:, k]]), flat(space.path[rows])
  return copy_threshold(flat(space.held_out[shown[:, references.k]]), flat(references.path), others,
                        quantile=quantile)
