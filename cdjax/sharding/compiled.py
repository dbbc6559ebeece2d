"""Compiles a lowered program for a TPU topology and says what it needs there."""

import dataclasses
import re
import time
from collections.abc import Callable
from typing import Any

import jax

from cdjax.sharding.chips import Topology
from cdjax.sharding.cost import program_cost
from cdjax.sharding.hlo import parse_module
from cdjax.sharding.roofline import estimate

# XLA's efforts; "fast" compiles several times faster, and its programs need more temporaries.
EFFORTS: dict[str, dict[str, float]] = {"fast": {"exec_time_optimization_effort": -1.0}, "full": {}}
MAX_COMPILES = 4
_FULL = re.compile(r"Used ([\d.]+)([KMGT]?) of ([\d.]+)([KMGT]?) hbm")
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def compile_for(topology: Topology, lowered: jax.stages.Lowered, *, effort: str = "full"
                ) -> dict[str, Any]:
  """Compiles and measures; a program that does not fit is a result, not an error.

  Args:
    topology: of the devices that it was lowered for.
    lowered: the program.
    effort: one of `EFFORTS`.

  Returns:
    JSON: "fits", "seconds" of compiling, "memory" (bytes a device: arguments, outputs, aliased,
    temporaries, code, peak; only the peak where it does not fit), "hbm" (bytes that a device has);
    where it fits also "flops", "bytes", "collectives" (kind → count, bytes), "roofline" (seconds)
    and "utilisation" (of the peak, with nothing and with everything overlapped).

  Raises:
    ValueError: an unknown effort.
  """
  if effort not in EFFORTS:
    raise ValueError(f"effort={effort!r}; expected one of {sorted(EFFORTS)}")
  result: dict[str, Any] = {"hbm": topology.chip.hbm / topology.cores_a_chip}
  began = time.perf_counter()
  try:
    compiled = lowered.compile(compiler_options=dict(EFFORTS[effort]))
  except jax.errors.JaxRuntimeError as error:
    found = _FULL.search(str(error))
    if not found:
      raise
    used, limit = (float(found[i]) * _UNITS[found[i + 1]] for i in (1, 3))
    return result | {"fits": False, "hbm": limit, "memory": {"peak": used},
                     "seconds": time.perf_counter() - began}
  result["seconds"] = time.perf_counter() - began
  memory = memory_of(compiled.memory_analysis())
  cost = program_cost(parse_module(compiled.as_text()))
  roofline = estimate(cost, topology.chip, topology.cores_a_chip)
  return result | {
      "fits": memory["peak"] <= result["hbm"], "memory": memory, "flops": cost.flops,
      "bytes": cost.bytes, "collectives": cost.by_kind(), "unknown_loops": cost.unknown_loops,
      "collective_bytes": cost.sent(between_slices=False),
      "network_bytes": cost.sent(between_slices=True),
      "roofline": dataclasses.asdict(roofline) | {
          "bound": roofline.bound, "total": roofline.total, "bound_by": roofline.bound_by},
      "utilisation": roofline.utilisation}


def memory_of(analysis: Any) -> dict[str, int]:
  """Bytes on a device by what they hold, from `Compiled.memory_analysis()`.

  The peak is arguments + outputs − aliased + temporaries + code: what is donated counts once.
  """
  parts = {
      "arguments": analysis.argument_size_in_bytes, "outputs": analysis.output_size_in_bytes,
      "aliased": analysis.alias_size_in_bytes, "temporaries": analysis.temp_size_in_bytes,
      "code": analysis.generated_code_size_in_bytes}
  peak = sum(parts.values()) - 2 * parts["aliased"]
  return parts | {"peak": peak}


def fit_batch(try_batch: Callable[[int], dict[str, Any]], start: int, *,
              multiple: int = 1) -> tuple[int, list[tuple[int, dict[str, Any]]]]:
  """The largest batch a device that fits, by at most `MAX_COMPILES` compilations.

  Memory is a line in the batch nearly enough: two points say where it ends, the rest checks it.

  Args:
    try_batch: examples a device → a result of `compile_for`.
    start: the first one to try.
    multiple: batches must be multiples of it.

  Returns:
    The largest that was seen to fit, 0 where none was; every (batch, result), in order.
  """
  tried: list[tuple[int, dict[str, Any]]] = []
  batch = max(start // multiple, 1) * multiple
  while len(tried) < MAX_COMPILES:
    tried.append((batch, try_batch(batch)))
    batch = _next_batch(sorted(tried, key=lambda item: item[0]), multiple)
    if batch is None:
      break
  return max((batch for batch, result in tried if result["fits"]), default=0), tried


def _next_batch(tried: list[tuple[int, dict[str, Any]]], multiple: int) -> int | None:
  """What to try next; None where the answer is known."""
  low = max((batch for batch, result in tried if result["fits"]), default=0)
  high = min((batch for batch, result in tried if not result["fits"]), default=None)
  if high is not None and high - low <= multiple:
    return None
  room = tried[0][1]["hbm"]
  points = [(batch, result["memory"]["peak"]) for batch, result in tried]
  if len(points) == 1:
    (batch, peak), = points
    fixed = tried[0][1]["memory"].get("arguments", 0)
    guess = batch * 2 if low else batch // 2
    if low and peak > fixed:
      guess = batch * (room - fixed) / (peak - fixed)
  else:   # the two points nearest to the end
    pair = points[-2:] if high is None else points[:2] if not low else [
        max(point for point in points if point[0] <= low),
        min(point for point in points if point[0] >= high)]
    (b0, m0), (b1, m1) = pair
    guess = b0 + (room - m0) * (b1 - b0) / (m1 - m0) if b1 != b0 and m1 > m0 else 2 * b1
  guess = int(guess // multiple) * multiple
  if high is not None:
    guess = min(guess, high - multiple)
  guess = max(guess, low + multiple)
  return guess if guess >= multiple and guess not in {batch for batch, _ in tried} else None
