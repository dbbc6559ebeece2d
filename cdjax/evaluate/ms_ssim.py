"""Multi-scale structural similarity, and its mean over random pairs as a measure of diversity.

Wang, Simoncelli and Bovik, "Multiscale Structural Similarity for Image Quality Assessment",
Asilomar 2003, eq. 7; as diversity: Odena et al., arXiv:1610.09585, section 4.2. Lower is more
diverse; compare with the same mean on real images, not with 0.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from cdjax.core import images
from cdjax.core.types import Array
from cdjax.evaluate.batching import map_batches

# Of the scales from fine to coarse (Wang et al. 2003, section 3.2); sum 1.
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_BATCH = 32


def num_scales(height: int, width: int) -> int:
  """Scales at which the 11 x 11 window still fits, at most 5: 3 at 64 px, 5 from 176 px on.

  Raises:
    ValueError: it does not even fit the image.
  """
  window = 2 * images.SSIM_RADIUS + 1
  scales, side = 0, min(height, width)
  while side >= window and scales < len(WEIGHTS):
    scales, side = scales + 1, side // 2
  if not scales:
    raise ValueError(f"images of {height} x {width}; MS-SSIM needs at least {window} pixels")
  return scales


@functools.partial(jax.jit, static_argnames=("scales",))
def _ms_ssim(x: Array, y: Array, *, scales: int) -> Array:
  inner = slice(images.SSIM_RADIUS, -images.SSIM_RADIUS)
  weights = np.array(WEIGHTS[:scales]) / sum(WEIGHTS[:scales])
  result = jnp.ones(len(x))
  for scale in range(scales):
    luminance, structure = images.ssim_terms(x, y)
    last = scale == scales - 1
    term = luminance * structure if last else structure
    term = term[:, inner, inner].mean((1, 2, 3))
    # A negative mean has no fractional power: such images share no structure.
    result *= jnp.maximum(term, 0.0) ** weights[scale]
    if not last:
      x, y = _halve(x), _halve(y)
  return result


def _halve(x: Array) -> Array:
  """Mean of 2 x 2 pixels; an odd last row or column is left out."""
  batch, height, width, channels = x.shape
  x = x[:, :height // 2 * 2, :width // 2 * 2]
  return x.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))


def ms_ssim(a: Array, b: Array) -> np.ndarray:
  """Multi-scale SSIM of each pair of images, data range 1.

  Contrast and structure count at every scale, luminance at the coarsest only; where fewer than
  five scales fit (`num_scales`), the weights of those that do are divided by their sum, so that
  values at different sizes do not compare.

  Args:
    a: `[N, H, W]` in [0, 1].
    b: the same.

  Returns:
    `[N]` float32 in [0, 1].

  Raises:
    ValueError: shapes differ, or the images are smaller than 11 pixels.
  """
  a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
  if a.shape != b.shape or a.ndim != 3:
    raise ValueError(f"images of shape {a.shape} and {b.shape}; expected one shape [N, H, W]")
  fn = functools.partial(_ms_ssim, scales=num_scales(*a.shape[1:]))
  return map_batches(fn, a[..., None], b[..., None], batch_size=_BATCH)


def random_pairs(total: int, pairs: int, *, seed: int) -> np.ndarray:
  """Distinct unordered pairs of different examples, each equally likely.

  Args:
    total: N examples.
    pairs: how many; all N(N−1)/2 where it is more than those.
    seed: of the draw. Shards take slices of the one list.

  Returns:
    `[P, 2]` int64, first < second.

  Raises:
    ValueError: fewer than 2 examples or 1 pair.
  """
  if total < 2 or pairs < 1:
    raise ValueError(f"{pairs} pairs of {total} examples; expected at least 1 of at least 2")
  every = total * (total - 1) // 2
  # Without shuffling, NumPy draws few of many in memory that does not grow with N².
  ranks = np.random.default_rng(seed).choice(every, min(pairs, every), replace=False, shuffle=False)
  return _pairs_of(ranks)


def _pairs_of(ranks: np.ndarray) -> np.ndarray:
  """Pair number second(second − 1)/2 + first, `[P]` → `[P, 2]`.

  1 + 8r is an odd square exactly where `second` steps up, so that float64 is exact up to N of a
  few millions.
  """
  second = ((1.0 + np.sqrt(1.0 + 8.0 * ranks)) / 2.0).astype(np.int64)
  return np.stack([ranks - second * (second - 1) // 2, second], axis=1)


def diversity(x: Array, *, pairs: int = 1000, seed: int) -> dict[str, float]:
  """Mean MS-SSIM over random pairs of one set.

  Args:
    x: `[N, H, W]` in [0, 1], N ≥ 2.
    pairs: how many.
    seed: of the pairs.

  Returns:
    `mean`, `sd` between pairs (ddof 1; 0 for one pair), `pairs` and `scales` that were used.
  """
  chosen = random_pairs(len(x), pairs, seed=seed)
  x = np.asarray(x)
  values = ms_ssim(x[chosen[:, 0]], x[chosen[:, 1]]).astype(np.float64)
  return {"mean": float(values.mean()), "sd": float(values.std(ddof=1)) if len(values) > 1 else 0.0,
          "pairs": len(values), "scales": num_scales(*x.shape[1:])}
