"""Kinds of argument that several commands take."""

import argparse


def add_process_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares how the processes of one run find each other, for `join_processes`."""
  group = parser.add_argument_group(
      "several processes", "The same command in each of them; default: the environment's "
      "CDJAX_COORDINATOR, CDJAX_NUM_PROCESSES and CDJAX_PROCESS_ID, else one process.")
  group.add_argument("--coordinator", metavar="HOST:PORT",
                     help='of process 0; "auto", without the other two: ask jax, which knows Cloud '
                     "TPU VMs, GKE (also started by XPK), Slurm and MPI")
  group.add_argument("--num-processes", type=int, metavar="N", help="how many there are")
  group.add_argument("--process-id", type=int, metavar="I", help="which this one is, from 0")


def join_processes(args: argparse.Namespace) -> None:
  """Joins the other processes, if there are any; before anything touches a device."""
  from cdjax.sharding.hosts import initialize_distributed

  initialize_distributed(args.coordinator, args.num_processes, args.process_id)


def name_list(text: str) -> tuple[str, ...]:
  """"a,b , c" as ("a", "b", "c")."""
  return tuple(name.strip() for name in text.split(",") if name.strip())


def number_list(text: str) -> tuple[float, ...]:
  """"1,0.5" as (1.0, 0.5).

  Raises:
    argparse.ArgumentTypeError: not numbers.
  """
  try:
    return tuple(map(float, name_list(text)))
  except ValueError:
    raise argparse.ArgumentTypeError(f"{text!r}; expected numbers with commas between") from None


def column(text: str) -> tuple[str, str]:
  """"field=column" as (field, column).

  Raises:
    argparse.ArgumentTypeError: one of them, or the sign, is missing.
  """
  field, equals, name = text.partition("=")
  if not (field and equals and name):
    raise argparse.ArgumentTypeError(f"{text!r}; expected FIELD=COLUMN")
  return field, name
