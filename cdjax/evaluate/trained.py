"""A trained workdir as functions: what the evaluation measures and the command line asks."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cdjax.core.config import config_from_record
from cdjax.core.images import to_unit
from cdjax.core.rng import stream
from cdjax.core.types import Array, FindingsArrays, Posterior, PyTree
from cdjax.counterfactual.abduct import abduct
from cdjax.counterfactual.answer import act, answer, residual_options
from cdjax.counterfactual.causal_model import CausalModel, CausalParams, make_causal_model
from cdjax.counterfactual.predict import predict
from cdjax.evaluate.features import Extractor, classifier_extractor
from cdjax.evaluate.subject import Subject
from cdjax.losses.anchor import null_pathology
from cdjax.models.classifier import make_classifier
from cdjax.models.denoiser import LatentStats
from cdjax.models.text_tokens import load_table
from cdjax.train.details import DETAILS_FILE
from cdjax.train.init_from import load_stage
from cdjax.train.stages import WORDS_FILE, stage_fingerprint


@dataclasses.dataclass(frozen=True)
class Trained:
  """Everything that a workdir's stages have learnt.

  Attributes:
    config: of the run.
    model: the causal model's functions.
    params: its parameters.
    classifier, judge: parameters, or None where that stage was not trained.
    fingerprint: of all of them together.
    generator: of what images are made with: autoencoder and diffusion.
    details: see `train.details.known_details`.
  """

  config: ConfigDict
  model: CausalModel
  params: CausalParams
  classifier: PyTree | None
  judge: PyTree | None
  fingerprint: str
  generator: str
  details: dict[str, list[str]]

  @property
  def vocabulary(self) -> tuple[str, ...]:
    """K names of findings."""
    return tuple(self.config.data.vocabulary)


def load_trained(workdir: str | Path) -> Trained:
  """Loads the finished stages of a workdir.

  Raises:
    FileNotFoundError: the autoencoder or the diffusion is not trained to its end.
  """
  workdir = Path(workdir)
  prints = [stage_fingerprint(workdir, stage) for stage in ("autoencoder", "diffusion")]
  digest = lambda: hashlib.sha256("".join(prints).encode()).hexdigest()
  generator = digest()
  autoencoder, _ = load_stage(workdir, "autoencoder")
  diffusion, record = load_stage(workdir, "diffusion")
  config = config_from_record(record)
  stats = json.loads((workdir / "diffusion" / "stats.json").read_text())
  words = workdir / "diffusion" / WORDS_FILE
  if config.text != "findings_tokens" and not words.exists():
    raise FileNotFoundError(f"{words}: the words of the findings are missing; `cdjax train` with "
                            "the run's config and workdir makes them")
  params = CausalParams(
      autoencoder=autoencoder["autoencoder"], denoiser=diffusion["denoiser"],
      stats=LatentStats(**{k: np.asarray(v, np.float32) for k, v in stats.items()}),
      text=load_table(words) if words.exists() else None)
  details = json.loads((workdir / "diffusion" / DETAILS_FILE).read_text())
  extra = {}
  for stage in ("classifier", "judge"):
    done = (workdir / stage / "done.json").exists()
    extra[stage] = load_stage(workdir, stage)[0]["classifier"] if done else None
    prints += [stage_fingerprint(workdir, stage)] if done else []
  return Trained(config, make_causal_model(config), params, fingerprint=digest(),
                 generator=generator, details=details, **extra)


def load_classifier_extractor(workdir: str | Path) -> Extractor:
  """The features of a workdir's classifier, at the size it was trained at.

  Raises:
    FileNotFoundError: the classifier is not trained to its end.
  """
  workdir = Path(workdir)
  stage_fingerprint(workdir, "classifier")
  params, record = load_stage(workdir, "classifier")
  config = config_from_record(record)
  model = make_classifier(config.classifier.model, len(config.data.vocabulary))
  return classifier_extractor(model, params["classifier"], size=config.data.resolution)


def make_findings_fn(config: ConfigDict, params: PyTree, stage: str) -> Callable:
  """`fn(x) -> {"finding", "side", "zone", "severity"}`, probabilities, of a classifier's stage."""
  model = make_classifier(config[stage].model, len(config.data.vocabulary))

  @jax.jit
  def findings_fn(params: PyTree, x: Array) -> dict[str, Array]:
    logits = model.apply({"params": params}, x)
    return {"finding": jax.nn.sigmoid(logits.status), "side": jax.nn.sigmoid(logits.side),
            "zone": jax.nn.sigmoid(logits.zone), "severity": logits.severity}

  return functools.partial(findings_fn, params)


def make_subject(trained: Trained) -> Subject:
  """The functions that the evaluation calls; each is compiled once for a batch size."""
  model, cfg = trained.model, trained.config.counterfactual
  options = residual_options(cfg)
  bare = options | {"residual": "none"}

  @jax.jit
  def counterfactual(params, key, x, findings, do_findings):
    return answer(model, params, key, x, findings, do_findings, cfg=cfg).image

  @jax.jit
  def reconstruct(params, key, x, findings):
    return 2.0 * abduct(model, params, key, x, findings).explained - 1.0

  @jax.jit
  def swap(params, key, x, findings, other, findings_other):
    mine = abduct(model, params, key, x, findings)
    theirs = abduct(model, params, stream(key, "other"), other, findings_other)
    return predict(model, params, mine, theirs.z_path, **bare).image

  @jax.jit
  def encoded(params, key, x, findings, exact, do_findings):
    mine = abduct(model, params, key, x, findings)
    theirs = abduct(model, params, stream(key, "exact"), exact, do_findings)
    return predict(model, params, mine, theirs.z_path, **options).image

  @jax.jit
  def null(params, key, x, findings, residual):   # `residual` is traced: one program for both
    mine = abduct(model, params, key, x, findings)
    z_path = act(model, params, key, mine, findings, findings, cfg)
    whole, plain = (predict(model, params, mine, z_path, **how).image for how in (options, bare))
    return jnp.where(residual, whole, plain)

  @jax.jit
  def encode(params, x, findings: FindingsArrays) -> dict[str, Posterior]:
    encoding = model.encode(params, x)
    everything = jax.tree.map(lambda a: null_pathology(a, findings.healthy), encoding.slots)
    variance = null_pathology(jnp.exp(encoding.slots.logvar), findings.healthy)
    path = Posterior(everything.mean[..., -1, :], jnp.log(variance[..., -1, :]))
    return {"id": encoding.identity, "path": path, "acq": encoding.acquisition}

  @jax.jit
  def attention(params, x, findings: FindingsArrays) -> Array:
    z = null_pathology(model.encode(params, x).slots.mean, findings.healthy)
    _, seen = model.autoencoder.apply({"params": params.autoencoder}, z, method="transform",
                                      mutable=["intermediates"])
    flat = flax.traverse_util.flatten_dict(seen["intermediates"])
    layers = [weights for path, (weights,) in flat.items() if path[-2].startswith("slots_")]
    return sum(a[..., -1, :].mean(-2) for a in layers) / len(layers)   # [B, h, w, heads, n, n]

  @jax.jit
  def effect(params, key, x, findings, other, findings_other):
    mine = abduct(model, params, key, x, findings)
    theirs = abduct(model, params, stream(key, "other"), other, findings_other)
    def changed(slot):
      z = mine.z.at[..., slot, :].set(theirs.z[..., slot, :])
      seen = to_unit(model.decode(params, z, mine.code, mine.view))
      return jnp.abs(seen - mine.explained)[..., 0]
    return jnp.stack([changed(slot) for slot in range(mine.z.shape[-2])], 1)

  close = lambda fn: functools.partial(fn, trained.params)
  of_slots = lambda fn: None if model.whole else close(fn)   # what only a disentangled model has
  judge = trained.judge
  return Subject(
      counterfactual_fn=close(counterfactual), reconstruct_fn=close(reconstruct),
      swap_fn=of_slots(swap), encoded_fn=of_slots(encoded),
      null_fn=lambda key, x, findings, residual: null(
          trained.params, key, x, findings, residual=bool(residual)),
      encode_fn=of_slots(encode),
      attention_fn=of_slots(attention) if trained.config.autoencoder.model.transformer_layers
      else None,
      effect_fn=of_slots(effect),
      judge_fn=None if judge is None else make_findings_fn(trained.config, judge, "judge"))
