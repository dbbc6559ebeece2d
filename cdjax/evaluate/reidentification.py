"""Does the pathology slot know the patient? Re-identification of a patient's other study."""

import numpy as np

from cdjax.core.types import Array, Posterior


def nearest_is_own(query: Array, gallery: Array) -> np.ndarray:
  """For each query whether its nearest gallery vector (Euclidean) is the one of the same row.

  Args:
    query: `[N, D]`.
    gallery: `[N, D]`, row i of the same patient as query i.

  Returns:
    `[N]` bool; a tie counts as found only for the first of the tied.
  """
  query, gallery = np.asarray(query, np.float64), np.asarray(gallery, np.float64)
  distances = (gallery**2).sum(-1) - 2.0 * query @ gallery.T
  return distances.argmin(-1) == np.arange(len(query))


def patient_from_pathology(
    first: Posterior, second: Posterior, *, noise: float, seed: int
) -> np.ndarray:
  """Top-1 re-identification from the pathology slots of two studies of the same patients.

  Channels are scaled once by their spread and once by their posterior precision (an informative
  channel is one whose posterior is narrow); the scaling that finds more patients counts.

  Args:
    first: posterior of the first studies, `[N, h, w, c]`.
    second: of the second studies, row i of the same patient.
    noise: that the latent is used with: 0 its means, 1 draws of the posterior; one a study.
    seed: of the draws.

  Returns:
    `[N]` bool, found or not, under the better scaling. Chance is 1/N.
  """
  generator = np.random.default_rng(seed)

  def draw(q):
    mean, sd = np.asarray(q.mean, np.float64), np.exp(0.5 * np.asarray(q.logvar, np.float64))
    return mean + noise * sd * generator.standard_normal(mean.shape)

  a, b = draw(first), draw(second)
  axes = tuple(range(b.ndim - 1))
  variance = np.exp(np.concatenate([first.logvar, second.logvar]).astype(np.float64)).mean(axes)
  scales = (np.concatenate([a, b]).std(axes), np.sqrt(variance))
  found = [
      nearest_is_own((a / np.maximum(s, 1e-8)).reshape(len(a), -1),
                     (b / np.maximum(s, 1e-8)).reshape(len(b), -1)) for s in scales
  ]
  return max(found, key=np.mean)
