"""Open-i, 64 px: some 3,800 frontal images, each of another patient as far as is known.

Commands:
  cdjax prepare --dataset openi --images NLMCXR --output data
  cdjax train --config configs/openi.py --workdir run --config.data.path=data
  cdjax evaluate --workdir run --seed 1

Meant for one GPU, or a few hours of CPUs. Not yet measured: the values are those of
configs/radiographs.py, with more steps.
"""

from cdjax.core.config import base_config
from cdjax.core.presets import RADIOGRAPHS_64


def get_config(arg: str = ""):
  """Returns the configuration; it takes no argument. The vocabulary comes from the data set."""
  if arg:
    raise ValueError(f"configs/openi.py:{arg}; expected no argument")
  c = base_config()
  c.name = "openi"
  c.update_from_flattened_dict(RADIOGRAPHS_64)
  return c
