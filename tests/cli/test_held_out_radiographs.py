"""Measuring on held-out radiographs, with a tiny model and a prepared folder of images."""

import csv
import dataclasses
import json

import numpy as np
from PIL import Image

from cdjax.cli import main
from cdjax.evaluate import radiographs
from cdjax.evaluate.answering import Answering
from cdjax.evaluate.trained import load_trained


def test_a_run_is_measured_on_its_held_out_patients(tiny_workdir, tmp_path, monkeypatch):
  trained = load_trained(tiny_workdir)
  rng = np.random.default_rng(0)
  with (tmp_path / "list.csv").open("w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(("image", "patient_id", "findings", "split"))
    for i in range(14):
      Image.fromarray(rng.integers(0, 256, (40, 40), np.uint8)).save(tmp_path / f"{i}.png")
      writer.writerow((f"{i}.png", f"p{i // 2}", ("No Finding", "Nodule", "Effusion")[i % 3],
                       "train" if i < 6 else "test"))
  assert main.main(["prepare", "--images", str(tmp_path), "--manifest", str(tmp_path / "list.csv"),
                    "--output", str(tmp_path / "data"), "--resolution", "32", "--workers", "0",
                    "--vocabulary", ",".join(trained.vocabulary)]) == 0
  config = trained.config.copy_and_resolve_references()
  config.data.source, config.data.path = "prepared", str(tmp_path / "data")
  (tmp_path / "run").mkdir()
  monkeypatch.setattr(radiographs, "MIN_POSITIVES", 2)
  metrics = radiographs.evaluate_radiographs(
      dataclasses.replace(trained, config=config), tmp_path / "run", seed=1, suite="full")
  assert json.loads((tmp_path / "run" / "metrics-seed1.json").read_text()).keys() == metrics.keys()
  assert metrics["split"] == "test" and metrics["autoencoder/psnr"]["n"] == 4   # patients
  for name in ("nodule", "pleural_effusion"):
    for metric in ("auroc", "average_precision", "balanced_accuracy", "f1", "calibration_error"):
      entry = metrics[f"classifier/{metric}/{name}"]
      assert 0 <= entry["value"] <= 1 and entry["n"] == 4
      assert 0 <= metrics[f"pathology/{metric}/{name}"]["value"] <= 1
    assert abs(metrics[f"counterfactual/{name}/asked"]["value"]) <= 1
    assert abs(metrics[f"counterfactual/{name}/others"]["value"]) <= 1
    assert -1 <= metrics[f"counterfactual/{name}/ssim_outside_lungs"]["value"] <= 1
    assert abs(metrics[f"healthy/{name}/removed"]["value"]) <= 1
  assert "counterfactual/pneumothorax/asked" not in metrics   # nobody has it
  # The two images of a patient have no study, so that each is one: the verifier has its pairs.
  assert 0 <= metrics["identity/verifier_auc"]["value"] <= 1
  left_out = [line.split(":")[0] for line in metrics["left_out"]]
  assert left_out == [f"classifier/*/{name}" for name in trained.vocabulary
                      if name not in ("nodule", "pleural_effusion")] + ["fidelity/*"]
  assert metrics["identity/verifier_auc"]["n"] == 4 and metrics["identity/l1"]["n"] == 2
  assert metrics["identity/l1"]["value"] > 0
  assert 0 <= metrics["axioms/effectiveness/changed"]["value"] <= 1
  for space in ("pixel", "latent", "verifier"):
    assert 0 <= metrics[f"privacy/{space}/membership_auc"]["value"] <= 1
  assert (tmp_path / "run" / "verifier" / "done.json").exists()

  # Killed, it goes on: what is kept is not asked again, what is missing is measured the same.
  parts = tmp_path / "run" / "evaluate-seed1"
  (parts / "radiographs-nodule.json").unlink()
  asked, answers = [], Answering.counterfactual

  def counted(self, key, x, *findings):
    asked.append(len(x))
    return answers(self, key, x, *findings)

  monkeypatch.setattr(Answering, "counterfactual", counted)
  again = radiographs.evaluate_radiographs(
      dataclasses.replace(trained, config=config), tmp_path / "run", seed=1, suite="full")
  assert again == json.loads((tmp_path / "run" / "metrics-seed1.json").read_text()) == metrics
  assert len(asked) == 2 and sum(asked) == 8   # the nodule alone: asked for, and taken away
