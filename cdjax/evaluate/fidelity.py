"""Fréchet and kernel distance, precision, recall, density and coverage of two sets, and by group.

A distance at one N does not compare with one at another (`frechet_distance`), so that every name
carries the number of images, and the sets of one comparison are cut to one number.
"""

from collections.abc import Mapping

import numpy as np

from cdjax.core.types import Array
from cdjax.evaluate.features import Extractor, metric_name
from cdjax.evaluate.frechet import frechet_distance_of_rows
from cdjax.evaluate.kernel import kernel_distance
from cdjax.evaluate.manifold import NEIGHBOURS, manifold_metrics

SUBSETS, SUBSET_SIZE = 100, 1000


def subset_size(count: int) -> int:
  """Rows of each of the kernel distance's subsets of `count`.

  A subset of everything would be the same one every time, and its spread 0.
  """
  return min(SUBSET_SIZE, count // 2)


def fidelity_metrics(
    real: Array, synthetic: Array, *, extractor: Extractor, group: str = "", seed: int,
    subsets: int = SUBSETS, most: int | None = None
) -> dict[str, float]:
  """All measures of one pair of sets, at the number of images of the smaller one.

  Args:
    real: features `[N, D]`.
    synthetic: features `[M, D]`.
    extractor: that made them.
    group: of the images, e.g. "sex/F"; the end of every name.
    seed: of the choice of rows from the larger set and of the kernel distance's subsets.
    subsets: of the kernel distance; more of them make its mean steadier.
    most: rows of each set at most; None: as many as the smaller one has.

  Returns:
    `fid/…`, `kid/…` with `kid_sd/…` (between the subsets of 1,000 rows, of half the rows where
    there are fewer than 2,000), `precision/…`, `recall/…`, `density/…` and `coverage/…` (k = 5).

  Raises:
    ValueError: 5 rows or fewer in a set, or numbers of features differ.
  """
  count = min(len(real), len(synthetic), most or max(len(real), len(synthetic)))
  if count <= NEIGHBOURS:
    raise ValueError(f"{len(real)} real and {len(synthetic)} synthetic images{_of(group)}; "
                     f"expected more than {NEIGHBOURS} each")
  generator = np.random.default_rng([seed, count])
  real, synthetic = (_choose(np.asarray(rows), count, generator) for rows in (real, synthetic))
  kernel = kernel_distance(real, synthetic, subsets=subsets,
                           subset_size=subset_size(count), seed=seed)
  values = {"fid": frechet_distance_of_rows(real, synthetic),
            "kid": kernel.mean, "kid_sd": kernel.sd, **manifold_metrics(real, synthetic)}
  end = f"/{group}" if group else ""
  return {metric_name(name, extractor, count) + end: value for name, value in values.items()}


def fidelity_by_group(
    real: Array,
    synthetic: Array,
    real_groups: Mapping[str, Array],
    synthetic_groups: Mapping[str, Array],
    *,
    extractor: Extractor,
    least: int = 100,
    seed: int,
    subsets: int = SUBSETS,
) -> tuple[dict[str, float], list[str]]:
  """The same for each group of images: a finding, a tier, a sex, an age group, a view, a site.

  Args:
    real: features `[N, D]`.
    synthetic: features `[M, D]`.
    real_groups: `[N]` bool by name, e.g. {"finding/nodule": …}; groups may overlap.
    synthetic_groups: `[M]` bool by the same names.
    extractor: that made the features.
    least: images of each set that a group needs.
    seed: see `fidelity_metrics`.
    subsets: see `fidelity_metrics`.

  Returns:
    the measures; a line for each group that is left out and why.

  Raises:
    ValueError: a mask that is not one for each image.
  """
  result, left_out = {}, []
  for name in sorted(real_groups.keys() | synthetic_groups.keys()):
    parts = [_members(rows, groups, name)
             for rows, groups in ((real, real_groups), (synthetic, synthetic_groups))]
    sizes = [len(part) for part in parts]
    if min(sizes) < least:
      left_out.append(f"{name}: {sizes[0]} real and {sizes[1]} synthetic images, fewer than "
                      f"{least}")
      continue
    result |= fidelity_metrics(*parts, extractor=extractor, group=name, seed=seed,
                               subsets=subsets)
  return result, left_out


def _members(rows: Array, groups: Mapping[str, Array], name: str) -> np.ndarray:
  mask = np.asarray(groups.get(name, np.zeros(len(rows), bool)))
  if mask.shape != (len(rows),) or mask.dtype != bool:
    raise ValueError(f"group {name!r}: a mask of shape {mask.shape} and type {mask.dtype} for "
                     f"{len(rows)} images; expected one bool each")
  return np.asarray(rows)[mask]


def _choose(rows: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
  """`count` of the rows without replacement, in their order; all of them where they are as many."""
  if len(rows) == count:
    return rows
  return rows[np.sort(generator.choice(len(rows), count, replace=False))]


def _of(group: str) -> str:
  return f" of {group}" if group else ""
