"""Precision, recall, density and coverage by balls to the k-th neighbour.

Kynkäänniemi et al., "Improved Precision and Recall Metric for Assessing Generative Models",
arXiv:1904.06991, eq. 1-2; Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative
Models", arXiv:2002.09797. A point on a ball's surface lies within.
"""

import numpy as np

from cdjax.core.types import Array
from cdjax.evaluate.distances import CHUNK, distance_blocks, neighbour_radius

NEIGHBOURS = 5


def manifold_metrics(
    real: Array, synthetic: Array, *, k: int = NEIGHBOURS, chunk: int = CHUNK
) -> dict[str, float]:
  """How far two sets of features cover each other.

  Memory: three blocks of `8 · chunk · max(N, M)` bytes and float64 copies of the features; 10,000
  against 10,000 rows never need their 800 MB of distances at once.

  Args:
    real: `[N, D]`, N > k.
    synthetic: `[M, D]`, M > k.
    k: which neighbour gives the radius of a ball.
    chunk: rows at a time; does not change the result.

  Returns:
    `precision`: share of synthetic rows in the ball of some real row; `recall`: share of real rows
    in the ball of some synthetic row; `density`: real balls that hold a synthetic row, over k, in
    [0, N/k], 1 where the sets have one distribution; `coverage`: share of real rows whose ball
    holds a synthetic row, about 1 − 2⁻ᵏ where the sets have one distribution and size.

  Raises:
    ValueError: not more than k rows in a set, or shapes that do not fit.
  """
  real_radius = neighbour_radius(real, k, chunk=chunk)
  synthetic_radius = neighbour_radius(synthetic, k, chunk=chunk)
  balls = np.zeros(len(synthetic), np.int64)
  recalled = np.zeros(len(real), bool)
  covered = np.zeros(len(real), bool)
  for rows, block in distance_blocks(real, synthetic, chunk=chunk):
    within = block <= real_radius[rows, None]
    balls += within.sum(0)
    covered[rows] = within.any(1)
    recalled[rows] = (block <= synthetic_radius).any(1)
  return {"precision": float((balls > 0).mean()), "recall": float(recalled.mean()),
          "density": float(balls.mean() / k), "coverage": float(covered.mean())}
