"""Gradient reversal, HSIC against its definition, and the contrastive identity loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cdjax.core.types import Posterior
from cdjax.losses import identity, independence
from cdjax.losses.independence import explained, gradient_reversal

RNG = np.random.default_rng([0, 19])
hsic = jax.jit(independence.hsic, static_argnames="normalised")
identity_contrastive = jax.jit(identity.identity_contrastive, static_argnames="temperature")


def test_gradient_reversal_is_the_identity_with_a_flipped_gradient():
  x = RNG.standard_normal((3, 4)).astype(np.float32)
  np.testing.assert_array_equal(gradient_reversal(x, 0.5), x)
  f = lambda x: jnp.sum(jnp.sin(x) ** 2)
  plain = jax.grad(f)(x)
  reversed_ = jax.jit(jax.grad(lambda x: f(gradient_reversal(x, 0.5))))(x)
  np.testing.assert_allclose(reversed_, -0.5 * plain, rtol=1e-5)


def hsic_reference(x, y):
  """`tr(K H L H) / m²` written out in NumPy."""
  def gram(a):
    square = ((a[:, None] - a[None]) ** 2).sum(-1)
    off = square[~np.eye(len(a), dtype=bool)]
    return np.exp(-0.5 * square / np.median(off[off > 1e-12]))
  m = len(x)
  h = np.eye(m) - 1 / m
  return np.trace(gram(x) @ h @ gram(y) @ h) / m**2


def test_hsic_equals_its_definition():
  x, y = RNG.standard_normal((25, 3)), RNG.standard_normal((25, 2))
  y[:, 0] += x[:, 0]
  each = hsic(x, y)
  assert each.shape == (25,)
  assert float(each.mean()) == pytest.approx(hsic_reference(x, y), rel=1e-4)


def test_hsic_of_binary_labels_equals_its_definition():
  x = RNG.standard_normal((40, 3))
  y = (RNG.random((40, 1)) < 0.1).astype(np.float32)  # the median of all distances is 0
  assert float(hsic(x, y).mean()) == pytest.approx(hsic_reference(x, y), rel=1e-4)


@pytest.mark.parametrize("normalised", [False, True])
def test_hsic_tells_dependence_even_without_correlation(normalised):
  x = RNG.standard_normal((300, 2))
  dependent = x**2 + 0.1 * RNG.standard_normal((300, 2))
  independent = RNG.standard_normal((300, 2)) ** 2
  low = float(hsic(x, independent, normalised=normalised).mean())
  high = float(hsic(x, dependent, normalised=normalised).mean())
  assert 0 <= low < 0.02
  assert high > 5 * low
  if normalised:
    assert float(hsic(x, x, normalised=True).mean()) == pytest.approx(1.0, rel=1e-4)


@pytest.mark.parametrize("normalised", [False, True])
def test_hsic_ignores_examples_that_do_not_count(normalised):
  x, y = RNG.standard_normal((20, 3)), RNG.standard_normal((20, 2))
  valid = np.arange(20) < 13
  filled = np.where(valid[:, None], y, 1e3)
  each = hsic(x, filled, valid=valid, normalised=normalised)
  np.testing.assert_allclose(each[:13], hsic(x[:13], y[:13], normalised=normalised), rtol=1e-3,
                             atol=1e-7)
  assert (np.asarray(each[13:]) == 0).all()


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("y", [np.zeros((8, 1)), np.arange(8.0)[:, None]])
def test_hsic_gradient_is_finite_for_constant_labels_and_repeated_points(normalised, y):
  x = np.repeat(RNG.standard_normal((4, 3)), 2, axis=0)
  value, gradient = jax.value_and_grad(
      lambda x: hsic(x, y, normalised=normalised).mean())(jnp.asarray(x))
  assert np.isfinite(value) and np.isfinite(gradient).all()
  none = hsic(x, y, valid=np.zeros(8, bool), normalised=normalised)
  np.testing.assert_array_equal(none, 0)


def contrastive_reference(a, b, patient, temperature):
  """NT-Xent in plain loops."""
  codes = np.concatenate([a, b]).astype(np.float64)
  codes /= np.linalg.norm(codes, axis=-1, keepdims=True)
  patient = np.tile(patient, 2)
  size, n = len(a), len(codes)
  loss = np.zeros(n)
  for i in range(n):
    mate = (i + size) % n
    others = [j for j in range(n) if j != i and (j == mate or patient[j] != patient[i])]
    logits = {j: codes[i] @ codes[j] / temperature for j in others}
    loss[i] = np.log(sum(np.exp(v) for v in logits.values())) - logits[mate]
  return (loss[:size] + loss[size:]) / 2


@pytest.mark.parametrize("patient", [np.arange(5), np.array([0, 1, 0, 2, 3])])
def test_contrastive_equals_plain_loops(patient):
  a, b = RNG.standard_normal((2, 5, 7)).astype(np.float32)
  true = np.array([True, True, False, True, True])
  loss = identity_contrastive(a, b, true, patient=patient, temperature=0.5)
  np.testing.assert_allclose(loss, contrastive_reference(a, b, patient, 0.5) * true, rtol=1e-4)


def test_contrastive_default_has_every_pair_its_own_patient():
  a, b = RNG.standard_normal((2, 4, 2, 3)).astype(np.float32)
  true = np.ones(4, bool)
  np.testing.assert_allclose(identity_contrastive(a, b, true),
                             identity_contrastive(a, b, true, patient=np.arange(4)))
  np.testing.assert_allclose(identity_contrastive(a, b, true, temperature=0.3),
                             contrastive_reference(a.reshape(4, -1), b.reshape(4, -1),
                                                   np.arange(4), 0.3), rtol=1e-4)


def test_contrastive_wants_mates_together_and_others_apart():
  codes = np.eye(4, dtype=np.float32)
  true = np.ones(4, bool)
  together = float(identity_contrastive(codes, codes, true).mean())
  confused = float(identity_contrastive(codes, np.roll(codes, 1, axis=0), true).mean())
  assert together < 0.01 and confused > 5.0


def test_contrastive_is_finite_for_zero_codes_and_rejects_bad_temperature():
  zeros = jnp.zeros((3, 4))
  value, gradient = jax.value_and_grad(
      lambda a: identity_contrastive(a, zeros, np.ones(3, bool)).sum())(zeros)
  assert np.isfinite(value) and np.isfinite(gradient).all()
  assert float(value) == pytest.approx(3 * np.log(5), rel=1e-4)
  with pytest.raises(ValueError, match="temperature=0"):
    identity_contrastive(zeros, zeros, np.ones(3, bool), temperature=0)


def test_what_a_guess_is_worth_is_the_gain_in_log_likelihood():
  mean, variance = jnp.array([[1.0, -2.0]]), jnp.array([[0.5, 0.25]])
  posterior = Posterior(mean, jnp.log(variance))
  guess = jnp.array([[0.5, -1.0]])
  nll = lambda guess: 0.5 * ((mean - guess) ** 2 / variance).sum(-1)
  np.testing.assert_allclose(explained(posterior, guess), nll(0.0) - nll(guess), rtol=1e-6)
  np.testing.assert_allclose(explained(posterior, jnp.zeros((1, 2))), 0.0)


def test_with_reversal_the_guess_learns_and_the_guessed_hides():
  posterior = Posterior(jnp.array([[2.0]]), jnp.zeros((1, 1)))
  worth = lambda mean, guess: explained(
      posterior.replace(mean=mean), gradient_reversal(guess)).sum()
  of_mean, of_guess = jax.grad(worth, (0, 1))(posterior.mean, jnp.array([[1.0]]))
  # Going down: the mean towards 0, the guess towards the mean.
  assert of_mean > 0 > of_guess
