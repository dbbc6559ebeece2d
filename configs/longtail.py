"""Ten findings from some 4,000 training images down to four, 64 px: remedies for the rare ones.

Command: `cdjax benchmark longtail --config configs/longtail.py --workdir DIR [--only CELLS]`

Everything is trained on these data: one autoencoder a seed, three diffusions (plain, class-aware
sampling, CBDM), a classifier for every recipe; three seeds. Meant for at most ten hours on 2 CPU
cores in all, in several sittings or by two processes at once (`cdjax benchmark --help`). All
methods are asked the same questions where `longtail.noises` is at least `longtail.images`.
Not yet measured.
"""

from cdjax.core.config import base_config
from cdjax.core.presets import TINY

# From the head to the tail; each is about half as frequent as the one before it.
_FINDINGS = ("pleural_effusion", "consolidation", "cardiomegaly", "atelectasis", "nodule",
             "pulmonary_edema", "pneumothorax", "mass", "pulmonary_fibrosis", "pleural_thickening")
_COUNTS = (4000, 1857, 862, 400, 186, 86, 40, 19, 9, 4)


def get_config(arg: str = ""):
  """Returns the benchmark; `arg` "tiny" shrinks everything for a test of the plumbing."""
  c = base_config()
  c.name = "longtail"
  c.data.vocabulary = _FINDINGS
  c.data.phantom.patients = 4260
  c.data.phantom.seed = 19   # 3985, 1883, 857, 384, 194, 94, 45, 22, 9 and 4 of 10,611 studies
  c.data.phantom.frequencies = _COUNTS
  c.data.phantom.multiple_share = 0.0   # second findings would fill up the tail
  # What the autoencoder does not keep nobody can ask for, so in all methods it is shown the rare
  # findings more often, and made-up changes besides.
  c.autoencoder.num_train_steps = 4000
  c.autoencoder.class_sampling = "inverse_sqrt"
  c.autoencoder.anomalies = 0.4
  c.autoencoder.loss.kl_pathology = 6.0
  c.autoencoder.loss.outline_shift = 0.25
  c.autoencoder.eval_every = 0
  c.diffusion.num_train_steps = 1000
  c.diffusion.eval_every = 0
  c.classifier.num_train_steps = 600
  c.judge.num_train_steps = 1500
  c.judge.num_images = 24000
  if arg == "tiny":
    c.name = "longtail-tiny"
    c.update_from_flattened_dict(TINY)
    c.data.vocabulary = ("pleural_effusion", "nodule")
    c.data.phantom.frequencies = (8, 1)
    c.longtail.seeds = 1
    c.longtail.head, c.longtail.tail = 30, 20
    c.longtail.images = 8
    c.longtail.noises = 8
    c.longtail.fill = 22
    c.longtail.test_images = 32
    c.longtail.curve_steps = (0, 2)
    c.longtail.bootstrap = 20
  elif arg:
    raise ValueError(f"configs/longtail.py:{arg}; expected no argument, or 'tiny'")
  return c
