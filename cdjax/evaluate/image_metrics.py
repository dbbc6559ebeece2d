"""Errors between images in [0, 1]: inside and outside a mask, whole, structural, and sharpness."""

import jax
import jax.numpy as jnp
import numpy as np

from cdjax.core import images
from cdjax.core.types import Array
from cdjax.evaluate.batching import map_batches
from cdjax.evaluate.bootstrap import Statistic, divide, mean

_SSIM_BATCH = 32


def to_model(x01: Array) -> Array:
  """Images `[N, H, W]` in [0, 1] as the model wants them: `[N, H, W, 1]` in [-1, 1]."""
  return (2.0 * x01 - 1.0)[..., None]


def from_model(x: Array) -> np.ndarray:
  """Images `[N, H, W, 1]` in [-1, 1] as they are measured: `[N, H, W]` in [0, 1], clipped."""
  return np.clip((np.asarray(x)[..., 0] + 1.0) / 2.0, 0.0, 1.0)


def rmse(a: Array, b: Array, mask: Array | None = None) -> np.ndarray:
  """Root of the mean squared error of each image over its mask.

  Args:
    a: `[N, H, W]` in [0, 1].
    b: the same.
    mask: `[N, H, W]` bool; None for the whole image.

  Returns:
    `[N]` float64; NaN where the mask is empty.
  """
  squares = np.square(np.asarray(a, np.float64) - b)
  if mask is None:
    return np.sqrt(squares.mean((1, 2)))
  mask = np.asarray(mask)
  return np.sqrt(divide((squares * mask).sum((1, 2)), mask.sum((1, 2)).astype(np.float64)))


def psnr_statistic(errors: Array) -> Statistic:
  """PSNR in dB from the mean of the images' mean squared errors.

  The mean is taken before the logarithm, so one perfect image cannot add an infinity.

  Args:
    errors: RMSE of each whole image, `[N]`, data range 1.
  """
  mse = mean(np.square(errors))

  def statistic(weights):
    with np.errstate(divide="ignore"):
      return -10.0 * np.log10(mse(weights))

  return statistic


@jax.jit
def _ssim_batch(a: Array, b: Array) -> Array:
  return images.ssim(a[..., None], b[..., None])


def ssim(a: Array, b: Array) -> np.ndarray:
  """Structural similarity of each image, Gaussian window σ = 1.5, data range 1.

  Args:
    a: `[N, H, W]` in [0, 1].
    b: the same.

  Returns:
    `[N]`.
  """
  return map_batches(_ssim_batch, np.asarray(a, np.float32), np.asarray(b, np.float32),
                     batch_size=_SSIM_BATCH)


def gradient_energy(x: Array, mask: Array) -> np.ndarray:
  """Mean squared forward difference (down plus across) over each image's mask.

  Args:
    x: `[N, H, W]`.
    mask: `[N, H, W]` bool.

  Returns:
    `[N]` float64; NaN where the mask is empty.
  """
  x = np.asarray(x, np.float64)
  down = np.diff(x, axis=1, append=x[:, -1:])
  across = np.diff(x, axis=2, append=x[:, :, -1:])
  energy = (np.square(down) + np.square(across)) * mask
  return divide(energy.sum((1, 2)), np.asarray(mask).sum((1, 2)).astype(np.float64))


def pairwise_rmse(x: Array, mask: Array) -> np.ndarray:
  """Mean over the pairs of A answers of their RMSE inside the question's mask.

  Args:
    x: `[N, A, H, W]`, A ≥ 2.
    mask: `[N, H, W]` bool.

  Returns:
    `[N]` float64; NaN where the mask is empty.
  """
  first, second = np.triu_indices(x.shape[1], 1)
  pairs = [rmse(x[:, i], x[:, j], mask) for i, j in zip(first, second, strict=True)]
  return np.mean(pairs, axis=0)


def dilate(mask: Array, *, size: int) -> Array:
  """Grows masks `[N, H, W]` bool by 1 pixel at 64 px (by `size / 64`, at least 1, otherwise)."""
  radius = max(1, round(size / 64))
  return images.dilate(jnp.asarray(mask)[..., None], radius)[..., 0]
