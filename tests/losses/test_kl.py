"""KL divergences: against numerical integration, zero only where equal, bounds and masks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from cdjax.core.types import Posterior
from cdjax.losses.invariance import invariance
from cdjax.losses.kl import (
    cap_logvar,
    kl_between,
    kl_per_slot,
    kl_to_standard_normal,
    posterior_sample,
)

RNG = np.random.default_rng([0, 11])


def draw(*shape):
  return Posterior(mean=RNG.standard_normal(shape).astype(np.float32),
                   logvar=RNG.uniform(-3, 1, shape).astype(np.float32))


def integrated(mean_p, logvar_p, mean_q, logvar_q):
  """KL of two scalar Gaussians by quadrature."""
  p = stats.norm(mean_p, np.exp(logvar_p / 2))
  q = stats.norm(mean_q, np.exp(logvar_q / 2))
  return integrate.quad(lambda x: p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), -15, 15, limit=200)[0]


def test_kl_to_standard_normal_equals_quadrature():
  q = draw(2, 3)
  expected = [sum(integrated(m, l, 0, 0) for m, l in zip(q.mean[i], q.logvar[i], strict=True))
              for i in range(2)]
  np.testing.assert_allclose(kl_to_standard_normal(q), expected, rtol=1e-4)


@pytest.mark.parametrize("symmetric", [False, True])
def test_kl_between_equals_quadrature(symmetric):
  p, q = draw(2, 3), draw(2, 3)
  for i in range(2):
    pairs = list(zip(p.mean[i], p.logvar[i], q.mean[i], q.logvar[i], strict=True))
    expected = sum(integrated(*pair) for pair in pairs)
    if symmetric:
      expected = (expected + sum(integrated(c, d, a, b) for a, b, c, d in pairs)) / 2
    assert float(kl_between(p, q, symmetric=symmetric)[i]) == pytest.approx(expected, rel=1e-4)


def test_kl_between_the_standard_normal_is_the_other_function():
  p = draw(4, 2, 3)
  q = Posterior(mean=np.zeros((4, 2, 3)), logvar=np.zeros((4, 2, 3)))
  np.testing.assert_allclose(kl_between(p, q), kl_to_standard_normal(p), rtol=1e-5)


@pytest.mark.parametrize("symmetric", [False, True])
def test_zero_only_where_equal(symmetric):
  p = draw(5, 4)
  assert (np.asarray(kl_between(p, p, symmetric=symmetric)) == 0).all()
  for other in (p.replace(mean=p.mean + 0.01), p.replace(logvar=p.logvar + 0.01),
                p.replace(logvar=p.logvar - 0.01)):
    assert (np.asarray(kl_between(p, other, symmetric=symmetric)) > 1e-6).all()


def test_symmetry():
  p, q = draw(5, 4), draw(5, 4)
  np.testing.assert_allclose(kl_between(p, q, symmetric=True), kl_between(q, p, symmetric=True),
                             rtol=1e-5)
  assert (np.abs(kl_between(p, q) - kl_between(q, p)) > 0.01).any()


def test_kl_per_slot_sums_to_the_whole_and_unused_slots_are_free():
  q = draw(3, 2, 2, 4, 5)
  each = kl_per_slot(q)
  assert each.shape == (3, 4)
  np.testing.assert_allclose(each.sum(-1), kl_to_standard_normal(q), rtol=1e-5)
  in_use = np.ones((3, 4), bool)
  in_use[1, -1] = False
  np.testing.assert_allclose(kl_per_slot(q, in_use=in_use), each * in_use)
  gradient = jax.grad(lambda m: kl_per_slot(q.replace(mean=m), in_use=in_use).sum())(q.mean)
  assert (np.asarray(gradient)[1, ..., -1, :] == 0).all()
  assert (np.asarray(gradient)[0, ..., -1, :] != 0).all()


def test_cap_logvar():
  raw = jnp.array([-1e4, -14.0, -6.0, -3.0, 2.0, 1e4])
  capped = cap_logvar(raw, low=-14.0, high=2.0)
  assert float(capped.min()) >= -14.0 and float(capped.max()) <= 2.001
  np.testing.assert_allclose(capped[2:4], raw[2:4], atol=0.01)
  gradient = jax.vmap(jax.grad(lambda r: cap_logvar(r)))(jnp.linspace(-20, 8, 50))
  assert (np.asarray(gradient) > 0).all() and (np.asarray(gradient) <= 1).all()


def test_posterior_sample_has_the_posteriors_moments_and_its_gradient():
  q = Posterior(mean=jnp.array([[1.0, -2.0]]), logvar=jnp.log(jnp.array([[0.25, 4.0]])))
  z = jax.vmap(lambda k: posterior_sample(k, q))(jax.random.split(jax.random.key(0), 20000))[:, 0]
  np.testing.assert_allclose(z.mean(0), [1.0, -2.0], atol=0.05)
  np.testing.assert_allclose(z.std(0), [0.5, 2.0], rtol=0.03)
  gradient = jax.grad(lambda q: posterior_sample(jax.random.key(1), q).sum())(q)
  np.testing.assert_allclose(gradient.mean, 1.0)
  expected = (posterior_sample(jax.random.key(1), q) - q.mean) / 2  # d/dlogvar = sd eps / 2
  np.testing.assert_allclose(gradient.logvar, expected, rtol=1e-4)


def test_invariance_counts_true_mates_only():
  own, mate = draw(3, 2, 2, 3, 2), draw(3, 2, 2, 3, 2)
  true = np.array([True, False, True])
  loss = np.asarray(invariance(own, mate, true))
  expected = (np.asarray(kl_between(own, mate)) + np.asarray(kl_between(mate, own))) / 2
  np.testing.assert_allclose(loss, expected * true, rtol=1e-5)
  assert loss[1] == 0 and (loss[true] > 0).all()
