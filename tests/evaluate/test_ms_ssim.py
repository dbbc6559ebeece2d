import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.metrics import structural_similarity

from cdjax.evaluate.ms_ssim import (
    WEIGHTS,
    _pairs_of,
    diversity,
    ms_ssim,
    num_scales,
    random_pairs,
)


def pictures(n, size, *, seed, noise=0.15):
  """Smooth pictures and noisy copies, both `[n, size, size]` in [0, 1]."""
  generator = np.random.default_rng(seed)
  a = gaussian_filter(generator.random((n, size, size)), (0, 3, 3), mode="wrap")
  a = (a - a.min()) / (a.max() - a.min())
  return a, np.clip(a + noise * generator.standard_normal(a.shape), 0, 1)


def reference(a, b, scales):
  """One pair in float64 through SciPy's filter; the last scale is scikit-image's SSIM."""
  weights = np.array(WEIGHTS[:scales]) / sum(WEIGHTS[:scales])
  value = 1.0
  for scale in range(scales):
    if scale == scales - 1:
      term = structural_similarity(a, b, gaussian_weights=True, sigma=1.5, data_range=1.0,
                                   use_sample_covariance=False)
    else:
      blur = lambda x: gaussian_filter(x, 1.5, truncate=3.5)
      va, vb = blur(a * a) - blur(a) ** 2, blur(b * b) - blur(b) ** 2
      cov = blur(a * b) - blur(a) * blur(b)
      term = ((2 * cov + 0.03**2) / (va + vb + 0.03**2))[5:-5, 5:-5].mean()
    value *= max(term, 0.0) ** weights[scale]
    h, w = a.shape[0] // 2 * 2, a.shape[1] // 2 * 2
    a, b = (x[:h, :w].reshape(h // 2, 2, w // 2, 2).mean((1, 3)) for x in (a, b))
  return value


@pytest.mark.parametrize(("size", "scales"), [(64, 3), (45, 3), (176, 5)])
def test_ms_ssim_is_the_reference(size, scales):
  a, b = pictures(3, size, seed=size)
  assert num_scales(size, size) == scales
  expected = [reference(x, y, scales) for x, y in zip(a, b, strict=True)]
  np.testing.assert_allclose(ms_ssim(a, b), expected, atol=2e-4)
  np.testing.assert_allclose(ms_ssim(a, a), 1.0, atol=1e-5)
  assert max(expected) < 0.97


def test_the_scales_that_fit():
  assert [num_scales(s, s) for s in (11, 21, 22, 64, 87, 88, 175, 176, 512)] == [
    1, 1, 2, 3, 3, 4, 4, 5, 5]
  assert sum(WEIGHTS) == pytest.approx(1.0, abs=1e-3)
  with pytest.raises(ValueError, match="10 x 64; MS-SSIM needs at least 11"):
    num_scales(10, 64)


def test_an_image_and_its_negative_share_no_structure():
  a, _ = pictures(1, 64, seed=1)
  assert ms_ssim(a, 1 - a)[0] == 0.0


def test_pairs_are_distinct_and_every_one_is_equally_likely():
  every = random_pairs(40, 10_000, seed=0)
  assert len(every) == 780
  assert {tuple(p) for p in every.tolist()} == {(i, j) for j in range(40) for i in range(j)}
  counts = np.zeros((6, 6))
  for seed in range(3000):
    for i, j in random_pairs(6, 5, seed=seed):
      counts[i, j] += 1
  drawn = counts[np.triu_indices(6, 1)]
  assert drawn.sum() == 15_000 == counts.sum()
  np.testing.assert_allclose(drawn, 1000, atol=5 * np.sqrt(1000))


def test_numbers_of_pairs_are_exact_for_millions_of_images():
  second = np.array([1, 2, 99_999, 1_000_000, 3_000_000])
  start = second * (second - 1) // 2
  np.testing.assert_array_equal(_pairs_of(start), np.stack([0 * second, second], 1))
  np.testing.assert_array_equal(_pairs_of(start + second - 1), np.stack([second - 1, second], 1))


def test_diversity_is_the_mean_over_its_pairs():
  a, _ = pictures(12, 32, seed=2)
  got = diversity(a, pairs=20, seed=3)
  values = [reference(a[i], a[j], 2) for i, j in random_pairs(12, 20, seed=3)]
  assert got["mean"] == pytest.approx(np.mean(values), abs=2e-4)
  assert got["sd"] == pytest.approx(np.std(values, ddof=1), abs=2e-4)
  assert (got["pairs"], got["scales"]) == (20, 2)
  one_image = diversity(np.repeat(a[:1], 12, axis=0), pairs=20, seed=3)
  assert one_image["mean"] == pytest.approx(1.0, abs=1e-5)


def test_errors_name_the_shapes():
  with pytest.raises(ValueError, match=r"\(2, 32, 32\) and \(2, 32, 31\)"):
    ms_ssim(np.zeros((2, 32, 32)), np.zeros((2, 32, 31)))
  with pytest.raises(ValueError, match="5 pairs of 1 examples"):
    random_pairs(1, 5, seed=0)
