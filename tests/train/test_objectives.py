"""Stage 1's objective: who rebuilds whom, what a weight of 0 removes, where gradients stop."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cdjax.core.config import base_config
from cdjax.core.types import FindingsArrays
from cdjax.models.classifier import make_classifier
from cdjax.models.denoiser import LatentStats
from cdjax.train.objectives import autoencoder, classifier, diffusion
from cdjax.train.objectives.swaps import partner_with_equal_findings

KEY = jax.random.key(3)
ALWAYS = {"reconstruction", "kl_identity", "kl_pathology", "kl_acquisition", "psnr"}
OPTIONAL = ("ssim", "reconstruction_l1", "swap_same_findings", "cycle_swap", "findings", "location",
            "severity", "independence_reversal", "independence_hsic", "patient_reversal",
            "invariance", "acquisition_equivariance", "acquisition_invariance", "minimality",
            "mirror", "identity")

SMALL_UNET = dict(block_out_channels=(8,), attention_blocks=(True,), norm_num_groups=4,
                  attention_heads=2, context_width=8)


def make_config(**weights):
  c = base_config()
  with c.unlocked():
    c.data.resolution = 16
    c.autoencoder.model.update(dict(
        patch=8, block_out_channels=(8,), lesion_channels=(4,), norm_num_groups=4,
        mid_attention=False, transformer_width=8, transformer_heads=2))
    for name in OPTIONAL:
      c.autoencoder.loss[name] = 0.0
    c.autoencoder.loss.update(weights)
  return c


def make_findings(status):
  status = jnp.asarray(status, jnp.int8)
  zeros = jnp.zeros_like(status)
  return FindingsArrays(status, jnp.where(status == 1, 0.5, -1.0), zeros + (status == 1),
                        zeros + 4 * (status == 1))


def make_batch(sick=(True, True, False, False), mate_sick=(False, True, True, False),
               true_mate=(True, True, False, True), k=5):
  present = lambda flags: make_findings([[int(s)] + [0] * (k - 1) for s in flags])
  image = lambda i: 0.5 * jax.random.normal(jax.random.fold_in(KEY, i), (4, 16, 16, 1))
  return dict(image=image(0), mate_image=image(1), findings=present(sick),
              mate_findings=present(mate_sick), view=jnp.zeros(4, jnp.int32),
              mate_view=jnp.zeros(4, jnp.int32), is_true_mate=jnp.array(true_mate))


def setup(config):
  params = nn.unbox(jax.jit(lambda key: autoencoder.init_params(config, key))(KEY))
  return params, jax.jit(autoencoder.make_loss_fn(config))


def test_a_weight_of_zero_removes_its_term_and_its_head():
  params, loss_fn = setup(make_config())
  _, aux = loss_fn(params, {}, make_batch(), KEY, 0)
  assert set(aux) == ALWAYS and set(params) == {"autoencoder"}


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIONAL)
def test_every_term_enters_the_loss_with_its_weight(name):
  losses = []
  half = make_findings([[1, 0, 0, 0, 0]] * 2 + [[0, 1, 0, 0, 0]] * 2)   # everybody is sick
  batch = make_batch() | {"findings": half, "mate_findings": half}
  for weight in (1.0, 3.0):
    config = make_config(**{name: weight, "price_warmup": 0.0, "sigma": 1.0})
    params, loss_fn = setup(config)
    params["autoencoder"]["acquisition_head"]["kernel"] *= 30.0   # it starts almost blind
    loss, aux = loss_fn(params, {}, batch, KEY, config.autoencoder.num_train_steps)
    losses.append(float(loss))
  term = float(aux[name])
  assert np.isfinite(term) and abs(term) > 1e-6
  np.testing.assert_allclose(losses[1] - losses[0], 2.0 * term / 256, rtol=2e-2)


def gradient_of_images(config, batch, of):
  """How much image `of` meets every image in a reconstruction, `[8]`: anchors, then mates."""
  params, _ = setup(config)
  with config.unlocked():
    config.autoencoder.loss.update(kl_identity=0.0, kl_pathology=0.0, kl_acquisition=0.0)

  def rebuilt(images):
    loss_fn = autoencoder.make_loss_fn(config)
    batch_ = batch | {"image": images[:4], "mate_image": images[4:]}
    return loss_fn(params, {}, batch_, KEY, 0)[1]["reconstruction"]

  images = jnp.concatenate([batch["image"], batch["mate_image"]])
  # Two images that meet in one reconstruction have a mixed second derivative, others have none.
  rows_of = jax.jit(lambda images, at: jax.jvp(jax.grad(rebuilt), (images,), (at,))[1])
  hessian_rows = rows_of(images, jnp.zeros_like(images).at[of].set(1.0))
  return np.abs(np.asarray(hessian_rows)).sum((1, 2, 3))


def test_a_patients_images_are_augmented_alike():
  x = jnp.tile(make_batch()["image"], (2, 1, 1, 1))   # mates are copies
  warped = np.asarray(autoencoder.augment_anatomy(KEY, x, 1.0))
  np.testing.assert_array_equal(warped[:4], warped[4:])
  assert np.abs(warped - x).max((1, 2, 3)).min() > 1e-2
  np.testing.assert_allclose(autoencoder.augment_anatomy(KEY, x, 0.0), x, rtol=0, atol=1e-5)


def test_sick_images_are_rebuilt_from_the_mate_and_healthy_ones_from_themselves():
  batch = make_batch()
  # Anchor 0 is sick with a true mate (image 4): the two interact. Anchor 3 and its mate 7 are both
  # healthy: they do not. Anchor 2 has no true mate: nothing of another image enters.
  assert gradient_of_images(make_config(), batch, of=0)[4] > 0
  of_healthy = gradient_of_images(make_config(), batch, of=3)
  assert of_healthy[3] > 0 and of_healthy[7] == 0
  without = gradient_of_images(make_config(swap_same_patient=0.0), batch, of=0)
  assert without[0] > 0 and without[4] == 0


def test_a_single_study_sick_image_does_not_teach_its_identity():
  """Where there is no mate the reconstruction has no gradient into the identity's posterior."""
  config = make_config(kl_identity=0.0, kl_pathology=0.0, kl_acquisition=0.0)
  flags = dict(sick=(True,) * 4, mate_sick=(True,) * 4)
  params, _ = setup(config)
  loss_fn = autoencoder.make_loss_fn(config)
  grads = {}
  for true_mate in (True, False):
    batch = make_batch(**flags, true_mate=(true_mate,) * 4)
    grad = jax.jit(jax.grad(lambda p, b: loss_fn(p, {}, b, KEY, 0)[0]))(params, batch)
    # The encoder's last convolution: means by slot, then logvars.
    kernel = np.asarray(grad["autoencoder"]["encoder"]["conv_out"]["kernel"])[..., :16]
    grads[true_mate] = np.abs(kernel.reshape(-1, 4, 4)).sum((0, 2))
  assert np.all(grads[True] > 0)
  assert np.all(grads[False][:3] == 0) and grads[False][3] > 0


def test_prices_rise_from_their_start():
  config = make_config(price_warmup=0.5, price_start=0.1)
  config.autoencoder.num_train_steps = 100
  params, loss_fn = setup(config)
  batch = make_batch()
  at = {step: float(loss_fn(params, {}, batch, KEY, step)[0]) for step in (0, 25, 50, 100)}
  assert at[50] == at[100]
  np.testing.assert_allclose((at[25] - at[0]) / (at[50] - at[0]), 0.5, rtol=1e-3)


def test_outlines_that_may_be_far_off_teach_the_film_and_not_the_lesion():
  found = {}
  for shift in (0.0, 1e3):
    config = make_config(outline_shift=shift)
    params, _ = setup(config)
    # A film with outlines everywhere: at the start it is nearly flat.
    kernel = params["autoencoder"]["linear_decoder"]["place_kernel"]
    params["autoencoder"]["linear_decoder"]["place_kernel"] = jax.random.normal(KEY, kernel.shape)
    loss_fn = autoencoder.make_loss_fn(config)
    rebuilt = lambda p, fn=loss_fn: fn(p, {}, make_batch(), KEY, 0)[1]["reconstruction"]
    value, grad = jax.jit(jax.value_and_grad(rebuilt))(params)
    found[shift] = value, jax.tree.map(lambda g: np.abs(g).max(), grad["autoencoder"])
  (plain, of), (same, shifted) = found[0.0], found[1e3]
  np.testing.assert_allclose(plain, same, rtol=1e-5)
  film = lambda grads: grads["linear_decoder"]["place_kernel"]
  lesion = lambda grads: grads["lesion_decoder"]["conv_out"]["kernel"]
  np.testing.assert_allclose(film(shifted), film(of), rtol=1e-3)
  assert lesion(of) > 0 and lesion(shifted) < 0.05 * lesion(of)


def test_what_a_classifier_sees_counts_with_its_weight():
  config = make_config(perceptual=2.0)
  with config.unlocked():
    config.classifier.model.update(dict(block_out_channels=(4,), norm_num_groups=2))
  params, loss_fn = setup(config)
  reader = make_classifier(config.classifier.model, len(config.data.vocabulary))
  frozen = {"classifier": reader.init(KEY, make_batch()["image"])["params"]}
  loss, aux = loss_fn(params, frozen, make_batch(), KEY, 0)
  config.autoencoder.loss.perceptual = 6.0
  more, _ = jax.jit(autoencoder.make_loss_fn(config))(params, frozen, make_batch(), KEY, 0)
  assert aux["perceptual"] > 0
  np.testing.assert_allclose(more - loss, 4.0 * aux["perceptual"] / 256, rtol=2e-2)


def test_made_up_changes_are_laid_over_a_share_of_the_images():
  batch, flags = make_batch(), dict(max_shift=1.0)
  plain = autoencoder.make_group(batch, KEY, **flags)
  some = autoencoder.make_group(batch, KEY, **flags, anomalies=0.5)
  changed = np.abs(np.asarray(some.x - plain.x)).max((1, 2, 3)) > 0.05
  assert 0 < changed.sum() < len(changed)
  assert np.asarray(plain.findings.healthy).any()
  assert not np.asarray(some.findings.healthy)[changed].any()


def test_a_turned_lesion_teaches_the_pathology_alone():
  """Its film is given: nothing that makes a film learns from it, all that makes a lesion does."""
  config = make_config(findings=1.0)
  params, _ = setup(config)
  config.autoencoder.loss.mirror = 1.0
  loss_fn = autoencoder.make_loss_fn(config)
  grad = jax.jit(jax.grad(lambda p: loss_fn(p, {}, make_batch(), KEY, 10**4)[1]["mirror"]))(params)
  of = jax.tree.map(lambda g: float(jnp.abs(g).max()), grad["autoencoder"])
  assert of["decoder"]["conv_out"]["kernel"] == of["linear_decoder"]["place_kernel"] == 0
  assert of["linear_encoder"]["place_kernel"] == 0
  assert of["lesion_decoder"]["conv_out"]["kernel"] > 0
  assert np.abs(grad["findings_head"]["readout"]["status"]["kernel"]).max() > 0
  kernel = np.asarray(grad["autoencoder"]["encoder"]["conv_out"]["kernel"])
  of_slots = np.abs(kernel.reshape(-1, 2, 4, 4)).sum((0, 1, 3))
  assert np.all(of_slots[:3] == 0) and of_slots[3] > 0


def test_partners_have_equal_findings():
  status = np.array([[1, 0], [1, 0], [0, 1], [0, 0], [0, 0], [1, 0], [-1, 1], [-1, 1]])
  index, found = partner_with_equal_findings(KEY, make_findings(status))
  np.testing.assert_array_equal(found, [1, 1, 0, 0, 0, 1, 0, 0])
  index = np.asarray(index)
  assert set(index[[0, 1, 5]]) <= {0, 1, 5} and np.all(index[[0, 1, 5]] != [0, 1, 5])
  np.testing.assert_array_equal(index[[2, 3, 4, 6, 7]], [2, 3, 4, 6, 7])


def diffusion_batch(n=8):
  normal = lambda i, *shape: jax.random.normal(jax.random.fold_in(KEY, i), (n, *shape))
  return dict(findings=make_findings([[1, 0, 0, 0, 0]] * n),
              path_mean=normal(0, 4, 4, 4), path_logvar=normal(1, 4, 4, 4) - 3,
              mirror_mean=normal(4, 4, 4, 4), mirror_logvar=normal(5, 4, 4, 4) - 3,
              id_mean=normal(2, 4, 4, 3, 4), id_logvar=normal(3, 4, 4, 3, 4) - 3)


STATS = LatentStats(jnp.zeros(4), jnp.ones(4), jnp.zeros((3, 4)), jnp.ones((3, 4)),
                    jnp.full((4, 4, 4), 0.5))


def small_diffusion(*, randomised=False, **condition):
  """A configuration of a small denoiser and its parameters; randomised: none starts at zero."""
  c = base_config()
  with c.unlocked():
    c.diffusion.model.update(SMALL_UNET)
    c.diffusion.condition.update(condition)
  params = nn.unbox(jax.jit(lambda key: diffusion.init_params(c, (4, 4, 4, 4), key))(KEY))
  if randomised:
    leaves, tree = jax.tree.flatten(params)
    params = jax.tree.unflatten(tree, [0.2 * jax.random.normal(
        jax.random.fold_in(KEY, i), a.shape) for i, a in enumerate(leaves)])
  return c, params


def test_diffusion_depends_on_the_conditions_it_is_configured_with():
  batch = diffusion_batch()

  def sensitivity(**condition):
    c, params = small_diffusion(randomised=True, **condition)
    loss_fn = diffusion.make_loss_fn(c)
    loss = jax.jit(lambda b: loss_fn(params, {"stats": STATS}, b, KEY, 0)[0])
    grad = jax.jit(jax.grad(lambda z: loss(batch | {"id_mean": z})))(batch["id_mean"])
    other = batch | {"findings": make_findings([[0, 1, 0, 0, 0]] * 8)}
    return float(jnp.abs(grad).max()), float(jnp.abs(loss(other) - loss(batch)))

  identity, findings = sensitivity(dropout_findings=0.0, dropout_identity=0.0)
  assert identity > 0 and findings > 0
  identity, findings = sensitivity(dropout_findings=1.0, identity="none")
  assert identity == 0 and findings == 0


def test_a_share_of_the_studies_is_shown_turned_with_its_findings_on_the_other_side():
  c, params = small_diffusion(randomised=True)
  own = diffusion_batch()
  findings = own["findings"]
  other_side = findings.replace(side=2 * findings.side)
  already = own | {"findings": other_side,
                   "path_mean": own["mirror_mean"], "path_logvar": own["mirror_logvar"]}
  no_side = own | {"findings": findings.replace(side=0 * findings.side)}

  def losses(share):
    with c.unlocked():
      c.diffusion.mirror_share = share
    loss = jax.jit(lambda b: diffusion.make_loss_fn(c)(params, {"stats": STATS}, b, KEY, 0)[0])
    return {"own": loss(own), "already": loss(already), "no_side": loss(no_side)}

  never, always = losses(0.0), losses(1.0)
  assert never["own"] != always["own"] and never["no_side"] == always["no_side"]
  np.testing.assert_allclose(always["own"], never["already"], rtol=1e-6)


def test_the_target_is_the_mean_of_the_posterior_or_draws_of_it():
  c, params = small_diffusion()
  batch = diffusion_batch()

  def spread_matters(noise):
    with c.unlocked():
      c.diffusion.target_noise = noise
    loss_fn = diffusion.make_loss_fn(c)
    loss = jax.jit(lambda spread: loss_fn(
        params, {"stats": STATS}, batch | {"path_logvar": spread}, KEY, 0)[0])
    return float(loss(batch["path_logvar"])) != float(loss(batch["path_logvar"] + 1.0))

  assert spread_matters(1.0) and spread_matters(0.5) and not spread_matters(0.0)


def test_what_the_posterior_does_not_know_hardly_counts():
  c, params = small_diffusion()
  batch = diffusion_batch()
  known = jnp.zeros((4, 4, 4)).at[0].set(1.0)   # only the first row of places says anything
  stats = STATS.replace(path_information=known)

  def pull(config):
    """How much the first row of latents pulls at the loss, over what the other rows do."""
    loss_fn = diffusion.make_loss_fn(config)
    grad = jax.jit(jax.grad(lambda mean: loss_fn(
        params, {"stats": stats}, batch | {"path_mean": mean}, KEY, 0)[0]))(batch["path_mean"])
    rows = jnp.abs(grad).sum((0, 2, 3))
    return np.asarray(rows[0] / rows[1:].mean())

  weighed = pull(c)
  with c.unlocked():
    c.diffusion.weigh_information = False
  assert weighed > 2.5 * pull(c)


def test_the_classifier_loss_counts_known_findings_only():
  c = base_config()
  with c.unlocked():
    c.data.resolution = 16
    c.classifier.model.update(dict(block_out_channels=(8, 8), norm_num_groups=4, dropout=0.0))
    c.classifier.augment = False
  params = nn.unbox(classifier.init_params(c, "classifier", KEY))
  loss_fn = classifier.make_loss_fn(c, "classifier")
  image = jax.random.normal(KEY, (2, 16, 16, 1))
  at = lambda status: loss_fn(params, {}, {"image": image, "findings": make_findings(status)},
                              KEY, 0)[0]
  unknown = [[-1] * 5] * 2
  assert float(at(unknown)) == 0.0
  assert float(at([[0] * 5] * 2)) > 0.5
