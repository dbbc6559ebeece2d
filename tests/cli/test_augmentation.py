"""`cdjax optimize-noise` and `cdjax generate` on a tiny workdir: files, records, going on."""

import csv
import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from cdjax.cli import main
from cdjax.core.config import base_config, config_from_record
from cdjax.counterfactual.answer import answer
from cdjax.counterfactual.noise_bank import bank_path, read_bank
from cdjax.data.image_io import read_radiograph
from cdjax.data.staging import read_info
from cdjax.evaluate.image_metrics import from_model
from cdjax.evaluate.noise_workdir import make_noise_fns, optimise_bank
from cdjax.evaluate.references import load_space
from cdjax.evaluate.synthesis import make_generator
from cdjax.evaluate.trained import load_trained
from cdjax.train.record import read_record
from cdjax.train.stages import run_verifier

FINDING = "nodule"


def command(workdir, name, *words):
  return main.main([name, "--workdir", str(workdir), *map(str, words)])


@pytest.fixture(scope="session")
def bank_folder(tiny_workdir):
  """Two batches of optimised noises."""
  assert command(tiny_workdir, "optimize-noise", "--finding", FINDING, "--num", 8) == 0
  return tiny_workdir / "noise"


@pytest.fixture(scope="session")
def trained(tiny_workdir):
  return load_trained(tiny_workdir)


@pytest.mark.slow
def test_a_bank_says_what_it_was_made_with(bank_folder, trained, tiny_workdir):
  bank = read_bank(bank_path(bank_folder, FINDING), model=trained.generator)
  assert len(bank) == 8 and bank.curves["loss"].shape == (3, 8)   # two steps and before them
  assert set(bank.curves) == {"loss", "semantic", "appearance", "norm", "repulsion", "distance"}
  assert np.isfinite(bank.arrays["z_T"]).all()
  np.testing.assert_allclose(bank.arrays["loss"], bank.curves["loss"].min(0), rtol=1e-6)
  space = load_space(trained, tiny_workdir)
  k = trained.vocabulary.index(FINDING)
  shows = {name for name, status in zip(space.source.image_ids(), space.status, strict=True)
           if status[k] == 1}
  assert set(bank.made_with["references"]) == shows
  assert (space.status[bank.arrays["identity"], k] == 0).all()
  assert bank.made_with["noise"]["start"] == "mixed" and bank.made_with["seed"] == 0


@pytest.mark.slow
def test_optimisation_goes_on_and_ends_alike(bank_folder, trained, tiny_workdir, tmp_path):
  """One batch, then the other, is both at once; and what was done is not done again."""
  space, told, fns = load_space(trained, tiny_workdir), [], make_noise_fns(trained)
  optimise_bank(trained, space, FINDING, tmp_path, num=4, seed=0, fns=fns)
  again = optimise_bank(trained, space, FINDING, tmp_path, num=8, seed=0, fns=fns,
                        on_noises=told.append)
  whole = read_bank(bank_path(bank_folder, FINDING), model=trained.generator)
  assert told == [4, 4]
  np.testing.assert_array_equal(again.arrays["z_T"], whole.arrays["z_T"])
  np.testing.assert_array_equal(again.curves["loss"], whole.curves["loss"])


@pytest.mark.slow
def test_a_bank_begun_otherwise_is_left_alone(bank_folder, tiny_workdir, capsys):
  before = bank_path(bank_folder, FINDING).read_bytes()
  assert command(tiny_workdir, "optimize-noise", "--finding", FINDING, "--num", 9,
                 "--steps", 3) == 1
  assert "noise.steps was 2, is 3; give the same, or another --output" in capsys.readouterr().err
  assert bank_path(bank_folder, FINDING).read_bytes() == before


@pytest.mark.parametrize("words, expected", [
    (("--finding", "oedema"), "the model knows consolidation"),
    (("--finding", FINDING, "--config.counterfactual.sampler=ddpm"), "expected 'ddim' or"),
    (("--finding", FINDING, "--config.seed=3"), "only config.counterfactual and config.mesh and"),
    (("--all-tail", "--tail", "1"), "no finding is shown by fewer than 1"),
])
def test_a_wrong_optimisation_is_one_clear_line(tiny_workdir, capsys, words, expected):
  assert command(tiny_workdir, "optimize-noise", *words) == 1
  assert expected in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
def test_without_a_bank_it_is_ordinary_sampling_bit_for_bit(trained, tiny_workdir):
  generator = make_generator(trained, load_space(trained, tiny_workdir), FINDING,
                             identities="real", seed=5)
  seen = {}
  generator = dataclasses.replace(
      generator, fn=lambda *question, fn=generator.fn: seen.update(question=question) or
      fn(*question))
  made = generator.batch(1)
  key, x, findings, asked, view, noise = seen["question"]
  assert noise is None
  model, cfg = trained.model, trained.config.counterfactual
  expected = jax.jit(lambda params, *question: answer(model, params, *question, cfg=cfg).image)(
      trained.params, key, x, findings, asked, view)
  np.testing.assert_array_equal(made.images, from_model(expected))


def generate(workdir, output, *words):
  return main.main(["generate", "--workdir", str(workdir), "--output", str(output), "--identities",
                    "real", *map(str, words)])


def read_rows(output):
  with (output / "manifest.csv").open(newline="") as file:
    return list(csv.DictReader(file))


@pytest.fixture(scope="session")
def generated(tiny_workdir, bank_folder, tmp_path_factory):
  output = tmp_path_factory.mktemp("generated") / "set"
  assert generate(tiny_workdir, output, "--finding", FINDING, "--num", 6, "--noise-bank",
                  bank_folder) == 0
  return output


@pytest.mark.slow
def test_every_image_says_that_it_is_synthetic_and_whose(generated, trained, tiny_workdir):
  rows, source = read_rows(generated), load_space(trained, tiny_workdir).source
  known = set(source.image_ids())
  assert len(rows) == 6 and {row["noise"] for row in rows} <= set("01234567")
  for row in rows:
    assert row["synthetic"] == "yes" and row["split"] == "train" and row["finding"] == FINDING
    assert {row["source"], row["nearest_real"]} <= known
    assert row["source"].startswith(row["patient_id"]) and FINDING in row["findings"]
    assert float(row["nearest_distance"]) >= float(row["copy_threshold"]) > 0
    assert float(row["guidance"]) == trained.config.counterfactual.guidance_findings
    image = Image.open(generated / row["image"])
    mark = json.loads(image.text["cdjax"])
    assert mark["synthetic"] is True and mark["source"] == row["source"]
    assert image.text["Comment"].startswith("Synthetic") and image.size == (32, 32)
  counted = json.loads((generated / "generate.json").read_text())["findings"][FINDING]
  assert counted["images"] == 6 and counted["tried"] - counted["copies"] == 6
  assert counted["noises"] == 8


@pytest.mark.slow
def test_prepare_takes_the_set_as_it_is(generated, tmp_path):
  assert main.main(["prepare", "--images", str(generated), "--manifest",
                    str(generated / "manifest.csv"), "--output", str(tmp_path / "data"),
                    "--resolution", "32", "--workers", "0"]) == 0
  info = read_info(tmp_path / "data")
  assert info["splits"]["train"]["findings"][FINDING]["images"] == 6
  assert list(info["splits"]) == ["train"]


@pytest.mark.slow
def test_an_interrupted_set_goes_on_and_ends_alike(generated, tiny_workdir, bank_folder, tmp_path,
                                                   monkeypatch, capsys):
  from cdjax.evaluate import synthesis
  words = ("--finding", FINDING, "--num", 6, "--noise-bank", bank_folder)
  whole, batches = synthesis.Generator.batch, []

  def once(self, index):
    if batches:
      raise KeyboardInterrupt
    batches.append(index)
    return whole(self, index)

  monkeypatch.setattr(synthesis.Generator, "batch", once)
  assert generate(tiny_workdir, tmp_path / "set", *words) == 130
  assert not (tmp_path / "set" / "manifest.csv").exists()
  monkeypatch.setattr(synthesis.Generator, "batch",
                      lambda self, index: batches.append(index) or whole(self, index))
  assert generate(tiny_workdir, tmp_path / "set", *words) == 0
  assert batches[:2] == [0, 1] and 0 not in batches[1:]
  assert ((tmp_path / "set" / "manifest.csv").read_bytes()
          == (generated / "manifest.csv").read_bytes())
  for row in read_rows(generated):
    picture = lambda root, row=row: read_radiograph(root / row["image"], resolution=32, bits=8,
                                                    fit="crop")
    np.testing.assert_array_equal(picture(tmp_path / "set"), picture(generated))
  capsys.readouterr()
  assert generate(tiny_workdir, tmp_path / "set", *words[:3], 5, *words[4:]) == 1
  assert "holds another set, which differs in wanted" in capsys.readouterr().err


def test_copies_are_thrown_away_and_too_many_are_an_error(tiny_workdir, tmp_path, capsys,
                                                          monkeypatch):
  from cdjax.evaluate import synthesis
  whole = synthesis.Generator.batch
  every_other = lambda made: made.replace(copied=np.arange(len(made.source)) % 2 == 0)
  monkeypatch.setattr(synthesis.Generator, "batch",
                      lambda self, index: every_other(whole(self, index)))
  assert generate(tiny_workdir, tmp_path / "a", "--finding", FINDING, "--num", 3) == 0
  counted = json.loads((tmp_path / "a" / "generate.json").read_text())["findings"][FINDING]
  assert (counted["images"], counted["tried"], counted["copies"]) == (3, 6, 3)
  assert len(read_rows(tmp_path / "a")) == len(list((tmp_path / "a" / "images").iterdir())) == 3
  monkeypatch.setattr(synthesis.Generator, "batch", lambda self, index: whole(
      self, index).replace(copied=np.ones(self.batch_size, bool)))
  assert generate(tiny_workdir, tmp_path / "b", "--finding", FINDING, "--num", 1) == 1
  assert f"8 of 8 images of {FINDING} were copies" in capsys.readouterr().err


@pytest.mark.slow
def test_a_distribution_fills_the_rarest_first(tiny_workdir, trained, bank_folder, tmp_path,
                                               capsys):
  counts = load_space(trained, tiny_workdir).counts()
  rarest = trained.vocabulary[int(counts.argmin())]
  assert generate(tiny_workdir, tmp_path / "set", "--distribution", "tail-balanced", "--num",
                  1) == 0
  assert [row["finding"] for row in read_rows(tmp_path / "set")] == [rarest]
  assert generate(tiny_workdir, tmp_path / "x", "--finding", rarest, "--num", 1, "--noise-bank",
                  tmp_path) == 1
  assert "make them with `cdjax optimize-noise`" in capsys.readouterr().err


def free_address():
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_noises_spread_over_eight_devices_are_the_same(bank_folder, trained, tiny_workdir, tmp_path,
                                                       processes):
  environ = os.environ | {
      "JAX_PLATFORMS": "cpu", "XLA_FLAGS": os.environ.get("XLA_FLAGS", "")
      + f" --xla_force_host_platform_device_count={8 // processes}"}
  words = ["optimize-noise", "--workdir", str(tiny_workdir), "--finding", FINDING, "--num", "4",
           "--output", str(tmp_path), "--config.mesh.fsdp=2", "--config.mesh.tensor=2"]
  code = ("import jax, sys; from cdjax.cli.main import main; code = main(sys.argv[1:]); "
          "assert jax.device_count() == 8; sys.exit(code)")
  address = free_address()
  several = lambda i: ["--coordinator", address, "--num-processes", str(processes),
                       "--process-id", str(i)] if processes > 1 else []
  started = [subprocess.Popen([sys.executable, "-c", code, *words, *several(i)], env=environ,
                              text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
             for i in range(processes)]
  outputs = [process.communicate() for process in started]
  for process, (_, errors) in zip(started, outputs, strict=True):
    assert process.returncode == 0, errors[-3000:]
  assert ["4 noises" in said for said, _ in outputs] == [i == 0 for i in range(processes)]
  eight = read_bank(bank_path(tmp_path, FINDING), model=trained.generator)
  one = read_bank(bank_path(bank_folder, FINDING), model=trained.generator)
  np.testing.assert_allclose(eight.curves["loss"], one.curves["loss"][:, :4], rtol=1e-4)
  np.testing.assert_allclose(eight.arrays["z_T"], one.arrays["z_T"][:4], rtol=1e-2, atol=1e-2)


@pytest.fixture
def trained_on_a_pod(tiny_workdir, tmp_path):
  """The tiny workdir as if trained with its parameters spread over sixteen chips."""
  folder = tmp_path / "run"
  shutil.copytree(tiny_workdir, folder, symlinks=True, ignore=shutil.ignore_patterns("noise"))
  for path in folder.glob("*/config.json"):
    record = json.loads(path.read_text())
    if "mesh" in record.get("config", {}):
      record["config"]["mesh"]["fsdp"] = 16
      path.write_text(json.dumps(record))
  return folder


def test_the_mesh_is_that_of_the_machine_and_not_of_the_training(trained_on_a_pod, capsys):
  assert config_from_record(read_record(trained_on_a_pod / "diffusion")["config"]).mesh.fsdp == 16
  trained = load_trained(trained_on_a_pod)
  assert trained.config.mesh == base_config().mesh
  assert trained.mesh.size == jax.device_count() and trained.mesh.shape["fsdp"] == 1
  assert command(trained_on_a_pod, "optimize-noise", "--finding", FINDING, "--num", 1,
                 "--config.mesh.fsdp=16") == 1
  assert "fsdp=16" in capsys.readouterr().err.splitlines()[-1]   # it is asked for here


@pytest.mark.slow
def test_what_a_pod_trained_is_used_on_one_device(trained_on_a_pod, bank_folder, trained, tmp_path):
  assert command(trained_on_a_pod, "optimize-noise", "--finding", FINDING, "--num", 4) == 0
  there = read_bank(bank_path(trained_on_a_pod / "noise", FINDING), model=trained.generator)
  here = read_bank(bank_path(bank_folder, FINDING), model=trained.generator)
  np.testing.assert_array_equal(there.arrays["z_T"], here.arrays["z_T"][:4])
  assert generate(trained_on_a_pod, tmp_path / "set", "--finding", FINDING, "--num", 2) == 0
  assert command(trained_on_a_pod, "counterfactual", "--image",
                 trained_on_a_pod / "examples", "--healthy", "--factual", FINDING) == 0
  # The verifier, which `evaluate --suite full` trains where it is not there.
  assert run_verifier(load_trained(trained_on_a_pod).config, trained_on_a_pod)
