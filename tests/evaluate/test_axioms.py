"""Axioms of toy counterfactual functions whose values are known in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cdjax.core.types import FindingsArrays
from cdjax.evaluate.axioms import counterfactual_axioms

SIZE, N = 8, 6


def findings_of(status):
  status = np.asarray(status, np.int8)
  zeros = np.zeros(status.shape, np.int8)
  return FindingsArrays(status, np.full(status.shape, -1.0, np.float32), zeros, zeros)


def paint(x, status):
  """The perfect answer: finding 0 is a bright top row, finding 1 a bright bottom row."""
  for row, k in ((0, 0), (-1, 1)):
    x = x.at[:, row].set(jnp.where(status[:, k, None, None] == 1, 1.0, -1.0))
  return x


def perfect(key, x, findings, do_findings):
  return paint(jnp.asarray(x), do_findings.status)


def judge(x):
  """Probability 0.9 where a row is bright, 0.2 where it is not."""
  bright = jnp.stack([x[:, 0].mean((1, 2)), x[:, -1].mean((1, 2))], -1) > 0
  return jnp.where(bright, 0.9, 0.2)


FACTUAL = findings_of([[1, 0], [0, 0], [0, 1], [1, 1], [0, 0], [1, 0]])
ASKED = findings_of([[0, 1], [1, 0], [0, 0], [1, 1], [-1, 1], [0, 0]])


@pytest.fixture(scope="module")
def x():
  noise = jax.random.uniform(jax.random.key(0), (N, SIZE, SIZE, 1), minval=-0.5, maxval=0.5)
  return (np.asarray(paint(noise, FACTUAL.status))[..., 0] + 1) / 2


def values(fn, x, **kwargs):
  statistics = counterfactual_axioms(fn, judge, x, FACTUAL, ASKED, key=jax.random.key(1),
                                     batch_size=4, **kwargs)
  return {key.removeprefix("axioms/"): statistic(np.ones((1, N)))[0]
          for key, statistic in statistics.items()}


def test_the_perfect_function_keeps_every_axiom(x):
  got = values(perfect, x)
  for key in ("composition/l1_1", "composition/l1_10", "reversibility/l1_1", "reversibility/l1_10"):
    assert got[key] == pytest.approx(0, abs=1e-7), key
  assert got["effectiveness/all"] == got["effectiveness/changed"] == 1
  assert got["effectiveness/copy"] == 0
  assert got["prediction_gain"] == pytest.approx(0.7)
  # Rows that turn from 0 to 1 or back, of 8: 2, 1, 1, 0, 1 and 1 (an unknown status asks nothing of
  # the judge, and this function paints no finding there: what was absent stays as it is).
  assert got["minimality/l1"] == pytest.approx(np.mean([2, 1, 1, 0, 1, 1]) / SIZE)
  assert got["minimality/share"] == pytest.approx(np.mean([2, 1, 1, 0, 1, 1]) / SIZE)


def test_a_copy_changes_nothing_and_reaches_nothing(x):
  got = values(lambda key, x, findings, do: x, x)
  assert all(got[key] == 0 for key in ("composition/l1_10", "reversibility/l1_10", "minimality/l1",
                                       "minimality/share", "effectiveness/changed",
                                       "prediction_gain"))
  # Asked statuses that are known: 11; those that already hold: 5.
  assert got["effectiveness/all"] == pytest.approx(5 / 11)


def test_a_drift_adds_up_with_every_call(x):
  dark = np.full_like(x, 0.2)
  step = 0.01
  got = values(lambda key, x, findings, do: x + 2 * step, dark, repeats=(1, 3))
  assert got["composition/l1_1"] == pytest.approx(step, abs=1e-6)
  assert got["composition/l1_3"] == pytest.approx(3 * step, abs=1e-6)
  assert got["reversibility/l1_1"] == pytest.approx(2 * step, abs=1e-6)
  assert got["reversibility/l1_3"] == pytest.approx(6 * step, abs=1e-6)
  assert got["minimality/l1"] == pytest.approx(step, abs=1e-6)
  assert got["minimality/share"] == 0   # nobody sees 0.01
  assert "composition/l1_10" not in got


def test_the_opposite_of_what_is_asked_loses_what_the_perfect_function_gains(x):
  def opposite(key, x, findings, do):
    return paint(jnp.asarray(x), 1 - do.status)

  # Of the six findings that the question changes all stand as they were before: nothing gained.
  got = values(opposite, x)
  assert got["prediction_gain"] == 0 and got["effectiveness/changed"] == 0
  # Where the question keeps a finding it is wrong too.
  assert got["effectiveness/all"] == 0
  # Its null intervention turns every finding around: both rows of all images.
  assert got["composition/l1_1"] == pytest.approx(2 / SIZE)


def test_every_call_draws_anew_and_the_same_key_draws_the_same(x):
  def noisy(key, x, findings, do):
    return x + 0.1 * jax.random.normal(key, x.shape)

  first, second = values(noisy, x, repeats=(1, 2)), values(noisy, x, repeats=(1, 2))
  assert first == second
  # Independent noise adds in squares; the same noise twice would double the distance.
  assert first["composition/l1_2"] / first["composition/l1_1"] == pytest.approx(2**0.5, rel=0.1)


def test_weights_are_of_patients(x):
  statistics = counterfactual_axioms(perfect, judge, x, FACTUAL, ASKED, key=jax.random.key(1),
                                     repeats=(1,))
  weights = np.array([[2.0, 0, 0, 0, 0, 0]])
  assert statistics["axioms/minimality/l1"](weights)[0] == pytest.approx(2 / SIZE)
  untouched = np.array([[0, 0, 0, 1.0, 0, 0]])
  assert np.isnan(statistics["axioms/prediction_gain"](untouched)[0])   # it asks for no change
