"""Ahead-of-time numbers: topologies, memory, the roofline, the search for a batch."""

import importlib.util
from types import SimpleNamespace

import pytest

from cdjax.sharding.chips import CHIPS, describe_topology, parse_topology
from cdjax.sharding.compiled import MAX_COMPILES, compile_for, fit_batch, memory_of
from cdjax.sharding.cost import BETWEEN_SLICES, Collective, Cost
from cdjax.sharding.mesh import make_mesh
from cdjax.sharding.roofline import estimate


def test_topologies_are_read_and_what_is_none_says_what_would_be():
  assert parse_topology("v5e:16x16") == (CHIPS["v5e"], 256)
  assert parse_topology("v5p:4x4x8") == (CHIPS["v5p"], 128)
  for name in ("v5e", "v5e:16", "v9:2x2", "v5e:4x4x4x4"):
    with pytest.raises(ValueError, match="expected KIND:AxB"):
      parse_topology(name)
  with pytest.raises(ValueError, match="slices=0"):
    describe_topology("v5e:4x4", 0)


def test_without_the_compiler_it_says_how_to_get_it(monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(ImportError, match=r"libtpu.*pip install 'cdjax\[tpu-compile\]'"):
    describe_topology("v5e:4x4")


def test_what_is_donated_counts_once():
  memory = memory_of(SimpleNamespace(
      argument_size_in_bytes=100, output_size_in_bytes=90, alias_size_in_bytes=80,
      temp_size_in_bytes=30, generated_code_size_in_bytes=5))
  assert memory["peak"] == 100 + 90 - 80 + 30 + 5


def test_the_roofline_is_the_slowest_of_four():
  chip = CHIPS["v5e"]
  cost = Cost(flops=chip.flops, bytes=0.5 * chip.hbm_bandwidth, collectives=[
      Collective("all-gather", 4, chip.ring_bandwidth, 2, 8),
      Collective(BETWEEN_SLICES, 2, chip.dcn_bandwidth, 1, 8)])
  roofline = estimate(cost, chip)
  assert (roofline.compute, roofline.memory, roofline.links, roofline.network) == (1, 0.5, 2, 1)
  assert roofline.bound_by == "links" and roofline.bound == 2 and roofline.total == 4.5
  assert roofline.utilisation == (1 / 4.5, 0.5)
  assert estimate(cost, chip, cores_a_chip=2).compute == 2   # two devices share the chip


@pytest.mark.parametrize("each, start, multiple, best", [
    (1.0, 8, 1, 60), (1.0, 8, 4, 60), (9.0, 8, 1, 6), (100.0, 8, 1, 0), (1.0, 128, 1, 60),
    (7.0, 8, 4, 8),
])
def test_the_largest_batch_is_found_in_few_compilations(each, start, multiple, best):
  tried = []

  def attempt(batch):
    tried.append(batch)
    peak = 40 + each * batch
    if peak > 100:   # as the compiler says it: only how much it would have taken
      return {"fits": False, "hbm": 100, "memory": {"peak": peak}}
    return {"fits": True, "hbm": 100, "memory": {"peak": peak, "arguments": 38}}

  found, results = fit_batch(attempt, start, multiple=multiple)
  assert found == best and len(tried) <= MAX_COMPILES == 4
  assert [batch for batch, _ in results] == tried and len(set(tried)) == len(tried)
  assert all(batch % multiple == 0 for batch in tried)


def test_an_unknown_effort_is_an_error():
  with pytest.raises(ValueError, match=r"effort='some'; expected one of \['fast', 'full'\]"):
    compile_for(None, None, effort="some")


def test_slices_are_replicas():
  devices = [SimpleNamespace(slice_index=i // 4, platform="tpu", id=i) for i in range(8)]
  with pytest.raises(ValueError, match=r"data=1 over 2 slices; expected a multiple of 2"):
    make_mesh({"data": 1, "fsdp": 8, "tensor": 1}, devices)


def test_an_axis_of_the_torus_is_split_where_none_fits():
  pytest.importorskip("libtpu", reason="libtpu is not installed")
  topology = describe_topology("v5p:8x8x8", 1)
  assert make_mesh({"data": -1, "fsdp": 16, "tensor": 1}, topology.devices).shape["data"] == 32
