"""Which findings the phantom can show, and where each of them can be.

Sides and zones are bit masks as in `cdjax.core.types`: side 1 left, 2 right, 3 both; zone 1 upper,
2 mid, 4 lower; 0 where the finding has none.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from cdjax.core.types import SIDES, ZONES

SIDE_BITS = {"left": 1, "right": 2, "both": 3}
ZONE_BITS = {"upper": 1, "mid": 2, "lower": 4}


@dataclasses.dataclass(frozen=True)
class FindingSpec:
  """Where a finding can be.

  Attributes:
    sides: of "left", "right", "both"; empty for a finding without side.
    zones: of "upper", "mid", "lower"; empty for a finding without zone.
  """

  sides: tuple[str, ...] = ()
  zones: tuple[str, ...] = ()

  @property
  def places(self) -> tuple[tuple[int, int], ...]:
    """Every possible (side, zone), as bit masks; (0, 0) for a finding without place."""
    sides = [SIDE_BITS[s] for s in self.sides] or [0]
    zones = [ZONE_BITS[z] for z in self.zones] or [0]
    return tuple((s, z) for s in sides for z in zones)


PHANTOM_FINDINGS: dict[str, FindingSpec] = {
    "consolidation": FindingSpec(SIDES, ZONES),
    "pleural_effusion": FindingSpec(SIDES),
    "nodule": FindingSpec(SIDES, ZONES),
    "pneumothorax": FindingSpec(SIDES),
    "cardiomegaly": FindingSpec(),
    "mass": FindingSpec(SIDES, ZONES),
    "atelectasis": FindingSpec(SIDES),
    "pulmonary_edema": FindingSpec(("both",)),
    "emphysema": FindingSpec(("both",)),
    "pulmonary_fibrosis": FindingSpec((*SIDES, "both"), ("upper", "lower")),
    "pleural_thickening": FindingSpec(SIDES, ZONES),
    "hiatal_hernia": FindingSpec(),
    "fracture": FindingSpec(SIDES, ZONES),
    "pneumoperitoneum": FindingSpec(),
}
FIVE = ("consolidation", "pleural_effusion", "nodule", "pneumothorax", "cardiomegaly")
ALL = tuple(PHANTOM_FINDINGS)


def check_vocabulary(vocabulary: Sequence[str]) -> tuple[str, ...]:
  """Returns the vocabulary as a tuple.

  Raises:
    ValueError: a name that the phantom cannot render, or a name given twice.
  """
  vocabulary = tuple(vocabulary)
  for name in vocabulary:
    if name not in PHANTOM_FINDINGS:
      raise ValueError(f"finding {name!r}; the phantom can show {sorted(PHANTOM_FINDINGS)}")
  if len(set(vocabulary)) != len(vocabulary) or not vocabulary:
    raise ValueError(f"vocabulary={vocabulary}; expected one or more different findings")
  return vocabulary


def place_of(combination: str) -> tuple[str, int, int]:
  """Reads "finding side zone" (what the finding does not have is left out).

  Returns:
    The finding's name and the bit masks of side and zone.

  Raises:
    ValueError: not a finding of the phantom, or a place that the finding cannot have.
  """
  name, *words = combination.split() or [""]
  spec = PHANTOM_FINDINGS.get(name)
  if spec is None:
    raise ValueError(f"combination {combination!r}; expected one of {sorted(PHANTOM_FINDINGS)} "
                     "first")
  side = sum(SIDE_BITS.get(w, 0) for w in words)
  zone = sum(ZONE_BITS.get(w, 0) for w in words)
  known = all(w in SIDE_BITS or w in ZONE_BITS for w in words)
  if not known or (side, zone) not in spec.places:
    raise ValueError(f"combination {combination!r}: {name} has sides {spec.sides or 'none'} and "
                     f"zones {spec.zones or 'none'}; expected e.g. 'nodule left upper'")
  return name, side, zone


def place_table(vocabulary: Sequence[str], held_out: Sequence[str] = ()) -> tuple[np.ndarray, ...]:
  """The places of every finding, for drawing one of them.

  Args:
    vocabulary: K finding names.
    held_out: "finding side zone" strings that are left out.

  Returns:
    sides `[K, P]` int8, zones `[K, P]` int8, and how many places there are, `[K]` int32 (the first
    ones of each row).

  Raises:
    ValueError: a combination that is not one, or no place left for a finding.
  """
  vocabulary = check_vocabulary(vocabulary)
  never = {place_of(text) for text in held_out}
  rows = [[place for place in PHANTOM_FINDINGS[name].places if (name, *place) not in never]
          for name in vocabulary]
  counts = np.array([len(row) for row in rows], np.int32)
  if not counts.all():
    name = vocabulary[int(np.argmin(counts))]
    raise ValueError(f"held_out leaves no place for {name!r}; take the finding out of the "
                     "vocabulary instead")
  table = np.zeros((2, len(vocabulary), counts.max()), np.int8)
  for k, row in enumerate(rows):
    table[:, k, :counts[k]] = np.array(row, np.int8).T
  return table[0], table[1], counts
