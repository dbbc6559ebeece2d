"""The phantom with five findings at 64 px: the whole method in a quarter of an hour.

Command: `cdjax quickstart --workdir DIR` (or `cdjax train --config configs/quickstart.py
--workdir DIR` for the training stages alone).

Meant for 2 CPU cores. Not yet measured with the present model; the command ends with the numbers.
"""

from cdjax.core.config import base_config
from cdjax.core.presets import TINY


def get_config(arg: str = ""):
  """Returns the quickstart; `arg` "tiny" shrinks everything for a test of the plumbing."""
  c = base_config()
  c.name = "quickstart"
  # Combinations that training never shows: `unseen/finding` asks for them.
  c.data.phantom.held_out_combinations = ("consolidation left upper", "nodule right lower")
  if arg == "tiny":
    c.name = "tiny"
    c.update_from_flattened_dict(TINY)
    c.evaluate.interventions = 8
    c.evaluate.composition = 4
    c.evaluate.composition_10 = 2
    c.evaluate.diversity_questions = 2
    c.evaluate.probe_steps = 4
    c.evaluate.probe_images = 32
    c.evaluate.bootstrap = 10
    c.evaluate.batch_size = 4
  elif arg:
    raise ValueError(f"configs/quickstart.py:{arg}; expected no argument, or 'tiny'")
  return c
