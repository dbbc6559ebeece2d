"""`cdjax benchmark longtail`: which cells there are, what they depend on, and some end to end."""

import base64
import dataclasses
import json
import shutil

import numpy as np
import pytest

from cdjax.cli import main
from cdjax.core.config import load_config
from cdjax.evaluate import longtail_runs
from cdjax.evaluate.longtail import Benchmark
from cdjax.evaluate.longtail_generators import make_generators
from cdjax.evaluate.longtail_measures import questions
from cdjax.evaluate.longtail_methods import METHODS, RECIPES

CONFIG = "configs/longtail.py:tiny"


def benchmark(workdir, *words, config=CONFIG):
  return main.main(["benchmark", "longtail", "--config", config, "--workdir", str(workdir), *words])


def cell(of, name):
  found, = [cell for cell in of.cells() if cell.name == name]
  return found


def test_the_cells_are_methods_head_recipes_curve_and_memory(tmp_path, capsys):
  assert benchmark(tmp_path, "--list", config="configs/longtail.py") == 0
  names = capsys.readouterr().out.split()
  assert {f"measure/{name}-2" for name in METHODS} < set(names)
  assert {f"classify/{name}-2" for name in RECIPES} < set(names)
  assert {"curve/0", "curve/30", "memory", "head-0", "head-2"} < set(names)
  assert len(set(names)) == len(names)
  assert names.index("measure/cbdm-0") < names.index("measure/nothing-1")
  assert benchmark(tmp_path, "--only", "measure/nothing") == 1
  assert "--list prints" in capsys.readouterr().err


def test_only_the_named_cells_are_run(tmp_path, capsys):
  only = "classify/real*,classify/resampled*,classify/balanced*"
  assert benchmark(tmp_path, "--list", "--only", only) == 0
  assert capsys.readouterr().out.split() == [
      f"classify/{name}-0" for name in ("real", "resampled", "balanced_loss", "resampled_balanced")]


def test_a_cell_is_kept_until_something_that_it_depends_on_changes(tmp_path, monkeypatch):
  computed = []
  monkeypatch.setattr(Benchmark, "_measure", lambda self, method, seed, group="": computed.append(
      method) or {"made_with": {}, "findings": {"nodule": {"effectiveness": 0.5}}})
  config = load_config(CONFIG)

  def measure(name):
    of = Benchmark(config, tmp_path)
    return of.run(cell(of, f"measure/{name}-0"))

  for _ in range(2):
    assert measure("nothing")["findings"]["nodule"]["effectiveness"] == 0.5
  config.longtail.seeds, config.noise.steps, config.classifier.num_train_steps = 3, 7, 9
  measure("nothing")   # has no noises, and knows no classifier
  assert computed == [METHODS["nothing"]]
  assert Benchmark(config, tmp_path).done()["measure"] == {
      "nothing": {0: {"nodule": {"effectiveness": 0.5}}}}
  measure("noise_mixed")
  config.noise.steps = 8
  assert list(Benchmark(config, tmp_path).done()["measure"]) == ["nothing"]
  measure("noise_mixed")
  assert computed == [METHODS[name] for name in ("nothing", "noise_mixed", "noise_mixed")]


def test_kept_cells_need_no_data(tmp_path, monkeypatch):
  config = load_config(CONFIG)
  of = Benchmark(config, tmp_path)
  monkeypatch.setattr(Benchmark, "_memory", lambda self: {"made_with": {}, "bytes": {"4": 1}})
  monkeypatch.setattr(Benchmark, "_measure", lambda self, *of: {"made_with": {}, "findings": {}})
  for name in ("memory", "curve/2"):
    of.run(cell(of, name))
  of._keep("counts", cell_counts(config), lambda: {"pleural_effusion": 40, "nodule": 7})
  shutil.copytree(tmp_path / "cells", tmp_path / "elsewhere" / "cells")
  monkeypatch.undo()
  monkeypatch.setattr(longtail_runs, "ensure_dataset", None)
  other = Benchmark(config, tmp_path / "elsewhere")
  assert other.run(cell(other, "memory"))["bytes"] == {"4": 1}
  assert other.run(cell(other, "curve/2"))["findings"] == {}
  assert other.counts() == {"pleural_effusion": 40, "nodule": 7}


def cell_counts(config):
  from cdjax.evaluate.longtail_keys import data_key
  return data_key(config)


def test_findings_are_grouped_by_their_training_images():
  config = load_config("configs/longtail.py")
  groups = Benchmark(config, "nowhere").groups({"a": 501, "b": 500, "c": 50, "d": 49})
  assert groups == {"a": "head", "b": "medium", "c": "medium", "d": "tail"}


def test_classifiers_of_real_images_train_no_generator(tmp_path, monkeypatch):
  monkeypatch.setattr(longtail_runs, "STAGES", {})
  only = "classify/real*,classify/resampled_balanced*"
  assert benchmark(tmp_path, "--only", only) == 0
  kept = json.loads((tmp_path / "cells/classify/real-0.json").read_text())["result"]
  assert kept["synthetic"] == {} and list(kept["made_with"]) == ["classifier"]
  probability = kept["probability"]
  assert probability["shape"] == [32, 2] and len(base64.b64decode(probability["base64"])) == 128
  result = json.loads((tmp_path / "longtail.json").read_text())
  assert set(result["downstream"]["recipes"]) == {"real", "resampled_balanced"}
  assert result["counts"]["pleural_effusion"] > result["counts"]["nodule"]
  assert {path.name.split("-")[0] for path in (tmp_path / "shared").iterdir()} == {"data"}


@pytest.mark.slow
def test_cells_of_every_kind_end_to_end(tmp_path, monkeypatch):
  only = ("--only", "measure/noise_mixed-0,measure/nothing-0,head-0,curve/*,memory,"
          "classify/with_noise_mixed-0,classify/pretrained-0")
  assert benchmark(tmp_path, *only) == 0
  result = json.loads((tmp_path / "longtail.json").read_text())
  rare = result["rarest"]
  assert result["groups"][rare] == "tail"
  measured = result["methods"]["noise_mixed"][rare]
  assert measured["evaluations"]["mean"] == 4 and measured["noise/evaluations"]["mean"] == 12
  assert result["methods"]["nothing"][rare]["evaluations"]["mean"] == 8
  assert measured["seconds"]["mean"] > 0 and measured["noise/seconds"]["mean"] > 0
  assert 0 <= measured["copies"]["mean"] <= 1 and measured["threshold"]["mean"] > 0
  assert 0 <= measured["coverage"]["mean"] <= 1
  assert result["head"]["0"]["equal"] is True
  assert set(result["head"]["0"]["sha256"]["nothing"]) == {"pleural_effusion"}
  assert result["memory_ratio"] > 0 and result["best"].keys() == {"medium", "tail", rare}
  recipes = result["downstream"]["recipes"]
  assert set(recipes) == {"with_noise_mixed", "pretrained"}
  accuracy = recipes["with_noise_mixed"]["tail"]
  assert accuracy["low"] <= accuracy["value"] <= accuracy["high"] and accuracy["n"] == 32
  assert "noise_mixed" in (tmp_path / "longtail.md").read_text()
  assert (tmp_path / "longtail.png").is_file()
  kept = json.loads((tmp_path / "cells/classify/pretrained-0.json").read_text())["result"]
  assert kept["synthetic"][rare]["kept"] > 0
  assert kept["synthetic"][rare]["tried"] >= kept["synthetic"][rare]["kept"]
  measure = json.loads((tmp_path / "cells/measure/nothing-0.json").read_text())["result"]
  assert kept["made_with"]["generator"] == measure["made_with"]["generator"]
  assert set(measure["made_with"]) == {"generator", "judge"}
  # As many steps, the same bank: that of the method is the curve's.
  steps = sorted(path.name.rpartition("-")[0] for path in (tmp_path / "banks").iterdir())
  assert steps == ["mixed-0", "mixed-2"]

  monkeypatch.setattr(longtail_runs, "STAGES", {})   # nothing is trained again
  shutil.rmtree(tmp_path / "runs")
  assert benchmark(tmp_path, *only) == 0

  monkeypatch.undo()
  of = Benchmark(load_config(CONFIG), tmp_path)
  ready, found = of.runs.load(METHODS["noise_mixed"], 0), []
  for start in ("", "mixed"):
    (_, generator, _), = make_generators(ready, [rare], start=start, without_bank=set(), noises=8,
                                         workdir=tmp_path)
    assert (generator.bank is None) == (not start)
    found.append(questions(generator, 8)[0])
  for field in dataclasses.fields(found[0]):
    assert np.array_equal(*(getattr(asked, field.name) for asked in found)), field.name
