"""The data set's latents, encoded once: what stage 2 trains on.

Posteriors are kept; who wants samples draws anew at every step. They are keyed by the fingerprints
of the autoencoder and of the data, in plain `.npy` files that are read through the memory map:
float32, with four slots of four channels at 512 px 1.05 MB an image.
"""

import dataclasses
import json
import logging
import math
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict
from tqdm import tqdm

from cdjax.core.images import to_unit
from cdjax.core.types import PyTree
from cdjax.data.pipeline import eval_batches
from cdjax.data.source import Split
from cdjax.losses.anchor import null_pathology
from cdjax.losses.kl import posterior_sample
from cdjax.models.denoiser import LatentStats
from cdjax.models.disentangled import make_autoencoder
from cdjax.models.mirrored import mirror_lesion
from cdjax.sharding.hosts import all_agree, gather_texts, is_primary
from cdjax.train.disk import disk_errors, write_json

_PARTS = ("path", "mirror", "id", "null")
_BATCH = 64
_ROWS = 1024   # of latents in memory at once
_PART = 512   # rows of a file while it is not done, a multiple of _BATCH; what a stop may lose
_PARTS_FOLDER = "parts"
log = logging.getLogger(__name__)


def encode_dataset(config: ConfigDict, params: PyTree, source: Split, folder: Path, *,
                   fingerprint: str) -> Path:
  """Encodes every image of a split; returns at once where that was done.

  All processes of a run call it and share the images out. A file is written by one of them, from
  its beginning to its end: 512 rows each, which are then joined to one file an array. After a stop
  it goes on with the rows that are missing, with any number of processes.

  `path_*` is what the diffusion denoises: the pathology slot, or all slots side by side where
  `diffusion.target` is everything.

  `mirror_*` is the pathology of the same patient with the lesion on the other side; zeros for
  everything.

  `null_*` is the identity of the re-encoded pseudo-healthy image, what a denoiser is shown of a
  patient without another study.

  Args:
    config: the configuration.
    params: of the autoencoder.
    source: N records.
    folder: parent of the result's folder.
    fingerprint: of the autoencoder.

  Returns:
    A folder with `NAME.npy` for each name, `[N, h, w, ...]` float32, and `stats.json`.
  """
  data = source.info["fingerprint"]
  whole = config.diffusion.target == "everything"
  folder = folder / f"{source.name}-{fingerprint[:12]}-{data[:12]}{'-whole' if whole else ''}"
  if all_agree(not is_primary() or (folder / "stats.json").exists()):
    return folder
  model = make_autoencoder(config.autoencoder.model)

  @jax.jit
  def encode(params, key, x, healthy, view):
    apply = lambda *args, method: model.apply({"params": params}, *args, method=method)
    encoding = apply(x, method="encode")
    z = posterior_sample(key, encoding.slots)
    everyone = np.ones(len(x), bool)
    code = posterior_sample(jax.random.fold_in(key, 1), encoding.acquisition)
    decode = lambda z: apply(z, code, view, method="decode")
    pseudo_healthy = decode(null_pathology(z, everyone))
    again = apply(pseudo_healthy, method="encode")
    if whole:
      target = jax.tree.map(lambda a: a.reshape(*a.shape[:3], -1), encoding.slots)
      mirrored = jax.tree.map(jnp.zeros_like, target)
    else:
      target = encoding.pathology
      explained = decode(z.at[..., -1, :].set(target.mean))
      turned, _ = mirror_lesion(x, to_unit(explained), to_unit(pseudo_healthy))
      mirrored = apply(turned, method="encode").pathology
    posteriors = (target, mirrored, encoding.identity, again.identity)
    return {f"{name}_{part}": getattr(posterior, part)
            for name, posterior in zip(_PARTS, posteriors, strict=True)
            for part in ("mean", "logvar")}

  mesh = Mesh(np.asarray(jax.local_devices()), ("batch",))   # of this process; it works alone
  split = NamedSharding(mesh, PartitionSpec("batch" if _BATCH % mesh.size == 0 else None))
  params, key = jax.device_put((params, jax.random.key(config.seed)),
                               NamedSharding(mesh, PartitionSpec()))

  def run(i, batch):
    inputs = (batch["image"], batch["findings"].healthy, batch["view"])
    return encode(params, jax.random.fold_in(key, i), *jax.device_put(inputs, split))

  first = next(eval_batches(source, _BATCH))
  shapes = {name: value.shape[1:] for name, value in jax.eval_shape(
      lambda: run(0, first)).items()}
  spans = [(start, min(start + _PART, len(source))) for start in range(0, len(source), _PART)]
  # One process looks at the folder: the others' views of a network's folder may be older.
  todo = json.loads(gather_texts(
      json.dumps(_begin(folder, shapes, spans)) if is_primary() else "")[0])
  if is_primary() and todo["spans"]:
    size = len(source) * sum(4 * math.prod(shape) for shape in shapes.values())
    log.info("%s: the latents of %d images take %.2f GB (%.1f KB each), and up to twice as much "
             "while they are joined; %.2f GB are free", folder, len(source), size / 1e9,
             size / 1e3 / len(source), shutil.disk_usage(folder).free / 1e9)
  mine = todo["spans"][jax.process_index()::jax.process_count()]
  with tqdm(total=sum(-(-(stop - start) // _BATCH) for start, stop in mine), desc="encode",
            unit="batches", disable=not is_primary()) as bar:
    for start, stop in mine:
      rows = {name: np.empty((stop - start, *shape), np.float32) for name, shape in shapes.items()}
      numbers = range(start // _BATCH, -(-stop // _BATCH))
      for i, batch in zip(numbers, eval_batches(source, _BATCH, batches=numbers), strict=True):
        keep, place = int(batch["mask"].sum()), i * _BATCH - start
        for name, value in run(i, batch).items():
          rows[name][place:place + keep] = np.asarray(value)[:keep]
        bar.update()
      for name, value in rows.items():
        _write(_part(folder, name, start, stop), value.shape, [value])
  all_agree(True)   # every part is there
  for name in todo["names"][jax.process_index()::jax.process_count()]:
    _join(folder, name, shapes[name], spans)
  all_agree(True)   # every array is whole
  if is_primary():
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in shapes}
    write_json(folder / "stats.json", _statistics(arrays, denoised_studies(config, source)))
    shutil.rmtree(folder / _PARTS_FOLDER)
  all_agree(True)
  return folder


def _part(folder: Path, name: str, start: int, stop: int) -> Path:
  """The file of some rows of an array."""
  return folder / _PARTS_FOLDER / f"{name}-{start}-{stop}.npy"


def _begin(folder: Path, names: Iterable[str], spans: list[tuple[int, int]]) -> dict[str, list]:
  """What is left to do: the `names` of arrays to join and the `spans` of rows to encode."""
  if not (folder / _PARTS_FOLDER).exists():   # nothing begun here can be trusted
    for path in folder.glob("*.npy"):
      path.unlink()
    (folder / _PARTS_FOLDER).mkdir(parents=True)
  names = [name for name in names if not (folder / f"{name}.npy").exists()]
  return {"names": names,
          "spans": [span for span in spans
                    if not all(_part(folder, name, *span).exists() for name in names)]}


def _join(folder: Path, name: str, shape: tuple[int, ...], spans: list[tuple[int, int]]) -> None:
  """Makes an array `[N, *shape]` of its parts, and removes them."""
  paths = [_part(folder, name, *span) for span in spans]
  if missing := [path for path in paths if not path.exists()]:
    raise FileNotFoundError(f"{missing[0]} is not seen by process {jax.process_index()} of "
                            f"{jax.process_count()}; the workdir must be one that all of them see")
  _write(folder / f"{name}.npy", (spans[-1][1], *shape), map(np.load, paths))
  for path in paths:
    path.unlink()


def _write(path: Path, shape: tuple[int, ...], parts: Iterable[np.ndarray]) -> None:
  """Writes float32 rows one after the other, as one array; the file is whole or not there."""
  temporary = path.with_name(path.name + ".tmp")
  with disk_errors(path.parent):
    with temporary.open("wb") as file:
      np.lib.format.write_array_header_1_0(
          file, {"descr": "<f4", "fortran_order": False, "shape": shape})
      for part in parts:
        file.write(np.ascontiguousarray(part, "<f4").data)
      file.flush()
      os.fsync(file.fileno())
    temporary.replace(path)


def denoised_studies(config: ConfigDict, source: Split) -> np.ndarray:
  """Which studies the diffusion learns from, `[N]` bool: the null pathology needs no diffusion.

  Raises:
    ValueError: no study of the split has a finding.
  """
  sick = ~np.asarray(source.index.findings.healthy)
  if not sick.any():
    raise ValueError(f"{source.path}: no image of split {source.name!r} has a finding; "
                     "there is nothing for the diffusion to learn")
  return np.ones_like(sick) if config.diffusion.target == "everything" else sick


def _statistics(arrays: dict[str, np.ndarray], sick: np.ndarray) -> dict[str, list]:
  """Of posteriors: the studies to denoise, and all identities.

  `NAME_mean` and `NAME_variance` are those of the means, `NAME_noise` is the mean variance of the
  posteriors, each per channel; for `path_information` see `LatentStats`.
  """

  path, identity = _moments(arrays, "path", sick), _moments(arrays, "id", np.ones_like(sick))
  known, noise = path["variance"], path["noise"]
  return (_by_channel("path", path) | _by_channel("id", identity)
          | {"path_information": (known / (known + noise)).tolist()})


def _moments(arrays: dict[str, np.ndarray], name: str, rows: np.ndarray) -> dict[str, np.ndarray]:
  """Per element, `[h, w, ...]` float64: mean and variance of the means, mean of the variances.

  A part of the rows is in memory at a time, for all of them need not fit.
  """
  chosen = np.flatnonzero(rows)
  total = square = noise = 0.0
  for start in range(0, len(chosen), _ROWS):
    part = chosen[start:start + _ROWS]
    mean = arrays[f"{name}_mean"][part].astype(np.float64)
    total, square = total + mean.sum(0), square + (mean ** 2).sum(0)
    noise = noise + np.exp(arrays[f"{name}_logvar"][part].astype(np.float64)).sum(0)
  mean = total / len(chosen)
  return {"mean": mean, "variance": np.maximum(square / len(chosen) - mean ** 2, 0.0),
          "noise": noise / len(chosen)}


def _by_channel(name: str, moments: dict[str, np.ndarray]) -> dict[str, list]:
  """Of places and examples together, per channel."""
  mean = moments["mean"].mean((0, 1))
  values = {"mean": mean, "noise": moments["noise"].mean((0, 1)),
            "variance": (moments["variance"] + (moments["mean"] - mean) ** 2).mean((0, 1))}
  return {f"{name}_{key}": value.tolist() for key, value in values.items()}


def read_stats(folder: Path, *, target_noise: float) -> LatentStats:
  """The statistics of a folder that `encode_dataset` made.

  Args:
    folder: the latents.
    target_noise: of the pathologies that are denoised: 0 posterior means, 1 draws.
  """
  values = json.loads((folder / "stats.json").read_text())
  of = {name: np.asarray(value, np.float32) for name, value in values.items()}
  return LatentStats(
      path_mean=of["path_mean"], id_mean=of["id_mean"], path_information=of["path_information"],
      path_std=np.sqrt(of["path_variance"] + target_noise**2 * of["path_noise"]),
      id_std=np.sqrt(of["id_variance"] + of["id_noise"]))


def latent_shape(folder: Path) -> tuple[int, int, int, int]:
  """`(h, w, n, c)` of the latents in a folder."""
  _, height, width, identities, channels = np.load(folder / "id_mean.npy", mmap_mode="r").shape
  return height, width, identities + 1, channels


@dataclasses.dataclass
class LatentAttach:
  """Adds latents to a batch: an anchor's pathology and the identity that it may be shown.

  Attributes:
    folder: from `encode_dataset`.
    identity: "mate": the mate's, or the pseudo-healthy image's where there is none; "own": the
      anchor's own (an ablation that leaks).
  """

  folder: Path
  identity: str = "mate"

  def __post_init__(self):
    self._arrays = None

  def __getstate__(self):
    return self.__dict__ | {"_arrays": None}

  def __call__(self, index: np.ndarray, mate: np.ndarray | None) -> dict[str, np.ndarray]:
    """Arrays `[B, h, w, ...]`: means and logvars named path_*, mirror_* and id_*."""
    if self._arrays is None:
      self._arrays = {name: np.load(self.folder / f"{name}.npy", mmap_mode="r")
                      for name in (f"{p}_{m}" for p in _PARTS for m in ("mean", "logvar"))}
    arrays = self._arrays
    out = {name: np.asarray(arrays[name][index])
           for name in ("path_mean", "path_logvar", "mirror_mean", "mirror_logvar")}
    for part in ("mean", "logvar"):
      if self.identity == "own" or mate is None:
        out[f"id_{part}"] = np.asarray(arrays[f"id_{part}"][index])
      else:
        alone = (mate == index)[:, None, None, None, None]
        out[f"id_{part}"] = np.where(alone, arrays[f"null_{part}"][index],
                                     arrays[f"id_{part}"][mate])
    return out
