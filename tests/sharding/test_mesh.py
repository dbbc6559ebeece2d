"""The mesh's sizes: what fills, and what does not fit."""

import jax
import pytest

from cdjax.sharding.mesh import AXES, make_mesh, mesh_shape


@pytest.mark.parametrize("sizes, devices, expected", [
    ((-1, 1, 1), 8, (8, 1, 1)), ((2, -1, 2), 8, (2, 2, 2)), ((1, 4, -1), 4, (1, 4, 1)),
    ((2, 2, 2), 8, (2, 2, 2)),
])
def test_one_axis_fills(sizes, devices, expected):
  assert mesh_shape(dict(zip(AXES, sizes, strict=True)), devices) == expected


@pytest.mark.parametrize("sizes, message", [
    ((-1, 3, 1), "does not divide 8 devices"), ((2, 2, 1), "needs 4 devices; there are 8"),
    ((-1, -1, 1), "at most one"), ((0, 1, -1), "positive"), ((-2, 1, 1), "positive"),
])
def test_what_does_not_fit_is_an_error(sizes, message):
  with pytest.raises(ValueError, match=message):
    mesh_shape(dict(zip(AXES, sizes, strict=True)), 8)


def test_an_unknown_axis_is_an_error():
  with pytest.raises(ValueError, match=r"\['data', 'model'\]; expected exactly"):
    mesh_shape({"data": 1, "model": 1}, 1)


def test_the_compiler_decides_the_layout():
  mesh = make_mesh({"data": -1, "fsdp": 1, "tensor": 1})
  assert mesh.axis_names == AXES and mesh.size == jax.device_count()
  assert set(mesh.axis_types) == {jax.sharding.AxisType.Auto}
