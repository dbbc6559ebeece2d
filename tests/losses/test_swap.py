"""Exchanges: involution, which slots, which pairs, and what agreement pulls on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cdjax.core.types import FindingsArrays, Posterior
from cdjax.losses.kl import kl_between
from cdjax.losses.swap import (
    cycle_agreement,
    latent_agreement,
    same_details,
    same_findings,
    swap_slots,
)

RNG = np.random.default_rng([0, 17])
PARTNER = np.array([1, 0, 3, 2, 4], np.int32)
IDENTITY, PATHOLOGY = slice(None, -1), slice(-1, None)


def latents(size=5):
  return RNG.standard_normal((size, 2, 3, 4, 2)).astype(np.float32)


def posterior(size=3):
  return Posterior(mean=latents(size), logvar=0.3 * latents(size))


@pytest.mark.parametrize("slots", [IDENTITY, PATHOLOGY, slice(1, 3)])
def test_swap_exchanges_these_slots_and_twice_is_the_identity(slots):
  z = latents()
  swapped = np.asarray(swap_slots(z, PARTNER, slots=slots))
  kept = np.setdiff1d(np.arange(4), np.arange(4)[slots])
  np.testing.assert_array_equal(swapped[..., slots, :], z[PARTNER][..., slots, :])
  np.testing.assert_array_equal(swapped[..., kept, :], z[..., kept, :])
  assert not np.array_equal(swapped, z)
  np.testing.assert_array_equal(swap_slots(swapped, PARTNER, slots=slots), z)


def test_swapping_identity_is_swapping_pathology_seen_from_the_partner():
  z = latents()
  np.testing.assert_array_equal(swap_slots(z, PARTNER, slots=IDENTITY),
                                np.asarray(swap_slots(z, PARTNER, slots=PATHOLOGY))[PARTNER])


def test_same_findings_and_details():
  def make(status, severity=(0.5, 0.5), side=(1, 0), zone=(4, 0)):
    return FindingsArrays(*(np.array([v]) for v in (status, severity, side, zone)))

  one = make((1, 0), (0.5, -1))
  cases = [  # other, same findings, same details
      (one, True, True),
      (make((1, 0), (0.55, -1)), True, True),
      (make((1, 0), (0.9, -1)), True, False),
      (make((1, 0), (-1, -1)), True, False),
      (make((1, 0), (0.5, -1), side=(2, 0)), True, False),
      (make((1, 0), (0.5, -1), zone=(2, 0)), True, False),
      (make((1, 0), (0.5, -1), side=(1, 3)), True, True),   # of an absent finding
      (make((1, 1), (0.5, 0.5)), False, False),
      (make((1, -1), (0.5, -1)), False, False),
  ]
  for other, findings, details in cases:
    assert bool(same_findings(one, other)[0]) == findings, other
    assert bool(same_details(one, other)[0]) == details, other
  healthy, unknown = make((0, 0)), make((1, -1))
  assert not same_findings(healthy, healthy)[0]
  assert not same_findings(unknown, unknown)[0]


def test_latent_agreement_by_hand_and_masked():
  a, b = posterior(), posterior()
  mask = np.array([True, False, True])
  expected = (np.asarray(kl_between(a, b)) + np.asarray(kl_between(b, a))) / 2 * mask
  np.testing.assert_allclose(latent_agreement(a, b, mask), expected, rtol=1e-4)
  np.testing.assert_array_equal(latent_agreement(a, a, mask), 0)


def test_cycle_agreement_by_hand():
  again, a, b = posterior(), posterior(), posterior()
  has = np.array([True, False, True])
  cut = lambda p, s: jax.tree.map(lambda v: v[..., s, :], p)
  expected = (np.asarray(kl_between(cut(a, IDENTITY), cut(again, IDENTITY)))
              + has * np.asarray(kl_between(cut(b, PATHOLOGY), cut(again, PATHOLOGY))))
  np.testing.assert_allclose(cycle_agreement(again, a, b, has_pathology=has), expected, rtol=1e-5)


def test_cycle_agreement_is_zero_for_a_perfect_hybrid_and_moves_only_it():
  a, b = posterior(), posterior()
  hybrid = jax.tree.map(lambda u, v: jnp.concatenate([u[..., :-1, :], v[..., -1:, :]], -2), a, b)
  has = np.ones(3, bool)
  np.testing.assert_allclose(cycle_agreement(hybrid, a, b, has_pathology=has), 0, atol=1e-6)
  gradients = jax.grad(lambda *p: cycle_agreement(*p, has_pathology=has).sum(), (0, 1, 2))(
      posterior(), a, b)
  assert all((np.asarray(g) != 0).all() for g in jax.tree.leaves(gradients[0]))
  assert all((np.asarray(g) == 0).all() for g in jax.tree.leaves(gradients[1:]))
