"""Names, fingerprints and provenance."""

import jax
import jax.numpy as jnp
import numpy as np

from cdjax.core.config import base_config
from cdjax.core.provenance import config_fingerprint, flatten, package_versions, to_plain
from cdjax.core.trees import count_parameters, map_named, named_leaves, tree_fingerprint

TREE = {"b": [np.zeros((2, 3), np.float32), np.ones(4, np.int32)], "a": {"x": np.float32(2)}}


def test_names_follow_the_paths():
  assert list(named_leaves(TREE)) == ["a/x", "b/0", "b/1"]
  assert map_named(lambda name, leaf: name, TREE) == {"b": ["b/0", "b/1"], "a": {"x": "a/x"}}
  assert count_parameters(TREE) == 11


def test_a_fingerprint_sees_every_bit_and_nothing_else():
  base = tree_fingerprint(TREE)
  assert base == tree_fingerprint(jax.tree.map(jnp.asarray, TREE))  # where it lives
  changed = [
      {**TREE, "a": {"y": TREE["a"]["x"]}},                                # a name
      {**TREE, "a": {"x": np.float64(2)}},                                 # a type
      {**TREE, "b": [TREE["b"][0].reshape(3, 2), TREE["b"][1]]},           # a shape
      {**TREE, "b": [TREE["b"][0], np.array([1, 1, 1, 2], np.int32)]},     # a value
      {**TREE, "b": [-TREE["b"][0], TREE["b"][1]]},                        # the sign of zero
  ]
  assert len({base, *map(tree_fingerprint, changed)}) == 6


def test_a_configuration_is_its_values():
  config, same = base_config(), base_config()
  assert config_fingerprint(config) == config_fingerprint(to_plain(same))  # tuples or lists
  same.seed = 1
  assert config_fingerprint(config) != config_fingerprint(same)
  flat = flatten(to_plain(config))
  assert flat["diffusion.schedule.kind"] == "cosine" and flat["seed"] == 0
  assert package_versions(("jax", "no-such-package")).keys() == {"python", "jax"}
