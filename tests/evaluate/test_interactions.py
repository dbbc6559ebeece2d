import numpy as np

from cdjax.core.types import FindingsArrays, Posterior
from cdjax.evaluate.interactions import (
    Studies,
    attention_by_finding,
    linear_probe,
    part_measures,
    split_parts,
)

GENERATOR = np.random.default_rng(3)


def test_parts_are_named_and_cut_out():
  grid = GENERATOR.standard_normal((2, 4, 4, 3, 5))
  posterior = lambda a: Posterior(a, -np.abs(a))
  parts = split_parts({"id": posterior(grid), "path": posterior(grid[..., 0, :]),
                       "acq": posterior(grid[:, 0, 0, 0])})
  assert list(parts) == ["identity 1", "identity 2", "identity 3", "pathology", "acquisition"]
  np.testing.assert_array_equal(parts["identity 2"].mean, grid[..., 1, :])
  np.testing.assert_array_equal(parts["identity 3"].logvar, -np.abs(grid[..., 2, :]))


def test_a_linear_probe_reads_what_is_linear_and_weighs_rare_findings_up():
  x = GENERATOR.standard_normal((1200, 6))
  present = np.stack([x[:, 0] + 0.2 * x[:, 1] > 1.5, x[:, 2] * x[:, 3] > 0, x[:, 0] > 99], 1)
  read = linear_probe(x[:800], present[:800], x[800:])
  there, gone = present[800:], ~present[800:]
  accuracy = lambda k: 0.5 * (read[there[:, k], k].mean() + 1 - read[gone[:, k], k].mean())
  assert accuracy(0) > 0.9 and abs(accuracy(1) - 0.5) < 0.1
  assert not read[:, 2].any()   # never there in training


def test_each_part_is_measured_for_what_was_put_in_it():
  def studies(patients, present):
    n = len(patients)
    who = np.random.default_rng(0).standard_normal((50, 8))[patients]
    narrow = np.full((n, 8), np.log(1e-4))
    return Studies({"who": Posterior(who, narrow),
                    "what": Posterior(np.repeat(2.0 * present - 1, 4, 1), narrow),
                    "nothing": Posterior(np.zeros((n, 8)), np.zeros((n, 8)))}, present)

  draw = lambda n: GENERATOR.random((n, 2)) < 0.4
  patients = np.arange(50)
  train = studies(GENERATOR.integers(0, 50, 400), draw(400))
  present = draw(50)
  got = part_measures(train, studies(patients, present), studies(patients, draw(50)),
                      noise=dict.fromkeys(("who", "what", "nothing"), 1.0),
                      seed=1)
  assert (got["what"]["read"] == present).mean() > 0.97
  assert (got["nothing"]["read"] == present).mean() < 0.7
  assert got["who"]["patient"].all() and got["nothing"]["patient"].mean() < 0.2
  np.testing.assert_allclose(got["nothing"]["nats"], 0.0, atol=1e-6)
  # KL(N(m, s²) || N(0, 1)) with m = ±1: ½ Σ (s² + m² - 1 - log s²) over 8 elements.
  np.testing.assert_allclose(got["what"]["nats"], 4 * (1e-4 - np.log(1e-4)), rtol=1e-5)
  np.testing.assert_allclose(got["who"]["nats_of_study"], 0.0, atol=1e-6)


def test_attention_counts_where_the_only_finding_is():
  attention = np.zeros((3, 2, 2, 2))
  attention[:, 0, 0] = [0.9, 0.1]
  attention[:, 1, 1] = [0.3, 0.7]
  places = np.zeros((3, 2, 2), bool)
  places[0, 0, 0] = places[1, 1, 1] = places[2] = True
  status = np.array([[1, 0], [0, 1], [1, 1]], np.int8)
  zero = np.zeros_like(status)
  findings = FindingsArrays(status, zero.astype(np.float32), zero, zero)
  got = attention_by_finding(attention, places, findings, ("nodule", "mass"))
  np.testing.assert_allclose(got["nodule"], [[0.9, 0.1]])
  np.testing.assert_allclose(got["mass"], [[0.3, 0.7]])
  assert got.keys() == {"nodule", "mass"}
