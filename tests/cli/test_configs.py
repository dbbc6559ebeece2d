"""`cdjax configs`, and the configs themselves: honest headers, values that make models."""

import json
import re

import jax
import jax.numpy as jnp
import pytest

from cdjax.cli.configs import leaves
from cdjax.cli.main import main
from cdjax.core.config import base_config, list_configs, load_config
from cdjax.core.types import FindingsArrays
from cdjax.data.published.datasets import DATASETS
from cdjax.models.classifier import make_classifier
from cdjax.models.denoiser import make_denoiser
from cdjax.models.disentangled import make_autoencoder

NAMES = sorted(name.replace("-", "_") for name in DATASETS)


def test_list(capsys):
  assert main(["configs"]) == 0
  lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
  assert set(lines) == set(list_configs()) >= {"quickstart", "phantom", *NAMES}
  assert all(len(line) > 20 for line in lines.values())


def test_one_config_with_its_values_and_meanings(capsys):
  assert main(["configs", "quickstart:tiny"]) == 0
  out = capsys.readouterr().out
  assert out.startswith(list_configs()["quickstart"].strip())
  assert re.search(r"^\* data\.resolution = 32 +# side in pixels$", out, re.MULTILINE)
  assert re.search(r"^  data\.bits = 8 +# of the stored PNG: 8 or 16$", out, re.MULTILINE)
  assert len(re.findall(r"^[ *] [\w.]+ = .*# \S", out, re.MULTILINE)) == len(
      list(leaves(base_config())))
  assert main(["configs", "configs/quickstart.py:tiny", "--section", "data.phantom"]) == 0
  section = capsys.readouterr().out
  assert "* data.phantom.patients = 40" in section and "data.bits" not in section


def test_errors_name_what_is_known(capsys):
  assert main(["configs", "quickstart", "--section", "data.fantom"]) == 1
  assert "data.phantom" in capsys.readouterr().err
  assert main(["configs", "nothing"]) == 1
  assert "quickstart.py" in capsys.readouterr().err
  assert main(["configs", "--section", "data"]) == 1


def test_train_points_to_it(capsys):
  assert main(["train", "--help"]) == 0
  assert "cdjax configs" in capsys.readouterr().out


def test_every_header_says_command_hardware_and_whether_it_was_measured():
  for name, header in list_configs().items():
    assert re.search(rf"cdjax \w+(?s:.)*configs/{name}.py|cdjax quickstart", header), name
    assert re.search(r"\b(CPUs?|GPUs?|TPU)\b", header), name
    assert re.search(r"Not yet (measured|trained)|Measured on", header), name


@pytest.mark.parametrize("name", NAMES)
def test_headers_say_the_commands_and_whether_it_was_measured(name):
  header = list_configs()[name]
  config = load_config(f"configs/{name}.py")
  dataset = config.name
  assert dataset in DATASETS and f"cdjax prepare --dataset {dataset} " in header
  asked = re.search(r"--resolution (\d+)", header)
  assert config.data.resolution == (int(asked[1]) if asked else 64)
  assert f"cdjax train --config configs/{name}.py " in header
  assert "Not yet measured" in header or "Measured on" in header
  assert config.data.source == "prepared"
  with pytest.raises(ValueError, match="no argument"):
    load_config(f"configs/{name}.py:x")


def alike():
  """Names of configs by their values: those that differ in their name only stand together."""
  groups = {}
  for name in NAMES:
    values = load_config(f"configs/{name}.py").to_dict() | {"name": ""}
    groups.setdefault(json.dumps(values, sort_keys=True), []).append(name)
  return list(groups.values())


@pytest.mark.parametrize("names", alike(), ids="+".join)
def test_values_make_models(names):
  """Shapes only: nothing is computed."""
  config = load_config(f"configs/{names[0]}.py")
  size, findings, key = config.data.resolution, 14, jax.random.key(0)
  image = jnp.zeros((2, size, size, 1))
  autoencoder = make_autoencoder(config.autoencoder.model)
  params = jax.eval_shape(lambda: autoencoder.init(key, image, key))
  encoding = jax.eval_shape(
      lambda: autoencoder.apply(jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), params),
                                image, method="encode"))
  latent = encoding.slots.mean.shape
  assert latent[-2:] == (config.autoencoder.model.slots, config.autoencoder.model.slot_channels)
  denoiser = make_denoiser(config.diffusion, config.autoencoder.model, findings)
  z = jnp.zeros((*latent[:3], latent[-1]))
  identity = jnp.zeros((*latent[:3], latent[-2] - 1, latent[-1]))
  details = FindingsArrays(*(jnp.zeros((2, findings), kind) for kind in (
      jnp.int8, jnp.float32, jnp.int8, jnp.int8)))
  noise = jax.eval_shape(lambda: denoiser.init_with_output(
      key, z, jnp.zeros(2), details, identity, jnp.ones(2, bool))[0])
  assert noise.shape == z.shape
  classifier = make_classifier(config.classifier.model, findings)
  logits = jax.eval_shape(lambda: classifier.init_with_output(key, image)[0])
  assert logits.status.shape == (2, findings)


def test_train_joins_the_other_processes_first(monkeypatch, capsys, tmp_path):
  monkeypatch.setenv("CDJAX_COORDINATOR", "localhost:1234")
  for name in ("CDJAX_NUM_PROCESSES", "CDJAX_PROCESS_ID"):
    monkeypatch.delenv(name, raising=False)
  assert main(["train", "--config", "configs/quickstart.py:tiny", "--workdir",
               str(tmp_path / "run")]) == 1
  assert "CDJAX_NUM_PROCESSES" in capsys.readouterr().err and not (tmp_path / "run").exists()
