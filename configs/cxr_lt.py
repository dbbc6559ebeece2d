"""The 45 labels of CXR-LT 2024 on MIMIC-CXR's images, 128 px: the long tail.

Commands:
  cdjax prepare --dataset cxr-lt --images mimic-cxr-jpg --tables cxr-lt --output data \\
    --resolution 128
  cdjax train --config configs/cxr_lt.py --workdir run --config.data.path=data
  cdjax evaluate --workdir run --seed 1

Meant for a TPU v5e-8 or 8 GPUs. Not yet measured: batch sizes, steps and losses are those of
smaller runs, scaled.
"""

from cdjax.core.config import base_config
from cdjax.core.presets import RADIOGRAPHS_128


def get_config(arg: str = ""):
  """Returns the configuration; it takes no argument. The vocabulary comes from the data set."""
  if arg:
    raise ValueError(f"configs/cxr_lt.py:{arg}; expected no argument")
  c = base_config()
  c.name = "cxr-lt"
  c.update_from_flattened_dict(RADIOGRAPHS_128)
  return c
