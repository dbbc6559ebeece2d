"""Groups of a folder's images from its manifest: findings, tiers, sex, age, view, site."""

from collections.abc import Sequence

import numpy as np

from cdjax.data.manifest import Row
from cdjax.evaluate.long_tail import TIERS, tiers

# Youngest age of each group but the first, in years; a child's chest is another image altogether.
AGES = (18, 40, 60, 80)
PLACES = ("sex", "age", "view", "site")


def age_group(age: float | None) -> str:
  """"0-17", "18-39", …, "80+"; "" where it is not known."""
  if age is None:
    return ""
  edges = (0, *AGES)
  number = int(np.searchsorted(AGES, age, side="right"))
  return f"{edges[number]}-{AGES[number] - 1}" if number < len(AGES) else f"{AGES[-1]}+"


def present_findings(rows: Sequence[Row]) -> list[set[str]]:
  """Names of the findings that each image is said to show."""
  return [{f.name for f in row.findings or () if f.status == "present"} for row in rows]


def finding_tiers(rows: Sequence[Row]) -> dict[str, str]:
  """Each finding's tier by the number of real images that show it, see `long_tail.tiers`."""
  shown = present_findings(rows)
  names = sorted(set().union(*shown))
  counts = [sum(name in findings for findings in shown) for name in names]
  return dict(zip(names, tiers(np.array(counts, int)).tolist(), strict=True))


def make_groups(rows: Sequence[Row], tier: dict[str, str]) -> dict[str, np.ndarray]:
  """Masks of N images by group.

  Args:
    rows: of the manifest.
    tier: of each finding, from the real images; synthetic ones were made to be more.

  Returns:
    `[N]` bool by "finding/NAME", "finding/none" (labelled, and nothing is there), "tier/TIER" (at
    least one finding of it), "sex/F", "age/40-59", "view/PA", "site/NAME". What no row says has no
    group; an image whose cell is empty is in none.
  """
  shown = present_findings(rows)
  groups = {f"finding/{name}": np.array([name in findings for findings in shown])
            for name in sorted(set().union(*shown))}
  groups["finding/none"] = np.array([
      row.findings is not None and all(f.status == "absent" for f in row.findings)
      for row in rows])
  for name in TIERS:
    groups[f"tier/{name}"] = np.array([any(tier.get(f) == name for f in findings)
                                       for findings in shown])
  values = {"sex": [row.sex for row in rows], "age": [age_group(row.age) for row in rows],
            "view": [row.view for row in rows], "site": [row.site for row in rows]}
  for place in PLACES:
    for value in sorted(set(values[place]) - {""}):
      # A slash separates the parts of a metric's name.
      groups[f"{place}/{value.replace('/', '_')}"] = np.array(values[place]) == value
  return {name: mask for name, mask in groups.items() if mask.any()}


def unknown_places(rows: Sequence[Row]) -> list[str]:
  """Which of sex, age, view and site no row of a manifest says."""
  said = {"sex": any(row.sex for row in rows), "age": any(row.age is not None for row in rows),
          "view": any(row.view for row in rows), "site": any(row.site for row in rows)}
  return [place for place in PLACES if not said[place]]
