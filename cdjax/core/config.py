"""The whole configuration: every key, its default, its meaning. Config files change values.

A config file is `configs/NAME.py` with `get_config(arg: str = "") -> ConfigDict`; it calls
`base_config()` and changes values. The keys are locked, so an unknown key is an error that lists
what is known.
"""

import ast
import dataclasses
import importlib.util
from pathlib import Path

from ml_collections import ConfigDict

STAGES = ("classifier", "autoencoder", "diffusion")


def _optim(**kwargs) -> ConfigDict:
  """Keys every training stage has."""
  config = ConfigDict(dict(
      num_train_steps=1000,     # optimiser steps
      batch_size=24,            # examples a step over all devices (autoencoder: groups of two)
      optimizer="adamw",        # adamw | muon: orthogonalised momentum, learns far faster
      muon_rms=0.6,             # of Muon's updates, over the learning rate; AdamW's is about 0.2
      accumulation=1,           # micro-batches a step; batch_size must be divisible by it
      learning_rate=2e-3,       # peak, after warm-up
      warmup_steps=50,          # over which the learning rate rises
      end_learning_rate=0.0,    # of the cosine
      weight_decay=1e-4,        # on matrices and convolution kernels only
      b1=0.9,                   # decay of the optimiser's mean of gradients
      b2=0.99,                  # decay of its mean of squares
      grad_clip=1.0,            # global norm; 0: none
      ema_decay=0.999,          # 0: no average
      log_every=50,             # steps between lines of metrics
      eval_every=500,           # held-out losses and the sample grid; 0: at the end only
      checkpoint_every=500,     # steps
      keep_checkpoints=2,       # how many of the newest stay
      init_from="",             # checkpoint folder (a stage's, or a workdir) to start from
      init_include=".*",        # regular expression over parameter paths taken from it
  ))
  config.update(kwargs)
  return config


def base_config() -> ConfigDict:
  """Returns the default configuration, locked."""
  c = ConfigDict()
  c.name = "base"               # of the run
  c.seed = 0                    # of everything random
  c.stages = ",".join(STAGES)   # what `cdjax train` runs, in order

  # Data: a phantom, or a folder that `cdjax prepare` has made.
  c.data = ConfigDict(dict(
      source="phantom",         # phantom | prepared
      path="",                  # of `prepared`: the folder given to `cdjax prepare --output`
      resolution=64,            # side in pixels
      bits=8,                   # of the stored PNG: 8 or 16
      # Findings, canonical names; a prepared folder brings its own.
      vocabulary=("consolidation", "pleural_effusion", "nodule", "pneumothorax", "cardiomegaly"),
      num_workers=0,            # grain worker processes; 0 reads in this process, with threads
      read_threads=4,           # of the process that reads
      prefetch=16,              # batches read ahead of the device
  ))
  c.data.phantom = ConfigDict(dict(
      patients=3000,            # training patients; validation has a tenth of them
      seed=17,                  # of the population
      max_studies=4,            # studies a patient: uniform in 1..max_studies
      single_study_share=0.0,   # share of patients forced to one study, on top of the above
      healthy_share=0.3,        # studies without finding
      multiple_share=0.1,       # studies with two or more
      findings_from="truth",    # truth | reports: what training is told, as drawn or as read
      frequencies=(),           # relative frequency of each finding of the vocabulary; (): equal
      held_out_combinations=(),  # "finding side zone" strings that training never shows
  ))

  # Stage 1: the disentangled autoencoder.
  c.autoencoder = _optim(batch_size=12, num_train_steps=1100, optimizer="muon")
  # How often images of rare findings are drawn: none | inverse_sqrt | effective_number.
  c.autoencoder.class_sampling = "none"
  c.autoencoder.class_beta = 0.999   # of the effective number
  c.autoencoder.augment = 0.0   # turn, scale, shift a patient's images; 1: ±6°, ±8 %, ±3 px of 64
  c.autoencoder.anomalies = 0.0   # share of images that a made-up local change is laid over
  c.autoencoder.model = ConfigDict(dict(
      patch=4,                  # space-to-depth before the first convolution
      block_out_channels=(48, 64),  # channels of each resolution, from the finest
      lesion_channels=(24, 32),  # of the lesion's decoder; (): one decoder for everything
      layers_per_block=1,       # residual blocks of each resolution
      norm_num_groups=8,        # groups of group normalisation
      mid_attention=True,       # self-attention at the coarsest resolution
      slots=4,                  # n: n-1 identity slots and one of pathology
      slot_channels=4,          # c
      transformer_layers=1,     # of T; 0: T is the identity
      transformer_width=32,     # width of T
      transformer_heads=2,      # heads of T
      causal=True,              # identity slots do not attend to the pathology
      linear_path=True,         # local linear maps beside encoder and decoder of the film
      acquisition=True,         # explicit acquisition code
      max_shift=1.5,            # pixels that the acquisition code can shift by, at 64 px
      num_views=1,              # radiographic views with an embedding (1: none)
      sample_latents=True,      # False: posterior means everywhere (ablation)
      dtype="float32",          # activations: float32 | bfloat16
      remat="none",             # recomputed backwards: none | products (all but these) | full
  ))
  c.autoencoder.loss = ConfigDict(dict(
      sigma=0.02,               # of the Gaussian likelihood, for images in [0, 1]
      reconstruction=1.0,       # weight of the likelihood
      reconstruction_l1=0.0,    # weight of an L1 term beside it, in units of sigma
      ssim=0.0,                 # lambda of lambda * (1 - SSIM)
      perceptual=0.0,           # lambda of lambda * distance in the classifier's features, a pixel
      kl_identity=1.0,          # price of the identity slots, in nats
      kl_pathology=18.0,        # price of the pathology slot, in nats
      kl_acquisition=20.0,      # price of the acquisition code, in nats
      null_anchor=1.0,          # 0: healthy images keep their own pathology slot
      swap_same_patient=1.0,    # share of sick images rebuilt from the mate's identity
      swap_same_findings=0.0,   # agreement of patients with equal findings
      cycle_swap=0.0,           # decode a swap, encode it again
      findings=10.0,            # heads that read the findings from the pathology
      location=10.0,            # side and zone heads
      severity=10.0,            # severity heads
      independence_reversal=0.0,  # findings not readable from the identity: reversed gradients
      independence_hsic=0.0,    # identity independent of the findings: HSIC
      patient_reversal=0.0,     # patients not readable from the pathology
      invariance=9.0,           # KL between mates' identity posteriors, nats
      acquisition_equivariance=1.0,  # a known second exposure adds to the code
      acquisition_invariance=9.0,  # KL of z_acq when another patient's lesion is laid over, nats
      minimality=1.0,           # prior that a pathology changes few pixels, nats
      minimality_scale=0.02,    # of a change that is worth painting, images in [0, 1]
      outline_shift=0.0,        # pixels at 64 px that outlines may be off and no pathology is paid
      mirror=0.0,               # images made with a lesion on its other side are rebuilt too
      identity=0.0,             # contrastive, between patients
      price_warmup=0.2,         # share of training over which the prices rise from their start
      price_start=0.02,         # factor on the prices at step 0
  ))

  # Stage 2: diffusion of the pathology slot.
  c.diffusion = _optim(batch_size=64, num_train_steps=600, optimizer="muon")
  # How often images of rare findings are drawn: none | inverse_sqrt | effective_number.
  c.diffusion.class_sampling = "none"
  c.diffusion.class_beta = 0.999   # of the effective number
  # Class-balancing diffusion, arXiv:2305.00562.
  c.diffusion.cbdm = ConfigDict(dict(
      weight=0.0,               # tau: how alike predictions for other findings are kept; 0: off
      commitment=0.25,          # gamma: how much the other findings' predictions are moved
  ))
  c.diffusion.model = ConfigDict(dict(
      block_out_channels=(64, 96),  # channels of each resolution, from the finest
      layers_per_block=1,       # residual blocks of each resolution
      attention_blocks=(False, True),  # cross-attention in each resolution
      attention_heads=4,        # of the cross-attention
      norm_num_groups=16,       # groups of group normalisation
      context_width=128,        # D of the findings tokens
      dtype="float32",          # activations: float32 | bfloat16
      remat="none",             # recomputed backwards: none | products (all but these) | full
  ))
  c.diffusion.target = "pathology"   # pathology | everything: plain latent diffusion (baseline)
  c.diffusion.target_noise = 0.0     # of z_path as it is used: 0 posterior means, 1 draws
  c.diffusion.mirror_share = 0.25    # share of studies shown with the lesion on its other side
  c.diffusion.weigh_information = True   # elements of z_path count by what they can say
  c.diffusion.schedule = ConfigDict(dict(
      kind="cosine",            # cosine | linear | scaled_linear
      num_timesteps=1000,       # of training
      zero_terminal_snr=True,   # the last step is noise alone
      prediction="v",           # v | eps | x0
      loss_weighting="uniform",  # uniform | min_snr (floored at 0.1)
      min_snr_gamma=5.0,        # of min_snr
  ))
  # What reads the findings: tokens of their own, or, beside or instead of them, a text encoder from
  # a folder or an installed package: findings_tokens | bert:PLACE | clip:PLACE.
  c.text = "findings_tokens"
  c.diffusion.condition = ConfigDict(dict(
      findings="findings",      # labels: names only | findings: with side, zone, severity
      tokens=True,              # False: where there is a text encoder, its words only
      text_trained=False,       # the text encoder learns too
      text_length=16,           # tokens of a finding's phrase at most
      text_findings=3,          # findings of an image whose words are read
      region_map=True,          # a map of the asked regions as input channels
      dropout_findings=0.1,     # share of examples without findings, for guidance
      dropout_details=0.05,     # side, zone and severity, each: so that they may stay unsaid
      dropout_identity=0.1,     # share of examples without identity, for guidance
      identity="mate",          # mate | own (ablation: leaks) | none
  ))

  # Findings classifier: names the factual findings where nobody else does; its features are those
  # of autoencoder.loss.perceptual.
  classifier = _optim(batch_size=64, num_train_steps=300, eval_every=0)
  classifier.model = ConfigDict(dict(
      block_out_channels=(24, 48, 96, 128),  # channels of each resolution, from the finest
      layers_per_block=1,       # residual blocks of each resolution
      norm_num_groups=8,        # groups of group normalisation
      dropout=0.1,              # before the last layer
      dtype="float32",          # activations: float32 | bfloat16
  ))
  classifier.augment = True     # acquisition augmentation on the device
  classifier.severity_sigma = 0.2  # of a reading of severity: the finer, the more it counts
  c.classifier = classifier
  c.judge = ConfigDict(classifier.to_dict())   # phantom only; used for evaluation and nothing else
  c.judge.num_train_steps = 500
  c.judge.num_images = 12000    # independent, balanced
  c.judge.seed = 90001          # of its images
  # How often images of rare findings are drawn: none | inverse_sqrt | effective_number.
  c.classifier.class_sampling = "none"
  # How much they count where they are present, of the same kinds.
  c.classifier.class_balanced_loss = "none"
  c.classifier.class_beta = 0.999   # of the effective number, in both

  # Tells whether two images are of one patient; `cdjax evaluate --suite full` trains and asks it.
  c.verifier = _optim(batch_size=32, num_train_steps=300, eval_every=0)
  c.verifier.model = ConfigDict(dict(
      block_out_channels=(16, 32, 64),  # channels of each resolution, from the finest
      layers_per_block=1,       # residual blocks of each resolution
      norm_num_groups=8,        # groups of group normalisation
      dropout=0.0,              # in the residual blocks
      dtype="float32",          # activations: float32 | bfloat16
      embedding=64,             # numbers that a patient is told by
      grid=4,                   # features are averaged over so many places a side
  ))
  c.verifier.augment = True     # acquisition augmentation on the device
  c.verifier.temperature = 0.1  # of the contrastive loss

  # How many ways each axis is divided over the devices; one -1 takes what is left.
  c.mesh = ConfigDict(dict(
      data=-1,                  # examples
      fsdp=1,                   # examples and parameters
      tensor=1,                 # channels
  ))

  # Counterfactuals.
  c.counterfactual = ConfigDict(dict(
      sampler="dpmpp_2m",       # ddpm | ddim | dpmpp_2m
      num_steps=20,             # of the sampler
      inversion_steps=50,       # of the inversion
      inversion_order=2,        # 2 for dpmpp_2m, 1 with refinements for ddim
      inversion_refinements=0,  # fixed-point iterations of each step
      guidance_findings=2.0,    # 1: no guidance
      # Scales of their own for the K findings, in the vocabulary's order; of several asked findings
      # the largest counts. (): guidance_findings for all.
      guidance_by_finding=(),
      guidance_kept=1.5,        # where findings stay and their place or severity changes
      guidance_identity=1.0,    # 1: no guidance
      guidance_rescale=0.7,     # 0..1: undoes the over-exposure that guidance brings
      invert="kept",            # kept: invert where a finding stays; always; never
      strength=1.0,             # how far into the noise; of diffusion.target everything only
      noising="invert",         # invert | noise: how one gets there; of everything only
      residual="split",         # none | plain | masked | split
      mask_threshold=0.04,      # of |D(factual) - D(counterfactual)|, images in [0, 1]
      mask_dilation=2,          # pixels at 64 px
      residual_sigma=1.5,       # pixels at 64 px: finer than this is kept inside the edit
  ))

  # Initial-noise optimisation for findings of few images: `cdjax optimize-noise`.
  c.noise = ConfigDict(dict(
      start="mixed",            # mixed: between the references' own noises; random
      steps=10,                 # gradient steps
      sampler_steps=8,          # of the sampler that they go through
      learning_rate=0.1,        # of Adam
      clip=1.0,                 # norm of a noise's gradient at most
      patience=0,               # a noise stops after so many steps without improvement; 0: never
      batch_size=16,            # noises at a time; those of a batch repel each other
      references=64,            # training images of a finding that it is led by, at most
      mirror=True,              # references with their lesion on its other side lead it too
      semantic=1.0,             # weight of falling short of the finding at its place
      appearance=0.1,           # weight of the channels' means and deviations
      norm=0.01,                # weight of the prior of the noise's length
      repulsion=1.0,            # weight of the likeness to the batch's others at one place
      distance=1.0,             # weight of coming too close to any one reference
      concentration=1.0,        # of the Dirichlet weights: small: near one reference; large: mean
      mixed_share=0.7,          # of the references in a start; the rest is fresh noise
      copy_quantile=0.01,       # share of held-out cases that would count as copies
  ))

  # The long-tail benchmark: `cdjax benchmark longtail`.
  c.longtail = ConfigDict(dict(
      seeds=3,                  # training seeds
      head=500,                 # findings of more training images are the head
      tail=50,                  # findings of fewer are the tail
      images=64,                # of each finding that are measured
      noises=64,                # optimised for each finding that is not of the head
      fill=500,                 # images that every finding has in the classifier's training
      test_images=1280,         # of new patients, balanced, that the classifiers are tested on
      curve_steps=(0, 2, 5, 10, 20, 30),  # gradient steps of the curve
      class_sampling="inverse_sqrt",  # of the methods and the recipe that sample by class
      class_balanced_loss="effective_number",  # of the recipe with a balanced loss
      cbdm_weight=1.0,          # tau of the method CBDM
      bootstrap=1000,           # resamples of an interval
  ))

  # Measuring.
  c.evaluate = ConfigDict(dict(
      phases=(),                # of the phantom's evaluation, some of them only; (): all
      interventions=512,        # questions of each kind
      composition=128,          # questions of the null edit
      composition_10=64,        # of those, repeated ten times
      diversity_questions=32,   # questions that are answered several times
      diversity_answers=8,      # how often
      probe_steps=1500,         # at most; a probe ends at its plateau
      probe_images=6000,        # images that a probe is trained on
      bootstrap=200,            # resamples of an interval
      batch_size=32,            # images at a time
  ))
  return c.lock()


@dataclasses.dataclass(frozen=True)
class Row:
  """A row of an ablation.

  Attributes:
    meaning: what is different, in words.
    changes: key ("section.key") → value.
    seeds: how many training seeds it has.
  """

  meaning: str
  changes: dict
  seeds: int


def load_config(spec: str) -> ConfigDict:
  """Loads `path.py[:arg]`; the keys of the result are locked.

  Args:
    spec: path of a config file, from the current folder or in the installed `configs`, with an
      optional argument after a colon.

  Raises:
    FileNotFoundError: no such config; lists those that exist.
  """
  path, colon, arg = spec.partition(":")
  module = _load_module(path)
  return (module.get_config(arg) if colon else module.get_config()).lock()


def load_rows(path: str) -> dict[str, Row]:
  """The rows of an ablation: `ROWS` of a config file, whose `get_config` takes their names.

  Raises:
    FileNotFoundError: no such config; lists those that exist.
    ValueError: the config has no rows.
  """
  module = _load_module(path)
  if not hasattr(module, "ROWS"):
    raise ValueError(f"{path} has no ROWS; expected an ablation like configs/ablations.py")
  return {name: Row(*row) for name, row in module.ROWS.items()}


def list_configs() -> dict[str, str]:
  """Name ("quickstart") to header (its docstring) of the configs in `configs/`."""
  return {path.stem: ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
          for folder in _folders()[::-1] for path in sorted((folder / "configs").glob("*.py"))}


def _folders() -> list[Path]:
  """Where `configs` lies: in a checkout beside the package, installed inside of it."""
  package = Path(__file__).resolve().parent.parent
  return [package.parent, package]


def _load_module(path: str):
  """The module of a config file."""
  found = next((f / path for f in [Path(), *_folders()] if (f / path).is_file()), None)
  if found is None:
    known = [f"{name}.py" for name in sorted(list_configs())]
    raise FileNotFoundError(f"config {path!r} not found; configs/ has {known}")
  module_spec = importlib.util.spec_from_file_location(f"cdjax_config_{found.stem}", found)
  module = importlib.util.module_from_spec(module_spec)
  module_spec.loader.exec_module(module)
  return module


def config_from_record(values: dict) -> ConfigDict:
  """The configuration that a stage recorded as JSON, with tuples where the schema has them.

  Args:
    values: nested dicts and lists, as `train.record` writes them.

  Returns:
    A locked `ConfigDict` with the schema's keys; keys that are newer than the record have their
    defaults.

  Raises:
    KeyError: a key that the schema does not know.
  """
  config = base_config()

  def fill(section: ConfigDict, given: dict) -> None:
    for key, value in given.items():
      if isinstance(section.get(key), ConfigDict):
        fill(section[key], value)
      else:
        section[key] = tuple(value) if isinstance(value, list) else value

  fill(config, values)
  return config
