"""Runs that differ in one stage share the folders of all others."""

import hashlib
import json
from pathlib import Path

from ml_collections import ConfigDict

# What decides a stage's result besides the data.
_SECTIONS = {"data": (), "latents": ("autoencoder",), "autoencoder": ("autoencoder",),
             "diffusion": ("autoencoder", "diffusion"), "classifier": ("classifier",),
             "judge": ("judge",), "verifier": ("verifier",)}


def decides(config: ConfigDict, stage: str) -> dict:
  """The part of the configuration that a stage depends on."""
  sections = ("data", *_SECTIONS[stage])
  if "autoencoder" in sections and config.autoencoder.loss.perceptual:
    sections += ("classifier",)   # whose features count
  parts = {name: config[name].to_dict() for name in sections}
  if stage == "judge":   # its images are its own
    del parts["data"]["phantom"]
  if stage == "diffusion":
    parts["text"] = config.text
  seeded = stage not in ("data", "judge")
  return parts | {"seed": config.seed if seeded else 0,
                  "max_shift": config.autoencoder.model.max_shift}


def share_stage(folder: Path, shared: Path, stage: str, config: ConfigDict) -> None:
  """Makes `folder/stage` a link to a folder that every run with the same `decides` uses.

  Args:
    folder: of the run, in a folder beside `shared`.
    shared: where the stages are.
    stage: a stage's name, "data" or "latents".
    config: of the run.

  Raises:
    ValueError: the link is there and means another configuration.
  """
  digest = hashlib.sha256(json.dumps(decides(config, stage), sort_keys=True).encode())
  target = shared / f"{stage}-{digest.hexdigest()[:12]}"
  target.mkdir(parents=True, exist_ok=True)
  link = folder / stage
  if link.is_symlink() and link.resolve() != target.resolve():
    raise ValueError(f"{link} belongs to another configuration of this row; use another workdir, "
                     f"or remove {folder}")
  if not link.exists():
    link.symlink_to(Path("..") / ".." / shared.name / target.name, target_is_directory=True)
