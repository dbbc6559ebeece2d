"""Latents are encoded once, and an interrupted encoding goes on where it was."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from cdjax.core.config import load_config
from cdjax.data.source import open_split
from cdjax.data.write import write_dataset
from cdjax.findings import Finding
from cdjax.train import latents
from cdjax.train.objectives import autoencoder

pytestmark = pytest.mark.slow
COUNT = 150   # three batches, the last of them short


def record(i):
  image = np.random.default_rng(i).integers(0, 256, (32, 32)).astype(np.uint8)
  return {"image": image, "image_id": f"{i:03d}", "patient_id": f"p{i:03d}", "study": 0,
          "view": "PA", "findings": [Finding("mass", severity=0.5)] if i % 2 else []}


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
  path = tmp_path_factory.mktemp("latents") / "data"
  write_dataset({"train": map(record, range(COUNT))}, path, vocabulary=("mass",), resolution=32,
                bits=8)
  config = load_config("configs/quickstart.py:tiny")
  config.data.vocabulary = ("mass",)
  config.autoencoder.model.update(dict(block_out_channels=(8, 8), lesion_channels=(),
                                       transformer_layers=0))
  init = jax.jit(lambda key: nn.unbox(autoencoder.init_params(config, key)))
  return config, init(jax.random.key(0))["autoencoder"], open_split(path, "train")


def read(folder):
  return {path.name: np.load(path) for path in sorted(folder.glob("*.npy"))}


def test_an_interrupted_encoding_goes_on_and_is_the_same(setting, tmp_path, monkeypatch):
  config, params, source = setting
  encode = lambda folder: latents.encode_dataset(
      config, params, source, folder, fingerprint="f" * 64)
  whole = read(encode(tmp_path / "whole"))
  assert len(whole["id_mean.npy"]) == COUNT and all(
      (np.abs(array).reshape(COUNT, -1).max(1) > 0).all() for array in whole.values())

  real, made = latents.eval_batches, []

  def counted(*args, **kwargs):
    for batch in real(*args, **kwargs):
      made.append(batch)
      yield batch

  def failing(*args, **kwargs):
    for i, batch in enumerate(real(*args, **kwargs)):
      if i == 2:
        raise KeyboardInterrupt
      yield batch

  monkeypatch.setattr(latents, "_FLUSH", 1)
  with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
    patch.setattr(latents, "eval_batches", failing)
    encode(tmp_path / "again")
  monkeypatch.setattr(latents, "eval_batches", counted)
  again = read(encode(tmp_path / "again"))
  assert len(made) == 1 + 1   # one for the shapes, and only the batch that was missing
  for name, array in whole.items():
    np.testing.assert_array_equal(again[name], array)
  assert not list((tmp_path / "again").glob("*/encoded-*"))
  encode(tmp_path / "again")
  assert len(made) == 2   # done is done
