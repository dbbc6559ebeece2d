"""The switches for rare findings: what each does, and that by default none does anything."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cdjax.core.config import base_config
from cdjax.core.types import FindingsArrays
from cdjax.counterfactual.scales import findings_guidance
from cdjax.data.arrays import ArrayBatches
from cdjax.diffusion.weighting import class_balancing
from cdjax.models.denoiser import LatentStats
from cdjax.train.objectives import classifier, diffusion
from cdjax.train.record import check_resumable, make_record
from cdjax.train.stages import balanced_loss, class_sampling

KEY = jax.random.key(3)


def make_findings(status):
  status = np.asarray(status, np.int8)
  unsaid = np.zeros_like(status)
  return FindingsArrays(status, np.full(status.shape, -1.0, np.float32), unsaid, unsaid)


def test_sampling_and_loss_are_off_by_default_and_follow_their_switches():
  status = np.array([[1, 0]] + [[0, 1]] * 9)
  c = base_config()
  for stage in ("autoencoder", "diffusion", "classifier"):
    assert class_sampling(c[stage], status) is None
  assert balanced_loss(c.classifier, status) == {}
  c.diffusion.class_sampling = c.classifier.class_balanced_loss = "inverse_sqrt"
  np.testing.assert_allclose(class_sampling(c.diffusion, status), [1.0] + [1 / 3] * 9)
  np.testing.assert_allclose(balanced_loss(c.classifier, status)["positive_weights"], [3, 1 / 3])


def test_weights_decide_how_often_an_array_row_comes():
  rows = lambda **options: np.concatenate([next(batches)["i"] for batches in [ArrayBatches(
      lambda: {"i": np.arange(10)}, batch_size=10, seed=0, **options)] for _ in range(50)])
  assert (np.bincount(rows()) == 50).all()
  weighed = np.bincount(rows(weights=np.array([5.0] + [1.0] * 9)))
  np.testing.assert_allclose(weighed, [500 * 5 / 14] + [500 / 14] * 9, rtol=0.25)


def test_the_regulariser_moves_each_prediction_by_its_own_weight():
  output, other = jnp.ones((2, 3)), jnp.zeros((2, 3))
  t = jnp.array([50, 100])
  term = lambda output, other: class_balancing(output, other, t, num_timesteps=100,
                                               commitment=0.25)
  np.testing.assert_allclose(term(output, other), [0.5 * 1.25, 1.25])
  own, others = jax.grad(lambda *a: term(*a).sum(), argnums=(0, 1))(output, other)
  np.testing.assert_allclose(own[:, 0], [0.5 * 2 / 3, 2 / 3], rtol=1e-6)
  np.testing.assert_allclose(others, -0.25 * own, rtol=1e-6)


@pytest.mark.slow
def test_class_balancing_adds_its_term_and_nothing_else(monkeypatch):
  c = base_config()
  with c.unlocked():
    c.diffusion.model.update(dict(block_out_channels=(8,), attention_blocks=(True,),
                                  norm_num_groups=4, attention_heads=2, context_width=8))
  normal = lambda i, *shape: jax.random.normal(jax.random.fold_in(KEY, i), (8, *shape))
  batch = dict(findings=make_findings([[1, 0, 0, 0, 0]] * 8), path_mean=normal(0, 4, 4, 4),
               path_logvar=normal(1, 4, 4, 4), mirror_mean=normal(4, 4, 4, 4),
               mirror_logvar=normal(5, 4, 4, 4), id_mean=normal(2, 4, 4, 3, 4),
               id_logvar=normal(3, 4, 4, 3, 4))
  frozen = {"stats": LatentStats(jnp.zeros(4), jnp.ones(4), jnp.zeros((3, 4)), jnp.ones((3, 4)),
                                 jnp.full((4, 4, 4), 0.5))}
  params = nn.unbox(jax.jit(lambda key: diffusion.init_params(c, (4, 4, 4, 4), key))(KEY))
  params = jax.tree.map(lambda a: a + 0.1, params)

  def measured(weight):
    with c.unlocked():
      c.diffusion.cbdm.weight = weight
    return jax.jit(diffusion.make_loss_fn(c))(params, frozen, batch, KEY, 0)

  plain, aux = measured(0.0)
  weighed, more = measured(2.0)
  assert set(more) - set(aux) == {"loss/class_balancing"} and more["loss/class_balancing"] > 0
  np.testing.assert_allclose(weighed, plain + 2.0 * more["loss/class_balancing"], rtol=1e-5)

  # Where z_t is all noise every prediction of the noise is z_t: no class differs from another.
  monkeypatch.setattr(diffusion, "sample_timesteps", lambda key, n, total: jnp.full(n, total - 1))
  assert measured(2.0)[1]["loss/class_balancing"] < 1e-8


def test_the_other_finding_is_any_one_alike():
  drawn = diffusion.any_finding(KEY, 500, 5)
  assert (drawn.status.sum(1) == 1).all() and drawn.status.sum(0).min() > 60


def test_a_balanced_loss_counts_presence_more():
  c = base_config()
  with c.unlocked():
    c.data.resolution = 16
    c.classifier.model.update(dict(block_out_channels=(8,), norm_num_groups=4, dropout=0.0))
    c.classifier.augment = False
  params = nn.unbox(classifier.init_params(c, "classifier", KEY))
  loss_fn = classifier.make_loss_fn(c, "classifier")
  at = lambda status, frozen: float(loss_fn(
      params, frozen, {"image": jnp.zeros((1, 16, 16, 1)), "findings": make_findings([status])},
      KEY, 0)[1]["findings"])
  weights = {"positive_weights": jnp.array([3.0, 1, 1, 1, 1])}
  absent, present = [0, -1, -1, -1, -1], [1, -1, -1, -1, -1]
  assert at(absent, weights) == at(absent, {})
  assert at(present, weights) == pytest.approx(3 * at(present, {}))


def test_each_finding_may_have_its_guidance():
  cfg = base_config().counterfactual
  asked = make_findings([[1, 0, 0], [1, 1, 0], [0, 0, 0]])
  assert findings_guidance(cfg, asked) == cfg.guidance_findings
  cfg.guidance_by_finding = (1.5, 4.0, 1.0)
  np.testing.assert_allclose(findings_guidance(cfg, asked), [1.5, 4.0, cfg.guidance_findings])
  cfg.guidance_by_finding = (1.5, 4.0)
  with pytest.raises(ValueError, match="a scale for each of 3 findings"):
    findings_guidance(cfg, asked)


def test_a_run_that_was_begun_before_a_switch_existed_goes_on(tmp_path):
  c = base_config()
  record = lambda: make_record("diffusion", c, c.diffusion, "data", {})
  old = record()
  for key in ("class_sampling", "class_beta", "cbdm"):
    del old["stage"][key]
  check_resumable(old, record(), tmp_path)
  c.diffusion.class_sampling = "inverse_sqrt"
  with pytest.raises(ValueError, match=r"diffusion\.class_sampling: 'none' → 'inverse_sqrt'"):
    check_resumable(old, record(), tmp_path)
