"""`--suite full` on the phantom: a subject that copies, and one that hands out training images."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import SIZE, VOCABULARY

from cdjax.core.config import base_config
from cdjax.evaluate import runner
from cdjax.evaluate.phases import TrainStudies
from cdjax.evaluate.population import new_studies
from cdjax.evaluate.runner import evaluate_phantom
from cdjax.evaluate.subject import Subject
from cdjax.evaluate.table import format_table


@pytest.fixture(scope="module")
def config():
  c = base_config()
  c.data.resolution, c.data.vocabulary = SIZE, VOCABULARY
  c.evaluate.update(dict(interventions=16, composition=4, composition_10=4, probe_images=40,
                         bootstrap=20, batch_size=8))
  return c


@pytest.fixture(scope="module")
def train_studies():
  x, findings = new_studies(jax.random.key(9), 40, studies=1, healthy_share=0.3,
                            vocabulary=VOCABULARY, size=SIZE)
  return TrainStudies(image=2 * x.reshape(40, SIZE, SIZE, 1) - 1,
                      findings=jax.tree.map(lambda leaf: leaf[:, 0], findings),
                      patient=np.arange(40))


def verifier(x):
  """A blurred image without its mean: anatomy shows through, exposure does not."""
  rows = x.reshape(len(x), 8, SIZE // 8, 8, SIZE // 8).mean((2, 4)).reshape(len(x), -1)
  rows = rows - rows.mean(-1, keepdims=True)
  return rows / jnp.linalg.norm(rows, axis=-1, keepdims=True)


def subject(counterfactual_fn):
  return Subject(
      counterfactual_fn=counterfactual_fn, verifier_fn=verifier,
      features_fn=lambda x: x.reshape(len(x), -1),
      judge_fn=lambda x: {"finding": np.full((len(x), len(VOCABULARY)), 0.9)})


@pytest.fixture
def only_full(monkeypatch):
  monkeypatch.setattr(runner, "PHASES", {})


def copy(key, x, findings, do_findings):
  return x


def test_a_copy_keeps_the_patient_and_reaches_nothing(config, train_studies, only_full, tmp_path):
  metrics = evaluate_phantom(
      subject(copy), config=config, seed=3, train_studies=train_studies, workdir=tmp_path,
      suite="full", verifier="a")
  value = lambda key: metrics[key]["value"]
  for key in ("identity/l1", "identity/features", "axioms/composition/l1_10",
              "axioms/reversibility/l1_10", "axioms/minimality/l1", "axioms/prediction_gain"):
    assert value(key) == pytest.approx(0, abs=1e-6), key
  assert value("identity/ssim") == pytest.approx(1, abs=1e-5)
  assert value("identity/verified") == 1 > value("identity/stranger_verified")
  assert value("identity/likeness") == pytest.approx(1, abs=1e-5)
  assert 0.7 < value("identity/verifier_auc") <= 1
  assert 0 < value("ceiling/exact/identity/l1") < 0.2
  assert value("ceiling/exact/identity/features") > 0
  # A judge to whom everything is the same tells nothing of nothing.
  for metric in ("auroc", "balanced_accuracy"):
    assert value(f"pathology/{metric}/macro") == value(
        f"ceiling/exact/pathology/{metric}/macro") == pytest.approx(0.5)
  assert metrics["pathology/f1/cardiomegaly"]["n"] == 16
  # The judge sees everything everywhere: right where a finding is asked for, wrong elsewhere.
  assert value("axioms/effectiveness/changed") == value("axioms/effectiveness/copy")
  # Its answers are new patients, as far from the training images as other new patients are.
  for space in ("pixel", "verifier"):
    assert value(f"privacy/{space}/copies/q0.025") < 0.3
    assert value(f"privacy/{space}/nearest_synthetic") > 0
  assert "privacy/latent/membership_auc" not in metrics   # the subject has no encoder
  table = format_table(metrics)
  assert "identity/verified" in table and "privacy/pixel/membership_auc" in table

  def fail(*args):
    raise RuntimeError("asked")

  silent = dataclasses.replace(subject(fail), verifier_fn=fail, features_fn=fail, judge_fn=fail)
  again = lambda **kwargs: evaluate_phantom(
      silent, config=config, seed=3, train_studies=train_studies, workdir=tmp_path, suite="full",
      **kwargs)
  assert again(verifier="a") == metrics             # all of it is kept
  with pytest.raises(RuntimeError, match="asked"):
    again(verifier="b")                             # another verifier is another measurement


def test_training_images_as_answers_are_found_out(config, train_studies, only_full):
  images = jnp.asarray(train_studies.image)

  def memorised(key, x, findings, do_findings):
    return images[jax.random.randint(key, (len(x),), 0, 8)]   # eight of the forty, again and again

  metrics = evaluate_phantom(subject(memorised), config=config, seed=3,
                             train_studies=train_studies, suite="full")
  value = lambda key: metrics[key]["value"]
  assert value("privacy/pixel/copies/q0.025") == 1
  assert value("privacy/pixel/nearest_synthetic") < 1e-3 < value("privacy/pixel/nearest_held_out")
  assert value("privacy/pixel/membership_auc") > 0.55   # a fifth of the members is given away
  assert value("identity/verified") < 0.5
  # Eight faces for sixteen patients: each looks real, and they do not cover the others.
  name = "cdjax-classifier/16/bilinear32"
  for measure in ("recall", "coverage"):
    assert value(f"fidelity/{measure}/{name}") < value(f"ceiling/exact/fidelity/{measure}/{name}")
  assert value("fidelity/ms_ssim/120") > value("ceiling/exact/fidelity/ms_ssim/120") + 0.03


def test_copies_are_looked_for_among_all_training_images(config, train_studies, only_full):
  """Answers copied from where the probes do not look: they are training images all the same."""
  images = jnp.asarray(train_studies.image)
  first = jax.tree.map(lambda leaf: np.asarray(leaf)[:20], train_studies)

  def memorised(key, x, findings, do_findings):
    return images[20 + jax.random.randint(key, (len(x),), 0, 20)]

  run = lambda **how: evaluate_phantom(subject(memorised), config=config, seed=3,
                                       train_studies=first, suite="full", **how)
  key = "privacy/pixel/copies/q0.025"
  assert run(train_total=40)["left_out"][-1] == (
      "privacy/*: compared with 20 random training images of 40")
  metrics = run(compared=train_studies, train_total=40, train_counts=[2000, 150, 10])
  assert metrics[key]["value"] == 1 and not any("privacy" in line for line in metrics["left_out"])


def test_null_interventions_are_asked_for_once(config, train_studies, monkeypatch):
  monkeypatch.setattr(runner, "PHASES", {"composition": runner.PHASES["composition"]})
  asked = []

  def null(key, x, findings, residual):
    asked.append(residual)
    return 0.9 * x

  def fading(key, x, findings, do_findings):
    return 0.5 * x

  metrics = evaluate_phantom(
      dataclasses.replace(subject(fading), null_fn=null), config=config, seed=3,
      train_studies=train_studies, suite="full")
  assert asked == [True] * 10 + [False]
  for times in ("", "_10"):   # of the same four questions
    ours = metrics[f"axioms/composition/l1{times or '_1'}"]
    assert ours["value"] == metrics[f"composition/l1{times}"]["value"] > 0
    assert ours["n"] == 4
  assert metrics["axioms/composition/l1_10"]["value"] > 3 * metrics["composition/l1"]["value"]


def test_quick_asks_for_none_of_it(config, train_studies, monkeypatch):
  monkeypatch.setattr(runner, "PHASES", {"healthy": runner.PHASES["healthy"]})
  metrics = evaluate_phantom(subject(copy), config=config, seed=3, train_studies=train_studies)
  assert not any(key.split("/")[0] in ("fidelity", "identity", "pathology", "axioms", "privacy")
                 for key in metrics)
