"""`--config.key.sub=value`: changes of a config on the command line, typed by the default."""

import ast
import difflib
from collections.abc import Sequence

from ml_collections import ConfigDict

PREFIX = "--config."


def parse_overrides(config: ConfigDict, overrides: Sequence[str],
                    sections: Sequence[str] = ()) -> ConfigDict:
  """Applies overrides to a copy of `config`.

  Args:
    config: the defaults; their types say how a value is read.
    overrides: strings `--config.key.sub=value`, later ones win. Tuples are written "(32, 64)",
      "32,64", or as names with commas; bools as true/false.
    sections: those that may change, where the rest has been trained with; (): all.

  Returns:
    A locked copy with the new values.

  Raises:
    ValueError: no `=`, an unknown key (lists the keys of that section), a section where a value
      is expected, a value that is not of the default's type, or a key outside of `sections`.
  """
  config = ConfigDict(config.to_dict())
  for override in overrides:
    key, equals, text = override.removeprefix(PREFIX).partition("=")
    if not override.startswith(PREFIX) or not equals:
      raise ValueError(f"{override!r}; expected --config.KEY=VALUE")
    *path, last = key.split(".")
    if sections and (path or [last])[0] not in sections:
      raise ValueError(f"{override}: after training only config."
                       f"{' and config.'.join(sections)} can change")
    section = config
    for depth, part in enumerate(path):
      section = _lookup(section, part, path[:depth])
      if not isinstance(section, ConfigDict):
        raise ValueError(f"{override!r}: config.{'.'.join(path[:depth + 1])} is a value, not a "
                         "section")
    default = _lookup(section, last, path)
    if isinstance(default, ConfigDict):
      raise ValueError(f"{override!r}: config.{key} is a section; its keys are "
                       f"{', '.join(sorted(default))}")
    section[last] = _convert(text, default, override)
  return config.lock()


def _lookup(section: ConfigDict, key: str, path: Sequence[str]):
  """`section[key]`, or an error that lists the section's keys."""
  if key in section:
    return section[key]
  near = difflib.get_close_matches(key, section, n=3)
  hint = f" (nearest: {', '.join(near)})" if near else ""
  raise ValueError(f"unknown key {key!r} in {'.'.join(('config', *path))}{hint}; "
                   f"its keys are {', '.join(sorted(section))}")


def _convert(text: str, default, override: str):
  """Reads `text` as a value of `default`'s type."""
  try:
    if isinstance(default, bool):
      return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
    if isinstance(default, tuple):
      return _tuple(text, default)
    if isinstance(default, int | float | str):
      return type(default)(text)
  except (KeyError, TypeError, ValueError, SyntaxError):
    pass  # said below, for every type alike
  raise ValueError(f"{override!r}: expected a value of type {type(default).__name__}, "
                   f"like the default {default!r}")


def _tuple(text: str, default: tuple) -> tuple:
  """A tuple written as Python, or as words with commas."""
  try:
    value = ast.literal_eval(text)
  except (ValueError, SyntaxError):
    value = tuple(word.strip() for word in text.strip("()").split(",") if word.strip())
  value = tuple(value) if isinstance(value, tuple | list) else (value,)
  kinds = {type(element) for element in default}
  if kinds and not {type(element) for element in value} <= kinds:
    raise ValueError(f"elements of {value}")
  return value
