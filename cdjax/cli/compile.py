"""Compiles a config's programs for a TPU topology, without a TPU: will it fit, what bounds it.

For each program: memory on a chip against its HBM, operations, memory traffic and collectives of
one call, and a roofline: how long the call must take at least. Nothing is run; no data and no
trained model are needed. What is compiled is the very step that `cdjax train` runs. `sampler` is
the answer to a batch of questions as `cdjax counterfactual`, `evaluate` and `generate` ask them:
abduction, the inversion of findings that stay, sampling, decoding. `noise` is what
`cdjax optimize-noise` runs with the same --config.mesh.

It needs libtpu (pip install 'cdjax[tpu-compile]', Linux), and for a network of Stable Diffusion's
size minutes and some GB of memory.

examples:
  cdjax compile --config configs/mimic_cxr_large.py:512 --topology v5e:16x16
  cdjax compile --config configs/mimic_cxr_large.py:512 --topology v5e:16x16 --slices 2 \\
    --json out.json
  cdjax compile --config configs/mimic_cxr_large.py --topology v6e:4x4 --fit-batch
  cdjax compile --config configs/mimic_cxr_large.py --topology v5e:4x4 --what sampler,noise
"""

import argparse
from pathlib import Path

from cdjax.cli.arguments import name_list

WHAT = ("train", "sampler", "noise")


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the command's arguments."""
  parser.add_argument("--config", required=True, metavar="FILE[:ARG]",
                      help="a config; change a value with --config.KEY=VALUE, e.g. the mesh: "
                      "--config.mesh.fsdp=8")
  parser.add_argument("--topology", required=True, metavar="KIND:SHAPE",
                      help="e.g. v5e:4x4, v5e:16x16, v5p:4x4x8, v6e:16x16")
  parser.add_argument("--slices", type=int, default=1, metavar="N",
                      help="how many of it, joined by the data centre's network "
                      "(default: %(default)s)")
  parser.add_argument("--what", type=name_list, default=("train",), metavar="A,B",
                      help=f"some of {', '.join(WHAT)} (default: train)")
  parser.add_argument("--stages", type=name_list, metavar="A,B",
                      help="whose training steps (default: the config's `stages`)")
  parser.add_argument("--batch-per-chip", type=int, metavar="N",
                      help="examples a chip and step (default: the config's batch_size, shared "
                      "out; of the sampler and the noises: 8)")
  parser.add_argument("--noises", type=int, metavar="N",
                      help="noises to optimise in all (default: 8 a chip)")
  parser.add_argument("--fit-batch", action="store_true",
                      help="find the largest batch a chip, by at most 4 compilations each")
  parser.add_argument("--effort", choices=("fast", "full"), default="full",
                      help="of the compiler: fast takes a fraction of the time, its programs need "
                      "more memory (default: %(default)s)")
  parser.add_argument("--json", metavar="FILE", help="write the numbers there too")


def run(args: argparse.Namespace) -> int:
  """Compiles and prints; 0 where everything fits, else 1."""
  check_arguments(args)
  import jax

  from cdjax.cli.overrides import parse_overrides
  from cdjax.core.config import load_config
  from cdjax.sharding.chips import describe_topology
  from cdjax.sharding.mesh import make_mesh
  from cdjax.sharding.roofline import ASSUMPTIONS
  from cdjax.train.disk import write_json

  # Nothing runs here: where there is a TPU, others may have it.
  jax.config.update("jax_platforms", "cpu")
  jax.config.update("jax_enable_compilation_cache", False)   # its entries cannot be loaded here
  config = parse_overrides(load_config(args.config), args.overrides)
  topology = describe_topology(args.topology, args.slices)
  mesh = make_mesh(config.mesh, topology.devices)
  sizes = ", ".join(f"{axis} {size}" for axis, size in mesh.shape.items())
  print(f"{args.topology} × {args.slices}: {topology.chips} chips, mesh {sizes}, "
        f"{topology.chip.hbm / 2**30:.0f} GiB and {topology.chip.flops / 1e12:.0f} TFLOP/s a chip")
  results, all_fit = [], True
  for name, start, multiple, lower in programs(args, config, mesh):
    for batch, result in compile_program(args, topology, name, start, multiple, lower):
      entry = {"program": name, "batch_per_device": batch, **result}
      results.append(entry)
      print_result(entry)
      if args.json:
        write_json(Path(args.json), {
            "config": config.name, "topology": args.topology, "slices": args.slices,
            "chips": topology.chips, "mesh": dict(mesh.shape), "effort": args.effort,
            "assumptions": ASSUMPTIONS, "programs": results})
    fitting = [r["batch_per_device"] for r in results if r["program"] == name and r["fits"]]
    all_fit &= bool(fitting)
    if args.fit_batch:
      print(f"{name}: largest batch a device that was seen to fit: {max(fitting, default=0)}")
    if name.startswith("train "):
      print_meshes(config, name.removeprefix("train "), topology)
  print("assumptions: " + "; ".join(ASSUMPTIONS))
  return 0 if all_fit else 1


def check_arguments(args: argparse.Namespace) -> None:
  """Refuses what cannot be, before anything slow.

  Raises:
    ValueError: says what.
  """
  if unknown := [name for name in args.what if name not in WHAT]:
    raise ValueError(f"--what {unknown[0]!r}; expected some of {', '.join(WHAT)}")
  for name in ("batch_per_chip", "noises"):
    if getattr(args, name) is not None and getattr(args, name) < 1:
      raise ValueError(f"--{name.replace('_', '-')} {getattr(args, name)}; expected 1 or more")
  if args.fit_batch and args.noises:
    raise ValueError("--noises says how many noises there are; --fit-batch looks for it")


def programs(args: argparse.Namespace, config, mesh):
  """Yields (name, examples a device, of which multiple, batch → lowered) of what was asked."""
  from cdjax.train.ahead import lower_train_step

  devices = mesh.shape["data"] * mesh.shape["fsdp"]
  for kind in args.what:
    if kind != "train":
      size = args.batch_per_chip or 8
      if kind == "noise" and args.noises:
        if args.noises % devices:
          raise ValueError(f"--noises {args.noises} over {devices} devices of the axes data and "
                           f"fsdp; expected a multiple of {devices}")
        size = args.noises // devices
      yield kind, size, 1, lambda batch, kind=kind: lower_model(
          config, mesh, kind, batch * devices)
      continue
    stages = args.stages or tuple(s.strip() for s in config.stages.split(",") if s.strip())
    for stage in stages:
      accumulation = config[stage].accumulation if stage in config else 1
      size = args.batch_per_chip or max(config[stage].batch_size // devices, accumulation)
      yield f"train {stage}", size, accumulation, lambda batch, stage=stage: lower_train_step(
          config, stage, mesh, batch_size=batch * devices)


def lower_model(config, mesh, kind: str, size: int):
  """The sampler or the noise optimisation of `size` images over all devices."""
  from cdjax.counterfactual.ahead import lower_noise, lower_sampler
  from cdjax.evaluate.trained import abstract_params
  from cdjax.sharding.partition import batch_sharding
  from cdjax.train import ahead

  params = abstract_params(config, mesh, ahead.abstract_text(config, mesh))
  findings = ahead.abstract_findings(config, size, batch_sharding(mesh, size))
  if kind == "sampler":
    return lower_sampler(config, mesh, params, ahead.abstract_key(mesh), findings)
  return lower_noise(config, mesh, params, findings, ahead.latent_shape(config))


def compile_program(args: argparse.Namespace, topology, name: str, start: int, multiple: int,
                    lower):
  """Yields (batch, result) of one program: one of them, or those that `fit_batch` tries."""
  from cdjax.sharding.compiled import compile_for, fit_batch

  def attempt(batch):
    print(f"{name}: compiling for {batch} a device …", flush=True)
    return compile_for(topology, lower(batch), effort=args.effort)

  if args.fit_batch:
    yield from fit_batch(attempt, start, multiple=multiple)[1]
  else:
    yield start, attempt(start)


def format_bytes(value: float) -> str:
  """`1536` to "1.50 KiB"."""
  for unit in ("B", "KiB", "MiB"):
    if value < 1024:
      return f"{value:.3g} {unit}"
    value /= 1024
  return f"{value:.2f} GiB"


def print_result(entry: dict) -> None:
  """Prints one program's numbers."""
  gib = format_bytes
  memory, verdict = entry["memory"], "fits" if entry["fits"] else "DOES NOT FIT"
  print(f"\n{entry['program']}, {entry['batch_per_device']} a device (compiled in "
        f"{entry['seconds']:.0f} s): {verdict}: {gib(memory['peak'])} of {gib(entry['hbm'])}")
  if "flops" not in entry:
    return
  print("  memory       " + ", ".join(f"{key} {gib(value)}" for key, value in memory.items()
                                      if key != "peak"))
  print(f"  a call       {entry['flops'] / 1e12:.3f} TFLOP, {gib(entry['bytes'])} of HBM traffic, "
        f"{gib(entry['collective_bytes'])} sent over links"
        + (f", {gib(entry['network_bytes'])} between slices" if entry["network_bytes"] else ""))
  for kind, value in sorted(entry["collectives"].items()):
    print(f"    {kind:20}{value['count']:6d} ×, {format_bytes(value['bytes'])}")
  times = entry["roofline"]
  low, high = entry["utilisation"]
  print("  roofline     " + ", ".join(f"{key} {times[key] * 1e3:.2f} ms" for key in (
      "compute", "memory", "links", "network")))
  print(f"    {times['bound'] * 1e3:.2f} ms at least, {times['total'] * 1e3:.2f} ms without "
        f"overlap; bound by {times['bound_by']}; {low:.0%} to {high:.0%} of the peak")
  if entry["unknown_loops"]:
    print(f"    {entry['unknown_loops']} loops of unknown length count once")


def print_meshes(config, stage: str, topology) -> None:
  """Prints what the training state takes on a device with other sizes of the axis fsdp."""
  import jax
  from jax.sharding import AbstractMesh, AxisType

  from cdjax.sharding.mesh import AXES
  from cdjax.train.ahead import abstract_stage

  devices, tensor = len(topology.devices), config.mesh.tensor if config.mesh.tensor > 0 else 1
  hbm = topology.chip.hbm / topology.cores_a_chip
  found, suggested, fsdp = [], None, 1
  while devices // topology.slices % (fsdp * tensor) == 0:
    mesh = AbstractMesh((devices // (fsdp * tensor), fsdp, tensor), AXES,
                        axis_types=(AxisType.Auto,) * 3)
    state = abstract_stage(config, stage, mesh)
    size = sum(_bytes(leaf) for leaf in jax.tree.leaves(state))
    found.append(f"{fsdp}: {format_bytes(size)}")
    if suggested is None and size <= hbm / 4:
      suggested = fsdp
    fsdp *= 2
  print(f"  state of {stage} on a device, by fsdp: {', '.join(found)}")
  if suggested is not None:
    print(f"  suggested: data=-1, fsdp={suggested}, tensor={tensor}: the smallest that leaves "
          "three quarters of the memory for gradients and activations")


def _bytes(leaf) -> int:
  """Of the part of an array that one device holds."""
  size = leaf.dtype.itemsize
  for length in leaf.sharding.shard_shape(leaf.shape):
    size *= length
  return size

