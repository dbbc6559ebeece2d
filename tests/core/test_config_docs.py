"""Every key of the configuration has a meaning, and it is the comment beside it."""

import re
from pathlib import Path

import pytest

from cdjax.cli.configs import leaves
from cdjax.core import config as schema
from cdjax.core.config import base_config
from cdjax.core.config_docs import parse_meanings, read_meanings


def test_every_key_has_a_meaning_and_every_meaning_a_key():
  keys = {key for key, _ in leaves(base_config())}
  sections = {key.rsplit(".", depth)[0] for key in keys for depth in range(1, key.count(".") + 1)}
  meanings = read_meanings()
  assert keys <= set(meanings) <= keys | sections
  assert all(meanings.values())


def test_every_comment_of_the_schema_is_a_meaning():
  source = Path(schema.__file__).read_text("utf-8")
  start, end = source.index("def _optim"), source.index("class Row")
  lines = [line for line in source[start:end].splitlines() if re.search(r"\S.*  +# ", line)]
  assert len(lines) > 120
  texts = set(read_meanings().values())
  assert {line.rpartition("# ")[2] for line in lines if '"""' not in line} <= texts


@pytest.mark.parametrize(("key", "meaning"), [
  ("seed", "of everything random"),
  ("data.vocabulary", "Findings, canonical names; a prepared folder brings its own."),
  ("autoencoder.model.slots", "n: n-1 identity slots and one of pathology"),
  ("autoencoder.learning_rate", "peak, after warm-up"),
  ("classifier.augment", "acquisition augmentation on the device"),
  ("judge.augment", "acquisition augmentation on the device"),      # a copy of the classifier's
  ("judge.num_images", "independent, balanced"),
])
def test_where_meanings_come_from(key, meaning):
  assert read_meanings()[key] == meaning


SOURCE = """
def _optim(**kwargs):
  config = ConfigDict(dict(
      steps=1,   # how many
      silent=2,
  ))
  return config


def base_config():
  c = ConfigDict()
  c.seed = 0   # of all
  # First part.
  # It goes on.
  c.first = _optim(a=1)
  c.first.model = ConfigDict(dict(
      # Above it.
      width=1,
      text="# none",
  ))
  helper = _optim(b=2)
  helper.extra = 3   # more
  c.second = helper
  c.third = ConfigDict(helper.to_dict())
  return c
"""


def test_rules_on_a_small_schema():
  assert parse_meanings(SOURCE) == {
      "seed": "of all", "first": "First part. It goes on.", "first.steps": "how many",
      "first.model.width": "Above it.", "second.steps": "how many", "second.extra": "more",
      "third.steps": "how many", "third.extra": "more"}
  with pytest.raises(ValueError, match="_optim"):
    parse_meanings("x = 1")
