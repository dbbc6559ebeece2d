"""Arrays hold what the findings say, and give them back."""

import jax
import numpy as np
import pytest

from cdjax.core.types import ABSENT, PRESENT, UNKNOWN, FindingsArrays
from cdjax.findings import (
  Finding,
  arrays_to_findings,
  findings_to_arrays,
  mask_side,
  mask_zones,
  parse_findings,
  side_mask,
  zone_mask,
)

VOCABULARY = ("consolidation", "pleural_effusion", "nodule", "pneumothorax", "cardiomegaly")


def _encode(*texts, vocabulary=VOCABULARY, **kwargs):
  return findings_to_arrays([parse_findings(t) for t in texts], vocabulary, **kwargs)


def test_values_by_hand():
  arrays = _encode("large left lower effusion; possible nodule; no cardiomegaly", "healthy")
  np.testing.assert_array_equal(arrays.status, [[0, 1, UNKNOWN, 0, 0], [0] * 5])
  np.testing.assert_array_equal(arrays.severity, np.float32([[-1, 0.9, -1, -1, -1], [-1] * 5]))
  np.testing.assert_array_equal(arrays.side, [[0, 1, 0, 0, 0], [0] * 5])
  np.testing.assert_array_equal(arrays.zone, [[0, 4, 0, 0, 0], [0] * 5])
  np.testing.assert_array_equal(arrays.healthy, [False, True])
  assert arrays.status.dtype == arrays.side.dtype == arrays.zone.dtype == np.int8
  assert arrays.severity.dtype == np.float32
  unknown = _encode("effusion; no nodule", "healthy", unlisted="unknown")
  np.testing.assert_array_equal(unknown.status, [[-1, 1, 0, -1, -1], [-1] * 5])


def test_several_of_one_name_are_united():
  arrays = _encode("small left upper effusion; large right lower effusion; possible effusion")
  assert arrays.status[0, 1] == PRESENT
  assert arrays.side[0, 1] == 3 and arrays.zone[0, 1] == 5
  np.testing.assert_allclose(arrays.severity[0, 1], 0.9, rtol=1e-6)
  assert _encode("possible nodule; no nodule").status[0, 2] == UNKNOWN


def test_absence_on_one_side_is_not_absence():
  one = _encode("no left effusion", unlisted="unknown")
  assert one.status[0, 1] == UNKNOWN
  both = _encode("no left effusion; right effusion")
  assert both.status[0, 1] == PRESENT and both.side[0, 1] == 2


@pytest.mark.parametrize("order", ["{0}; {1}; {2}", "{2}; {1}; {0}", "{1}; {0}; {2}"])
def test_contradiction_is_refused_in_any_order(order):
  with pytest.raises(ValueError, match="both present and absent"):
    _encode(order.format("nodule", "possible nodule", "no nodule"))


def test_parents_follow_their_children():
  vocabulary = ("lung_opacity", "nodule", "pneumonia")
  present = _encode("nodule", vocabulary=vocabulary, unlisted="unknown")
  np.testing.assert_array_equal(present.status, [[PRESENT, PRESENT, UNKNOWN]])
  absent = _encode("no lung opacity", vocabulary=vocabulary, unlisted="unknown")
  np.testing.assert_array_equal(absent.status, [[ABSENT, ABSENT, ABSENT]])
  listed = _encode("nodule; possible lung opacity", vocabulary=vocabulary)
  np.testing.assert_array_equal(listed.status, [[UNKNOWN, PRESENT, ABSENT]])


def test_errors_name_what_is_possible():
  with pytest.raises(ValueError, match=r"'mass' is not in the vocabulary \(consolidation, "):
    _encode("mass")
  with pytest.raises(ValueError, match="unlisted='never'"):
    _encode("nodule", unlisted="never")


@pytest.mark.parametrize("unlisted", ["absent", "unknown"])
def test_random_arrays_round_trip(unlisted):
  rng = np.random.default_rng(0)
  shape = (200, len(VOCABULARY))
  status = rng.integers(-1, 2, shape).astype(np.int8)
  present = status == PRESENT
  placed = present & (np.array(VOCABULARY) != "cardiomegaly")
  graded = present & (rng.random(shape) < 0.7)
  arrays = FindingsArrays(
    status=status,
    severity=np.where(graded, rng.random(shape), -1).astype(np.float32),
    side=np.where(placed, rng.integers(0, 4, shape), 0).astype(np.int8),
    zone=np.where(placed, rng.integers(0, 8, shape), 0).astype(np.int8))
  decoded = arrays_to_findings(arrays, VOCABULARY, unlisted=unlisted)
  again = findings_to_arrays(decoded, VOCABULARY, unlisted=unlisted)
  jax.tree.map(np.testing.assert_array_equal, again, arrays)


def test_findings_round_trip_through_float32():
  lists = [[Finding("nodule", severity=0.35, laterality="left", zones=("mid",))], []]
  assert arrays_to_findings(findings_to_arrays(lists, VOCABULARY), VOCABULARY) == lists


def test_masks_are_inverse():
  assert [side_mask(mask_side(m)) for m in range(4)] == [0, 1, 2, 3]
  assert [zone_mask(mask_zones(m)) for m in range(8)] == list(range(8))
