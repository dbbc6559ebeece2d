"""`--suite full` on held-out radiographs: who is asked, who is the yardstick, what is left out."""

import dataclasses

import numpy as np
import pytest

from cdjax.core.config import base_config
from cdjax.core.types import FindingsArrays
from cdjax.data.source import Index
from cdjax.evaluate import privacy as privacy_module
from cdjax.evaluate.full_radiographs import full_radiographs
from cdjax.evaluate.privacy import half_of_patients, some_rows
from cdjax.evaluate.subject import Subject

SIZE, K = 16, 2


@dataclasses.dataclass
class Pictures:
  """What is asked of a `Split`, in memory: every patient has a face, every image its noise."""

  patients: int
  seed: int
  bits: int = 8
  vocabulary: tuple[str, ...] = ("nodule", "pleural_effusion")

  def __post_init__(self):
    rng = np.random.default_rng(self.seed)
    patient = np.repeat(np.arange(self.patients), 2)
    faces = rng.integers(30, 220, (self.patients, SIZE, SIZE))
    self.pixels = np.clip(faces[patient] + rng.integers(-8, 9, (len(patient), SIZE, SIZE)), 0, 255
                          ).astype(np.uint8)
    zeros = np.zeros((len(patient), K), np.int8)
    findings = FindingsArrays(zeros, np.full(zeros.shape, -1.0, np.float32), zeros, zeros)
    self.index = Index(patient, np.tile([0, 1], self.patients), np.zeros(len(patient), int),
                       findings)

  def __len__(self):
    return len(self.pixels)

  def images(self, rows):
    return self.pixels[rows]


def measure(held_out, train, **changes):
  config = base_config()
  config.evaluate.update(dict(interventions=64, composition_10=4, bootstrap=50, batch_size=16)
                         | changes)
  flat = lambda x: x.reshape(len(x), -1)
  unit = lambda x: flat(x) / np.linalg.norm(flat(x), axis=-1, keepdims=True)
  copying = Subject(counterfactual_fn=lambda key, x, findings, do: x, verifier_fn=unit,
                    features_fn=flat)
  return full_radiographs(copying, lambda x: np.full((len(x), K), 0.5), held_out, train, [0, 1],
                          config=config, seed=0)


def test_those_who_are_asked_do_not_pass_for_strangers_to_their_own_answers():
  # A copy of a held-out image says nothing about who was trained on.
  metrics, left_out = measure(Pictures(40, 1), Pictures(60, 2))
  for space in ("pixel", "verifier"):
    attack = metrics[f"privacy/{space}/membership_auc"]
    assert 0.35 < attack["value"] < 0.65 and attack["low"] < 0.5 < attack["high"]
    assert attack["n"] == 60 + 20
    assert metrics[f"privacy/{space}/nearest_held_out"]["n"] == 20
    assert metrics[f"privacy/{space}/nearest_synthetic"]["n"] == 20   # patients, of 40 answers
  assert metrics["privacy/compared"]["value"] == 120   # all of them, at this size
  assert metrics["identity/l1"]["n"] == 20
  # The copies are the factual images: real against real, which nothing tells apart.
  name = "coverage/cdjax-classifier/40/bilinear16"
  assert metrics[f"fidelity/{name}"] == metrics[f"ceiling/exact/fidelity/{name}"]
  assert left_out[0] == "fidelity/*/finding/nodule: 0 real and 20 synthetic images, fewer than 50"


def test_training_images_as_held_out_answers_are_found_out():
  train = Pictures(60, 2)
  held_out = Pictures(40, 1)
  half = half_of_patients(held_out.index.patient, seed=0)
  held_out.pixels[half] = train.pixels[:half.sum()]   # what is copied from there is a member's
  metrics, _ = measure(held_out, train)
  assert metrics["privacy/pixel/copies/q0.025"]["value"] == 1
  assert metrics["privacy/pixel/membership_auc"]["value"] > 0.55   # a third is given away


def test_a_patients_images_are_in_one_half():
  patient = np.array([4, 4, 7, 9, 9, 9, 2])
  for seed in range(10):
    half = half_of_patients(patient, seed=seed)
    asked, others = set(patient[half]), set(patient[~half])
    assert not asked & others and len(asked) == 2
  assert half_of_patients(patient[:2], seed=0).all()


def test_what_is_not_looked_at_is_said(monkeypatch):
  monkeypatch.setattr(privacy_module, "COMPARED", 20)
  metrics, left_out = measure(Pictures(4, 1), Pictures(30, 2), probe_images=20)
  assert metrics["privacy/compared"] == {"value": 20, "low": None, "high": None, "n": 60}
  assert left_out == ["fidelity/*: 4 images are asked, 4 are not; expected more than 5 each",
                      "privacy/*: compared with 20 random training images of 60"]
  rows = some_rows(60, 20, seed=0)
  assert len(set(rows)) == 20 and rows.max() > 30   # not the first ones
  assert some_rows(3, 20, seed=0).tolist() == [0, 1, 2]
  metrics, left_out = measure(Pictures(1, 1), Pictures(30, 2))
  assert [line.split(":")[0] for line in left_out] == [
      "identity/verifier_auc, /verified", "identity/features, /likeness, /verified", "fidelity/*",
      "privacy/*"]
  assert metrics["identity/l1"]["value"] == pytest.approx(0, abs=1e-6)
  assert not any(key.startswith("privacy/") for key in metrics)
