import numpy as np
import pytest
import scipy.linalg

from cdjax.evaluate.frechet import (
    empty_moments,
    frechet_distance,
    frechet_distance_of_rows,
    merge_moments,
    moments_of,
    update_moments,
)


def features(n, d, *, seed, shift=0.0):
  generator = np.random.default_rng(seed)
  mixing = generator.standard_normal((d, d)) / np.sqrt(d)
  return generator.standard_normal((n, d)) @ mixing + shift


def reference(a, b):
  """By SciPy's square root of the product, which is not symmetric."""
  ca, cb = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
  root = scipy.linalg.sqrtm(ca @ cb)
  return np.square(a.mean(0) - b.mean(0)).sum() + np.trace(ca + cb) - 2 * np.trace(root).real


@pytest.mark.parametrize(("n", "m", "d"), [(64, 64, 32), (500, 300, 64), (200, 200, 1)])
def test_distance_is_scipys(n, m, d):
  a, b = features(n, d, seed=1), features(m, d, seed=2, shift=0.3)
  got = frechet_distance(moments_of(a), moments_of(b))
  assert got == pytest.approx(reference(a, b), rel=1e-6)
  assert frechet_distance(moments_of(b), moments_of(a)) == pytest.approx(got, rel=1e-9)


def test_fewer_rows_than_features_is_exact_for_the_low_rank_covariance():
  a, b = features(20, 96, seed=3), features(30, 96, seed=4)
  centred = [x - x.mean(0) for x in (a, b)]
  # The eigenvalues of C_a C_b are the squared singular values of X_a X_bᵀ, which has full rank.
  cross = np.linalg.svd(centred[0] @ centred[1].T / np.sqrt(19 * 29), compute_uv=False).sum()
  expected = (np.square(a.mean(0) - b.mean(0)).sum() + np.square(centred[0]).sum() / 19
              + np.square(centred[1]).sum() / 29 - 2 * cross)
  assert frechet_distance(moments_of(a), moments_of(b)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("n", "m", "d"), [(20, 30, 96), (300, 20, 96), (95, 95, 96), (96, 200, 96),
                                           (2, 3, 8)])
def test_rows_and_moments_give_one_distance(n, m, d):
  a, b = features(n, d, seed=3, shift=50.0), features(m, d, seed=4, shift=50.2)
  got = frechet_distance_of_rows(a, b)
  # An independent way: the moments' own, by eigenvalues of D × D matrices.
  assert got == pytest.approx(frechet_distance(moments_of(a), moments_of(b)), rel=1e-6)
  assert frechet_distance_of_rows(a, a) == pytest.approx(0, abs=1e-9 * np.square(a).sum())
  assert frechet_distance_of_rows(a.astype(np.float32), b) == pytest.approx(got, rel=1e-4)


def test_distance_to_itself_is_zero_and_a_shift_is_its_square():
  a = features(100, 16, seed=5)
  trace = np.trace(moments_of(a).covariance)
  assert frechet_distance(moments_of(a), moments_of(a)) == pytest.approx(0, abs=1e-7 * trace)
  assert frechet_distance(moments_of(a), moments_of(a + 2.0)) == pytest.approx(64, rel=1e-7)


def test_shards_merge_to_the_whole_even_far_from_zero():
  # A mean of 1e6 with spread 1: Σx² − N·mean² would keep four digits.
  a = features(257, 8, seed=6, shift=1e6)
  shards = []
  for rows in np.array_split(a, 3):
    state = empty_moments(8)
    for batch in np.array_split(rows, 4):
      state = update_moments(state, batch)
    shards.append(state)
  merged = merge_moments(merge_moments(shards[2], shards[0]), shards[1])
  assert merged.count == 257
  np.testing.assert_allclose(merged.mean, a.mean(0), rtol=1e-12)
  np.testing.assert_allclose(merged.covariance, np.cov(a, rowvar=False), rtol=1e-6, atol=1e-8)


def test_an_empty_shard_changes_nothing():
  a = moments_of(features(9, 4, seed=7))
  for merged in (merge_moments(a, empty_moments(4)), merge_moments(empty_moments(4), a)):
    np.testing.assert_array_equal(merged.mean, a.mean)
    np.testing.assert_array_equal(merged.scatter, a.scatter)
  assert merge_moments(empty_moments(4), empty_moments(4)).count == 0


def test_errors_name_the_numbers():
  with pytest.raises(ValueError, match="1 rows of features; a covariance needs at least 2"):
    frechet_distance(moments_of(np.ones((1, 3))), moments_of(np.ones((4, 3))))
  with pytest.raises(ValueError, match="3 and of 4 features"):
    merge_moments(empty_moments(3), empty_moments(4))
  with pytest.raises(ValueError, match="3 and of 4 features"):
    frechet_distance(empty_moments(3), empty_moments(4))
  with pytest.raises(ValueError, match=r"shape \(0, 3\)"):
    moments_of(np.zeros((0, 3)))
  with pytest.raises(ValueError, match="1 of 2 rows of features are not finite"):
    moments_of(np.array([[1.0, np.nan], [0.0, 0.0]]))
  with pytest.raises(ValueError, match="1 rows of features; a covariance needs at least 2"):
    frechet_distance_of_rows(np.ones((4, 3)), np.ones((1, 3)))
  with pytest.raises(ValueError, match="3 and of 4 features"):
    frechet_distance_of_rows(np.ones((2, 3)), np.ones((2, 4)))
  with pytest.raises(ValueError, match="1 of 2 rows of features are not finite"):
    frechet_distance_of_rows(np.ones((2, 2)), np.array([[1.0, np.inf], [0.0, 0.0]]))
