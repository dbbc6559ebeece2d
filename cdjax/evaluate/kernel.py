"""Kernel distance between two sets of features (KID): the unbiased squared MMD.

Bińkowski et al., "Demystifying MMD GANs", arXiv:1801.01401, with the kernel
k(x, y) = (x·y / D + 1)³ and the estimator of Gretton et al., JMLR 13 (2012), eq. 3. float64.
"""

import dataclasses

import numpy as np

from cdjax.core.types import Array


@dataclasses.dataclass(frozen=True)
class KernelDistance:
  """Of one comparison.

  Attributes:
    mean: over the subsets; around 0, also below it, where the sets have one distribution.
    sd: between subsets (ddof 1); 0 for one subset, and where a subset is the whole of both sets.
      Subsets share rows, so that the mean's standard error is more than sd / √subsets.
    subsets, subset_size: what it was taken over.
  """

  mean: float
  sd: float
  subsets: int
  subset_size: int


def squared_mmd(x: Array, y: Array) -> float:
  """Unbiased squared maximum mean discrepancy with the cubic kernel.

  Args:
    x: `[N, D]`, N ≥ 2.
    y: `[M, D]`, M ≥ 2.

  Raises:
    ValueError: fewer than two rows, or numbers of features differ.
  """
  x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
  if x.ndim != 2 or y.ndim != 2 or x.shape[1:] != y.shape[1:] or min(len(x), len(y)) < 2:
    raise ValueError(f"features of shape {x.shape} and {y.shape}; expected [N, D] and [M, D] with "
                     "at least 2 rows each")

  def kernel(a, b):
    return (a @ b.T / x.shape[1] + 1.0) ** 3

  def within(a):
    # An example with itself is not a pair of draws: the diagonal would bias the mean.
    matrix = kernel(a, a)
    return (matrix.sum() - np.trace(matrix)) / (len(a) * (len(a) - 1))

  return float(within(x) + within(y) - 2.0 * kernel(x, y).mean())


def kernel_distance(
    real: Array, synthetic: Array, *, subsets: int = 100, subset_size: int = 1000, seed: int
) -> KernelDistance:
  """KID: `squared_mmd` of random subsets, drawn without replacement within each.

  Args:
    real: `[N, D]`.
    synthetic: `[M, D]`.
    subsets: how many.
    subset_size: rows of each set in each; at most N and M. Part of the definition of sd, not of
      what mean estimates.
    seed: of the draws; row order matters to them, see `feature_rows`.

  Raises:
    ValueError: a subset is larger than a set, or smaller than 2, or there is none.
  """
  if subsets < 1 or not 2 <= subset_size <= min(len(real), len(synthetic)):
    raise ValueError(f"subsets={subsets} of {subset_size} from {len(real)} and {len(synthetic)} "
                     f"rows; expected at least 1 of 2 to {min(len(real), len(synthetic))}")
  generator = np.random.default_rng(seed)
  draws = []
  for _ in range(subsets):
    x = real[generator.choice(len(real), subset_size, replace=False)]
    y = synthetic[generator.choice(len(synthetic), subset_size, replace=False)]
    draws.append(squared_mmd(x, y))
  return KernelDistance(mean=float(np.mean(draws)),
                        sd=float(np.std(draws, ddof=1)) if subsets > 1 else 0.0,
                        subsets=subsets, subset_size=subset_size)
