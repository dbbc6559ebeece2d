"""A small data set and an untrained autoencoder to encode it; a program for one process of several.

`python encoding_processes.py DATA FOLDER [PARTS]`: encodes in parts of one batch; with a number it
ends with exit code 3 before it writes more than the files of that many parts.
"""

import os
import sys
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np

from cdjax.core.config import load_config
from cdjax.data.source import open_split
from cdjax.data.write import write_dataset
from cdjax.findings import Finding
from cdjax.sharding.hosts import initialize_distributed, leave_when_others_are_lost
from cdjax.train import latents
from cdjax.train.objectives import autoencoder

ROOT = Path(__file__).resolve().parents[2]
COUNT = 150   # three batches, the last of them short


def record(i):
  image = np.random.default_rng(i).integers(0, 256, (32, 32)).astype(np.uint8)
  return {"image": image, "image_id": f"{i:03d}", "patient_id": f"p{i:03d}", "study": 0,
          "view": "PA", "findings": [Finding("mass", severity=0.5)] if i % 2 else []}


def write_data(path: Path) -> None:
  write_dataset({"train": map(record, range(COUNT))}, path, vocabulary=("mass",), resolution=32,
                bits=8)


def setting(path):
  """Configuration, parameters and data."""
  config = load_config(str(ROOT / "configs" / "quickstart.py:tiny"))
  config.data.vocabulary = ("mass",)
  config.autoencoder.model.update(dict(block_out_channels=(8, 8), lesion_channels=(),
                                       transformer_layers=0))
  init = jax.jit(lambda key: nn.unbox(autoencoder.init_params(config, key)))
  return config, init(jax.random.key(0))["autoencoder"], open_split(path, "train")


def main(data: str, folder: str, parts: str = "") -> int:
  initialize_distributed()
  latents._PART = latents._BATCH
  write, written = latents._write, []

  def stopping(*args):
    if parts and len(written) == 8 * int(parts):
      os._exit(3)
    written.append(args)
    write(*args)

  latents._write = stopping
  config, params, source = setting(data)
  with leave_when_others_are_lost():
    latents.encode_dataset(config, jax.device_get(params), source, Path(folder),
                           fingerprint="f" * 64)
  return 0


if __name__ == "__main__":
  sys.exit(main(*sys.argv[1:]))
