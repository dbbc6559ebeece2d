import jax
import numpy as np
import pytest

from cdjax.core.types import Posterior
from cdjax.evaluate.leakage import leakage_statistics
from cdjax.evaluate.reidentification import patient_from_pathology


def latents(n, seed, leak):
  """Two findings, read from the pathology; `leak` puts them into a part that is kept."""
  generator = np.random.default_rng(seed)
  present = generator.random((n, 2)) < 0.3
  identity = generator.standard_normal((n, 4, 4, 1, 2)).astype(np.float32)
  pathology = generator.standard_normal((n, 4, 4, 2)).astype(np.float32)
  code = generator.standard_normal((n, 3)).astype(np.float32)
  pathology += 3 * present[:, None, None]
  if leak == "slots":
    identity[..., 0, :] += 3 * present[:, None, None]
  elif leak == "code":
    code[:, :2] += 6 * present
  elif leak == "means":
    identity *= 1e-3
    identity[..., 0, :] += 0.01 * present[:, None, None]
  narrow = lambda mean: Posterior(mean, np.full_like(mean, -6.0))
  wide = lambda mean: Posterior(mean, np.zeros_like(mean))
  kept = wide if leak == "means" else narrow
  return {"id": kept(identity), "path": narrow(pathology), "acq": narrow(code)}, present


def measure(leak):
  train, train_present = latents(500, 0, leak)
  test, test_present = latents(300, 1, leak)
  statistics = leakage_statistics(
      jax.random.key(0), train, train_present, np.arange(500), test, test_present, sampled=True,
      max_steps=100)
  return {key: float(s(np.ones((1, 300)))[0]) for key, s in statistics.items()}


def test_a_planted_leak_is_found_where_it_is():
  got = measure("slots")
  assert got["ceiling/probe/accuracy"] > 0.97
  assert got["leakage/findings_from_identity"] > 0.9
  assert got["leakage/from_slots"] > 0.9
  assert abs(got["leakage/from_acquisition"]) < 0.15
  got = measure("code")
  assert got["leakage/findings_from_identity"] > 0.85
  assert got["leakage/from_acquisition"] > 0.85
  assert abs(got["leakage/from_slots"]) < 0.15


def test_without_a_leak_nothing_is_found():
  got = measure("none")
  assert got["ceiling/probe/accuracy"] > 0.97
  for key in ("findings_from_identity", "from_means", "from_slots", "from_acquisition"):
    assert abs(got[f"leakage/{key}"]) < 0.15


def test_means_may_leak_what_samples_do_not():
  got = measure("means")
  assert got["leakage/from_means"] > 0.9
  assert got["leakage/findings_from_identity"] < 0.2


def studies(n, spread, seed):
  """Two studies a patient whose first channel is the patient's own, give or take `spread`."""
  generator = np.random.default_rng(seed)
  own = generator.standard_normal((n, 3, 3, 1))
  out = []
  for _ in range(2):
    mean = np.concatenate([own + spread * generator.standard_normal(own.shape),
                           30 * generator.standard_normal((n, 3, 3, 1))], -1)
    out.append(Posterior(mean, np.log(np.broadcast_to([1e-4, 900.0], mean.shape))))
  return out


def test_a_planted_patient_is_found_and_noise_is_not():
  first, second = studies(200, 0.05, 0)
  found = patient_from_pathology(first, second, noise=1.0, seed=0)
  assert found.mean() == pytest.approx(1, abs=0.02)
  first, second = studies(200, 100.0, 1)
  assert patient_from_pathology(first, second, noise=1.0, seed=0).mean() < 0.04   # chance 0.005
