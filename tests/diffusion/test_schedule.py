"""Schedules and grids: known values, the promised ends, and the promised spacing."""

import numpy as np
import pytest

from cdjax.diffusion.schedule import LOG_SNR_MIN, SCHEDULES, make_schedule, timestep_grid


@pytest.mark.parametrize("kind", sorted(SCHEDULES))
@pytest.mark.parametrize("zero_terminal_snr", [False, True])
def test_schedule_is_variance_preserving_and_decreasing(kind, zero_terminal_snr):
  s = make_schedule(kind, 1000, zero_terminal_snr)
  alpha, sigma = s.sqrt_alphas_cumprod, s.sqrt_one_minus_alphas_cumprod
  np.testing.assert_allclose(alpha**2 + sigma**2, 1.0, atol=1e-6)
  np.testing.assert_allclose(alpha**2, s.alphas_cumprod, atol=1e-6)
  assert (np.diff(s.alphas_cumprod) < 0).all() and (np.diff(s.log_snr) < 0).all()
  assert (sigma > 0).all() and np.isfinite(s.log_snr).all()
  assert all(a.dtype == np.float32 for a in (alpha, sigma, s.alphas_cumprod, s.log_snr))
  assert (alpha[-1] == 0) == zero_terminal_snr
  assert (s.log_snr[-1] == LOG_SNR_MIN) == zero_terminal_snr
  expected = np.log(alpha[:-1].astype(float) ** 2 / sigma[:-1].astype(float) ** 2)
  np.testing.assert_allclose(s.log_snr[:-1], expected, atol=1e-4)


def test_known_values():
  betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2  # Stable Diffusion 1
  s = make_schedule("scaled_linear", 1000, False)
  assert s.alphas_cumprod[-1] == pytest.approx(0.0046600, rel=1e-4)
  assert s.alphas_cumprod[0] == pytest.approx(1 - betas[0], rel=1e-6)
  s = make_schedule("linear", 1000, False)
  assert s.alphas_cumprod[-1] == pytest.approx(4.0358e-5, rel=1e-3)  # Ho et al. 2020
  s = make_schedule("cosine", 1000, False)
  middle = (np.cos((0.5 + 0.008) / 1.008 * np.pi / 2) / np.cos(0.008 / 1.008 * np.pi / 2)) ** 2
  assert s.alphas_cumprod[499] == pytest.approx(middle, rel=1e-5)


def test_rescaling_keeps_the_first_and_is_affine_in_alpha():
  before, after = (make_schedule("scaled_linear", 100, z) for z in (False, True))
  assert after.alphas_cumprod[0] == before.alphas_cumprod[0]
  slope = np.diff(after.sqrt_alphas_cumprod) / np.diff(before.sqrt_alphas_cumprod)
  np.testing.assert_allclose(slope, slope.mean(), rtol=2e-3)


@pytest.mark.parametrize("spacing", ["trailing", "uniform", "log_snr"])
@pytest.mark.parametrize("num_steps", [1, 2, 7, 50, 1000])
@pytest.mark.parametrize("zero_terminal_snr", [False, True])
def test_grids_start_at_the_end_and_strictly_decrease(spacing, num_steps, zero_terminal_snr):
  t = timestep_grid(make_schedule("cosine", 1000, zero_terminal_snr), num_steps, spacing)
  assert t.shape == (num_steps,) and t.dtype == np.int32
  assert t[0] == 999 and t[-1] >= 0
  assert (np.diff(t) < 0).all()


def test_spacings():
  s = make_schedule("cosine", 1000, True)
  np.testing.assert_array_equal(timestep_grid(s, 5, "trailing"), [999, 799, 599, 399, 199])
  np.testing.assert_array_equal(timestep_grid(s, 4, "uniform"), [999, 666, 333, 0])
  steps = np.diff(s.log_snr[timestep_grid(s, 30, "log_snr")])[1:-1]  # the ends lie outside the band
  np.testing.assert_allclose(steps, 14 / 29, rtol=0.15)


def test_a_smaller_strength_leaves_the_noisiest_nodes_out():
  s = make_schedule("cosine", 1000, True)
  np.testing.assert_array_equal(
      timestep_grid(s, 5, "trailing", strength=0.5), [500, 399, 199])
  np.testing.assert_array_equal(
      timestep_grid(s, 5, "trailing", strength=1.0), timestep_grid(s, 5, "trailing"))
  with pytest.raises(ValueError, match=r"strength=0\.0"):
    timestep_grid(s, 5, strength=0.0)


def test_errors_name_what_is_right():
  with pytest.raises(ValueError, match=r"kind='cos'; expected one of \['cosine'"):
    make_schedule("cos")
  s = make_schedule("cosine", 10)
  with pytest.raises(ValueError, match="spacing='leading'"):
    timestep_grid(s, 5, "leading")
  with pytest.raises(ValueError, match=r"num_steps=11; expected 1\.\.10"):
    timestep_grid(s, 11)
