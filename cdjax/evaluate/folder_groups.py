"""Groups of a folder's images from its manifest: findings, tiers, sex, age, view, site."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from cdjax.data.manifest import Row
from cdjax.evaluate.long_tail import TIERS, tiers

# Youngest age of each group but the first, in years; a child's chest is another image altogether.
AGES = (18, 40, 60, 80)
# Words of manifests, in lower case, by the name of their group; "" is not known.
_SEXES = {"F": ("f", "female", "woman"), "M": ("m", "male", "man"), "": ("u", "unknown")}
_VIEWS = {"PA": ("pa", "posteroanterior", "postero-anterior"),
          "AP": ("ap", "anteroposterior", "antero-posterior"),
          "LATERAL": ("lateral", "lat", "l", "ll", "rl", "left lateral", "right lateral"),
          "": ("unknown",)}
_EMPTY = ("", "na", "n/a", "nan", "none", "null")


def age_group(age: float | None) -> str:
  """"0-17", "18-39", …, "80+"; "" where it is not known."""
  if age is None:
    return ""
  edges = (0, *AGES)
  number = int(np.searchsorted(AGES, age, side="right"))
  return f"{edges[number]}-{AGES[number] - 1}" if number < len(AGES) else f"{AGES[-1]}+"


def group_name(value: str, words: Mapping[str, Sequence[str]] = MappingProxyType({})) -> str:
  """What a cell's group is called: by the word it is, else as it is written; "" for none.

  A slash separates the parts of a metric's name, and stands in none of them.
  """
  said = value.strip().lower()
  if said in _EMPTY:
    return ""
  known = next((name for name, same in words.items() if said in same), value.strip())
  return known.replace("/", "_")


def _values(rows: Sequence[Row]) -> dict[str, list[str]]:
  """Each place's group of each row."""
  return {"sex": [group_name(row.sex, _SEXES) for row in rows],
          "age": [age_group(row.age) for row in rows],
          "view": [group_name(row.view, _VIEWS) for row in rows],
          "site": [group_name(row.site) for row in rows]}


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
    least one finding of it), "sex/F", "age/40-59", "view/PA", "site/NAME". Usual words for a sex
    or a view are one group, however they are written. What no row says has no group; an image whose
    cell is empty, or says NA, is in none.
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
  for place, values in _values(rows).items():
    for value in sorted(set(values) - {""}):
      groups[f"{place}/{value}"] = np.array(values) == value
  return {name: mask for name, mask in groups.items() if mask.any()}


def unknown_places(rows: Sequence[Row]) -> list[str]:
  """Which of sex, age, view and site no row of a manifest says."""
  return [place for place, values in _values(rows).items() if not any(values)]
