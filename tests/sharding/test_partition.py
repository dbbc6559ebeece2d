"""PartitionSpecs of named parameters, of optimizer states and of batches."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AbstractMesh, AxisType
from jax.sharding import PartitionSpec as P

from cdjax.sharding.logical import MIN_SHARDED_BYTES, constrain, resolve_spec
from cdjax.sharding.mesh import AXES
from cdjax.sharding.partition import (
    batch_sharding,
    optimizer_shardings,
    param_shardings,
    shares_rows,
)


def abstract_mesh(data, fsdp, tensor):
  return AbstractMesh((data, fsdp, tensor), AXES, axis_types=(AxisType.Auto,) * 3)


MESH = abstract_mesh(2, 4, 2)
CONV = ("conv_h", "conv_w", "conv_in", "conv_out")


@pytest.mark.parametrize("names, shape, spec", [
    (CONV, (3, 3, 64, 128), P(None, None, "fsdp", "tensor")),
    (CONV, (3, 3, 1, 128), P(None, None, None, ("tensor", "fsdp"))),  # one grey channel
    (CONV, (3, 3, 1, 12), P(None, None, None, "tensor")),   # 12 = 2 * 6: fsdp does not divide
    (CONV, (3, 3, 1, 1), P()),
    (CONV, (3, 3, 64, 1), P(None, None, "fsdp")),
    (("embed", "mlp"), (64, 256), P("fsdp", "tensor")),
    (("mlp", "embed"), (256, 64), P("tensor", "fsdp")),
    (("embed", "heads"), (64, 64), P("fsdp", "tensor")),
    (("embed", "mlp"), (14, 255), P()),                     # 14 findings, odd width
    (("mlp", "embed"), (256, 6), P(("tensor", "fsdp"))),
    (("norm",), (4096,), P("fsdp")),
    (("height", "width", "norm"), (64, 64, 24), P(None, None, "fsdp")),   # a bias of every place
    (("norm", "embed"), (40, 768), P(None, "fsdp")),        # a table: its rows only if need be
    (("norm", "embed"), (40, 255), P("fsdp")),
    (("embed", "embed"), (64, 64), P("fsdp")),              # a mesh axis is used once
    ((None, "mlp"), (64, 64), P(None, ("tensor", "fsdp"))),
    (("batch", "height", "width", "channels"), (16, 8, 8, 4), P(("data", "fsdp"))),
    (("batch",), (6,), P("data")),                          # 6 = 2 * 3: fsdp does not divide
    (("batch",), (5,), P()),
])
def test_a_name_is_a_place_on_the_mesh(names, shape, spec):
  assert resolve_spec(names, shape, MESH) == spec


def test_unknown_names_and_wrong_ranks_are_errors():
  with pytest.raises(ValueError, match=r"logical axis 'mpl'; expected one of .*'mlp'"):
    resolve_spec(("embed", "mpl"), (64, 64), MESH)
  with pytest.raises(ValueError, match="expected 2 names"):
    resolve_spec(("embed",), (64, 64), MESH)


class Network(nn.Module):
  """A large and a small layer, and one without names."""

  @nn.compact
  def __call__(self, x):
    init = nn.with_logical_partitioning(nn.initializers.lecun_normal(), ("embed", "mlp"))
    large = nn.Dense(128, kernel_init=init, name="large")(x)
    return nn.Dense(4, kernel_init=init, name="small")(large) + nn.Dense(4, name="plain")(x)


def test_parameters_and_optimizer_states_are_laid_out_alike():
  boxed = jax.eval_shape(
      lambda key: Network().init(key, jnp.zeros((1, 128)))["params"], jax.random.key(0))
  shardings = param_shardings(boxed, MESH)
  specs = jax.tree.map(lambda sharding: sharding.spec, shardings)
  assert specs == {"large": {"kernel": P("fsdp", "tensor"), "bias": P()},
                   "small": {"kernel": P(), "bias": P()}, "plain": {"kernel": P(), "bias": P()}}

  params = nn.unbox(boxed)
  assert params["large"]["kernel"].size * 4 == MIN_SHARDED_BYTES  # the smallest that is sharded
  tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3, mask=lambda p: jax.tree.map(
      lambda leaf: leaf.ndim > 1, p)))
  state = optimizer_shardings(tx, params, shardings, MESH)
  assert jax.tree.structure(state) == jax.tree.structure(jax.eval_shape(tx.init, params))
  adam = state[1][0]
  for moments in (adam.mu, adam.nu):
    assert jax.tree.map(lambda sharding: sharding.spec, moments) == specs
  assert adam.count.spec == P()


def test_batches_go_over_data_and_fsdp():
  assert batch_sharding(MESH, 16).spec == P(("data", "fsdp"))
  assert batch_sharding(MESH, 6).spec == P("data")
  assert batch_sharding(abstract_mesh(1, 1, 1), 5).spec == P(("data", "fsdp"))


@pytest.mark.parametrize("processes, shared", [
    ([[[0]], [[0]], [[1]], [[1]]], False),         # 4x1x1
    ([[[0], [0]], [[1], [1]]], False),             # 2x2x1
    ([[[0, 0]], [[1, 1]]], False),                 # 2x1x2
    ([[[0, 1]], [[0, 1]]], True),                  # 2x1x2, the axis tensor over hosts
    ([[[0, 0, 1, 1]]], True),                      # 1x1x4
    ([[[0, 0]], [[0, 1]], [[1, 1]]], True),        # 3x1x2: the middle part is of both
])
def test_processes_share_rows_where_the_axis_tensor_goes_over_them(processes, shared):
  assert shares_rows(np.array(processes)) == shared


def test_activations_are_constrained_on_a_mesh_only():
  x = jnp.ones((16, 4))
  assert constrain(x, ("batch", "channels")) is x
  with jax.sharding.use_abstract_mesh(MESH):
    text = str(jax.make_jaxpr(lambda x: constrain(x, ("batch", "channels")))(x))
  assert "sharding_constraint" in text and "('data', 'fsdp')" in text
