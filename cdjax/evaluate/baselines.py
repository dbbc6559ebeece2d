"""Yardsticks without a model: the factual image itself needs no code; PCA is here.

`baseline/pca256/psnr` says how rich a set of images is: what 256 linear components fitted on the
training images keep of held-out ones.
"""

import numpy as np

from cdjax.core.types import Array
from cdjax.evaluate.image_metrics import rmse

_OVERSAMPLING, _ITERATIONS = 64, 4


def fit_pca(images: Array, components: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
  """The mean and the leading principal directions, by a randomised SVD of the centred images.

  Subspace iteration with oversampling (Halko, Martinsson and Tropp, arXiv:0909.4061, section
  4.5), so that 6,000 images of 64 px take seconds.

  Args:
    images: `[N, H, W]`, N ≥ 2.
    components: how many directions; at most min(N - 1, H·W) exist and are returned.
    seed: of the random start.

  Returns:
    `(mean [H·W], directions [k, H·W])`, the directions orthonormal.
  """
  flat = np.asarray(images, np.float32).reshape(len(images), -1)
  if len(flat) < 2:
    raise ValueError(f"{len(flat)} training images; PCA needs at least 2")
  mean = flat.mean(0)
  flat = flat - mean
  kept = min(components, len(flat) - 1, flat.shape[1])
  width = min(kept + _OVERSAMPLING, *flat.shape)
  start = np.random.default_rng(seed).standard_normal((flat.shape[1], width), np.float32)
  basis = np.linalg.qr(flat @ start)[0]
  for _ in range(_ITERATIONS):
    basis = np.linalg.qr(flat @ (flat.T @ basis))[0]
  _, _, directions = np.linalg.svd(basis.T @ flat, full_matrices=False)
  return mean, directions[:kept]


def pca_errors(train_images: Array, images: Array, *, components: int = 256) -> np.ndarray:
  """RMSE `[N]` of `images` rebuilt from the components of `train_images`; both in [0, 1]."""
  mean, directions = fit_pca(train_images, components)
  centred = np.asarray(images, np.float32).reshape(len(images), -1) - mean
  rebuilt = centred @ directions.T @ directions + mean
  return rmse(np.asarray(images), rebuilt.reshape(np.shape(images)))
