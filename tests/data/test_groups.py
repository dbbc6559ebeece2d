"""Mates are other studies of the same patient; an epoch visits everybody; all of it repeatable."""

import numpy as np
import pytest

from cdjax.core.types import FindingsArrays
from cdjax.data.groups import choose_mates, epoch_order, make_groups


def findings(status, side=None):
  status = np.array(status, np.int8)[:, None]
  side = np.zeros_like(status) if side is None else np.array(side, np.int8)[:, None]
  return FindingsArrays(status=status, severity=np.full(status.shape, -1, np.float32), side=side,
                        zone=np.zeros_like(status))


def mates(groups, index, seed=0, epoch=0):
  index = np.asarray(index)
  return choose_mates(groups, index, seed=seed, epoch=np.full(len(index), epoch))


def test_mates_of_a_random_population():
  rng = np.random.default_rng(0)
  patient = rng.integers(0, 60, 200)
  patient = np.unique(patient, return_inverse=True)[1]
  study = rng.integers(0, 3, 200)
  shown = findings(rng.integers(-1, 2, 200), rng.integers(0, 3, 200))
  groups = make_groups(patient, study, shown)
  everybody = np.arange(200)
  mate, is_true = mates(groups, everybody, seed=5)
  signature = np.where(shown.status[:, 0] == 1, 1 + shown.side[:, 0], 0)
  for i in everybody:
    others = [j for j in everybody if patient[j] == patient[i] and study[j] != study[i]]
    assert is_true[i] == bool(others)
    if not others:
      assert mate[i] == i
      continue
    assert mate[i] in others
    if any(signature[j] != signature[i] for j in others):
      assert signature[mate[i]] != signature[i]
  assert 0 < is_true.sum() < 200
  again = np.array([mates(groups, [i], seed=5)[0][0] for i in everybody])
  assert np.array_equal(again, mate)  # A function of the index, not of the batch.
  assert (mates(groups, everybody, seed=5, epoch=1)[0] != mate).any()
  assert (mates(groups, everybody, seed=6)[0] != mate).any()


def test_choice_among_equals_is_uniform():
  groups = make_groups(np.zeros(5, int), np.arange(5), findings([1, 0, 0, 0, 0]))
  picks = np.concatenate([mates(groups, [0], epoch=e)[0] for e in range(4000)])
  counts = np.bincount(picks, minlength=5)
  assert counts[0] == 0 and np.abs(counts[1:] - 1000).max() < 110  # 4 standard deviations
  # An anchor with nothing to differ from takes any; one that may differ never takes its like.
  assert set(np.concatenate([mates(groups, [1], epoch=e)[0] for e in range(20)])) == {0}


def test_unknown_and_absent_do_not_differ_and_images_of_one_visit_are_no_mates():
  groups = make_groups(np.array([0, 0, 0, 1, 1]), np.array([0, 1, 2, 0, 0]),
                       findings([0, -1, 1, 1, 0]))
  assert {int(mates(groups, [0], epoch=e)[0][0]) for e in range(20)} == {2}
  mate, is_true = mates(groups, [3, 4])
  assert mate.tolist() == [3, 4] and not is_true.any()


def test_an_epoch_visits_every_record_once():
  first = epoch_order(100, seed=1, epoch=0)
  assert sorted(first) == list(range(100))
  assert np.array_equal(first, epoch_order(100, seed=1, epoch=0))
  assert (first != epoch_order(100, seed=1, epoch=1)).any()
  assert (first != epoch_order(100, seed=2, epoch=0)).any()
  assert np.array_equal(epoch_order(9, seed=1, epoch=3, shuffle=False), np.arange(9))


def test_weights_set_how_often():
  weights = np.array([0, 1, 1.5, 0.25, 3, 0])
  expected = 6 * weights / weights.sum()
  totals = np.zeros(6)
  for epoch in range(400):
    counts = np.bincount(epoch_order(6, seed=0, epoch=epoch, weights=weights), minlength=6)
    assert counts.sum() == 6 and np.abs(counts - expected).max() < 1
    totals += counts
  assert totals / 400 == pytest.approx(expected, abs=0.08)
