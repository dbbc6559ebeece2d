"""Fréchet distance between two sets of features, from moments that can be merged.

Heusel et al., "GANs Trained by a Two Time-Scale Update Rule", arXiv:1706.08500, eq. 6:
d² = |m_a − m_b|² + tr(C_a + C_b − 2 (C_a C_b)^½). Everything is float64.
"""

import dataclasses

import numpy as np

from cdjax.core.types import Array


@dataclasses.dataclass(frozen=True)
class Moments:
  """Count, mean and scatter of features seen so far.

  Shards that are merged hold what one process would hold, up to the rounding of float64; bit for
  bit where the same batches are merged in the same order.

  Attributes:
    count: N.
    mean: `[D]` float64.
    scatter: `[D, D]` float64, Σ (f − mean)(f − mean)ᵀ.
  """

  count: int
  mean: np.ndarray
  scatter: np.ndarray

  @property
  def covariance(self) -> np.ndarray:
    """Unbiased, `[D, D]`.

    Raises:
      ValueError: fewer than two rows.
    """
    if self.count < 2:
      raise ValueError(f"{self.count} rows of features; a covariance needs at least 2")
    return self.scatter / (self.count - 1)


def empty_moments(dimension: int) -> Moments:
  """Moments of no rows of `dimension` features."""
  return Moments(0, np.zeros(dimension), np.zeros((dimension, dimension)))


def moments_of(features: Array) -> Moments:
  """Moments of one batch of features `[N, D]`, N ≥ 1.

  Raises:
    ValueError: not of two axes, no rows, or not finite.
  """
  features = _checked(features)
  mean = features.mean(0)
  centred = features - mean
  return Moments(len(features), mean, centred.T @ centred)


def _checked(features: Array) -> np.ndarray:
  """`[N, D]` float64, or an error that says what is wrong with it."""
  features = np.asarray(features, np.float64)
  if features.ndim != 2 or not len(features):
    raise ValueError(f"features of shape {features.shape}; expected [N, D] with N of at least 1")
  if not np.isfinite(features).all():
    raise ValueError(f"{(~np.isfinite(features)).any(1).sum()} of {len(features)} rows of features "
                     "are not finite")
  return features


def merge_moments(a: Moments, b: Moments) -> Moments:
  """Moments of both sets together, stable where the means are far from zero.

  Raises:
    ValueError: numbers of features differ.

  References:
    Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample
    Variances", 1979.
  """
  if a.mean.shape != b.mean.shape:
    raise ValueError(f"moments of {a.mean.size} and of {b.mean.size} features; expected one number")
  count = a.count + b.count
  if not count:
    return a
  shift = b.mean - a.mean
  return Moments(count, a.mean + shift * (b.count / count),
                 a.scatter + b.scatter + np.outer(shift, shift) * (a.count * b.count / count))


def update_moments(state: Moments, features: Array) -> Moments:
  """Adds a batch of features `[B, D]`; errors as `moments_of` and `merge_moments`."""
  return merge_moments(state, moments_of(features))


def frechet_distance(a: Moments, b: Moments) -> float:
  """Squared Fréchet distance between the Gaussians of these moments ("FID"), ≥ 0.

  tr (C_a C_b)^½ = tr (C_a^½ C_b C_a^½)^½, which is symmetric, so that two eigendecompositions do
  and nothing turns complex. With N ≤ D a covariance has rank N − 1: the formula stays exact for
  it, no ridge is added, and eigenvalues below rounding (D · ε · the largest) count as zero, since
  a square root would lift their noise from ε to √ε. The *estimate* is biased upwards at any
  finite N (Chong and Forsyth, arXiv:1911.07023), strongly at N ≤ D: compare equal N only.

  Args:
    a: of one set, N ≥ 2.
    b: of the other.

  Raises:
    ValueError: fewer than two rows in a set, or numbers of features differ.
  """
  if a.mean.shape != b.mean.shape:
    raise ValueError(f"moments of {a.mean.size} and of {b.mean.size} features; expected one number")
  first, second = a.covariance, b.covariance
  values, vectors = np.linalg.eigh(first)
  root = (vectors * np.sqrt(_without_noise(values))) @ vectors.T
  cross = np.sqrt(_without_noise(np.linalg.eigvalsh(root @ second @ root))).sum()
  shift = a.mean - b.mean
  return max(0.0, float(shift @ shift + np.trace(first) + np.trace(second) - 2.0 * cross))


def frechet_distance_of_rows(a: Array, b: Array) -> float:
  """The same from the features themselves, in a fraction of the time where rows are few.

  tr (C_a C_b)^½ is the sum of the singular values of X_a X_bᵀ / √((N − 1)(M − 1)), with X the
  centred rows: C_a C_b and X_a X_bᵀ X_b X_aᵀ share their eigenvalues other than zero. That is a
  matrix of N × M, not of D × D, so that it is taken where N or M is below D.

  Args:
    a: `[N, D]`, N ≥ 2.
    b: `[M, D]`, M ≥ 2.

  Raises:
    ValueError: as `moments_of` and `frechet_distance`.
  """
  first, second = _checked(a), _checked(b)
  for rows in (first, second):
    if len(rows) < 2:
      raise ValueError(f"{len(rows)} rows of features; a covariance needs at least 2")
  if min(len(first), len(second)) >= first.shape[1] or first.shape[1] != second.shape[1]:
    return frechet_distance(moments_of(first), moments_of(second))
  shift = first.mean(0) - second.mean(0)
  first, second = ((x - x.mean(0)) / np.sqrt(len(x) - 1) for x in (first, second))
  cross = np.linalg.svd(first @ second.T, compute_uv=False).sum()
  spread = np.square(first).sum() + np.square(second).sum()
  return max(0.0, float(shift @ shift + spread - 2.0 * cross))


def _without_noise(eigenvalues: np.ndarray) -> np.ndarray:
  floor = eigenvalues.size * np.finfo(np.float64).eps * max(eigenvalues[-1], 0.0)
  return np.where(eigenvalues > floor, eigenvalues, 0.0)
