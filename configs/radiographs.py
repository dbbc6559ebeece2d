"""A folder of real radiographs, 64 px: some hundreds to some ten thousand images on a laptop.

Commands:
  cdjax prepare --images FOLDER --manifest FOLDER/metadata.csv --output data
  cdjax train --config configs/radiographs.py --workdir run --config.data.path=data
  cdjax evaluate --workdir run --seed 1
"""

from cdjax.core.config import base_config


def get_config(arg: str = ""):
  """Returns the configuration; it takes no argument. The vocabulary comes from the data set."""
  if arg:
    raise ValueError(f"configs/radiographs.py:{arg}; expected no argument")
  c = base_config()
  c.name = "radiographs"
  c.data.source = "prepared"
  c.data.resolution = 64
  c.autoencoder.num_train_steps = 3000
  c.autoencoder.augment = 1.0   # some hundred patients are learnt by heart without
  c.diffusion.num_train_steps = 1000
  c.classifier.num_train_steps = 400
  return c
