"""What a result was made with: package versions and the fingerprint of a configuration."""

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from typing import Any

PACKAGES = ("cdjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "grain",
            "tensorflow-datasets", "clu", "ml-collections", "pillow")


def package_versions(packages: tuple[str, ...] = PACKAGES) -> dict[str, str]:
  """Versions of Python and of those packages that are installed."""
  versions = {"python": platform.python_version()}
  for name in packages:
    try:
      versions[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue  # an optional package: what is absent cannot have made the result
  return versions


def to_plain(value: Any) -> Any:
  """The value as JSON would give it back: tuples become lists, configs become dicts."""
  if hasattr(value, "to_dict"):
    value = value.to_dict()
  return json.loads(json.dumps(value))


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  """Nested mapping to `{"model.block_out_channels": [...]}`."""
  flat = {}
  for key, value in config.items():
    if isinstance(value, Mapping):
      flat |= flatten(value, f"{prefix}{key}.")
    else:
      flat[f"{prefix}{key}"] = value
  return flat


def config_fingerprint(config: Any) -> str:
  """SHA-256 of a configuration's values; the order of its keys does not matter."""
  return hashlib.sha256(json.dumps(to_plain(config), sort_keys=True).encode()).hexdigest()
