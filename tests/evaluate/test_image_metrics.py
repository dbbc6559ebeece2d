import numpy as np
import pytest
from skimage.metrics import structural_similarity

from cdjax.evaluate import image_metrics
from cdjax.evaluate.baselines import fit_pca, pca_errors

ONE = np.ones((1, 2))


def test_psnr_is_that_of_the_mean_of_mse():
  errors = np.array([0.1, 0.0])            # the mean of PSNRs would be infinite
  value = image_metrics.psnr_statistic(errors)(ONE)[0]
  assert value == pytest.approx(-10 * np.log10(0.005))


def test_rmse_looks_inside_the_mask_only():
  a, b = np.zeros((2, 4, 4)), np.zeros((2, 4, 4))
  b[:, 0, 0], b[:, 3, 3] = 0.4, 0.9
  mask = np.zeros((2, 4, 4), bool)
  mask[0, 0, :2] = True
  inside = image_metrics.rmse(a, b, mask)
  assert inside[0] == pytest.approx(np.sqrt(0.16 / 2))
  assert np.isnan(inside[1])               # an empty mask has no error, not error 0
  np.testing.assert_allclose(image_metrics.rmse(a, b), np.sqrt((0.16 + 0.81) / 16))


def test_ssim_is_scikit_images():
  generator = np.random.default_rng(0)
  a = generator.random((3, 32, 32)).astype(np.float32)
  b = np.clip(a + 0.2 * generator.standard_normal(a.shape), 0, 1).astype(np.float32)
  reference = [
      structural_similarity(x, y, gaussian_weights=True, sigma=1.5, data_range=1.0,
                            use_sample_covariance=False) for x, y in zip(a, b, strict=True)]
  np.testing.assert_allclose(image_metrics.ssim(a, b), reference, atol=2e-4)


@pytest.mark.parametrize(("size", "radius"), [(32, 1), (64, 1), (128, 2)])
def test_masks_grow_with_the_size(size, radius):
  mask = np.zeros((1, size, size), bool)
  mask[0, 9, 9] = True
  grown = np.asarray(image_metrics.dilate(mask, size=size))
  assert grown.sum() == (2 * radius + 1) ** 2
  assert grown[0, 9 - radius:10 + radius, 9 - radius:10 + radius].all()


def test_gradient_energy_of_a_ramp():
  x = np.broadcast_to(0.1 * np.arange(8.0), (1, 8, 8))
  mask = np.zeros((1, 8, 8), bool)
  mask[0, 2:4, 2:4] = True
  assert image_metrics.gradient_energy(x, mask)[0] == pytest.approx(0.01)


def test_pairwise_rmse_of_three_answers():
  x = np.stack([np.full((1, 2, 2), v) for v in (0.0, 0.1, 0.3)], axis=1)
  mask = np.ones((1, 2, 2), bool)
  assert image_metrics.pairwise_rmse(x, mask)[0] == pytest.approx((0.1 + 0.3 + 0.2) / 3)


def test_pca_equals_the_full_svd():
  generator = np.random.default_rng(0)
  factors = generator.standard_normal((150, 100)) * np.linspace(3, 0.05, 100)
  train = (factors @ generator.standard_normal((100, 144))).reshape(150, 12, 12)
  test = generator.standard_normal((20, 12, 12))
  _, directions = fit_pca(train, 16)
  flat = train.reshape(150, -1)
  _, _, exact = np.linalg.svd(flat - flat.mean(0), full_matrices=False)
  np.testing.assert_allclose(directions.T @ directions, exact[:16].T @ exact[:16], atol=2e-4)
  centred = test.reshape(20, -1) - flat.mean(0)
  left = centred - centred @ exact[:16].T @ exact[:16]
  np.testing.assert_allclose(pca_errors(train, test, components=16),
                             np.sqrt((left**2).mean(1)), rtol=1e-3)
