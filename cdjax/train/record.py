"""A stage's record: what it was started with, and whether it may go on with something else."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cdjax.core.config import base_config
from cdjax.core.provenance import config_fingerprint, flatten, package_versions, to_plain
from cdjax.core.trees import tree_fingerprint
from cdjax.core.types import PyTree

log = logging.getLogger(__name__)

# Keys that do not change what is trained, only what is seen and kept of it, and how fast.
FREE_STAGE_KEYS = {"log_every", "eval_every", "checkpoint_every", "keep_checkpoints"}
FREE_DATA_KEYS = {"num_workers", "read_threads", "prefetch"}


def make_record(name: str, config: Any, stage_config: Any, data_fingerprint: str,
                frozen: PyTree) -> dict[str, Any]:
  """Everything that decides a stage's result, as JSON.

  Args:
    name: of the stage.
    config: the whole configuration.
    stage_config: the stage's part of it.
    data_fingerprint: of the data set; "" where it is not known.
    frozen: arrays that the stage uses and does not train; their fingerprint is kept.
  """
  config, stage = to_plain(config), to_plain(stage_config)
  return {
      "name": name,
      "config": config,
      "stage": stage,
      "config_fingerprint": config_fingerprint(config),
      "data_fingerprint": data_fingerprint,
      "frozen_fingerprint": tree_fingerprint(frozen),
      "packages": package_versions(),
  }


def read_record(folder: Path) -> dict[str, Any]:
  """The record in a stage's folder.

  Raises:
    FileNotFoundError: there is none, so nothing was trained there.
  """
  path = folder / "config.json"
  if not path.exists():
    raise FileNotFoundError(f"{path} not found; train the stage {folder.name!r} first")
  return json.loads(path.read_text())


def _decisive(record: Mapping[str, Any]) -> dict[str, Any]:
  """The values that a run cannot change on its way."""
  values = {f"{record['name']}.{key}": value for key, value in flatten(record["stage"]).items()
            if key not in FREE_STAGE_KEYS}
  config = record["config"]
  values["seed"] = config.get("seed")
  values |= {f"data.{key}": value for key, value in flatten(config.get("data", {})).items()
             if key not in FREE_DATA_KEYS}
  values["fingerprint of the data"] = record["data_fingerprint"]
  values["fingerprint of the frozen parameters"] = record["frozen_fingerprint"]
  return values


def check_resumable(old: Mapping[str, Any], new: Mapping[str, Any], folder: Path) -> None:
  """Checks that a run may go on; keys of logging and of reading speed may change.

  Raises:
    ValueError: lists every decisive key that changed, with both values.
  """
  before, after = _decisive(old), _decisive(new)
  # A key that is newer than the record has its default.
  known = flatten(to_plain(base_config()))
  before = {key: known[key] for key in after if key in known} | before
  changed = sorted(key for key in before.keys() | after.keys()
                   if before.get(key) != after.get(key))
  if changed:
    lines = [f"  {key}: {before.get(key, 'absent')!r} → {after.get(key, 'absent')!r}"
             for key in changed]
    advice = ("Set them back, use another workdir, or remove the folder to start again")
    if any(key.endswith(".num_train_steps") for key in changed):
      advice += (f". Another num_train_steps is another learning rate at every step: to train "
                 f"longer, start in a new workdir with init_from={folder}")
    raise ValueError(f"{folder} was started with another configuration:\n" + "\n".join(lines)
                     + f"\n{advice}")
  versions = [f"{key} {old['packages'].get(key)} → {version}"
              for key, version in new["packages"].items() if old["packages"].get(key) != version]
  if versions:
    log.warning("%s goes on with other packages (%s): not bit-equal to a run without a stop",
                    folder, ", ".join(versions))
