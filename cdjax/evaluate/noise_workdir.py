"""Optimises noises of a finding for a trained workdir, batch by batch, into a noise bank."""

import dataclasses
import functools
import logging
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

import cdjax
from cdjax.core.provenance import to_plain
from cdjax.core.rng import stream
from cdjax.core.types import PRESENT, Array, FindingsArrays
from cdjax.counterfactual.ahead import jit_on, make_noise_program, rows_sharding, task_sharding
from cdjax.counterfactual.noise import OptimisedNoise
from cdjax.counterfactual.noise_bank import (
  NoiseBank,
  bank_path,
  join_banks,
  read_bank,
  write_bank,
)
from cdjax.counterfactual.noise_objective import (
  NoiseTask,
  check_noise_config,
  make_optimise_fn,
)
from cdjax.counterfactual.noise_starts import mixed_starts, random_starts
from cdjax.diffusion.inversion import invert
from cdjax.evaluate.batching import map_batches
from cdjax.evaluate.class_centroids import class_centroid, class_reach
from cdjax.evaluate.copies import threshold_of
from cdjax.evaluate.drawn_findings import no_findings
from cdjax.evaluate.references import (
  LatentSpace,
  References,
  draw_asked,
  find_references,
  identity_rows,
  take,
)
from cdjax.evaluate.trained import Trained, put, spread
from cdjax.models.mirrored import mirror_findings
from cdjax.sharding.hosts import gather_texts, is_primary

log = logging.getLogger(__name__)

_FAR = 1e6   # where references that are not there lie: no sample comes close


@dataclasses.dataclass(frozen=True)
class NoiseFns:
  """The compiled functions of an optimisation, which all findings share.

  Attributes:
    optimise: `(starts [N, h, w, c], task) -> OptimisedNoise`.
    invert: `(key, z_0, z_id, findings) -> noises [B, h, w, c]`, of real cases.
  """

  optimise: Callable[[np.ndarray, NoiseTask], OptimisedNoise]
  invert: Callable[..., Array]


@dataclasses.dataclass(frozen=True)
class _Led:
  """What leads the noises of one finding.

  Attributes:
    every: all references; they say what is asked and where a class lies.
    near: at most `noise.references` of them, which no sample may copy.
    noises: those of `near` and of their mirror images, in this order; None: random starts.
    starts: the references that `noises` are of.
    reach: see `class_reach`.
    allowed: distance from each of `near`.
  """

  every: References
  near: References
  noises: np.ndarray | None
  starts: References
  reach: float
  allowed: float


def optimise_bank(trained: Trained, space: LatentSpace, finding: str, folder: Path, *, num: int,
                  seed: int, fns: NoiseFns | None = None,
                  on_noises: Callable[[int], None] = lambda count: None) -> NoiseBank:
  """Optimises `num` noises of a finding; goes on where an interrupted call was.

  Batch i is a function of the seed, the finding, the settings and i alone, so that a bank that was
  interrupted, or that is asked for more noises later, is the same as one made at once. Of several
  processes, which all call it and see one folder, the first one writes.

  Args:
    trained: the workdir; its config's `noise` and `counterfactual` are the settings.
    space: from `load_space`.
    finding: canonical name.
    folder: gets the bank, see `noise_bank.bank_path`.
    num: noises wanted; whole batches are made.
    seed: of references, starts, identities and what is asked.
    fns: of `make_noise_fns` with the same settings, where several findings share them.
    on_noises: told of noises that are done, those found on disk too.

  Returns:
    The bank, of at least `num` noises.

  Raises:
    ValueError: settings that are none; no training image shows the finding; the folder has a bank
      of another model or other settings.
  """
  config = trained.config
  check_noise_config(config.counterfactual, config.noise)
  if num < 1:
    raise ValueError(f"num={num}; expected 1 or more noises")
  find = functools.partial(find_references, space, finding, seed=seed, mirror=config.noise.mirror)
  every, starts = find(most=None), find(most=config.noise.references)
  near = starts.real
  allowed, whose = threshold_of(space, near, quantile=config.noise.copy_quantile)
  made_with = to_plain({
      "cdjax": cdjax.__version__, "model": trained.generator,
      "data": space.source.info["fingerprint"], "finding": finding,
      "vocabulary": trained.vocabulary, "references": near.ids, "seed": seed,
      "noise": config.noise.to_dict(), "counterfactual": config.counterfactual.to_dict(),
      "copy_threshold": {"distance": allowed, "of": whose}})
  path = bank_path(folder, finding)
  bank = read_bank(path, model=trained.generator) if path.exists() else None
  if len(set(gather_texts(str(0 if bank is None else len(bank))))) > 1:
    raise ValueError(f"{path}: the processes see different banks; expected one folder for all")
  if bank is not None:
    _check_same(path, bank.made_with, made_with)
    on_noises(min(len(bank), num))
  size, done = config.noise.batch_size, 0 if bank is None else len(bank)
  if done >= num:
    return bank
  fns = fns or make_noise_fns(trained)
  noises = (_invert(trained, space, starts, seed, fns.invert)
            if config.noise.start == "mixed" else None)
  led = _Led(every, near, noises, starts, class_reach(space, every), allowed)
  for batch in range(done // size, -(-num // size)):
    task, starts, columns = _make_batch(trained, space, led, batch, seed)
    found = fns.optimise(starts, task)
    bank = join_banks(bank, _as_bank(found, columns, made_with))
    if is_primary():
      write_bank(path, bank)
    on_noises(min(size, num - batch * size))
  return bank


def make_noise_fns(trained: Trained) -> NoiseFns:
  """The functions of a workdir and its settings, each compiled once.

  The noises, and what belongs to each of them, are spread over the mesh's axes data and fsdp, the
  parameters as the logical rules say; every process gets the results.
  """
  model, mesh, cfg = trained.model, trained.mesh, trained.config.counterfactual
  optimise = make_noise_program(mesh, model, counterfactual=cfg, noise=trained.config.noise)

  def own_noise(params, key, z_0, z_id, findings):
    del key
    return invert(model.denoise_fn(params, findings, z_id), z_0, schedule=model.schedule,
                  num_steps=cfg.inversion_steps, order=cfg.inversion_order,
                  refinements=cfg.inversion_refinements)

  def run(starts, task):
    size, parts = len(starts), mesh.shape["data"] * mesh.shape["fsdp"]
    if size % parts:   # they cannot be filled up: noises of a batch repel each other
      log.warning("noise.batch_size=%d does not divide over %d devices: some of them compute the "
                  "same; a multiple keeps all of them busy", size, parts)
    task = jax.tree.map(lambda leaf, to: put(np.asarray(leaf), to), task,
                        task_sharding(mesh, size, task))
    return jax.device_get(optimise(trained.placed, put(starts, rows_sharding(mesh, size)), task))

  own_noise = jit_on(mesh, own_noise, everywhere=True)
  return NoiseFns(run, spread(mesh, functools.partial(own_noise, trained.placed)))


def _optimise_fn(trained: Trained) -> Callable:
  return make_optimise_fn(trained.model, counterfactual=trained.config.counterfactual,
                          noise=trained.config.noise)


def _invert(trained: Trained, space: LatentSpace, references: References, seed: int,
            invert: Callable) -> np.ndarray:
  """The references' own noises, `[R, h, w, c]`."""
  key = stream(jax.random.key(seed), f"invert/{references.k}")
  findings = take(space.source.index.findings, references.rows)
  turned = mirror_findings(findings)
  findings = jax.tree.map(
      lambda here, there: np.where(references.mirrored[:, None], there, here), findings, turned)
  return map_batches(
      invert, references.path, _sample_identity(space, references.rows, stream(key, "identity")),
      findings, batch_size=trained.config.noise.batch_size, key=key)


def _make_batch(trained: Trained, space: LatentSpace, led: _Led, batch: int, seed: int
                ) -> tuple[NoiseTask, np.ndarray, dict[str, np.ndarray]]:
  """Task, starts and bank columns of batch number `batch`."""
  cfg, every = trained.config.noise, led.every
  k, size = every.k, cfg.batch_size
  # All that was ever asked for up to here, so that sides go on in turn.
  asked = take(draw_asked(every, (batch + 1) * size, len(trained.vocabulary), seed=seed),
               np.arange(batch * size, (batch + 1) * size))
  key = stream(jax.random.key(seed), f"noise/{trained.vocabulary[k]}", batch)
  side, zone = asked.side[:, k], asked.zone[:, k]
  identities = identity_rows(space, k, "real")
  identity = np.random.default_rng([seed, k, 2, batch]).choice(identities, size)
  columns = {"side": side, "zone": zone, "severity": asked.severity[:, k],
             "identity": identity.astype(np.int64)}
  places, place = np.unique(np.stack([side, zone], -1), axis=0, return_inverse=True)
  centroid = np.stack([class_centroid(every, int(s), int(z)) for s, z in places])
  members = {s: every.path[every.side == s] for s in np.unique(side)}
  pick = lambda values: np.stack([values[s] for s in side])
  # As many references for every finding, so that all of them run one program.
  empty = np.full((cfg.references - len(led.near), *every.path.shape[1:]), _FAR, np.float32)
  task = NoiseTask(
      findings=asked, z_id=_sample_identity(space, identity, stream(key, "identity")),
      place=place.reshape(-1).astype(np.int32), centroid=centroid[place.reshape(-1)],
      reach=np.full(size, led.reach, np.float32), healthy=space.healthy, spread=space.spread,
      channel_mean=pick({s: path.mean((0, 1, 2)) for s, path in members.items()}),
      channel_std=pick({s: path.std((1, 2)).mean(0) for s, path in members.items()}),
      references=np.concatenate([led.near.path, empty]), allowed=np.float32(led.allowed))
  return task, _starts(key, led, side, every.path.shape[1:], cfg), columns


def _starts(key: Array, led: _Led, side: np.ndarray, shape: tuple[int, ...], cfg: ConfigDict
            ) -> np.ndarray:
  """`[N, h, w, c]`; a mixed start is between references of its own side, where there are any."""
  starts = np.array(random_starts(key, len(side), shape))
  if led.noises is not None:
    for value in np.unique(side):
      rows, own = np.flatnonzero(side == value), led.starts.side == value
      if own.any():   # not all references were drawn to start from
        starts[rows] = mixed_starts(
            stream(key, "mixed", int(value)), led.noises[own], len(rows),
            concentration=cfg.concentration, share=cfg.mixed_share)
  return starts


def _sample_identity(space: LatentSpace, rows: np.ndarray, key: Array) -> np.ndarray:
  """A draw of each row's `z_id`, `[N, h, w, n-1, c]`: what the diffusion was trained to see."""
  read = lambda name: np.load(space.folder / f"id_{name}.npy", mmap_mode="r")[rows]
  mean = read("mean")
  return mean + np.exp(0.5 * read("logvar")) * np.asarray(jax.random.normal(key, mean.shape))


def _as_bank(found: OptimisedNoise, columns: dict, made_with: dict) -> NoiseBank:
  arrays = {name: np.asarray(getattr(found, name)) for name in (
      "z_T", "loss", "best_step", "steps")}
  curves = {name: np.asarray(curve) for name, curve in found.curves.items()}
  return NoiseBank(arrays | columns, curves, made_with)


def _check_same(path: Path, there: dict, asked: dict) -> None:
  """Refuses to go on with other settings.

  Raises:
    ValueError: says what differs.
  """
  # The version and the threshold's last digits, which follow from the rest, may differ.
  differ = [key for key in asked if key not in ("cdjax", "copy_threshold")
            and there.get(key) != asked[key]]
  if differ:
    detail = []
    for key in differ:
      old, new = there.get(key), asked[key]
      if isinstance(old, dict) and isinstance(new, dict):
        detail += [f"{key}.{name} was {old.get(name)!r}, is {new.get(name)!r}" for name in new
                   if old.get(name) != new.get(name)]
      else:
        detail.append(key if isinstance(new, list) else f"{key} was {old!r}, is {new!r}")
    raise ValueError(f"{path} was begun with other settings: {'; '.join(detail)}; give the same, "
                     "or another --output")


def asked_of(bank: NoiseBank, rows: np.ndarray) -> FindingsArrays:
  """The findings that some noises of a bank were optimised for, `[N, K]`."""
  names = list(bank.made_with["vocabulary"])
  k, asked = names.index(bank.finding), no_findings(len(rows), len(names))
  asked.status[:, k] = PRESENT
  for name in ("side", "zone", "severity"):
    getattr(asked, name)[:, k] = bank.arrays[name][rows]
  return asked


def noise_memory(trained: Trained, space: LatentSpace, *, sampler_steps: int) -> int:
  """Bytes of temporary memory that the compiled optimisation of one batch takes.

  Args:
    trained, space: the workdir.
    sampler_steps: of the sampler that the gradient goes through.
  """
  config = trained.config.copy_and_resolve_references()
  with config.unlocked():
    config.noise.sampler_steps, config.noise.start = sampler_steps, "random"
  trained = dataclasses.replace(trained, config=config)
  finding = trained.vocabulary[int(space.counts().argmax())]
  references = find_references(space, finding, most=config.noise.references, seed=0)
  led = _Led(references, references, None, references, 1.0, 1.0)
  task, starts, _ = _make_batch(trained, space, led, 0, 0)
  compiled = jax.jit(_optimise_fn(trained)).lower(trained.params, starts, task).compile()
  return int(compiled.memory_analysis().temp_size_in_bytes)
