"""MIMIC-CXR-JPG at 256 or 512 px, with a denoiser of Stable Diffusion's size (860 M parameters).

Commands (`:512` is the larger one; without it 256 px):
  cdjax prepare --dataset mimic-cxr --images mimic-cxr-jpg --reports mimic-cxr-reports.zip \\
    --output data --resolution 512
  cdjax compile --config configs/mimic_cxr_large.py:512 --topology v5e:16x16
  cdjax train --config configs/mimic_cxr_large.py:512 --workdir run --config.data.path=data \\
    --stages autoencoder
  cdjax encode --config configs/mimic_cxr_large.py:512 --workdir run --config.data.path=data
  cdjax train --config configs/mimic_cxr_large.py:512 --workdir run --config.data.path=data

Meant for a TPU v5e-256 or its like; parameters and their optimiser's states are spread over four
chips, the rest of the chips are replicas. Not yet trained: batch sizes, steps and learning rates
are those of Stable Diffusion and of smaller runs, scaled.
"""

from cdjax.core.config import base_config
from cdjax.core.presets import RADIOGRAPHS_128


def get_config(arg: str = "256"):
  """Returns the configuration; `arg` is "256" or "512". The vocabulary is the data set's."""
  if arg not in ("256", "512"):
    raise ValueError(f"configs/mimic_cxr_large.py:{arg}; expected '256' or '512'")
  c = base_config()
  c.name = f"mimic-cxr-{arg}"
  c.update_from_flattened_dict(RADIOGRAPHS_128)
  c.data.resolution = int(arg)
  c.mesh.fsdp = 4   # what a chip sends is then the same on 16 chips and on 4096

  # A latent of an eighth of the image's side: 32 × 32 or 64 × 64.
  c.autoencoder.batch_size = 256
  c.autoencoder.accumulation = 1
  c.autoencoder.num_train_steps = 60000
  model = c.autoencoder.model
  model.patch = 2
  model.block_out_channels = (128, 256, 512)
  model.lesion_channels = (64, 96, 128)
  model.layers_per_block = 2
  model.norm_num_groups = 32
  model.remat = "full"

  # Stable Diffusion 1.5's UNet.
  c.diffusion.optimizer = "adamw"   # Muon's matrices would have to be gathered whole
  c.diffusion.learning_rate = 1e-4
  c.diffusion.weight_decay = 1e-2
  c.diffusion.b2 = 0.999
  c.diffusion.warmup_steps = 1000
  c.diffusion.ema_decay = 0.9999
  c.diffusion.batch_size = 2048
  c.diffusion.num_train_steps = 100000
  model = c.diffusion.model
  model.block_out_channels = (320, 640, 1280, 1280)
  model.layers_per_block = 2
  model.attention_blocks = (True, True, True, False)
  model.attention_heads = 8
  model.norm_num_groups = 32
  model.context_width = 768
  return c
