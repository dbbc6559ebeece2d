"""Optimised noises of one finding on disk: a safetensors file with all that they were made with."""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

FORMAT = 2
SUFFIX = ".noise.safetensors"
_CURVE = "curve/"
# One row a noise, besides the curves.
COLUMNS = ("z_T", "loss", "best_step", "steps", "side", "zone", "severity", "identity")


@dataclasses.dataclass(frozen=True)
class NoiseBank:
  """M noises of one finding.

  Attributes:
    arrays: `COLUMNS` → `[M, ...]`: noises `[M, h, w, c]`, their loss, after how many gradient steps
      it was reached and after how many they stopped; the side, zone (bit masks) and severity that
      were asked; the training image whose identity they saw (a row of the split).
    curves: "loss" and every term → `[steps + 1, M]`.
    made_with: JSON: "model", "finding", "vocabulary", "references" (image ids), the settings, …
  """

  arrays: Mapping[str, np.ndarray]
  curves: Mapping[str, np.ndarray]
  made_with: Mapping[str, Any]

  def __len__(self) -> int:
    return len(self.arrays["z_T"])

  @property
  def finding(self) -> str:
    """Which finding the noises are for."""
    return self.made_with["finding"]

  @property
  def sampler_steps(self) -> int:
    """Of the sampler that they were optimised through, and that they mean something to."""
    return self.made_with["noise"]["sampler_steps"]


def bank_path(folder: str | Path, finding: str) -> Path:
  """Where a folder keeps a finding's noises."""
  return Path(folder) / f"{finding}{SUFFIX}"


def join_banks(bank: NoiseBank | None, more: NoiseBank) -> NoiseBank:
  """The noises of both, which were made with the same."""
  if bank is None:
    return more
  both = lambda a, b, axis: {name: np.concatenate([a[name], b[name]], axis) for name in a}
  return NoiseBank(both(bank.arrays, more.arrays, 0), both(bank.curves, more.curves, 1),
                   bank.made_with)


def write_bank(path: str | Path, bank: NoiseBank) -> None:
  """Writes the file in one piece: readers see the old one or the whole new one."""
  path = Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  tensors = {name: np.ascontiguousarray(bank.arrays[name]) for name in COLUMNS}
  tensors |= {_CURVE + name: np.ascontiguousarray(curve) for name, curve in bank.curves.items()}
  part = path.with_name(f"{path.name}.{os.getpid()}.part")   # nobody else writes to it
  part.write_bytes(save(tensors, metadata={"cdjax": json.dumps(
      {"format": FORMAT, **bank.made_with}, sort_keys=True)}))
  os.replace(part, path)


def read_bank(path: str | Path, *, model: str) -> NoiseBank:
  """Reads a finding's noises.

  Args:
    path: from `bank_path`.
    model: fingerprint of the autoencoder and the diffusion that will use them.

  Raises:
    FileNotFoundError: no such bank.
    ValueError: the file is no bank, or one of another model, whose noises mean nothing to this one.
  """
  path = Path(path)
  if not path.is_file():
    raise FileNotFoundError(f"{path} does not exist: no noises were optimised for this finding; "
                            "make them with `cdjax optimize-noise`")
  try:
    with safe_open(path, framework="numpy") as file:
      made_with = json.loads((file.metadata() or {}).get("cdjax", "null"))
      tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
  except (SafetensorError, json.JSONDecodeError) as error:
    raise ValueError(f"{path} is no noise bank: {error}") from error
  if not isinstance(made_with, dict) or made_with.get("format") != FORMAT or not (
      set(COLUMNS) <= set(tensors)):
    raise ValueError(f"{path} is no noise bank of format {FORMAT}")
  if made_with["model"] != model:
    raise ValueError(
        f"{path} was optimised for the model {made_with['model'][:12]}, this workdir's is "
        f"{model[:12]}: its noises mean nothing to it. Optimise them again with `cdjax "
        "optimize-noise`, or name the workdir that they were made with")
  return NoiseBank(
      {name: tensors[name] for name in COLUMNS},
      {name.removeprefix(_CURVE): value for name, value in tensors.items()
       if name.startswith(_CURVE)},
      {key: value for key, value in made_with.items() if key != "format"})
