import tracemalloc

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from cdjax.evaluate.distances import nearest, neighbour_radius
from cdjax.evaluate.manifold import manifold_metrics


def features(n, *, seed, shift=0.0, scale=1.0, d=6):
  return scale * np.random.default_rng(seed).standard_normal((n, d)) + shift


def radii(x, k):
  """To the k-th other row: the first neighbour that scikit-learn finds is the row itself."""
  return NearestNeighbors(n_neighbors=k + 1).fit(x).kneighbors(x)[0][:, k]


def reference(real, synthetic, k):
  """By neighbour searches from each side, never through one matrix of distances."""
  def balls_that_hold(centres, radius, points):
    finder = NearestNeighbors().fit(points)
    inside = [finder.radius_neighbors(c[None], r, return_distance=False)[0]
              for c, r in zip(centres, radius, strict=True)]
    held = np.bincount(np.concatenate(inside).astype(int), minlength=len(points))
    return held, np.array([len(found) for found in inside])

  held, found = balls_that_hold(real, radii(real, k), synthetic)
  held_real, _ = balls_that_hold(synthetic, radii(synthetic, k), real)
  return {"precision": np.mean(held > 0), "recall": np.mean(held_real > 0),
          "density": held.sum() / (k * len(synthetic)), "coverage": np.mean(found > 0)}


@pytest.mark.parametrize(("k", "shift", "scale"), [(5, 0.0, 1.0), (5, 1.0, 0.5), (3, 0.5, 2.0)])
def test_metrics_are_those_by_scikit_learns_neighbours(k, shift, scale):
  real, synthetic = features(240, seed=1), features(170, seed=2, shift=shift, scale=scale)
  got = manifold_metrics(real, synthetic, k=k, chunk=37)
  expected = reference(real, synthetic, k)
  assert got == pytest.approx(expected, rel=1e-12)
  assert not all(v in (0.0, 1.0) for v in expected.values())


def test_chunks_do_not_change_the_result():
  real, synthetic = features(100, seed=3), features(90, seed=4, shift=0.3)
  whole = manifold_metrics(real, synthetic, chunk=1000)
  assert manifold_metrics(real, synthetic, chunk=1) == pytest.approx(whole, rel=1e-12)


def test_one_distribution_stands_at_its_reference():
  got = manifold_metrics(features(1500, seed=5), features(1500, seed=6))
  assert got["density"] == pytest.approx(1, abs=0.05)
  assert got["coverage"] == pytest.approx(1 - 2.0 ** -5, abs=0.02)


def test_neighbours_are_scikit_learns_far_from_zero():
  a, b = features(60, seed=7, shift=1e6), features(80, seed=8, shift=1e6)
  distance, index = nearest(a, b, chunk=7)
  expected, which = NearestNeighbors(n_neighbors=1).fit(b).kneighbors(a)
  np.testing.assert_allclose(distance, expected[:, 0], rtol=1e-6)
  np.testing.assert_array_equal(index, which[:, 0])
  np.testing.assert_allclose(neighbour_radius(b, 4, chunk=9), radii(b, 4), rtol=1e-6)


def test_memory_is_that_of_a_few_blocks():
  real, synthetic = features(3000, seed=9), features(3000, seed=10)
  tracemalloc.start()
  manifold_metrics(real, synthetic, chunk=100)
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert peak < 5 * 8 * 100 * 3000 + 4 * real.nbytes < 8 * 3000 * 3000 / 4


def test_errors_name_the_numbers():
  with pytest.raises(ValueError, match="k=5 of 5 rows"):
    manifold_metrics(features(5, seed=0), features(9, seed=0))
  with pytest.raises(ValueError, match=r"\(9, 6\) and \(9, 4\)"):
    manifold_metrics(features(9, seed=0), features(9, seed=0, d=4))
  with pytest.raises(ValueError, match="chunk=0"):
    nearest(features(5, seed=0), features(9, seed=0), chunk=0)
