"""Euclidean distances between two sets of features, a block of rows at a time."""

from collections.abc import Iterator

import numpy as np

from cdjax.core.types import Array

CHUNK = 1000


def distance_blocks(
    a: Array, b: Array, *, chunk: int = CHUNK
) -> Iterator[tuple[slice, np.ndarray]]:
  """Distances from the rows of `a` to all rows of `b`.

  By |a|² + |b|² − 2ab in float64, about b's mean: that is one matrix product, and centring keeps
  the cancellation small where features lie far from zero. An exact copy is at a distance of about
  10⁻⁸ of the features' spread, not always 0.

  Args:
    a: `[N, D]`.
    b: `[M, D]`.
    chunk: rows of `a` at a time; a block takes `8 · chunk · M` bytes.

  Yields:
    the rows, and their distances `[rows, M]` float64.

  Raises:
    ValueError: shapes that do not fit, an empty set, or a chunk below 1.
  """
  a, b = np.asarray(a), np.asarray(b)
  if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or not a.size or not b.size:
    raise ValueError(f"features of shape {a.shape} and {b.shape}; expected [N, D] and [M, D], "
                     "both with rows")
  if chunk < 1:
    raise ValueError(f"chunk={chunk}; expected at least 1 row")
  b = b.astype(np.float64)
  middle = b.mean(0)
  b -= middle
  squares = np.einsum("md,md->m", b, b)
  for start in range(0, len(a), chunk):
    rows = slice(start, min(start + chunk, len(a)))
    part = a[rows].astype(np.float64) - middle
    block = part @ b.T
    block *= -2.0
    block += squares
    block += np.einsum("nd,nd->n", part, part)[:, None]
    yield rows, np.sqrt(np.maximum(block, 0.0, out=block), out=block)


def nearest(a: Array, b: Array, *, chunk: int = CHUNK) -> tuple[np.ndarray, np.ndarray]:
  """The nearest row of `b` to each row of `a`.

  Returns:
    distances `[N]` float64; which row, `[N]` int.
  """
  distance, index = np.empty(len(a)), np.empty(len(a), np.int64)
  for rows, block in distance_blocks(a, b, chunk=chunk):
    index[rows] = block.argmin(1)
    distance[rows] = block.min(1)
  return distance, index


def neighbour_radius(a: Array, k: int, *, chunk: int = CHUNK) -> np.ndarray:
  """Distance of each row of `a [N, D]` to its k-th nearest *other* row, `[N]` float64.

  Raises:
    ValueError: not 1 ≤ k < N.
  """
  if not 1 <= k < len(a):
    raise ValueError(f"k={k} of {len(a)} rows; expected 1 <= k < the number of rows")
  radius = np.empty(len(a))
  for rows, block in distance_blocks(a, a, chunk=chunk):
    block[np.arange(len(block)), np.arange(rows.start, rows.stop)] = np.inf
    radius[rows] = np.partition(block, k - 1, axis=1)[:, k - 1]
  return radius
