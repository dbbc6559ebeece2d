"""Attention by tiles is attention: in the TPU's simulator here, chosen on a TPU only."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.pallas import tpu as pltpu

from cdjax.models.attention import attend
from cdjax.models.flash import MIN_PLACES, attend_by_tiles, fits_tiles

plain = jax.nn.dot_product_attention


def draw(places: int, heads: int = 1, width: int = 40):
  return jax.random.normal(jax.random.key(0), (3, 1, places, heads, width))


def gradients(attention, arrays):
  weights = jnp.sin(jnp.arange(arrays[0].size)).reshape(arrays[0].shape)
  return jax.grad(lambda *a: (attention(*a) * weights).sum(), (0, 1, 2))(*arrays)


def test_tiles_give_the_same_values_and_gradients():
  arrays, tiled = draw(256), lambda *a: attend_by_tiles(*a, tile=128)
  with pltpu.force_tpu_interpret_mode():
    np.testing.assert_allclose(tiled(*arrays), plain(*arrays), atol=1e-5)
    for a, b in zip(gradients(tiled, arrays), gradients(plain, arrays), strict=True):
      np.testing.assert_allclose(a, b, atol=1e-5)


def test_many_places_choose_the_kernel_on_a_tpu_and_nowhere_else():
  arrays = draw(MIN_PLACES, width=8)
  assert fits_tiles(*arrays[:2])
  np.testing.assert_array_equal(attend(*arrays), plain(*arrays))
  for a, b in zip(gradients(attend, arrays), gradients(plain, arrays), strict=True):
    np.testing.assert_array_equal(a, b)
  lowered = lambda platform: jax.jit(attend).trace(*arrays).lower(
      lowering_platforms=(platform,)).as_text()
  assert "tpu_custom_call" in lowered("tpu") and "tpu_custom_call" not in lowered("cpu")


def test_what_does_not_fit_is_left_to_the_compiler():
  few, wide = draw(MIN_PLACES // 2), draw(MIN_PLACES, width=160)
  context = draw(MIN_PLACES)[0], draw(MIN_PLACES + 512)[1]
  assert not fits_tiles(*few[:2]) and not fits_tiles(*wide[:2]) and not fits_tiles(*context)
