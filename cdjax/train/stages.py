"""What each stage trains on: its data, its objective and its held-out check, put together.

A workdir holds `data/ classifier/ autoencoder/ latents/ diffusion/`, in this order, `judge/` where
there is a phantom, and `verifier/` once somebody asks for it.
"""

import functools
import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cdjax.core.config import base_config
from cdjax.core.images import ssim, to_unit
from cdjax.core.rng import stream
from cdjax.core.types import PyTree
from cdjax.data.arrays import ArrayBatches
from cdjax.data.ensure import ensure_dataset
from cdjax.data.groups import make_groups
from cdjax.data.phantom import balanced_batch
from cdjax.data.pipeline import eval_batches, make_loader
from cdjax.data.source import Split, open_split
from cdjax.losses.anchor import null_pathology
from cdjax.losses.balance import example_weights, positive_weights
from cdjax.models.classifier import make_classifier
from cdjax.models.disentangled import make_autoencoder
from cdjax.models.text import FAMILIES, TextEncoder, load_text_encoder
from cdjax.models.text_tokens import PhraseTable, make_table, read_states, save_table
from cdjax.sharding.hosts import is_primary
from cdjax.sharding.mesh import make_mesh, replicated
from cdjax.train.details import DETAILS_FILE, known_details
from cdjax.train.disk import write_json
from cdjax.train.init_from import load_stage
from cdjax.train.latents import (
    LatentAttach,
    denoised_studies,
    encode_dataset,
    latent_shape,
    read_stats,
)
from cdjax.train.loop import train_stage
from cdjax.train.objectives import autoencoder, classifier, diffusion, verifier

WORDS_FILE = "words.npz"   # of the diffusion: what a text encoder makes of the findings
_EVAL_BATCH = 64
_GRID = 8   # images in a sample grid's row
_RENDER_BATCH = 256


def _loader(config: ConfigDict, stage: str, source: Split, **kwargs):
  data = config.data
  return make_loader(
      source, batch_size=config[stage].batch_size, seed=config.seed,
      num_workers=data.num_workers, read_threads=data.read_threads, prefetch=data.prefetch,
      shard_index=jax.process_index(), shard_count=jax.process_count(), **kwargs)


def class_sampling(stage: ConfigDict, status: np.ndarray) -> np.ndarray | None:
  """How often each image is drawn, `[N]`, as a stage's `class_sampling` says; None: all alike.

  Args:
    stage: `config.autoencoder`, `.diffusion` or `.classifier`.
    status: of the training images, `[N, K]`.
  """
  if stage.class_sampling == "none":
    return None
  return example_weights(status, stage.class_sampling, beta=stage.class_beta)


def balanced_loss(stage: ConfigDict, status: np.ndarray) -> PyTree:
  """What the classifier's objective is given to weigh rare findings by: {} for all alike.

  Args:
    stage: `config.classifier`.
    status: of the training images, `[N, K]`.
  """
  if stage.class_balanced_loss == "none":
    return {}
  return {"positive_weights": positive_weights(status, stage.class_balanced_loss,
                                               beta=stage.class_beta)}


def _train(config: ConfigDict, stage: str, workdir: Path, source_fingerprint: str,
           **kwargs) -> PyTree:
  return train_stage(
      name=stage, config=config, stage_config=config[stage], workdir=workdir,
      mesh=make_mesh(config.mesh), data_fingerprint=source_fingerprint, **kwargs)


def _everywhere(config: ConfigDict) -> jax.sharding.Sharding:
  """Of what every process reads, however the network's activations are split."""
  return replicated(make_mesh(config.mesh))


def run_autoencoder(config: ConfigDict, workdir: Path, **options) -> PyTree:
  """Stage 1; the held-out check reports PSNR and SSIM and draws a grid."""
  folder = ensure_dataset(config, workdir)
  source, held_out = open_split(folder, "train"), open_split(folder, "validation")
  model = make_autoencoder(config.autoencoder.model)
  batch = next(eval_batches(held_out, min(_EVAL_BATCH, len(held_out))))

  @functools.partial(jax.jit, out_shardings=_everywhere(config))
  def rebuild(params):
    apply = lambda *args, method: model.apply({"params": params["autoencoder"]}, *args,
                                              method=method)
    encoding = apply(batch["image"], method="encode")
    z = null_pathology(encoding.slots.mean, batch["findings"].healthy)
    decode = lambda z: to_unit(apply(z, encoding.acquisition.mean, batch["view"], method="decode"))
    own, healthy = decode(z), decode(null_pathology(z, jnp.ones(len(z), bool)))
    x = to_unit(batch["image"])
    return x, own, healthy, jnp.mean((x - own) ** 2), ssim(x, own).mean()

  def eval_fn(params, step):
    del step
    x, own, healthy, mse, similarity = jax.device_get(rebuild(params))
    shown = np.arange(_GRID) % len(x)   # a row is full, or own and healthy would not stand below
    rows = [np.clip(a[shown], 0, 1) for a in (x, own, healthy)]
    return {"psnr": -10 * np.log10(mse), "ssim": similarity,
            "images": {"image_rebuilt_healthy": np.concatenate(rows)}}

  return _train(
      config, "autoencoder", workdir, source.info["fingerprint"],
      init_fn=lambda key: autoencoder.init_params(config, key),
      loss_fn=autoencoder.make_loss_fn(config), frozen=_reader(config, workdir),
      loader=_loader(config, "autoencoder", source,
                     weights=class_sampling(config.autoencoder, source.index.findings.status)),
      eval_fn=eval_fn,
      **options)


def _reader(config: ConfigDict, workdir: Path) -> PyTree:
  """The trained classifier, where the autoencoder's objective asks what it sees."""
  if not config.autoencoder.loss.perceptual:
    return {}
  if not (Path(workdir) / "classifier" / "done.json").exists():
    raise FileNotFoundError(
        f"{workdir}/classifier: autoencoder.loss.perceptual="
        f"{config.autoencoder.loss.perceptual} needs a trained classifier; put `classifier` before "
        "`autoencoder` in --stages, or set it to 0")
  return {"classifier": load_stage(workdir, "classifier")[0]["classifier"]}


def stage_fingerprint(workdir: Path, stage: str) -> str:
  """Fingerprint of a finished stage's parameters.

  Raises:
    FileNotFoundError: the stage has not been trained to its end.
  """
  path = Path(workdir) / stage / "done.json"
  if not path.exists():
    raise FileNotFoundError(f"{path} not found: the stage {stage!r} is not trained to its end; "
                            f"run `cdjax train` for it first")
  return json.loads(path.read_text())["fingerprint"]


def encode_split(config: ConfigDict, workdir: Path, split: str = "train") -> Path:
  """The latents of a split under the workdir's autoencoder, encoded if they are not there."""
  source = open_split(ensure_dataset(config, workdir), split)
  params, _ = load_stage(workdir, "autoencoder")
  return encode_dataset(config, params["autoencoder"], source, Path(workdir) / "latents",
                        fingerprint=stage_fingerprint(workdir, "autoencoder"))


def run_diffusion(config: ConfigDict, workdir: Path, **options) -> PyTree:
  """Stage 2, on the latents of stage 1."""
  latents = encode_split(config, workdir)
  source = open_split(ensure_dataset(config, workdir), "train")
  shape = latent_shape(latents)
  identity = config.diffusion.condition.identity
  weights = denoised_studies(config, source).astype(np.float64)
  sampling = class_sampling(config.diffusion, source.index.findings.status)
  loader = _loader(
      config, "diffusion", source, with_images=False,
      weights=weights if sampling is None else weights * sampling,
      attach=LatentAttach(latents, "own" if identity == "own" else "mate"))
  folder = Path(workdir) / "diffusion"
  folder.mkdir(parents=True, exist_ok=True)
  stats = read_stats(latents, target_noise=config.diffusion.target_noise)
  text, encoder = read_phrases(config)
  frozen, tower = frozen_words(config, text, encoder)
  frozen |= {"stats": stats}
  if is_primary():
    write_json(folder / "stats.json",
               {field.name: getattr(stats, field.name).tolist() for field in fields(stats)})
    write_json(folder / DETAILS_FILE, known_details(source.index.findings, source.vocabulary))
    if text is not None and tower is None:
      save_table(folder / WORDS_FILE, text)
  params = _train(
      config, "diffusion", workdir, source.info["fingerprint"],
      init_fn=lambda key: diffusion.init_params(config, shape, key, text, tower),
      loss_fn=diffusion.make_loss_fn(config, tower), frozen=frozen, loader=loader,
      **options)
  if tower is not None:   # what it has learnt is in its states; nobody needs the encoder again
    read = jax.jit(lambda learnt, ids, mask: diffusion.tower_apply(
        tower, frozen["tower"], learnt)(ids, mask), out_shardings=_everywhere(config))
    states = read_states(functools.partial(read, params["text"]), text.ids, text.mask)
    if is_primary():
      save_table(folder / WORDS_FILE, text.replace(states=states))
  return params


def frozen_words(config: ConfigDict, text: PhraseTable | None, encoder: TextEncoder | None
                 ) -> tuple[PyTree, nn.Module | None]:
  """What the diffusion's objective is given of the words, and the encoder's module if it learns."""
  if text is None:
    return {}, None
  if not config.diffusion.condition.text_trained:
    return {"text": text}, None
  return {"text": text, "tower": encoder.params}, encoder.module


def read_phrases(config: ConfigDict) -> tuple[PhraseTable | None, TextEncoder | None]:
  """The words of every finding and their encoder, if `config.text` names one.

  Raises:
    ValueError: `config.text` is of another form, or nothing would tell the diffusion the findings.
  """
  if config.text == "findings_tokens":
    if not config.diffusion.condition.tokens:
      raise ValueError("diffusion.condition.tokens is False and text is 'findings_tokens': nothing "
                       "would tell the findings; name a text encoder or keep the tokens")
    if config.diffusion.condition.text_trained:
      raise ValueError("diffusion.condition.text_trained is True and text is 'findings_tokens': "
                       "there is no text encoder to train")
    return None, None
  kind, colon, place = config.text.partition(":")
  if kind not in FAMILIES or not colon or not place:
    raise ValueError(f"text={config.text!r}; expected 'findings_tokens' or one of "
                     + ", ".join(f"'{name}:FOLDER-OR-PACKAGE'" for name in FAMILIES))
  encoder = load_text_encoder(kind, place)
  table = make_table(config.data.vocabulary, encoder, config.diffusion.condition.text_length)
  return table, encoder


def run_classifier(config: ConfigDict, workdir: Path, **options) -> PyTree:
  """The user's findings classifier, on the training images."""
  folder = ensure_dataset(config, workdir)
  source, held_out = open_split(folder, "train"), open_split(folder, "validation")
  model = make_classifier(config.classifier.model, len(source.vocabulary))
  probabilities = jax.jit(lambda params, x: jax.nn.sigmoid(
      model.apply({"params": params["classifier"]}, x).status), out_shardings=_everywhere(config))

  def eval_fn(params, step):
    del step
    scores, truth = [], []
    for batch in eval_batches(held_out, min(_EVAL_BATCH, len(held_out))):
      keep = batch["mask"]
      scores.append(np.asarray(probabilities(params, batch["image"]))[keep])
      truth.append(batch["findings"].status[keep])
    return _balanced_accuracy(np.concatenate(scores), np.concatenate(truth), source.vocabulary)

  return _train(
      config, "classifier", workdir, source.info["fingerprint"],
      init_fn=lambda key: classifier.init_params(config, "classifier", key),
      loss_fn=classifier.make_loss_fn(config, "classifier"),
      frozen=balanced_loss(config.classifier, source.index.findings.status),
      loader=_loader(config, "classifier", source, mates=False,
                     weights=class_sampling(config.classifier, source.index.findings.status)),
      eval_fn=eval_fn, **options)


def _balanced_accuracy(scores: np.ndarray, status: np.ndarray, vocabulary) -> dict[str, float]:
  """Per finding where both classes occur, and their mean."""
  out = {}
  for k, name in enumerate(vocabulary):
    present, absent = status[:, k] == 1, status[:, k] == 0
    if present.any() and absent.any():
      seen = scores[:, k] > 0.5
      out[f"balanced_accuracy/{name}"] = float(
          0.5 * (seen[present].mean() + 1 - seen[absent].mean()))
  return out | ({"balanced_accuracy": float(np.mean(list(out.values())))} if out else {})


def run_judge(config: ConfigDict, workdir: Path, **options) -> PyTree:
  """The phantom's judge, on independent balanced images. It measures; nothing else may use it."""
  if config.data.source != "phantom":
    raise ValueError("the judge needs exact images, which only the phantom has "
                     f"(data.source={config.data.source!r})")
  judge, size = config.judge, config.data.resolution
  config = config.copy_and_resolve_references()
  # All training seeds and populations of a vocabulary are judged by the same one.
  config.seed, config.data.phantom = judge.seed, base_config().data.phantom
  key = stream(jax.random.key(judge.seed), "judge")

  def render(i):
    return balanced_batch(stream(key, "batch", i), _RENDER_BATCH, size=size,
                          vocabulary=tuple(config.data.vocabulary))

  def make_arrays():
    made = [jax.device_get(render(i)) for i in range(-(-judge.num_images // _RENDER_BATCH))]
    images, findings = jax.tree.map(lambda *parts: np.concatenate(parts), *made)
    return {"image": images, "findings": findings}

  loader = ArrayBatches(make_arrays, batch_size=judge.batch_size, seed=judge.seed,
                        shard_index=jax.process_index(), shard_count=jax.process_count())
  return _train(
      config, "judge", workdir, f"phantom-balanced-{judge.seed}-{judge.num_images}",
      init_fn=lambda key: classifier.init_params(config, "judge", key),
      loss_fn=classifier.make_loss_fn(config, "judge"), frozen={}, loader=loader, **options)


def run_verifier(config: ConfigDict, workdir: Path, **options) -> PyTree:
  """Whether two images are of one patient, from the training patients with several studies.

  Raises:
    ValueError: there are none.
  """
  source = open_split(ensure_dataset(config, workdir), "train")
  several = make_groups(source.index.patient, source.index.study, source.index.findings).has_mate
  if not several.any():
    raise ValueError(f"{source.path}: no training patient has several studies; there is nothing "
                     "to learn a patient from")
  return _train(
      config, "verifier", workdir, source.info["fingerprint"],
      init_fn=lambda key: verifier.init_params(config, key),
      loss_fn=verifier.make_loss_fn(config), frozen={},
      loader=_loader(config, "verifier", source, weights=several.astype(np.float64)), **options)


# name -> run(config, workdir, **options of `train_stage`, e.g. progress) -> averaged parameters
STAGES: dict[str, Callable[..., PyTree]] = {
    "classifier": run_classifier,
    "autoencoder": run_autoencoder,
    "diffusion": run_diffusion,
    "judge": run_judge,
    "verifier": run_verifier,
}
