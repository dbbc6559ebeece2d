"""A bank of noises keeps what it was made with, and is of one model."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from cdjax.counterfactual.noise_bank import (
    COLUMNS,
    NoiseBank,
    bank_path,
    join_banks,
    read_bank,
    write_bank,
)


def make_bank(num, *, model="a" * 64, steps=3, seed=0):
  rng = np.random.default_rng(seed)
  arrays = {name: rng.normal(size=num).astype(np.float32) for name in COLUMNS}
  arrays["z_T"] = rng.normal(size=(num, 2, 2, 3)).astype(np.float32)
  arrays["side"] = np.array([1, 2] * num, np.int8)[:num]
  curves = {"loss": rng.random((steps + 1, num)), "norm": rng.random((steps + 1, num))}
  return NoiseBank(arrays, curves, {"model": model, "finding": "nodule", "vocabulary": ["nodule"],
                                    "references": ["p1-0", "p2-3"], "seed": seed})


def test_what_is_written_is_read(tmp_path):
  bank = make_bank(5)
  path = bank_path(tmp_path / "new", "nodule")
  write_bank(path, bank)
  again = read_bank(path, model="a" * 64)
  assert len(again) == 5 and again.finding == "nodule" and again.made_with == bank.made_with
  for name in COLUMNS:
    np.testing.assert_array_equal(again.arrays[name], bank.arrays[name])
    assert again.arrays[name].dtype == bank.arrays[name].dtype
  assert set(again.curves) == {"loss", "norm"}
  np.testing.assert_array_equal(again.curves["norm"], bank.curves["norm"])
  assert [p.name for p in path.parent.iterdir()] == ["nodule.noise.safetensors"]


def test_batches_join_along_the_noises():
  both = join_banks(join_banks(None, make_bank(2)), make_bank(3, seed=1))
  assert len(both) == 5 and both.curves["loss"].shape == (4, 5)
  np.testing.assert_array_equal(both.arrays["z_T"][2:], make_bank(3, seed=1).arrays["z_T"])


def test_a_bank_of_another_model_is_refused(tmp_path):
  path = bank_path(tmp_path, "nodule")
  write_bank(path, make_bank(2))
  with pytest.raises(ValueError, match=r"optimised for the model aaaaaaaaaaaa, this workdir's is "
                                       r"bbbbbbbbbbbb.*cdjax optimize-noise"):
    read_bank(path, model="b" * 64)


def test_what_is_no_bank_says_so(tmp_path):
  path = bank_path(tmp_path, "nodule")
  with pytest.raises(FileNotFoundError, match="cdjax optimize-noise"):
    read_bank(path, model="a")
  path.write_bytes(b"no safetensors")
  with pytest.raises(ValueError, match="is no noise bank"):
    read_bank(path, model="a")
  save_file({"z_T": np.zeros(3, np.float32)}, path, metadata={"cdjax": json.dumps({"format": 1})})
  with pytest.raises(ValueError, match="is no noise bank of format 2"):
    read_bank(path, model="a")
