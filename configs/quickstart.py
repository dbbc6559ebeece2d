"""The phantom with five findings at 64 px: the whole method in a quarter of an hour.

Command: `cdjax quickstart --workdir DIR` (or `cdjax train --config configs/quickstart.py
--workdir DIR` for the training stages alone).
"""

from cdjax.core.config import base_config


def get_config(arg: str = ""):
  """Returns the quickstart; `arg` "tiny" shrinks everything for a test of the plumbing."""
  c = base_config()
  c.name = "quickstart"
  # Combinations that training never shows: `unseen/finding` asks for them.
  c.data.phantom.held_out_combinations = ("consolidation left upper", "nodule right lower")
  if arg == "tiny":
    c.name = "tiny"
    c.data.resolution = 32
    c.data.phantom.patients = 40
    c.autoencoder.model.block_out_channels = (16, 16)
    c.autoencoder.model.lesion_channels = (8, 8)
    c.autoencoder.model.mid_attention = False
    c.autoencoder.model.transformer_width = 16
    c.diffusion.model.block_out_channels = (16, 16)
    c.diffusion.model.norm_num_groups = 8
    c.diffusion.model.context_width = 32
    c.classifier.model.block_out_channels = c.judge.model.block_out_channels = (8, 16)
    c.verifier.model.block_out_channels = (8, 16)
    for stage in ("autoencoder", "diffusion", "classifier", "judge", "verifier"):
      c[stage].num_train_steps = 6
      c[stage].batch_size = 8
      c[stage].warmup_steps = 2
      c[stage].log_every = 2
      c[stage].checkpoint_every = 3
      c[stage].eval_every = 0
    c.judge.num_images = 64
    c.evaluate.interventions = 8
    c.evaluate.composition = 4
    c.evaluate.composition_10 = 2
    c.evaluate.diversity_questions = 2
    c.evaluate.probe_steps = 4
    c.evaluate.probe_images = 32
    c.evaluate.bootstrap = 10
    c.evaluate.batch_size = 4
    c.counterfactual.num_steps = 4
    c.counterfactual.inversion_steps = 6
    c.noise.steps = 2
    c.noise.sampler_steps = 2
    c.noise.batch_size = 4
    c.noise.copy_quantile = 0.2   # of some ten held-out images
  elif arg:
    raise ValueError(f"configs/quickstart.py:{arg}; expected no argument, or 'tiny'")
  return c
