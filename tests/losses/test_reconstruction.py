"""Reconstruction terms against hand-computed cases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from cdjax.losses.anchor import null_anchor, null_pathology
from cdjax.losses.reconstruction import gaussian_nll, l1, ssim_loss

RNG = np.random.default_rng([0, 7])
X, X_HAT = RNG.random((2, 3, 12, 13, 1)).astype(np.float32)


def test_gaussian_nll_is_scipys_without_the_constant():
  sigma = 0.05
  nll = -stats.norm.logpdf(X, X_HAT, sigma).sum((1, 2, 3))
  constant = X[0].size * np.log(sigma * np.sqrt(2 * np.pi))
  np.testing.assert_allclose(gaussian_nll(X, X_HAT, sigma=sigma), nll - constant, rtol=1e-4)


def test_l1_is_scipys_laplace_without_the_constant():
  nll = -stats.laplace.logpdf(X, X_HAT, 0.05).sum((1, 2, 3))
  constant = X[0].size * np.log(2 * 0.05)
  np.testing.assert_allclose(l1(X, X_HAT, sigma=0.05), nll - constant, rtol=1e-4)


def test_by_hand():
  x, x_hat = jnp.zeros((1, 1, 2, 1)), jnp.array([[[[0.1], [-0.2]]]])
  assert float(gaussian_nll(x, x_hat, sigma=0.1)[0]) == pytest.approx((1 + 4) / 2, rel=1e-5)
  assert float(l1(x, x_hat, sigma=0.1)[0]) == pytest.approx(3.0, rel=1e-5)


@pytest.mark.parametrize("loss", [gaussian_nll, l1])
def test_masked_pixels_change_neither_loss_nor_gradient(loss):
  mask = np.ones((3, 12, 13, 1), bool)
  mask[1, :, 8:] = False
  garbage = np.where(mask, X_HAT, np.float32(1e3))
  expected = loss(X[1:2, :, :8], X_HAT[1:2, :, :8], sigma=0.1)
  np.testing.assert_allclose(loss(X, garbage, sigma=0.1, mask=mask)[1:2], expected, rtol=1e-5)
  gradient = jax.grad(lambda a: loss(X, a, sigma=0.1, mask=mask).sum())(garbage)
  assert (np.asarray(gradient)[~mask] == 0).all() and (np.asarray(gradient)[mask] != 0).any()


def test_ssim_loss_is_zero_for_equal_images_only():
  np.testing.assert_allclose(ssim_loss(X, X), 0.0, atol=1e-5)
  assert (np.asarray(ssim_loss(X, X_HAT)) > 0.5).all()


def test_null_anchor_counts_healthy_images_only():
  healthy = np.array([True, False, True])
  loss = null_anchor(X, X_HAT, healthy, sigma=0.1)
  np.testing.assert_allclose(loss, gaussian_nll(X, X_HAT, sigma=0.1) * healthy, rtol=1e-6)
  assert loss[1] == 0 and loss[0] > 0


def test_null_pathology_replaces_the_last_slot_and_stops_its_gradient():
  z = RNG.standard_normal((2, 2, 3, 4, 5)).astype(np.float32)
  out = np.asarray(null_pathology(z, np.array([True, False])))
  assert (out[0, ..., -1, :] == 0).all()
  np.testing.assert_array_equal(out[0, ..., :-1, :], z[0, ..., :-1, :])
  np.testing.assert_array_equal(out[1], z[1])
  gradient = jax.grad(lambda z: (null_pathology(z, np.array([True, False])) ** 2).sum())(z)
  np.testing.assert_allclose(gradient, 2 * out)
