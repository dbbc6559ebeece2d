"""What is read out of a program's text: shapes, groups, operations, collectives, loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cdjax.sharding.cost import BETWEEN_SLICES, program_cost
from cdjax.sharding.hlo import parse_instruction, parse_module, parse_shape, replica_groups

# As libtpu prints it: a loop of 5 rounds with a gather in two fusions, a fused scatter, a send to
# another slice, and arrays in the core's own memory, S(1).
PROGRAM = """HloModule jit_f, is_scheduled=true

%half.1 (p0: bf16[64,128], p1: bf16[256,128]) -> f32[64,256] {
  %p0 = bf16[64,128]{1,0:T(8,128)(2,1)} parameter(0)
  %p1 = bf16[256,128]{1,0:T(8,128)(2,1)} parameter(1)
  %all-gather.1 = bf16[256,128]{1,0:T(8,128)(2,1)S(1)} all-gather(%p0), channel_id=2, \
replica_groups=mesh['a'=2,'b'=4], device_ids=([4,2]T(1,0)) {'b'}, dimensions={0}
  ROOT %convolution.1 = f32[64,256]{1,0:T(8,128)} convolution(%p0, %p1), dim_labels=bf_oi->bf
}

%half.2 (p0: bf16[64,128]) -> bf16[256,128] {
  %p0 = bf16[64,128]{1,0} parameter(0)
  ROOT %all-gather.2 = bf16[256,128]{1,0:T(8,128)(2,1)S(1)} all-gather(%p0), channel_id=2, \
replica_groups=mesh['a'=2,'b'=4], device_ids=([4,2]T(1,0)) {'b'}, dimensions={0}
}

%all-reduce-scatter.1 (p0: f32[64,256]) -> f32[16,256] {
  %p0 = f32[64,256]{1,0} parameter(0)
  %all-reduce.1 = f32[64,256]{1,0} all-reduce(%p0), channel_id=3, \
replica_groups={{0,1,2,3},{4,5,6,7}}, to_apply=%add
  ROOT %slice = f32[16,256]{1,0} dynamic-slice(%all-reduce.1, %p0, %p0), \
dynamic_slice_sizes={16,256}
}

%body (state: (s32[], bf16[64,128])) -> (s32[], bf16[64,128]) {
  %state = (s32[]{:T(128)}, bf16[64,128]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %w = bf16[64,128]{1,0} get-tuple-element(%state), index=1
  %g = bf16[256,128]{1,0:S(1)} fusion(%w), kind=kCustom, calls=%half.2
  %f = f32[64,256]{1,0} fusion(%w, %g), kind=kOutput, calls=%half.1
  %r = f32[16,256]{1,0} fusion(%f), kind=kCustom, calls=%all-reduce-scatter.1
  ROOT %t = (s32[], /*index=1*/bf16[64,128]{1,0}) tuple(%i, %w)
}

%condition (state: (s32[], bf16[64,128])) -> pred[] {
  %state = (s32[], bf16[64,128]{1,0}) parameter(0)
  %limit = s32[]{:T(128)} constant(5)
  %i = s32[] get-tuple-element(%state), index=0
  ROOT %lt = pred[] compare(%i, %limit), direction=LT
}

ENTRY %main (x: bf16[64,128]) -> bf16[64,128] {
  %x = bf16[64,128]{1,0} parameter(0)
  %zero = s32[] constant(0)
  %start = (s32[], bf16[64,128]{1,0}) tuple(%zero, %x)
  %loop = (s32[], bf16[64,128]{1,0}) while(%start), condition=%condition, body=%body
  %token = token[] after-all()
  %send = (bf16[64,128]{1,0}, u32[], token[]) send(%x, %token), channel_id=2, \
is_host_transfer=true, \
frontend_attributes={_xla_host_transfer_handler_name="xla_megascale_runtime"}
  ROOT %out = bf16[64,128]{1,0} get-tuple-element(%loop), index=1
}
"""


def test_a_program_costs_what_it_does_as_often_as_it_does_it():
  cost = program_cost(parse_module(PROGRAM))
  assert cost.flops == 5 * 2 * 64 * 256 * 128
  kinds = cost.by_kind()
  array = 64 * 128 * 2   # bytes of the bfloat16 part
  assert kinds["all-gather"] == {"count": 5, "bytes": 5 * 3 / 4 * 4 * array}   # once, not twice
  assert kinds["reduce-scatter"] == {"count": 5, "bytes": 5 * 3 / 4 * 64 * 256 * 4}
  assert kinds[BETWEEN_SLICES] == {"count": 1, "bytes": array}
  assert cost.sent(between_slices=True) == array and cost.unknown_loops == 0
  # g reads w, its result is on the chip; f reads w and writes 4 arrays' worth; r reads those;
  # send reads x and hands it over, with a number of 4 bytes.
  assert cost.bytes == 5 * (array + array + 4 * array + 4 * array + array) + 2 * array + 4


def test_a_kernel_computes_what_it_says():
  text = """HloModule kernels

ENTRY %main (x: bf16[64,128]) -> bf16[64,128] {
  %x = bf16[64,128]{1,0} parameter(0)
  %silent = bf16[64,128]{1,0} custom-call(%x), custom_call_target="tpu_custom_call", \
backend_config={"custom_call_config":{"body":"abc"}}
  ROOT %k = bf16[64,128]{1,0} custom-call(%silent), custom_call_target="tpu_custom_call", \
backend_config={"custom_call_config":{"cost_estimate":{"flops":"175","transcendentals":"10"}}}
}
"""
  cost = program_cost(parse_module(text))
  assert cost.flops == 175 and cost.bytes == 4 * 64 * 128 * 2


def test_operations_are_those_of_xla_s_own_analysis():
  def loss(kernel, x):
    grouped = kernel[..., :8, :]
    same = ("NHWC", "HWIO", "NHWC")
    y = jax.lax.conv_general_dilated(x, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=same)
    y = jax.lax.conv_general_dilated(y, grouped, (1, 1), ((1, 1), (1, 1)), dimension_numbers=same,
                                     feature_group_count=2)
    return jnp.sum((y.reshape(-1, 16) @ kernel[0, 0]) ** 2)

  lowered = jax.jit(jax.grad(loss, (0, 1))).lower(
      jax.ShapeDtypeStruct((3, 3, 16, 16), jnp.float32),
      jax.ShapeDtypeStruct((4, 9, 9, 16), jnp.float32))
  counted = program_cost(parse_module(lowered.as_text("hlo"))).flops
  every = lowered.cost_analysis()["flops"]   # with additions and multiplications of elements
  assert 0.99 * every < counted <= every


def test_a_loop_counts_its_rounds():
  def run(x):
    return jax.lax.scan(lambda c, _: (c @ c, None), x, None, length=7)[0]
  text = jax.jit(run).lower(jax.ShapeDtypeStruct((8, 8), jnp.float32)).as_text("hlo")
  assert program_cost(parse_module(text)).flops == 7 * 2 * 8**3


@pytest.mark.parametrize("text, groups", [
    ("replica_groups={{0,1},{2,3}}", [[0, 1], [2, 3]]),
    ("replica_groups=[2,2]<=[4]", [[0, 1], [2, 3]]),
    ("replica_groups=[2,2]<=[2,2]T(1,0)", [[0, 2], [1, 3]]),
    ("replica_groups=mesh['a'=2,'b'=2] {'a'}", [[0, 2], [1, 3]]),
    ("replica_groups=mesh['a'=2,'b'=2], device_ids=([2,2]T(1,0)) {'b'}", [[0, 2], [1, 3]]),
    ("replica_groups=mesh['a'=2,'b'=2], device_ids=([4]) {'a','b'}", [[0, 1, 2, 3]]),
])
def test_groups_of_devices_are_read_in_every_spelling(text, groups):
  instruction = parse_instruction(f"  %r = f32[4]{{0}} all-reduce(%x), channel_id=1, {text}, k=v")
  np.testing.assert_array_equal(replica_groups(instruction), groups)


def test_shapes_and_errors():
  (first, second) = parse_shape("(f32[2,3]{1,0:T(8,128)S(1)}, /*index=1*/pred[])")
  assert (first.dims, first.bytes, first.on_chip) == ((2, 3), 24, True)
  assert (second.dims, second.bytes, second.on_chip) == ((), 1, False)
  with pytest.raises(ValueError, match="no ENTRY"):
    parse_module("HloModule nothing\n")
  with pytest.raises(ValueError, match="not an instruction"):
    parse_instruction("}")
