"""Utility end to end: what images say about a finding is what a classifier learns from them."""

import csv
import dataclasses

import numpy as np
import pytest
from PIL import Image

from cdjax.core.config import base_config
from cdjax.core.types import FindingsArrays
from cdjax.data.folder import open_folder
from cdjax.evaluate import folder_utility as folder_utility_module
from cdjax.evaluate import utility as utility_module
from cdjax.evaluate.folder_utility import folder_utility, load_labelled
from cdjax.evaluate.utility import REGIMES, Labelled, utility

SIZE = 16


def write_set(root, total, *, seed, truthful=True, split=""):
  """A nodule is a bright square; an effusion darkens the bottom. Labels say so, or the contrary."""
  rng = np.random.default_rng(seed)
  root.mkdir()
  with (root / "list.csv").open("w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(("image", "patient_id", "findings", "split"))
    for i in range(total):
      image = rng.uniform(90, 130, (SIZE, SIZE))
      nodule, effusion = rng.random(2) < 0.5
      if nodule:
        top, left = rng.integers(0, SIZE - 6, 2)
        image[top:top + 6, left:left + 6] += 110
      if effusion:
        image[-5:] -= 80
      Image.fromarray(image.astype(np.uint8)).save(root / f"{i}.png")
      names = [name for name, there in (("Nodule", nodule), ("Effusion", effusion))
               if there == truthful]
      writer.writerow((f"{i}.png", f"{root.name}{i // 2}", "|".join(names) or "No Finding", split))
  return root


def tiny():
  c = base_config()
  c.data.resolution = SIZE
  c.classifier.model.update(dict(block_out_channels=(8,), norm_num_groups=4, dropout=0.0))
  c.classifier.update(dict(num_train_steps=40, batch_size=32, warmup_steps=5, learning_rate=1e-2,
                           ema_decay=0.8, augment=False, log_every=30))
  return c


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
  root = tmp_path_factory.mktemp("utility")
  real = write_set(root / "real", 100, seed=0)
  lying = write_set(root / "synthetic", 80, seed=1, truthful=False)
  (real / "7.png").write_bytes(b"")
  folders = [open_folder(path, path / "list.csv") for path in (real, lying)]
  return folder_utility(tiny(), *folders, root / "run", fit="crop", seed=3)


def test_images_that_lie_teach_the_contrary_and_real_ones_put_it_right(measured):
  metrics, left_out = measured
  value = lambda regime: metrics[f"utility/{regime}/balanced_accuracy/macro"]["value"]
  assert value("real") > 0.9 and value("synthetic") < 0.1
  assert value("synthetic") < value("both") < value("real")
  assert value("synthetic_then_real") > 0.8
  assert any(line.startswith("utility/") and "7.png: the file has 0 bytes" in line
             for line in left_out)


def test_every_regime_has_its_tiers_and_patients(measured):
  metrics, _ = measured
  for regime in REGIMES:
    for key in ("average_precision/macro", "average_precision/tail", "balanced_accuracy/nodule",
                "auroc/pleural_effusion"):
      entry = metrics[f"utility/{regime}/{key}"]
      assert entry["low"] <= entry["value"] <= entry["high"]
      assert entry["n"] == 15   # 30 % of 50 patients
    # Fewer than 100 images show either finding: all is tail.
    assert f"utility/{regime}/balanced_accuracy/head" not in metrics


def arrays(n, patient):
  zeros = np.zeros((n, 2), np.int8)
  return Labelled(np.zeros((n, SIZE, SIZE), np.uint8),
                  FindingsArrays(zeros, np.full((n, 2), -1.0, np.float32), zeros, zeros),
                  np.array(patient))


def test_a_patient_in_training_and_test_is_refused(tmp_path):
  with pytest.raises(ValueError, match=r"1 patients are in training and in test: \['b'\]"):
    utility(tiny(), arrays(2, ["a", "b"]), arrays(1, ["c"]), arrays(2, ["b", "d"]), tmp_path)
  with pytest.raises(ValueError, match=r"1 patients are in training and in test: \['d'\]"):
    utility(tiny(), arrays(2, ["a", "b"]), arrays(1, ["d"]), arrays(2, ["c", "d"]), tmp_path)


def test_each_classifier_has_a_place_of_its_own(tmp_path, monkeypatch):
  """Nothing that was trained before is taken for what other images or settings would train."""
  def fake_stage(*, name, workdir, stage_config, **_):
    places[name] = workdir / name, stage_config.init_from
    return {"classifier": None}

  monkeypatch.setattr(utility_module, "train_stage", fake_stage)
  monkeypatch.setattr(utility_module, "probabilities",
                      lambda config, params, pixels: np.full((len(pixels), 2), 0.5))

  def trained(config, real, synthetic):
    nonlocal places
    places = {}
    utility(config, real, synthetic, arrays(2, ["y", "z"]), tmp_path, resamples=9)
    return places

  config, other_seed = tiny(), tiny()
  config.data.vocabulary = other_seed.data.vocabulary = ("nodule", "pleural_effusion")
  other_seed.seed += 1
  real, synthetic = arrays(4, list("abcd")), arrays(3, list("efg"))
  sided = dataclasses.replace(synthetic, findings=synthetic.findings.replace(
      side=synthetic.findings.side + 1))
  places = {}
  plain = trained(config, real, synthetic)
  assert plain == trained(config, real, synthetic) and len({str(p) for p, _ in plain.values()}) == 4
  assert plain["synthetic_then_real"][1] == str(plain["synthetic"][0].resolve())
  other = trained(config, real, sided)
  changed = {name for name in plain if other[name] != plain[name]}
  assert changed == {"synthetic", "both", "synthetic_then_real"}
  other = trained(other_seed, real, synthetic)
  assert not {p for p, _ in plain.values()} & {p for p, _ in other.values()}


def test_images_made_from_test_patients_are_left_out(tmp_path, monkeypatch):
  root = write_set(tmp_path / "real", 40, seed=0)
  folder = open_folder(root, root / "list.csv")
  trained_on = {}

  def keep(config, real, synthetic, test, *args, **options):
    trained_on.update(real=real, synthetic=synthetic, test=test)
    return {}

  monkeypatch.setattr(folder_utility_module, "utility", keep)
  # The same patients' images as synthetic ones, as a generator's manifest names them.
  _, left_out = folder_utility(tiny(), folder, folder, tmp_path / "run", fit="crop", seed=3)
  tested = set(trained_on["test"].patient)
  assert len(tested) == 6 and not tested & set(trained_on["synthetic"].patient)
  assert len(trained_on["synthetic"]) == 28
  assert "utility/synthetic: 12 images of patients of the test" in left_out
  only_tested = open_folder(root, root / "list.csv")
  only_tested = dataclasses.replace(only_tested, rows=tuple(
      row for row in folder.rows if row.patient_id in tested))
  with pytest.raises(ValueError, match="every synthetic image is of a patient of the test"):
    folder_utility(tiny(), folder, only_tested, tmp_path / "run", fit="crop", seed=3)


def test_without_a_manifest_or_labels_it_says_so(tmp_path):
  root = write_set(tmp_path / "real", 4, seed=0)
  folder = open_folder(root, root / "list.csv")
  with pytest.raises(ValueError, match="give --real-manifest"):
    folder_utility(tiny(), folder, open_folder(root), tmp_path / "run", fit="crop", seed=0)
  (root / "list.csv").write_text("image,patient_id,findings\n0.png,a,\n1.png,b,\n2.png,c,Edema\n")
  folder = open_folder(root, root / "list.csv")
  unlabelled = dataclasses.replace(folder, rows=folder.rows[:2])
  with pytest.raises(ValueError, match="utility/synthetic: no labelled image is left to use; 2"):
    folder_utility(tiny(), dataclasses.replace(folder, rows=(
        *folder.rows[2:], dataclasses.replace(folder.rows[2], patient_id="d"))), unlabelled,
                   tmp_path / "run", fit="crop", seed=0)
  with pytest.raises(ValueError, match="no labelled image is left to use; 2 images without"):
    load_labelled(folder, folder.rows[:2], ["pulmonary_edema"], resolution=SIZE, fit="crop",
                  on_images=lambda count: None)


def test_what_the_manifest_splits_stays_split(tmp_path):
  root = write_set(tmp_path / "real", 10, seed=0, split="train")
  folder = open_folder(root, root / "list.csv")
  with pytest.raises(ValueError, match="no labelled image is left"):   # nobody is held out
    folder_utility(tiny(), folder, folder, tmp_path / "run", fit="crop", seed=0)
