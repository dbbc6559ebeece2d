import numpy as np
import pytest

from cdjax.evaluate.feature_rows import FeatureRows, finish_rows, merge_rows, update_rows
from cdjax.evaluate.kernel import kernel_distance, squared_mmd


def features(n, *, seed, shift=0.0, d=12):
  return np.random.default_rng(seed).standard_normal((n, d)) + shift


def naive(x, y):
  k = lambda a, b: (sum(p * q for p, q in zip(a, b, strict=True)) / len(a) + 1) ** 3
  xx = [k(x[i], x[j]) for i in range(len(x)) for j in range(len(x)) if i != j]
  yy = [k(y[i], y[j]) for i in range(len(y)) for j in range(len(y)) if i != j]
  xy = [k(a, b) for a in x for b in y]
  return sum(xx) / len(xx) + sum(yy) / len(yy) - 2 * sum(xy) / len(xy)


def test_squared_mmd_is_the_double_loop():
  x, y = features(24, seed=1), features(31, seed=2, shift=0.2)
  assert squared_mmd(x, y) == pytest.approx(naive(x.tolist(), y.tolist()), rel=1e-6)


def test_whole_sets_as_one_subset_and_many_subsets():
  x, y = features(24, seed=1), features(24, seed=2, shift=0.2)
  one = kernel_distance(x, y, subsets=1, subset_size=24, seed=0)
  assert one.mean == pytest.approx(naive(x.tolist(), y.tolist()), rel=1e-6)
  assert one.sd == 0.0
  many = kernel_distance(x, y, subsets=400, subset_size=12, seed=0)
  # Each subset is an unbiased estimate of what the whole sets give.
  assert many.mean == pytest.approx(one.mean, abs=4 * many.sd / np.sqrt(400))
  assert many.sd > 0


def test_one_distribution_gives_zero_on_average_and_not_only_positive_values():
  draws = [squared_mmd(features(40, seed=2 * s), features(40, seed=2 * s + 1)) for s in range(60)]
  assert abs(np.mean(draws)) < 3 * np.std(draws) / np.sqrt(60)
  assert min(draws) < 0 < max(draws)
  assert squared_mmd(features(40, seed=1), features(40, seed=2, shift=1.0)) > 10 * max(draws)


def test_sharded_rows_give_the_same_bits():
  x, y = features(50, seed=3), features(60, seed=4, shift=0.1)
  whole = finish_rows(update_rows(FeatureRows(), np.arange(50), x))[1]
  shards = [FeatureRows(), FeatureRows(), FeatureRows()]
  for start in range(0, 50, 7):
    rows = np.arange(start, min(start + 7, 50))
    shard = (start // 7) % 3
    shards[shard] = update_rows(shards[shard], rows, x[rows])
  numbers, merged = finish_rows(merge_rows(shards[2], merge_rows(shards[0], shards[1])))
  np.testing.assert_array_equal(numbers, np.arange(50))
  np.testing.assert_array_equal(merged, whole)
  assert (kernel_distance(merged, y, subsets=5, subset_size=20, seed=1)
          == kernel_distance(whole, y, subsets=5, subset_size=20, seed=1))


def test_errors_name_the_numbers():
  with pytest.raises(ValueError, match=r"subsets=3 of 30 from 40 and 20 rows; .* 2 to 20"):
    kernel_distance(features(40, seed=0), features(20, seed=0), subsets=3, subset_size=30, seed=0)
  with pytest.raises(ValueError, match=r"\(4, 12\) and \(4, 11\)"):
    squared_mmd(np.ones((4, 12)), np.ones((4, 11)))
  twice = update_rows(update_rows(FeatureRows(), [0, 4], np.ones((2, 3))), [4], np.ones((1, 3)))
  with pytest.raises(ValueError, match="1 examples came more than once, the first is number 4"):
    finish_rows(twice)
  with pytest.raises(ValueError, match="no features"):
    finish_rows(FeatureRows())
  mixed = update_rows(update_rows(FeatureRows(), [0], np.ones((1, 3))), [1], np.ones((1, 2)))
  with pytest.raises(ValueError, match=r"parts with \[2, 3\] features"):
    finish_rows(mixed)
  with pytest.raises(ValueError, match=r"shape \(2,\) for features of shape \(3, 4\)"):
    update_rows(FeatureRows(), [0, 1], np.ones((3, 4)))
