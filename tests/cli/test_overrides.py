"""Overrides are typed by the default, and say what would be right."""

import pytest
from ml_collections import ConfigDict

from cdjax.cli.overrides import parse_overrides
from cdjax.core.config import base_config


def _config():
  return ConfigDict({"seed": 0, "rate": 0.5, "name": "base", "flag": True,
                     "data": {"names": ("a", "b"), "sizes": (32, 64), "none": (), "path": ""}},
                    ).lock()


@pytest.mark.parametrize(("override", "read", "value"), [
  ("seed=7", lambda c: c.seed, 7),
  ("seed=-7", lambda c: c.seed, -7),
  ("rate=2", lambda c: c.rate, 2.0),
  ("rate=1e-3", lambda c: c.rate, 1e-3),
  ("name=true", lambda c: c.name, "true"),
  ("data.path=a=b, c", lambda c: c.data.path, "a=b, c"),
  ("data.path=", lambda c: c.data.path, ""),
  ("flag=false", lambda c: c.flag, False),
  ("flag=True", lambda c: c.flag, True),
  ("data.sizes=(8, 16, 24)", lambda c: c.data.sizes, (8, 16, 24)),
  ("data.sizes=8,16", lambda c: c.data.sizes, (8, 16)),
  ("data.sizes=8", lambda c: c.data.sizes, (8,)),
  ("data.sizes=()", lambda c: c.data.sizes, ()),
  ("data.names=x, y", lambda c: c.data.names, ("x", "y")),
  ("data.names=('x',)", lambda c: c.data.names, ("x",)),
  ("data.none=1.5,2", lambda c: c.data.none, (1.5, 2)),
])
def test_values_have_the_defaults_type(override, read, value):
  before = _config()
  result = read(parse_overrides(before, [f"--config.{override}"]))
  assert result == value and type(result) is type(value)
  assert before.to_dict() == _config().to_dict(), "the defaults changed"


@pytest.mark.parametrize(("override", "says"), [
  ("--config.sed=1", r"unknown key 'sed' in config \(nearest: seed\); its keys are data, flag"),
  ("--config.data.size=1", r"in config\.data \(nearest: sizes\); its keys are names, none, path"),
  ("--config.dato.size=1", "unknown key 'dato'"),
  ("--config.data=1", "section; its keys are names, none, path, sizes"),
  ("--config.seed.x=1", r"config\.seed is a value"),
  ("--config.seed", "KEY=VALUE"),
  ("--seed=1", "KEY=VALUE"),
  ("--config.seed=1.5", "type int, like the default 0"),
  ("--config.rate=fast", "type float"),
  ("--config.flag=maybe", "type bool"),
  ("--config.data.sizes=8,b", "type tuple"),
  ("--config.data.sizes=8.5", "type tuple"),
])
def test_mistakes_are_explained(override, says):
  with pytest.raises(ValueError, match=says):
    parse_overrides(_config(), [override])


def test_every_default_can_be_written_as_an_override():
  config = base_config()

  def leaves(section, path=()):
    for key, value in section.items():
      if isinstance(value, ConfigDict):
        yield from leaves(value, (*path, key))
      else:
        yield ".".join((*path, key)), value
  overrides = [f"--config.{key}={value}" for key, value in leaves(config)]
  result = parse_overrides(config, overrides)
  assert result.to_dict() == config.to_dict()
  with pytest.raises(AttributeError):
    result.unknown = 1


def test_the_last_one_wins():
  assert parse_overrides(_config(), ["--config.seed=1", "--config.seed=2"]).seed == 2


def test_of_what_is_trained_only_some_sections_can_change():
  changed = parse_overrides(_config(), ["--config.data.path=x"], sections=("data", "noise"))
  assert changed.data.path == "x"
  for override in ("--config.seed=1", "--config.datapath=x"):
    with pytest.raises(ValueError, match="after training only config"):
      parse_overrides(_config(), [override], sections=("data", "noise"))
