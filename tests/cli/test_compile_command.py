"""`cdjax compile` before it compiles: what it needs, what it refuses."""

import importlib.util

import pytest

from cdjax.cli.main import main

COMMAND = ["compile", "--config", "configs/mimic_cxr_large.py:512"]


@pytest.mark.parametrize("options, message", [
    (["--topology", "v5e:4x4"], "pip install 'cdjax[tpu-compile]'"),
    (["--topology", "h100:8"], "expected KIND:AxB"),
    (["--topology", "v5e:4x4", "--what", "train,everything"], "--what 'everything'"),
    (["--topology", "v5e:4x4", "--batch-per-chip", "0"], "--batch-per-chip 0; expected 1 or more"),
    (["--topology", "v5e:4x4", "--noises", "64", "--fit-batch"], "--fit-batch looks for it"),
])
def test_what_cannot_be_is_one_line(monkeypatch, capsys, options, message):
  found = importlib.util.find_spec
  monkeypatch.setattr(importlib.util, "find_spec",
                      lambda name, *rest: None if name == "libtpu" else found(name, *rest))
  assert main([*COMMAND, *options]) == 1
  error = capsys.readouterr().err
  assert message in error and len(error.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs [tpu-compile]")
def test_a_tiny_step_compiles_for_sixteen_chips(tmp_path):
  """In a process of its own: it sets up the compiler of another platform."""
  import json
  import subprocess
  import sys

  out = tmp_path / "out.json"
  done = subprocess.run(
      [sys.executable, "-m", "cdjax", "compile", "--config", "configs/quickstart.py:tiny",
       "--topology", "v5e:4x4", "--stages", "classifier", "--what", "train,sampler,noise",
       "--batch-per-chip", "2", "--effort", "fast", "--config.mesh.fsdp=4", "--json", str(out)],
      capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr[-3000:]
  result = json.loads(out.read_text())
  assert result["mesh"] == {"data": 4, "fsdp": 4, "tensor": 1}
  programs = {entry["program"]: entry for entry in result["programs"]}
  assert set(programs) == {"train classifier", "sampler", "noise"}
  for entry in programs.values():
    assert entry["fits"] and entry["flops"] > 0 and entry["unknown_loops"] == 0
    assert entry["memory"]["arguments"] < entry["memory"]["peak"] < entry["hbm"]
  # Gradients are summed over the chips; sampling needs no such thing.
  assert "all-reduce" in programs["train classifier"]["collectives"]
