"""Lists the configs; of one config its header, and every key with its value and meaning.

A key whose value is not the default of cdjax/core/config.py is marked with *. `cdjax train --config
configs/NAME.py --config.KEY=VALUE` changes one.

examples:
  cdjax configs
  cdjax configs quickstart
  cdjax configs configs/phantom.py:128 --section autoencoder.loss
"""

import argparse
from collections.abc import Iterator

from ml_collections import ConfigDict


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the command's arguments."""
  parser.add_argument("config", nargs="?", metavar="NAME",
                      help="a config of the list, or FILE[:ARG] as `cdjax train` takes it")
  parser.add_argument("--section", default="", metavar="KEY",
                      help="only keys under this one, e.g. autoencoder.loss")


def run(args: argparse.Namespace) -> int:
  """Prints the list, or one config."""
  from cdjax.core.config import base_config, list_configs, load_config

  known = list_configs()
  if args.config is None:
    if args.section:
      raise ValueError("--section needs the NAME of a config")
    width = max(map(len, known))
    for name, header in sorted(known.items()):
      print(f"{name:{width}}  {header.partition(chr(10))[0]}")
    return 0
  name, colon, arg = args.config.partition(":")
  spec = f"configs/{name}.py{colon}{arg}" if name in known else args.config
  config = load_config(spec)
  if not args.section:
    print(known.get(name.removeprefix("configs/").removesuffix(".py"), "").strip() + "\n")
  print_keys(config, base_config(), args.section)
  return 0


def print_keys(config: ConfigDict, default: ConfigDict, section: str) -> None:
  """Prints `KEY = VALUE  # meaning` for every key under `section`.

  Raises:
    ValueError: there is no such section; lists those that exist.
  """
  from cdjax.core.config_docs import read_meanings

  meanings = read_meanings()
  defaults = dict(leaves(default))
  values = {key: value for key, value in leaves(config)
            if not section or key == section or key.startswith(f"{section}.")}
  if not values:
    sections = sorted({key.rpartition(".")[0] for key in defaults} - {""})
    raise ValueError(f"--section {section}: no such key; sections are {', '.join(sections)}")
  last = ""
  for key, value in values.items():
    if (parent := key.rpartition(".")[0]) != last:
      last = parent
      print(f"\n{parent}" + (f": {meanings[parent]}" if parent in meanings else ""))
    mark = "*" if value != defaults.get(key) else " "
    said = f"{mark} {key} = {value!r}"
    print(f"{said:<50}  # {meanings[key]}" if key in meanings else said)


def leaves(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, object]]:
  """Every key with a value, in order, values of a section before its sections."""
  items = list(config.items())
  for key, value in items:
    if not isinstance(value, ConfigDict):
      yield f"{prefix}{key}", value
  for key, value in items:
    if isinstance(value, ConfigDict):
      yield from leaves(value, f"{prefix}{key}.")
