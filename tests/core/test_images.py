"""Images: parity with SciPy and scikit-image, closed forms, and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from cdjax.core import images


def random_pair(shape=(3, 24, 31, 2), seed=0):
  rng = np.random.default_rng([seed, 1])
  x = ndimage.gaussian_filter(rng.random(shape), (0, 1.5, 1.5, 0)).astype(np.float32)
  return x, np.clip(x + 0.05 * rng.standard_normal(shape), 0, 1).astype(np.float32)


@pytest.mark.parametrize("sigma", [0.6, 1.5, 4.0])
def test_blur_equals_scipy(sigma):
  x, _ = random_pair()
  expected = ndimage.gaussian_filter(x.astype(np.float64), (0, sigma, sigma, 0), mode="reflect")
  np.testing.assert_allclose(images.gaussian_blur(x, sigma), expected, atol=2e-6)


def test_blur_wider_than_the_image_equals_scipy():
  x, _ = random_pair((1, 7, 9, 1))
  expected = ndimage.gaussian_filter(x.astype(np.float64), (0, 5.0, 5.0, 0), mode="reflect")
  np.testing.assert_allclose(images.gaussian_blur(x, 5.0), expected, atol=2e-6)


def test_blur_of_sigma_zero_is_the_image_and_negative_is_an_error():
  x, _ = random_pair()
  np.testing.assert_array_equal(images.gaussian_blur(x, 0), x)
  with pytest.raises(ValueError, match="sigma=-1"):
    images.gaussian_blur(x, -1)


def ssim_reference(x, y, data_range):
  """Single-channel SSIM written with SciPy's filter, mean without the border."""
  blur = lambda a: ndimage.gaussian_filter(a, 1.5, mode="reflect", truncate=3.5)
  x, y = x.astype(np.float64), y.astype(np.float64)
  mx, my = blur(x), blur(y)
  vx, vy, c = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
  c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
  s = (2 * mx * my + c1) * (2 * c + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
  return s[5:-5, 5:-5].mean()


@pytest.mark.parametrize("data_range", [1.0, 2.0])
def test_ssim_equals_scipy_reference(data_range):
  x, y = random_pair()
  ours = np.asarray(images.ssim(x, y, data_range=data_range))
  for i in range(3):
    expected = np.mean([ssim_reference(x[i, ..., c], y[i, ..., c], data_range) for c in range(2)])
    assert ours[i] == pytest.approx(expected, abs=2e-5)
    assert ours[i] < 0.99


def test_ssim_equals_scikit_image():
  metrics = pytest.importorskip("skimage.metrics")
  x, y = random_pair()
  expected = [metrics.structural_similarity(
      a, b, data_range=1.0, channel_axis=-1, gaussian_weights=True, sigma=1.5,
      use_sample_covariance=False) for a, b in zip(x.astype(float), y.astype(float), strict=True)]
  np.testing.assert_allclose(images.ssim(x, y), expected, atol=2e-5)


def test_ssim_of_equal_images_is_one_with_finite_gradient():
  flat = jnp.full((1, 16, 16, 1), 0.5)
  assert float(images.ssim(flat, flat)[0]) == pytest.approx(1.0, abs=1e-6)
  gradient = jax.grad(lambda x: images.ssim(x, flat).sum())(flat)
  assert np.isfinite(gradient).all()


def test_ssim_rejects_small_and_unequal_images():
  with pytest.raises(ValueError, match="11 x 11"):
    images.ssim(np.zeros((1, 10, 64, 1)), np.zeros((1, 10, 64, 1)))
  with pytest.raises(ValueError, match="expected one shape"):
    images.ssim(np.zeros((1, 16, 16, 1)), np.zeros((1, 16, 17, 1)))


def test_psnr_by_hand():
  assert float(images.psnr(0.01)) == pytest.approx(20.0, abs=1e-4)
  assert float(images.psnr(0.01, data_range=2.0)) == pytest.approx(26.0206, abs=1e-3)


def test_ranges_are_inverse():
  np.testing.assert_array_equal(images.to_unit(np.array([-1.0, 0.0, 1.0])), [0.0, 0.5, 1.0])
  x, _ = random_pair()
  np.testing.assert_allclose(images.to_unit(images.from_unit(x)), x, atol=1e-7)


@pytest.mark.parametrize("radius", [0, 1, 3])
def test_dilate_equals_scipy(radius):
  mask = np.random.default_rng([2]).random((2, 20, 17, 1)) > 0.97
  size = (1, 2 * radius + 1, 2 * radius + 1, 1)
  expected = ndimage.maximum_filter(mask.astype(np.uint8), size, mode="constant").astype(bool)
  ours = images.dilate(mask, radius)
  assert ours.dtype == bool
  np.testing.assert_array_equal(ours, expected)
  soft = images.dilate(mask.astype(np.float32) * 0.3, radius)
  np.testing.assert_allclose(soft, expected * np.float32(0.3))


def test_warp_turns_scales_and_shifts_as_it_says():
  from scipy.ndimage import affine_transform

  from cdjax.core.images import warp
  image = np.random.default_rng(0).normal(size=(15, 15)).astype(np.float32)
  angle, scale, shift = 0.2, 1.1, np.array([1.5, -0.5])
  got = warp(jnp.asarray(image)[None, :, :, None], jnp.array([angle]), jnp.array([scale]),
             jnp.asarray(shift)[None])[0, :, :, 0]
  matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / scale
  middle = np.array([7.0, 7.0])
  expected = affine_transform(image, matrix, middle - matrix @ (middle + shift), order=1,
                              mode="nearest")
  np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)
  # A bright pixel right of the middle goes down when turned clockwise by a quarter.
  dot = np.zeros((1, 15, 15, 1), np.float32)
  dot[0, 7, 11] = 1.0
  turned = warp(jnp.asarray(dot), jnp.array([np.pi / 2]), jnp.ones(1), jnp.zeros((1, 2)))
  assert np.unravel_index(np.argmax(turned), dot.shape)[1:3] == (11, 7)
