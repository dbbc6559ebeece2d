"""Yardsticks without a model: PCA, and the most similar training image that has the finding.

`baseline/pca256/psnr` says how rich a set of images is: what 256 linear components fitted on the
training images keep of held-out ones. `baseline/swap_nearest/*` answers "this patient, but with"
by somebody else's radiograph. The factual image as the answer needs no code.
"""

import numpy as np

from cdjax.core.types import Array, FindingsArrays
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


def nearest_with_findings(
    train_images: Array, train_findings: FindingsArrays, images: Array, do_findings: FindingsArrays
) -> np.ndarray:
  """The training image nearest to each factual one, among those with the asked findings.

  Of the training studies those come first that show the asked findings and no other, at the asked
  sides and zones; where there is none, the zone may differ, then the side, then what else is there,
  and where no study shows the asked findings the nearest of all must do.

  Args:
    train_images: `[M, H, W]` in [0, 1].
    train_findings: `[M, K]`.
    images: factual images, `[N, H, W]` in [0, 1].
    do_findings: asked, `[N, K]`.

  Returns:
    `[N, H, W]` in [0, 1].
  """
  flat = lambda x: np.asarray(x, np.float32).reshape(len(x), -1)
  train, factual = flat(train_images), flat(images)
  distance = (train**2).sum(1) - 2.0 * factual @ train.T
  present, asked = np.asarray(train_findings.present), np.asarray(do_findings.present)
  chosen = np.zeros(len(factual), int)
  for i, wanted in enumerate(asked):
    shown = (present | ~wanted).all(1)
    alone = shown & (present == wanted).all(1)
    same = {place: (np.asarray(getattr(train_findings, place))[:, wanted]
                    == np.asarray(getattr(do_findings, place))[i, wanted]).all(1)
            for place in ("side", "zone")}
    pools = (alone & same["side"] & same["zone"], alone & same["side"], alone, shown)
    pool = next((p for p in pools if p.any()), True)
    chosen[i] = np.where(pool, distance[i], np.inf).argmin()
  return np.asarray(train_images)[chosen]
