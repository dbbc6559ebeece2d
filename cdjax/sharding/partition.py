"""Shardings of parameters, optimizer states and batches on a mesh."""

import flax.linen as nn
import jax
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cdjax.core.types import PyTree
from cdjax.sharding.logical import MIN_SHARDED_BYTES, resolve_spec
from cdjax.sharding.mesh import replicated


def param_shardings(abstract_boxed_params: PyTree, mesh: Mesh) -> PyTree:
  """The sharding of every parameter from its logical axis names.

  Args:
    abstract_boxed_params: `jax.eval_shape` of an initialiser, with the boxes of
      `nn.with_logical_partitioning` still on; a parameter without a box is replicated.
    mesh: the mesh.

  Returns:
    The unboxed tree with a `NamedSharding` for each parameter.
  """
  def one(leaf):
    if not isinstance(leaf, nn.Partitioned):
      return replicated(mesh)
    array = leaf.value
    if array.size * array.dtype.itemsize < MIN_SHARDED_BYTES:
      return replicated(mesh)
    return NamedSharding(mesh, resolve_spec(leaf.names, array.shape, mesh))

  return jax.tree.map(one, abstract_boxed_params,
                      is_leaf=lambda leaf: isinstance(leaf, nn.Partitioned))


def optimizer_shardings(tx: optax.GradientTransformation, abstract_params: PyTree,
                        shardings: PyTree, mesh: Mesh) -> PyTree:
  """The sharding of an optimizer state: copies of the parameters like them, the rest replicated.

  A copy is a leaf at a path that ends in the parameter's own, with its shape; so optimizers may
  treat some parameters otherwise and leave them out (`optax.partition`).

  Args:
    tx: the optimizer.
    abstract_params: unboxed parameters, shapes only.
    shardings: of the parameters, from `param_shardings`.
    mesh: the mesh.
  """
  leaves, _ = jax.tree_util.tree_flatten_with_path(abstract_params)
  of_params = {path: (leaf.shape, sharding) for (path, leaf), sharding in zip(
      leaves, jax.tree.leaves(shardings), strict=True)}
  longest = max(len(path) for path in of_params)

  def one(path, leaf):
    for length in range(min(longest, len(path)), 0, -1):
      shape, sharding = of_params.get(path[-length:], (None, None))
      if shape == leaf.shape:
        return sharding
    return replicated(mesh)

  return jax.tree_util.tree_map_with_path(one, jax.eval_shape(tx.init, abstract_params))


def batch_sharding(mesh: Mesh, batch_size: int) -> NamedSharding:
  """The sharding of a batch over its first axis; replicated as far as it does not divide.

  Args:
    mesh: the mesh.
    batch_size: examples over all processes.

  Raises:
    ValueError: several processes and a batch that does not divide over the mesh (each process
      holds other examples, so no device could have them all).
  """
  spec = resolve_spec(("batch",), (batch_size,), mesh)
  parts = mesh.shape["data"] * mesh.shape["fsdp"]
  if jax.process_count() > 1 and batch_size % parts:
    raise ValueError(f"batch of {batch_size} over {parts} devices of the axes data and fsdp; "
                     f"expected a multiple of {parts}")
  return NamedSharding(mesh, spec)


def shares_rows(processes: np.ndarray) -> bool:
  """Whether some processes need the same rows of a batch: an axis tensor that goes over hosts.

  Args:
    processes: of every device, by the mesh's axes `[data, fsdp, tensor]`.
  """
  parts = processes.reshape(-1, processes.shape[-1])   # every part of a batch is on a row
  return bool((parts != parts[:, :1]).any())


def to_global(batch: PyTree, sharding: NamedSharding) -> PyTree:
  """Puts this process's part of a batch on its devices; an explicit transfer.

  Every process reads other rows, whatever the mesh. Where the devices of several processes need
  the same rows, the processes exchange them over the devices' links; all must call it then.

  Args:
    batch: NumPy arrays `[B / processes, ...]`.
    sharding: of the first axis, from `batch_sharding`.

  Returns:
    Global arrays `[B, ...]`.
  """
  processes = 1 if sharding.spec == PartitionSpec() else jax.process_count()
  read = sharding
  if processes > 1:
    devices = sharding.mesh.devices
    of_device = np.vectorize(lambda device: device.process_index, otypes=[int])(devices)
    if shares_rows(of_device):
      read = _by_process(devices.ravel(), of_device.ravel())

  def one(leaf):
    leaf = np.asarray(leaf)
    shape = (leaf.shape[0] * processes, *leaf.shape[1:])
    array = jax.make_array_from_process_local_data(read, leaf, shape)
    return array if read is sharding else jax.device_put(array, sharding)

  return jax.tree.map(one, batch)


def _by_process(devices: np.ndarray, processes: np.ndarray) -> NamedSharding:
  """Rows over processes, in their order; all devices of a process have its rows."""
  order = np.argsort(processes, kind="stable")
  mesh = Mesh(devices[order].reshape(jax.process_count(), -1), ("process", "device"))
  return NamedSharding(mesh, PartitionSpec("process"))
