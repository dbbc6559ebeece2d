"""`cdjax ablate` with trainings that only count: what is shared, resumed and written."""

import dataclasses
import json

import pytest

from cdjax.cli import main
from cdjax.core.config import load_rows

CONFIG = "configs/ablations.py"


@pytest.fixture
def trained(monkeypatch):
  """The folders that stand-ins of the stages trained in, and a metric that tells them apart."""
  folders = []

  def stage(name):
    def run(config, workdir):
      done = workdir / name / "done.json"
      if not done.exists():
        folders.append(done.parent.resolve().name)
        done.write_text(json.dumps(config.seed))
    return run

  def evaluate(trained, workdir, *, seed):
    diffusion = (workdir / "diffusion").resolve().name
    value = 20.0 + json.loads((workdir / "diffusion" / "done.json").read_text())
    assert seed == 1 and diffusion.startswith("diffusion-")
    return {"autoencoder/psnr": {"value": value, "low": None, "high": None, "n": 1}}

  @dataclasses.dataclass
  class Trained:
    config: object = None

  monkeypatch.setattr("cdjax.train.stages.STAGES",
                      {name: stage(name) for name in ("judge", "autoencoder", "diffusion")})
  monkeypatch.setattr("cdjax.evaluate.trained.load_trained", lambda folder: Trained())
  monkeypatch.setattr("cdjax.evaluate.workdir.evaluate_workdir", evaluate)
  return folders


def ablate(tmp_path, *args, config=CONFIG):
  return main.main(["ablate", "--config", config, "--workdir", str(tmp_path), *args])


def test_rows_share_what_their_switch_does_not_touch(tmp_path, trained):
  rows = "full,residual_none,class_only,no_null_anchor"
  assert ablate(tmp_path, "--only", rows, "--seeds", "1") == 0
  stages = [name.split("-")[0] for name in trained]
  # One judge; the first two rows are one training, the third has its own diffusion only.
  assert {stage: stages.count(stage) for stage in set(stages)} == {
      "judge": 1, "autoencoder": 2, "diffusion": 3}
  assert ablate(tmp_path, "--only", rows, "--seeds", "1") == 0 and len(trained) == len(stages)


def test_one_judge_for_what_is_told_and_what_is_read(tmp_path, trained):
  assert ablate(tmp_path, "--only", "labels,findings,report", "--seeds", "1",
                config="configs/steering.py") == 0
  stages = [name.split("-")[0] for name in trained]
  # Reports are other data, and what is learnt from them is another model.
  assert {stage: stages.count(stage) for stage in set(stages)} == {
      "judge": 1, "autoencoder": 2, "diffusion": 3}


def test_seeds_are_averaged_and_every_row_is_explained(tmp_path, trained):
  assert ablate(tmp_path, "--only", "full,means") == 0
  table = json.loads((tmp_path / "table.json").read_text())
  assert table["full"]["keys"]["autoencoder/psnr"] == {
      "mean": 21.0, "low": 20.0, "high": 22.0, "seeds": 3}
  assert table["means"]["changes"] == {"autoencoder.model.sample_latents": False}
  text = (tmp_path / "table.md").read_text()
  assert "| full | 21.0 (20.0–22.0) |" in text and "| means | 20.0 |" in text
  assert all(f"* {name}: {load_rows(CONFIG)[name].meaning}" in text for name in ("full", "means"))
  assert sum(name.startswith("judge") for name in trained) == 1


def test_a_changed_row_is_not_mixed_with_what_was_trained(tmp_path, trained, capsys):
  assert ablate(tmp_path, "--only", "full", "--seeds", "1") == 0
  assert ablate(tmp_path, "--only", "full", "--seeds", "1",
                "--config.autoencoder.loss.sigma=0.5") == 1
  assert "another configuration" in capsys.readouterr().err
  assert ablate(tmp_path, "--only", "fool") == 1
  assert "no such row" in capsys.readouterr().err


def test_every_row_is_a_configuration_of_its_own():
  from cdjax.core.config import load_config
  rows = load_rows(CONFIG)
  configs = {name: load_config(f"{CONFIG}:{name}").to_dict() for name in rows}
  seen = []
  for name, config in configs.items():
    config.pop("name")
    assert config not in seen, name
    seen.append(config)
  with pytest.raises(ValueError, match="has no ROWS"):
    load_rows("configs/quickstart.py")
