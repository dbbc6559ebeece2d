"""Trees of arrays: the names of their leaves, their size, their fingerprint."""

import hashlib

import jax
import numpy as np

from cdjax.core.types import Array, PyTree


def named_leaves(tree: PyTree) -> dict[str, Array]:
  """Leaves by path, in the tree's own order: `{"encoder/conv_in/kernel": ...}`."""
  flat, _ = jax.tree_util.tree_flatten_with_path(tree)
  return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in flat}


def map_named(fn, tree: PyTree) -> PyTree:
  """Maps `fn(name, leaf)` over a tree; names as in `named_leaves`."""
  return jax.tree_util.tree_map_with_path(
      lambda path, leaf: fn(jax.tree_util.keystr(path, simple=True, separator="/"), leaf), tree)


def count_parameters(tree: PyTree) -> int:
  """Numbers in all leaves together; leaves need a shape only."""
  return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def tree_fingerprint(tree: PyTree) -> str:
  """SHA-256 over the names, shapes, types and bytes of all leaves, in order of their names.

  Equal exactly where two trees are equal bit for bit; does not depend on devices or sharding.
  """
  digest = hashlib.sha256()
  for name, leaf in sorted(named_leaves(tree).items()):
    array = np.asarray(leaf)
    digest.update(f"{name}|{array.shape}|{array.dtype}|".encode())
    digest.update(np.ascontiguousarray(array).tobytes())
  return digest.hexdigest()
