"""References, centroids and the threshold of copies, on latents whose classes are known."""

from types import SimpleNamespace

import numpy as np
import pytest

from cdjax.core.types import FindingsArrays
from cdjax.evaluate import references as r
from cdjax.evaluate.synthesis import fill_to, tail_balanced

SHAPE = (2, 2, 1)


def make_space(n=200, seed=0):
  """Finding 0 is on the left (mean 3) or on the right (mean -3); finding 1 has no side (mean 0)."""
  rng = np.random.default_rng(seed)
  k = rng.integers(0, 3, n)   # 2: healthy
  status = np.zeros((n, 2), np.int8)
  side, zone = np.zeros((n, 2), np.int8), np.zeros((n, 2), np.int8)
  severity = np.full((n, 2), -1.0, np.float32)
  for i in np.flatnonzero(k < 2):
    status[i, k[i]] = 1
    severity[i, k[i]] = rng.uniform(0.25, 1)
  left = rng.integers(0, 2, n).astype(bool)
  side[:, 0] = np.where(k == 0, np.where(left, 1, 2), 0)
  zone[:, 0] = np.where(k == 0, rng.choice([1, 4], n), 0)
  centre = np.where(k == 0, np.where(left, 3.0, -3.0), 0.0)
  path = (centre[:, None, None, None] + 0.5 * rng.normal(size=(n, *SHAPE))).astype(np.float32)
  findings = FindingsArrays(status, severity, side, zone)
  source = SimpleNamespace(index=SimpleNamespace(findings=findings), path="data",
                           vocabulary=("nodule", "cardiomegaly"),
                           image_ids=lambda: [f"image-{i}" for i in range(n)])
  return r.LatentSpace(source, path, np.ones(SHAPE, np.float32), path[:40],
                       r.take(findings, np.arange(40)), folder=None)


def test_a_class_is_a_finding_and_a_side():
  space = make_space()
  references = r.find_references(space, "nodule", most=None, seed=0)
  assert references.sides == (1, 2) and len(references) == space.counts()[0]
  assert references.ids[0] == f"image-{references.rows[0]}"
  found = r.centroids(references)
  np.testing.assert_allclose(found[1], 3.0, atol=0.4)
  np.testing.assert_allclose(found[2], -3.0, atol=0.4)
  # Within a class, not between the sides, whose means are 6 apart.
  variance = r.within_class_variance(space.path, space.source.index.findings)
  np.testing.assert_allclose(variance, 0.25, atol=0.08)


def test_few_references_are_drawn_once_and_for_all():
  space = make_space()
  few = r.find_references(space, "nodule", most=5, seed=1)
  assert len(few) == 5 and set(few.rows) <= set(r.find_references(
      space, "nodule", most=None, seed=1).rows)
  np.testing.assert_array_equal(few.rows, r.find_references(space, "nodule", most=5, seed=1).rows)
  with pytest.raises(ValueError, match="the model knows nodule, cardiomegaly"):
    r.find_references(space, "mass", most=5, seed=1)
  space.status[:, 1] = 0
  with pytest.raises(ValueError, match="no training image of data shows 'cardiomegaly'"):
    r.find_references(space, "cardiomegaly", most=None, seed=0)


def test_sides_are_asked_in_turn_and_details_as_the_references_have_them():
  space = make_space()
  references = r.find_references(space, "nodule", most=None, seed=0)
  asked = r.draw_asked(references, 60, 2, seed=3)
  assert asked.status[:, 0].all() and not asked.status[:, 1].any()
  assert asked.side[:4, 0].tolist() == [1, 2, 1, 2] and not asked.side[:, 1].any()
  assert set(asked.zone[:, 0]) == {1, 4}
  assert set(asked.severity[:, 0]) <= set(references.severity)
  assert (asked.severity[:, 1] == -1).all()


def test_identities_never_show_the_finding():
  space = make_space()
  healthy, real = (r.identity_rows(space, 0, kind) for kind in ("healthy", "real"))
  assert (space.status[healthy] == 0).all() and (space.status[real, 0] == 0).all()
  assert set(healthy) < set(real)
  with pytest.raises(ValueError, match="expected 'real' or 'healthy'"):
    r.identity_rows(space, 0, "sick")


def test_the_threshold_is_the_quantile_of_new_cases():
  references = np.zeros((1, 1))
  held_out = np.arange(1.0, 101.0)[:, None]
  shows = held_out[:, 0] <= 50
  distance, whose = r.copy_threshold(held_out, shows, references, quantile=0.1)
  assert distance == pytest.approx(np.quantile(np.arange(1.0, 51.0), 0.1))
  assert whose == "50 held-out cases of the finding"
  distance, whose = r.copy_threshold(held_out, shows & (held_out[:, 0] < 5), references,
                                     quantile=0.1)
  assert distance == pytest.approx(np.quantile(np.arange(1.0, 101.0), 0.1))
  assert whose == "100 held-out cases of any finding"
  with pytest.raises(ValueError, match=r"3 held-out cases have no quantile .*at least 10"):
    r.copy_threshold(held_out[:3], shows[:3], references, quantile=0.1)


@pytest.mark.parametrize("counts, num, expected", [
    ([100, 10, 2], 3, [0, 0, 3]),
    ([100, 10, 2], 8, [0, 0, 8]),
    ([100, 10, 2], 28, [0, 10, 18]),
    ([100, 10, 2], 188, [0, 90, 98]),
    ([100, 10, 2], 191, [1, 91, 99]),
    ([5, 0, 5], 4, [2, 0, 2]),
])
def test_the_rarest_are_filled_up_first(counts, num, expected):
  given = tail_balanced(np.array(counts), num)
  assert given.tolist() == expected and given.sum() == num


def test_filling_to_a_level():
  assert fill_to(np.array([600, 40, 0]), 500).tolist() == [0, 460, 0]
  with pytest.raises(ValueError, match="nothing to balance"):
    tail_balanced(np.zeros(2, int), 3)
