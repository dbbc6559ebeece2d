"""`cdjax benchmark longtail`: which cells there are, and two of them end to end."""

import json

import pytest

from cdjax.cli import main
from cdjax.core.config import load_config
from cdjax.evaluate import longtail
from cdjax.evaluate.longtail import METHODS, RECIPES, Benchmark

CONFIG = "configs/longtail.py:tiny"


def benchmark(workdir, *words, config=CONFIG):
  return main.main(["benchmark", "longtail", "--config", config, "--workdir", str(workdir), *words])


def test_the_cells_are_methods_recipes_curve_and_memory(tmp_path, capsys):
  assert benchmark(tmp_path, "--list", config="configs/longtail.py") == 0
  names = capsys.readouterr().out.split()
  assert {f"measure/{name}-2" for name in METHODS} < set(names)
  assert {f"classify/{name}-2" for name in RECIPES} < set(names)
  assert {"curve/0", "curve/30", "memory"} < set(names) and len(set(names)) == len(names)
  assert names.index("measure/cbdm-0") < names.index("measure/nothing-1")
  assert benchmark(tmp_path, "--only", "measure/nothing") == 1
  assert "--list prints" in capsys.readouterr().err


def test_a_cell_is_kept_and_read_again_until_the_configuration_changes(tmp_path, monkeypatch):
  computed = []
  monkeypatch.setattr(Benchmark, "_measure", lambda self, method, seed, findings: computed.append(
      seed) or {"nodule": {"effectiveness": 0.5}})
  config = load_config(CONFIG)
  for _ in range(2):
    assert Benchmark(config, tmp_path).measure("nothing", 0)["nodule"]["effectiveness"] == 0.5
  config.longtail.seeds = 3   # more cells, the same ones
  again = Benchmark(config, tmp_path)
  again.measure("nothing", 0)
  assert computed == [0] and list(again.done()["measure"]) == ["nothing"]
  config.noise.steps = 7
  other = Benchmark(config, tmp_path)
  assert other.done()["measure"] == {}
  other.measure("nothing", 0)
  assert computed == [0, 0]


def test_findings_are_grouped_by_their_training_images():
  config = load_config("configs/longtail.py")
  groups = Benchmark(config, "nowhere").groups({"a": 501, "b": 500, "c": 50, "d": 49})
  assert groups == {"a": "head", "b": "medium", "c": "medium", "d": "tail"}


@pytest.mark.slow
def test_two_cells_end_to_end(tmp_path, monkeypatch):
  only = "measure/noise_mixed-0,classify/with_noise_mixed-0"
  assert benchmark(tmp_path, "--only", only) == 0
  result = json.loads((tmp_path / "longtail.json").read_text())
  rare = min(result["counts"], key=result["counts"].get)
  assert result["groups"][rare] == "tail"
  measured = result["methods"]["noise_mixed"][rare]
  assert measured["evaluations"]["mean"] == 8 and measured["noise/evaluations"]["mean"] == 12
  assert measured["seconds"]["mean"] > 0 and 0 <= measured["copies"]["mean"] <= 1
  assert 0 <= measured["coverage"]["mean"] <= 1
  accuracy = result["downstream"]["recipes"]["with_noise_mixed"]["tail"]
  assert accuracy["low"] <= accuracy["value"] <= accuracy["high"] and accuracy["n"] == 32
  assert "noise_mixed" in (tmp_path / "longtail.md").read_text()
  assert (tmp_path / "longtail.png").is_file()
  assert list((tmp_path / "banks").iterdir()) and (tmp_path / "sets/noise_mixed-0.npz").is_file()
  monkeypatch.setattr(longtail, "STAGES", {})   # nothing is trained again
  assert Benchmark(load_config(CONFIG), tmp_path).measure("noise_mixed", 0)
