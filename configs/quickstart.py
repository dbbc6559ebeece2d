"""The phantom with five findings at 64 px: the whole method in twenty minutes.

Command: `cdjax quickstart --workdir DIR` (or `cdjax train --config configs/quickstart.py
--workdir DIR` for the training stages alone).

Measured on 2 CPU cores with nothing else running, one training seed, 128 questions, seed 1:
1,221 seconds in all; autoencoder 30.4 dB (PCA-256 33.7), swap 27.7 dB; healthy/left_inside 0.34,
/judged 0.97; counterfactual/gain_inside 0.73, /rmse_outside 0.0055, /finding 0.94, /side 0.93,
/zone 0.92, /factual_left 0.022, /unasked 0.031; severity/spearman 0.74 (the judge on exact images
0.81); multi/finding 0.74; unseen/finding 0.52; leakage 0.33; patient_from_pathology 0.14.
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
