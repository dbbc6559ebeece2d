"""The phantom with all fourteen findings, several at once: the whole method, taken to its end.

Commands:
  cdjax train --config configs/phantom.py --workdir DIR --config.seed=0
  cdjax evaluate --workdir DIR --seed 1

`configs/phantom.py:128` is the same at 128 px; `configs/phantom.py:no_disentanglement` is the
baseline with the same budget: plain latent diffusion, edited by inversion and back.
Meant for one GPU, or some hours of 2 CPU cores. Not yet measured.
"""

from cdjax.core.config import base_config
from cdjax.core.presets import NO_DISENTANGLEMENT
from cdjax.data.phantom import ALL


def get_config(arg: str = ""):
  """Returns the configuration; `arg` is "" for 64 px, "128", or "no_disentanglement"."""
  if arg not in ("", "128", "no_disentanglement"):
    raise ValueError(f"configs/phantom.py:{arg}; expected no argument, '128', or "
                     "'no_disentanglement'")
  c = base_config()
  c.name = "phantom"
  c.stages = "judge,classifier,autoencoder,diffusion"
  c.data.vocabulary = ALL
  c.data.phantom.patients = 10000
  c.data.phantom.multiple_share = 0.2
  # Combinations that training never shows: `unseen/finding` asks for them.
  c.data.phantom.held_out_combinations = (
      "consolidation left upper", "nodule right lower", "mass left mid", "fracture right upper")
  c.autoencoder.num_train_steps = 7000
  # A finer likelihood than the quickstart's: small lesions weigh more.
  c.autoencoder.loss.sigma = 0.015
  c.autoencoder.loss.kl_acquisition = 30.0
  # Small lesions have few pixels: the pathology may say more, and is told what a classifier sees.
  c.autoencoder.loss.kl_pathology = 9.0
  c.autoencoder.loss.perceptual = 2.0
  c.autoencoder.loss.outline_shift = 0.5
  c.autoencoder.loss.mirror = 0.25
  c.autoencoder.eval_every = 2000
  c.autoencoder.checkpoint_every = 1000
  c.diffusion.num_train_steps = 3000
  c.diffusion.model.block_out_channels = (96, 128)
  c.classifier.num_train_steps = 1500
  c.judge.num_train_steps = 4000
  c.judge.num_images = 40000
  if arg == "no_disentanglement":
    c.name = "phantom-no-disentanglement"
    c.update_from_flattened_dict(NO_DISENTANGLEMENT)
  if arg == "128":
    c.name = "phantom128"
    c.data.resolution = 128
  return c
