"""The disentangled autoencoder: causality, the null pathology, the acquisition."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cdjax.core.config import base_config
from cdjax.models.acquisition import (
    CODE_SIZE,
    apply_acquisition,
    compose_acquisition,
    remove_acquisition,
    shift_image,
)
from cdjax.models.disentangled import LocalLinear, has_pathology, join, make_autoencoder
from cdjax.models.slot_transformer import SlotTransformer, causal_slot_mask

KEY = jax.random.key(0)


def randomised(params):
  """Every parameter random, so that nothing holds only because an output starts at zero."""
  leaves, tree = jax.tree.flatten(params)
  keys = jax.random.split(KEY, len(leaves))
  return jax.tree.unflatten(
      tree, [0.3 * jax.random.normal(k, a.shape) for k, a in zip(keys, leaves, strict=True)])


def transformer(causal=True, layers=2):
  module = SlotTransformer(layers=layers, width=16, heads=2, causal=causal)
  z = jax.random.normal(jax.random.key(1), (2, 3, 3, 4, 2))
  return module, nn.unbox(module.init(KEY, z)), z


def test_transformer_starts_as_the_identity_map():
  module, params, z = transformer()
  np.testing.assert_array_equal(module.apply(params, z), z)


def test_pathology_cannot_reach_the_identity_and_identity_reaches_everything():
  module, params, z = transformer()
  params = randomised(params)
  jacobian = jax.jacobian(lambda z: module.apply(params, z)[0])(z)[..., 0, :, :, :, :]
  # [h, w, n, c, h', w', n', c'] -> which slot moves which.
  moves = np.abs(np.asarray(jacobian)).sum((0, 1, 3, 4, 5, 7)) > 0
  np.testing.assert_array_equal(moves, causal_slot_mask(4))
  # Across places too: a corner's identity reaches the opposite corner's.
  assert np.abs(jacobian[0, 0, 0, :, 2, 2, 1]).sum() > 0


def test_without_the_causal_mask_the_pathology_does_reach_the_identity():
  module, params, z = transformer(causal=False)
  params = randomised(params)
  gradient = jax.grad(lambda z: module.apply(params, z)[..., :-1, :].sum())(z)
  assert np.abs(gradient[..., -1, :]).max() > 1e-4


def tiny_autoencoder(**changes):
  model = base_config().autoencoder.model.to_dict() | dict(
      block_out_channels=(8, 8), lesion_channels=(4, 4), norm_num_groups=4, mid_attention=False,
      transformer_width=16, transformer_heads=2)
  module = make_autoencoder(model | changes)
  x = 0.3 * jax.random.normal(KEY, (2, 16, 16, 1))
  return module, {"params": randomised(nn.unbox(jax.jit(module.init)(KEY, x, KEY))["params"])}, x


def test_the_decoder_sees_identity_pathology_code_and_view():
  module, params, x = tiny_autoencoder(num_views=3)
  encoding = module.apply(params, x, method="encode")
  assert encoding.slots.mean.shape == (2, 2, 2, 4, 4)
  z, code = encoding.slots.mean, jnp.zeros((2, CODE_SIZE))
  decode = jax.jit(lambda z, code, view: module.apply(params, z, code, view, method="decode"))
  image = decode(z, code, jnp.array([0, 0]))
  healthy = join(z[..., :-1, :], jnp.zeros_like(z[..., -1, :]))
  for other in (decode(healthy, code, jnp.array([0, 0])), decode(z, code + 0.5, jnp.array([0, 0])),
                decode(z, code, jnp.array([2, 2])), decode(z.at[..., 0, :].add(1.0), code, None)):
    assert np.abs(other - image).max() > 1e-3
  np.testing.assert_allclose(decode(z, code, None), image, rtol=0, atol=1e-6)


def film_gradient(module, params, z, opacity_bias):
  """How much the pathology moves the image where the lesion's opacity has this bias."""
  bias = params["params"]["lesion_decoder"]["conv_out"]["bias"]
  shifted = bias.reshape(-1, 2).at[:, 1].add(opacity_bias).reshape(-1)
  params["params"]["lesion_decoder"]["conv_out"]["bias"] = shifted
  image = lambda path: module.apply(params, join(z[..., :-1, :], path), jnp.zeros((2, CODE_SIZE)),
                                    method="decode")
  moved = jax.jit(lambda path: jax.jvp(image, (path,), (jnp.ones_like(path),))[1])
  return np.abs(moved(z[..., -1, :])).max()


def test_a_transparent_lesion_cannot_touch_the_image():
  module, params, x = tiny_autoencoder()
  z = module.apply(params, x, method="encode").slots.mean
  assert film_gradient(module, params, z, 0.0) > 1e-3
  assert film_gradient(module, params, z, -1e4) == 0.0


def test_an_opaque_lesion_hides_the_film_and_a_null_pathology_shows_it():
  module, params, x = tiny_autoencoder(linear_path=False, transformer_layers=0)
  z = module.apply(params, x, method="encode").slots.mean
  decoder = params["params"]["lesion_decoder"]["conv_out"]
  # Whatever the latents are, the lesion is 0.7 and covers everything.
  decoder["kernel"] = jnp.zeros_like(decoder["kernel"])
  decoder["bias"] = jnp.tile(jnp.array([0.2, 50.0]), decoder["bias"].shape[0] // 2)
  decode = lambda z: module.apply(params, z, jnp.zeros((2, CODE_SIZE)), method="decode")
  np.testing.assert_allclose(decode(z), 0.7, rtol=0, atol=1e-5)
  healthy = decode(join(z[..., :-1, :], jnp.zeros_like(z[..., -1, :])))
  assert np.std(healthy) > 1e-2
  assert not np.any(has_pathology(jnp.zeros_like(z))) and np.all(has_pathology(z) == 1.0)


def test_a_lesion_has_no_chequerboard():
  """Whatever differs between neighbouring pixels only since they are other channels is gone."""
  module, params, x = tiny_autoencoder()
  z = module.apply(params, x, method="encode").slots.mean
  decoder = params["params"]["lesion_decoder"]["conv_out"]
  decoder["kernel"] = jnp.zeros_like(decoder["kernel"])
  side = math.isqrt(decoder["bias"].shape[0] // 2)
  board = (-1.0) ** np.add.outer(np.arange(side), np.arange(side))
  decoder["bias"] = jnp.asarray(np.stack([board, board], -1).ravel())
  layers = module.apply(params, z, method="paint")
  for layer in (layers.lesion, layers.opacity):
    inside = np.asarray(layer)[:, 1:-1, 1:-1]
    np.testing.assert_allclose(inside, inside.mean(), rtol=0, atol=1e-5)


def test_without_a_lesion_decoder_all_slots_make_the_film():
  module, params, x = tiny_autoencoder(lesion_channels=())
  assert "lesion_decoder" not in params["params"]
  z = module.apply(params, x, method="encode").slots.mean
  decode = lambda z: module.apply(params, z, jnp.zeros((2, CODE_SIZE)), method="decode")
  assert np.abs(decode(z) - decode(z.at[..., -1, :].add(1.0))).max() > 1e-3


def test_a_lesion_decoder_of_another_depth_is_an_error():
  with pytest.raises(ValueError, match="lesion_channels"):
    tiny_autoencoder(lesion_channels=(4,))


def test_acquisition_can_be_switched_off():
  module, params, x = tiny_autoencoder(acquisition=False)
  encoding = module.apply(params, x, method="encode")
  assert not np.any(encoding.acquisition.mean) and not np.any(encoding.acquisition.logvar)
  decode = lambda code: module.apply(params, encoding.slots.mean, code, method="decode")
  np.testing.assert_array_equal(decode(jnp.zeros((2, CODE_SIZE))), decode(jnp.ones((2, CODE_SIZE))))


def test_an_average_acquisition_changes_nothing_but_what_lies_below_the_knee():
  film = jax.random.uniform(KEY, (2, 9, 9, 1), minval=0.0, maxval=1.0)
  same = apply_acquisition(film, jnp.zeros((2, CODE_SIZE)), max_shift=1.5)
  np.testing.assert_allclose(same, film, rtol=0, atol=1e-6)


def test_removing_an_acquisition_undoes_it():
  """Exactly but for the shift's interpolation; a whole pixel leaves only the border."""
  film = jax.random.uniform(KEY, (2, 16, 16, 1), minval=0.05, maxval=0.9)
  code = jax.random.normal(jax.random.key(1), (2, CODE_SIZE)).at[:, 2:4].set(0.0)
  back = remove_acquisition(apply_acquisition(film, code, max_shift=1.5), code, max_shift=1.5)
  np.testing.assert_allclose(back, film, rtol=0, atol=1e-4)
  assert np.abs(apply_acquisition(film, code, max_shift=1.5) - film).max() > 0.02
  whole = code.at[:, 2].set(50.0)   # tanh is 1: max_shift pixels down, at 16 px a quarter of it
  moved = apply_acquisition(film, whole, max_shift=4.0)
  back = remove_acquisition(moved, whole, max_shift=4.0)
  np.testing.assert_allclose(back[:, 1:-1], film[:, 1:-1], rtol=0, atol=1e-4)
  assert np.abs(moved - apply_acquisition(film, code, max_shift=4.0)).max() > 0.1


def test_acquisitions_compose():
  """Exposing twice is exposing once with the composed code; shifts add in pixels."""
  film = jax.random.uniform(KEY, (3, 64, 64, 1), minval=0.1, maxval=0.9)
  code, then = jax.random.normal(jax.random.key(1), (2, 3, CODE_SIZE))
  still = lambda c: c.at[:, 2:4].set(0.0)
  apply = lambda film, code: apply_acquisition(film, code, max_shift=1.5)
  then = then.at[:, 1].set(0.0)
  composed = compose_acquisition(still(code), still(then), max_shift=1.5)
  np.testing.assert_allclose(apply(apply(film, still(code)), still(then)), apply(film, composed),
                             rtol=0, atol=1e-5)
  half = lambda c: 3.0 * np.tanh(0.5 * np.asarray(c)[:, 2:4])   # max_shift 3
  composed = compose_acquisition(0.5 * code, 0.5 * then, max_shift=3.0)
  np.testing.assert_allclose(half(composed), half(0.5 * code) + half(0.5 * then), rtol=0, atol=1e-4)


def test_linear_path_has_its_own_weights_at_every_place():
  module = LocalLinear(3, jax.nn.initializers.normal(1.0))
  x = jax.random.normal(KEY, (2, 2, 2, 5))
  params = nn.unbox(module.init(KEY, x))
  out = module.apply(params, x)
  kernel = np.asarray(params["params"]["place_kernel"])
  for row in range(2):
    for column in range(2):
      np.testing.assert_allclose(out[:, row, column], np.asarray(x)[:, row, column]
                                 @ kernel[row, column], rtol=1e-4, atol=1e-5)


def test_the_linear_path_is_of_what_makes_the_film():
  """A lesion's code is the same wherever it is; without a lesion decoder everything is film."""
  for lesion_channels, expected in (((4, 4), [1, 1, 1, 0]), ((), [1, 1, 1, 1])):
    module, params, x = tiny_autoencoder(lesion_channels=lesion_channels)
    before = module.apply(params, x, method="encode").slots
    params["params"]["linear_encoder"] = jax.tree.map(
        lambda a: a + 1.0, params["params"]["linear_encoder"])
    moved = module.apply(params, x, method="encode").slots.mean - before.mean
    np.testing.assert_array_equal(np.abs(moved).max((0, 1, 2, 4)) > 0, np.array(expected, bool))


def test_gain_gamma_and_bias_are_what_their_names_say():
  film = jnp.full((1, 5, 5, 1), 0.5)
  code = lambda i: jnp.zeros((1, CODE_SIZE)).at[0, i].set(1.0)
  at = lambda i: np.asarray(apply_acquisition(film, code(i), max_shift=1.5))[0, :, :, 0]
  np.testing.assert_allclose(at(0), 0.5 * np.exp(0.09), rtol=1e-5)
  np.testing.assert_allclose(at(1), 0.5 ** np.exp(0.06), rtol=1e-5)
  np.testing.assert_allclose(at(4)[2], 0.5 + 0.03 * np.linspace(-1, 1, 5), rtol=1e-5)
  np.testing.assert_allclose(at(5)[:, 2], 0.5 + 0.03 * np.linspace(-1, 1, 5), rtol=1e-5)
  np.testing.assert_allclose(np.diag(at(6)), 0.5 + 0.03 * np.linspace(-1, 1, 5) ** 2, rtol=1e-5)


@pytest.mark.parametrize("shift", [(1.0, 0.0), (0.0, -2.0), (0.25, 0.5)])
def test_shift_moves_a_ramp_by_so_many_pixels(shift):
  rows, columns = np.mgrid[:12, :12].astype(np.float32)
  image = jnp.asarray(2 * rows + 3 * columns)[None, :, :, None]
  moved = shift_image(image, jnp.array([shift]))[0, 3:-3, 3:-3, 0]
  expected = 2 * (rows - shift[0]) + 3 * (columns - shift[1])
  np.testing.assert_allclose(moved, expected[3:-3, 3:-3], rtol=1e-5)


def test_two_slots_at_least():
  with pytest.raises(ValueError, match="slots=1"):
    tiny_autoencoder(slots=1)
