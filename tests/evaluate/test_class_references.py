"""References, centroids and the threshold of copies, on latents whose classes are known."""

from types import SimpleNamespace

import numpy as np
import pytest

from cdjax.core.types import FindingsArrays
from cdjax.evaluate import references as r
from cdjax.evaluate.class_centroids import class_centroid, class_reach
from cdjax.evaluate.copies import copy_threshold, threshold_of
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
  return r.LatentSpace(source, path, lambda rows: -path[rows], path[k == 2].mean(0),
                       np.ones(SHAPE, np.float32), path[:40], r.take(findings, np.arange(40)),
                       folder=None)


def test_a_class_is_a_finding_and_a_place():
  space = make_space()
  references = r.find_references(space, "nodule", most=None, seed=0)
  assert len(references) == space.counts()[0] and not references.mirrored.any()
  assert references.ids[0] == f"image-{references.rows[0]}"
  np.testing.assert_allclose(class_centroid(references, 1, 4), 3.0, atol=0.4)
  np.testing.assert_allclose(class_centroid(references, 2, 1), -3.0, atol=0.4)
  # Within a class, not between the sides, whose means are 6 apart.
  variance = r.within_class_variance(space.path, space.source.index.findings)
  np.testing.assert_allclose(variance, 0.25, atol=0.08)
  # Four elements, each 3 from the healthy mean; of the class without a side nothing points away.
  assert class_reach(space, references) == pytest.approx(6.0, abs=0.3)
  assert 0 < class_reach(space, r.find_references(space, "cardiomegaly", most=None, seed=0)) < 1


def test_a_zone_of_few_cases_leans_on_its_side():
  path = np.array([1.0, 2.0, 3.0, 10.0]).reshape(4, 1, 1, 1)
  place = lambda *values: np.array(values)
  references = r.References(0, np.arange(4), list("abcd"), path, place(1, 1, 1, 2),
                            place(1, 1, 4, 1), np.ones(4), np.zeros(4, bool))
  of = lambda *where, **kw: class_centroid(references, *where, **kw).item()
  assert of(1, 1) == pytest.approx(2 / 3 * 1.5 + 1 / 3 * 2.0)
  assert of(1, 4) == pytest.approx(1 / 2 * 3.0 + 1 / 2 * 2.0)
  assert of(1, 2) == 2.0   # no case there
  assert of(1, 4, without=2) == 1.5
  assert of(2, 1, without=3) == pytest.approx(2 / 3 * 1.5 + 1 / 3 * 2.0)   # none of its side
  alone = references.where(np.arange(4) == 3)
  assert class_centroid(alone, 2, 1, without=3) is None
  space = make_space()
  one = r.find_references(space, "nodule", most=1, seed=0)
  assert class_reach(space, one) == pytest.approx(np.linalg.norm(one.path[0] - space.healthy))


def test_mirror_images_lead_too():
  space = make_space()
  plain = r.find_references(space, "nodule", most=3, seed=1)
  both = r.find_references(space, "nodule", most=3, seed=1, mirror=True)
  assert len(both) == 6 and both.mirrored.tolist() == [False] * 3 + [True] * 3
  np.testing.assert_array_equal(both.rows, np.tile(plain.rows, 2))
  np.testing.assert_array_equal(both.path[3:], -plain.path)
  np.testing.assert_array_equal(both.side[3:], 3 - plain.side)
  np.testing.assert_array_equal(both.zone[3:], plain.zone)
  np.testing.assert_array_equal(both.real.path, plain.path)
  # A finding without a side has no other one.
  assert not r.find_references(space, "cardiomegaly", most=3, seed=1, mirror=True).mirrored.any()


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
  # A zone is asked on the sides only on which it was seen.
  left_upper = references.where((references.side == 2) | (references.zone == 1))
  again = r.draw_asked(left_upper, 60, 2, seed=3)
  assert set(again.zone[again.side == 1]) == {1} and set(again.zone[again.side == 2]) == {1, 4}
  assert set(asked.severity[:, 0]) <= set(references.severity)
  assert (asked.severity[:, 1] == -1).all()
  more = r.draw_asked(references, 99, 2, seed=3)
  for name in ("side", "zone", "severity"):
    np.testing.assert_array_equal(getattr(more, name)[:60], getattr(asked, name))


def test_identities_never_show_the_finding():
  space = make_space()
  healthy, real = (r.identity_rows(space, 0, kind) for kind in ("healthy", "real"))
  assert (space.status[healthy] == 0).all() and (space.status[real, 0] == 0).all()
  assert set(healthy) < set(real)
  with pytest.raises(ValueError, match="expected 'real' or 'healthy'"):
    r.identity_rows(space, 0, "sick")


def test_the_threshold_is_the_quantile_of_new_cases():
  references, cases = np.zeros((1, 1)), np.arange(1.0, 101.0)[:, None]
  distance, whose = copy_threshold(cases[:50], references, {}, quantile=0.1)
  assert distance == pytest.approx(np.quantile(np.arange(1.0, 51.0), 0.1))
  assert whose == "50 held-out cases of the finding"
  # Too few of its own: the closest of those that have enough cases and enough images.
  others = {"far": (cases + 7, references), "near": (cases + 3, np.zeros((5, 1))),
            "few": (cases[:2] - 1, references), "poor": (cases, np.zeros((0, 1)))}
  distance, whose = copy_threshold(cases[:3], references, others, quantile=0.1)
  assert distance == pytest.approx(3 + np.quantile(np.arange(1.0, 101.0), 0.1))
  assert whose.startswith("100 held-out cases of near, the closest of 2 findings")
  distance, whose = copy_threshold(cases[:3], references, {"few": others["few"]}, quantile=0.1)
  assert distance == pytest.approx(np.quantile([1, 2, 3, 0, 1], 0.1))
  assert whose == "5 held-out cases of 2 findings together (few)"
  with pytest.raises(ValueError, match="no held-out image shows a finding"):
    copy_threshold(cases[:0], references, {"poor": others["poor"]}, quantile=0.1)
  with pytest.raises(ValueError, match="copy_quantile=1"):
    copy_threshold(cases, references, {}, quantile=1)


def test_other_findings_stand_for_a_rare_one():
  space = make_space()
  few = r.find_references(space, "nodule", most=2, seed=0)
  space.held_out_findings.status[:, 0] = 0
  distance, whose = threshold_of(space, few, quantile=0.1)
  assert "of cardiomegaly, the closest of 1" in whose and 0 < distance < 2


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
