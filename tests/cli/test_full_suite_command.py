"""`cdjax evaluate --suite full` on a trained run: what quick measured is kept, the rest added."""

import json
import shutil

from cdjax.cli import main


def test_full_adds_to_quick_and_trains_the_verifier_once(tiny_workdir, tmp_path, capsys):
  workdir = tmp_path / "run"
  shutil.copytree(tiny_workdir, workdir)
  quick = json.loads((workdir / "metrics-seed1.json").read_text())
  run = lambda: main.main(["evaluate", "--workdir", str(workdir), "--seed", "1", "--suite", "full"])
  assert run() == 0
  full = json.loads((workdir / "metrics-seed1.json").read_text())
  # Seconds too: no phase of quick was run again.
  assert {key: full[key] for key in quick if key != "seconds/total"} == {
      key: value for key, value in quick.items() if key != "seconds/total"}
  added = {key.split("/")[0] for key in full.keys() - quick.keys()}
  assert added == {"fidelity", "identity", "pathology", "ceiling", "axioms", "privacy", "seconds"}
  for space in ("pixel", "latent", "verifier"):
    assert 0 <= full[f"privacy/{space}/membership_auc"]["value"] <= 1
  assert full["identity/features"]["value"] > 0
  assert "privacy/latent/nearest_synthetic" in capsys.readouterr().out
  done = (workdir / "verifier" / "done.json").stat().st_mtime_ns
  assert run() == 0
  assert (workdir / "verifier" / "done.json").stat().st_mtime_ns == done
  assert json.loads((workdir / "metrics-seed1.json").read_text()) == full
