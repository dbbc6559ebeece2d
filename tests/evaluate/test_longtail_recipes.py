"""What the long-tail benchmark's classifiers see: filled up, without copies, packed small."""

import json
import types

import jax
import numpy as np
import pytest

from cdjax.core.config import load_config
from cdjax.core.types import PRESENT
from cdjax.evaluate.drawn_findings import no_findings
from cdjax.evaluate.longtail_measures import only_finding
from cdjax.evaluate.longtail_methods import RECIPES, WITHOUT_SYNTHETIC, recipe_config
from cdjax.evaluate.longtail_recipes import (
    as_labelled,
    before_real,
    fill_up,
    make_test_set,
    pack,
    unpack,
)
from cdjax.evaluate.utility import Labelled

SIZE = 8


class Stub:
  """A generator of four images a batch, of which some are copies."""

  batch_size, threshold, threshold_of = 4, 1.5, "300 new cases of the finding"

  def __init__(self, copied):
    self.copied = np.array(copied)

  def batch(self, index):
    images = np.full((4, SIZE, SIZE), index / 100)
    return types.SimpleNamespace(images=images, copied=self.copied, findings=only_finding(1, 4, 3))


def test_packed_probabilities_come_back_from_json():
  array = np.random.default_rng(0).random((1280, 10)).astype(np.float16)
  text = json.dumps(pack(array))
  assert np.array_equal(unpack(json.loads(text)), array) and len(text) < 40_000


def test_findings_are_filled_up_without_copies_which_are_counted():
  made = fill_up(Stub([True, False, False, True]), "nodule", 5)
  assert len(made["pixels"]) == 5 and made["pixels"].dtype == np.uint8
  assert made["pixels"][:, 0, 0].tolist() == [0, 0, 3, 3, 5]   # of three batches
  assert made["tried"] == 12 and made["copies"] == 6 and made["threshold"] == 1.5
  both = as_labelled([made, made])
  assert len(both) == 10 and (both.findings.status[:, 1] == PRESENT).all()


def test_too_many_copies_are_an_error_that_says_how_many():
  with pytest.raises(ValueError, match=r"nodule: 76 of 76 .* 1\.5, from 300 new .* 0 of the 3 "):
    fill_up(Stub([True] * 4), "nodule", 3)


def labelled(findings):
  n = len(findings.status)
  return Labelled(np.zeros((n, SIZE, SIZE), np.uint8), findings, np.arange(n).astype(str))


def test_before_the_real_images_every_finding_and_healthy_patients_are_seen():
  join = lambda *parts: jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
  real = labelled(join(no_findings(30, 3), only_finding(0, 60, 3), only_finding(1, 10, 3)))
  synthetic = labelled(join(only_finding(1, 10, 3), only_finding(2, 20, 3)))
  seen = before_real(synthetic, real, [0], fill=20, seed=0)
  shown = (seen.findings.status == PRESENT).sum(0)
  assert shown.tolist() == [20, 10, 20]   # the real images of the tail come afterwards
  assert seen.findings.healthy.sum() == round(50 * 0.3 / 0.7)
  again = before_real(synthetic, real, [0], fill=20, seed=0)
  assert again.fingerprint == seen.fingerprint


def test_recipes_change_the_classifier_only():
  config = load_config("configs/longtail.py")
  tuned = recipe_config(config, RECIPES["pretrained"], 2)
  assert tuned.seed == 2
  assert np.isclose(tuned.classifier.learning_rate, config.classifier.learning_rate / 3)
  assert tuned.classifier.class_sampling == "inverse_sqrt"
  assert tuned.classifier.class_balanced_loss == "effective_number"
  assert tuned.diffusion.to_dict() == config.diffusion.to_dict()
  assert WITHOUT_SYNTHETIC == ("real", "resampled", "balanced_loss", "resampled_balanced")
  assert "with_mixed_starts" not in RECIPES and "with_cbdm_resampled_balanced" in RECIPES


def test_some_test_patients_have_several_findings():
  config = load_config("configs/longtail.py:tiny")
  config.longtail.test_images = 256
  images, findings = make_test_set(config)
  several = (findings.status == PRESENT).sum(1) > 1
  assert images.shape == (256, 32, 32) and images.dtype == np.uint8
  assert 0.02 < several.mean() < 0.2
