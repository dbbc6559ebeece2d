"""The verifier learns patients, not their findings or their exposure: its ROC on new ones."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cdjax.core.config import base_config
from cdjax.data.ensure import ensure_dataset
from cdjax.data.source import open_split
from cdjax.models.verifier import make_verifier
from cdjax.train.objectives import verifier
from cdjax.train.stages import run_verifier

SIZE = 32


def small(steps):
  c = base_config()
  c.data.resolution = SIZE
  c.data.phantom.patients, c.data.phantom.max_studies = 120, 3
  c.verifier.model.update(dict(block_out_channels=(8, 16), norm_num_groups=4, embedding=32))
  c.verifier.update(dict(num_train_steps=steps, batch_size=24, warmup_steps=5,
                         learning_rate=5e-3, log_every=20, ema_decay=0.9))
  return c


def found(embedding, patient):
  """Share of images whose nearest other image is of the same patient."""
  like = embedding @ embedding.T
  np.fill_diagonal(like, -2)
  return (patient[like.argmax(1)] == patient).mean()


def test_new_patients_are_told_apart(tmp_path):
  config = small(40)
  params = jax.device_get(run_verifier(config, tmp_path)["verifier"])
  split = open_split(ensure_dataset(config, tmp_path), "validation")
  x = split.images(np.arange(len(split)))[..., None] / np.float32(127.5) - 1
  model = make_verifier(config.verifier.model)
  embedding = np.asarray(jax.jit(model.apply)({"params": params}, x))
  np.testing.assert_allclose(np.linalg.norm(embedding, axis=-1), 1, rtol=1e-5)
  like = embedding @ embedding.T
  same = split.index.patient[:, None] == split.index.patient[None]
  pairs = np.triu(np.ones_like(same), 1)
  positive, negative = like[same & pairs], like[~same & pairs]
  assert positive.size >= 10
  auc = (positive[:, None] > negative[None, :]).mean()
  assert auc > 0.9
  fresh = model.init(jax.random.key(5), x[:1])
  before = np.asarray(jax.jit(model.apply)(nn.unbox(fresh), x))
  assert found(embedding, split.index.patient) > found(before, split.index.patient)


def batch_of(images, mates, patient, true):
  return {"image": jnp.asarray(images), "mate_image": jnp.asarray(mates),
          "patient": np.asarray(patient), "is_true_mate": np.asarray(true)}


def test_rows_without_another_study_and_the_own_patient_count_as_they_should():
  config = small(1)
  config.verifier.augment = False
  rng = np.random.default_rng(0)
  x, y = rng.uniform(-1, 1, (2, 4, SIZE, SIZE, 1)).astype(np.float32)
  key = jax.random.key(0)
  params = jax.jit(lambda: nn.unbox(verifier.init_params(config, key)))()
  loss = jax.jit(lambda batch: verifier.make_loss_fn(config)(params, {}, batch, key, 0)[0])
  whole = loss(batch_of(x, y, [0, 1, 2, 3], [True] * 4))
  # Two anchors of one patient: their mates are no strangers to each other, so it gets easier.
  assert loss(batch_of(x, y, [0, 0, 2, 3], [True] * 4)) < whole
  # A row without another study is its own mate: it counts as a stranger only.
  alone = np.concatenate([y[:3], x[3:]])
  left = loss(batch_of(x, alone, [0, 1, 2, 3], [True, True, True, False]))
  assert left != loss(batch_of(x, alone, [0, 1, 2, 3], [True] * 4))
  assert np.isfinite(loss(batch_of(x, x, [0, 1, 2, 3], [False] * 4)))
  assert loss(batch_of(x, x, [0, 1, 2, 3], [True] * 4)) < whole   # mates that are the anchors


def test_without_several_studies_there_is_nothing_to_learn(tmp_path):
  config = small(1)
  config.data.phantom.max_studies, config.data.phantom.patients = 1, 8
  with pytest.raises(ValueError, match="no training patient has several studies"):
    run_verifier(config, tmp_path)
