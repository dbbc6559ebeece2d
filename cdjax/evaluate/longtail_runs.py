"""What the long-tail benchmark trains, each stage once for all that need it.

Several processes may ask at once: one works, the others wait for it.
"""

import contextlib
import dataclasses
import fcntl
import functools
from collections.abc import Iterator
from pathlib import Path

from ml_collections import ConfigDict

from cdjax.core.types import PyTree
from cdjax.data.ensure import ensure_dataset
from cdjax.data.source import Split, open_split
from cdjax.evaluate.longtail_keys import data_key, stage_key
from cdjax.evaluate.longtail_methods import Method, method_config
from cdjax.evaluate.references import LatentSpace, load_space
from cdjax.evaluate.resume import fingerprint_of
from cdjax.evaluate.trained import Trained, load_trained
from cdjax.train.init_from import load_stage
from cdjax.train.stages import STAGES, encode_split, stage_fingerprint


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
  """Waits until no other process holds `path`; a process that ends lets go, however it ends."""
  path.parent.mkdir(parents=True, exist_ok=True)
  with path.open("a") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    yield


@dataclasses.dataclass(frozen=True)
class Ready:
  """A trained workdir: its functions' parameters, its training images, and the autoencoder's
  fingerprint."""

  trained: Trained
  space: LatentSpace
  autoencoder: str


class Runs:
  """The trainings of a configuration in a folder."""

  def __init__(self, config: ConfigDict, workdir: Path):
    self.config, self.workdir = config, workdir
    self._load = functools.lru_cache(maxsize=2)(self._load_variant)

  @functools.cached_property
  def source(self) -> Split:
    """The training images; needs no training."""
    config = self.config.copy_and_resolve_references()
    folder = self.workdir / "runs" / f"data-{fingerprint_of(data_key(config))}"
    return open_split(self._run(config, folder, "data"), "train")

  @functools.cached_property
  def judge(self) -> tuple[PyTree, str]:
    """Parameters of the judge, and its fingerprint."""
    config = self.config.copy_and_resolve_references()
    folder = self.workdir / "runs" / f"judge-{fingerprint_of(stage_key(config, 'judge'))}"
    self._run(config, folder, "judge")
    return load_stage(folder, "judge")[0]["classifier"], stage_fingerprint(folder, "judge")

  def load(self, method: Method, seed: int) -> Ready:
    """What a method's images are made by, with the method's configuration."""
    ready = self._load(method.variant, seed)
    config = method_config(self.config, method, seed)
    return dataclasses.replace(ready, trained=dataclasses.replace(ready.trained, config=config))

  def _load_variant(self, variant: str, seed: int) -> Ready:
    config = method_config(self.config, Method("", variant), seed)
    digest = fingerprint_of(stage_key(config, "diffusion"))
    folder = self.workdir / "runs" / f"{variant}-{seed}-{digest}"
    reader = ("classifier",) if config.autoencoder.loss.perceptual else ()
    for stage in ("data", *reader, "autoencoder", "latents", "diffusion"):
      self._run(config, folder, stage)
    trained = load_trained(folder)
    return Ready(trained, load_space(dataclasses.replace(trained, config=config), folder),
                 stage_fingerprint(folder, "autoencoder"))

  def _run(self, config: ConfigDict, folder: Path, stage: str):
    """Does a stage where it is not done, in a folder that other runs link to as well."""
    target = self.workdir / "shared" / f"{stage}-{fingerprint_of(stage_key(config, stage))}"
    with exclusive(self.workdir / "locks" / target.name):
      target.mkdir(parents=True, exist_ok=True)
      folder.mkdir(parents=True, exist_ok=True)
      if not (folder / stage).exists():
        (folder / stage).symlink_to(Path("../../shared") / target.name, target_is_directory=True)
      if stage == "data":
        return ensure_dataset(config, folder)
      if stage == "latents":
        return [encode_split(config, folder, split) for split in ("train", "validation")]
      return STAGES[stage](config, folder)
