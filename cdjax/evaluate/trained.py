"""A trained workdir as functions: what the evaluation measures and the command line asks."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from ml_collections import ConfigDict

from cdjax.core.config import base_config, config_from_record
from cdjax.core.images import to_unit
from cdjax.core.rng import stream
from cdjax.core.types import Array, FindingsArrays, Posterior, PyTree
from cdjax.counterfactual.abduct import abduct
from cdjax.counterfactual.ahead import jit_on, make_answer_program, rows_sharding
from cdjax.counterfactual.answer import act, residual_options
from cdjax.counterfactual.causal_model import CausalModel, CausalParams, make_causal_model
from cdjax.counterfactual.predict import predict
from cdjax.evaluate.features import Extractor, classifier_extractor
from cdjax.evaluate.subject import Subject
from cdjax.losses.anchor import null_pathology
from cdjax.models.classifier import make_classifier
from cdjax.models.denoiser import LatentStats
from cdjax.models.text_tokens import load_table
from cdjax.sharding.mesh import make_mesh, replicated
from cdjax.sharding.partition import param_shardings
from cdjax.train.ahead import abstract_stats, latent_shape
from cdjax.train.details import DETAILS_FILE
from cdjax.train.init_from import load_stage
from cdjax.train.objectives import autoencoder, diffusion
from cdjax.train.stages import WORDS_FILE, stage_fingerprint


@dataclasses.dataclass(frozen=True)
class Trained:
  """Everything that a workdir's stages have learnt.

  Attributes:
    config: of the run; its `mesh` is not the training's but that of the devices there are.
    model: the causal model's functions.
    params: its parameters, NumPy arrays; `placed` has them on the devices.
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

  @property
  def mesh(self) -> Mesh:
    """Of all devices, as `config.mesh` divides them."""
    return make_mesh(self.config.mesh)

  @functools.cached_property
  def placed(self) -> CausalParams:
    """The parameters on the mesh, split as the logical rules say; put there once."""
    mesh = self.mesh
    if mesh.size == 1:
      return jax.device_put(self.params, replicated(mesh))
    shapes = abstract_params(self.config, mesh, self.params.text)
    return jax.tree.map(lambda leaf, shape: put(leaf, shape.sharding), self.params, shapes)


def load_trained(workdir: str | Path) -> Trained:
  """Loads the finished stages of a workdir, for the devices that there are.

  The run's mesh was that of the machine that trained it; here it is that of the default
  configuration until somebody sets another.

  Raises:
    FileNotFoundError: the autoencoder or the diffusion is not trained to its end.
  """
  workdir = Path(workdir)
  prints = [stage_fingerprint(workdir, stage) for stage in ("autoencoder", "diffusion")]
  digest = lambda: hashlib.sha256("".join(prints).encode()).hexdigest()
  generator = digest()
  first, _ = load_stage(workdir, "autoencoder")
  second, record = load_stage(workdir, "diffusion")
  config = config_from_record(record)
  config.mesh = base_config().mesh
  stats = json.loads((workdir / "diffusion" / "stats.json").read_text())
  words = workdir / "diffusion" / WORDS_FILE
  if config.text != "findings_tokens" and not words.exists():
    raise FileNotFoundError(f"{words}: the words of the findings are missing; `cdjax train` with "
                            "the run's config and workdir makes them")
  params = CausalParams(
      autoencoder=first["autoencoder"], denoiser=second["denoiser"],
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


def abstract_params(config: ConfigDict, mesh: Mesh, text: PyTree = None) -> CausalParams:
  """Shapes of the trained parameters, with their shardings on a mesh.

  Args:
    config: the configuration.
    mesh: may be of devices that do not exist here.
    text: the words of the findings or their shapes, or None.
  """
  shape = lambda leaf, sharding: jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype, sharding=sharding)
  words = jax.tree.map(lambda leaf: shape(leaf, replicated(mesh)), text)
  latent, key = latent_shape(config), jax.random.key(0)
  boxed = {
      "autoencoder": jax.eval_shape(
          lambda key: autoencoder.init_params(config, key), key)["autoencoder"],
      "denoiser": jax.eval_shape(
          lambda key, text: diffusion.init_params(config, latent, key, text), key,
          words)["denoiser"]}
  of = {name: jax.tree.map(shape, nn.unbox(tree), param_shardings(tree, mesh))
        for name, tree in boxed.items()}
  return CausalParams(**of, stats=abstract_stats(config, mesh), text=words)


def put(array: Array, sharding: NamedSharding) -> Array:
  """An array or a random key that every process has, laid out over the devices of all of them."""
  if sharding.is_fully_addressable:
    return jax.device_put(array, sharding)
  if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
    return jax.random.wrap_key_data(put(jax.random.key_data(array), sharding),
                                    impl=jax.random.key_impl(array))
  array = np.asarray(array)   # each process gives its devices their parts; nothing is compared
  return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def spread(mesh: Mesh, fn: Callable) -> Callable:
  """`fn` with its examples spread over the axes data and fsdp; on one device `fn` itself.

  Args:
    mesh: where its parameters are.
    fn: a jitted function of arrays whose first axis is the batch, and of scalars and random keys;
      no example may depend on another. It is called with the mesh set.

  Returns:
    A function of the same arguments, host arrays. A batch that does not divide over the devices is
    filled up with its last row, which is cut off again.
  """
  if mesh.size == 1:
    return fn
  parts = mesh.shape["data"] * mesh.shape["fsdp"]

  def call(*args: PyTree) -> PyTree:
    args = jax.tree.map(lambda leaf: leaf if hasattr(leaf, "dtype") else np.asarray(leaf), args)
    size, = {len(leaf) for leaf in jax.tree.leaves(args) if leaf.ndim}
    rows = np.minimum(np.arange(-(-size // parts) * parts), size - 1)

    def place(leaf):
      if not leaf.ndim:
        return put(leaf, replicated(mesh))
      return put(np.asarray(leaf)[rows], rows_sharding(mesh, len(rows)))

    with jax.set_mesh(mesh):
      out = fn(*jax.tree.map(place, args))
    return out if size == len(rows) else jax.tree.map(lambda leaf: leaf[:size], out)

  return call


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
  model, mesh = make_classifier(config[stage].model, len(config.data.vocabulary)), make_mesh(
      config.mesh)

  def findings_fn(params: PyTree, x: Array) -> dict[str, Array]:
    logits = model.apply({"params": params}, x)
    return {"finding": jax.nn.sigmoid(logits.status), "side": jax.nn.sigmoid(logits.side),
            "zone": jax.nn.sigmoid(logits.zone), "severity": logits.severity}

  params = jax.device_put(params, replicated(mesh))
  return spread(mesh, functools.partial(jit_on(mesh, findings_fn), params))


def make_subject(trained: Trained) -> Subject:
  """The functions that the evaluation calls; each is compiled once for a batch size."""
  model, cfg, mesh = trained.model, trained.config.counterfactual, trained.mesh
  options = residual_options(cfg)
  bare = options | {"residual": "none"}

  def reconstruct(params, key, x, findings):
    return 2.0 * abduct(model, params, key, x, findings).explained - 1.0

  def swap(params, key, x, findings, other, findings_other):
    mine = abduct(model, params, key, x, findings)
    theirs = abduct(model, params, stream(key, "other"), other, findings_other)
    return predict(model, params, mine, theirs.z_path, **bare).image

  def encoded(params, key, x, findings, exact, do_findings):
    mine = abduct(model, params, key, x, findings)
    theirs = abduct(model, params, stream(key, "exact"), exact, do_findings)
    return predict(model, params, mine, theirs.z_path, **options).image

  def null(params, key, x, findings, residual):   # `residual` is traced: one program for both
    mine = abduct(model, params, key, x, findings)
    z_path = act(model, params, key, mine, findings, findings, cfg)
    whole, plain = (predict(model, params, mine, z_path, **how).image for how in (options, bare))
    return jnp.where(residual, whole, plain)

  def encode(params, x, findings: FindingsArrays) -> dict[str, Posterior]:
    encoding = model.encode(params, x)
    everything = jax.tree.map(lambda a: null_pathology(a, findings.healthy), encoding.slots)
    variance = null_pathology(jnp.exp(encoding.slots.logvar), findings.healthy)
    path = Posterior(everything.mean[..., -1, :], jnp.log(variance[..., -1, :]))
    return {"id": encoding.identity, "path": path, "acq": encoding.acquisition}

  def attention(params, x, findings: FindingsArrays) -> Array:
    z = null_pathology(model.encode(params, x).slots.mean, findings.healthy)
    _, seen = model.autoencoder.apply({"params": params.autoencoder}, z, method="transform",
                                      mutable=["intermediates"])
    flat = flax.traverse_util.flatten_dict(seen["intermediates"])
    layers = [weights for path, (weights,) in flat.items() if path[-2].startswith("slots_")]
    return sum(a[..., -1, :].mean(-2) for a in layers) / len(layers)   # [B, h, w, heads, n, n]

  def effect(params, key, x, findings, other, findings_other):
    mine = abduct(model, params, key, x, findings)
    theirs = abduct(model, params, stream(key, "other"), other, findings_other)
    def changed(slot):
      z = mine.z.at[..., slot, :].set(theirs.z[..., slot, :])
      seen = to_unit(model.decode(params, z, mine.code, mine.view))
      return jnp.abs(seen - mine.explained)[..., 0]
    return jnp.stack([changed(slot) for slot in range(mine.z.shape[-2])], 1)

  over = lambda program: spread(mesh, functools.partial(program, trained.placed))
  close = lambda fn: over(jit_on(mesh, fn))
  of_slots = lambda fn: None if model.whole else close(fn)   # what only a disentangled model has
  judge, null_fn = trained.judge, close(null)
  return Subject(
      counterfactual_fn=over(make_answer_program(mesh, model, cfg)),
      reconstruct_fn=close(reconstruct),
      swap_fn=of_slots(swap), encoded_fn=of_slots(encoded),
      null_fn=lambda key, x, findings, residual: null_fn(key, x, findings, bool(residual)),
      encode_fn=of_slots(encode),
      attention_fn=of_slots(attention) if trained.config.autoencoder.model.transformer_layers
      else None,
      effect_fn=of_slots(effect),
      judge_fn=None if judge is None else make_findings_fn(trained.config, judge, "judge"))
