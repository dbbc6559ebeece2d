"""Processes of one run: who writes, and how they start."""

import os

import jax
import numpy as np
from jax.experimental import multihost_utils


def is_primary() -> bool:
  """Whether this process writes metrics, images and configs; exactly one does."""
  return jax.process_index() == 0


def initialize_distributed(coordinator: str | None = None, num_processes: int | None = None,
                           process_id: int | None = None) -> bool:
  """Joins the processes of one run; call before anything touches a device.

  Args:
    coordinator: "host:port" of process 0; default the environment's `CDJAX_COORDINATOR`. "auto",
      without the other two, asks jax, which knows Cloud TPU, GKE, Slurm and MPI.
    num_processes: default `CDJAX_NUM_PROCESSES`.
    process_id: 0 .. num_processes - 1; default `CDJAX_PROCESS_ID`.

  Returns:
    False where nothing is given: a run of one process.

  Raises:
    ValueError: some of the three are given and others are not.
  """
  given = {"CDJAX_COORDINATOR": coordinator, "CDJAX_NUM_PROCESSES": num_processes,
           "CDJAX_PROCESS_ID": process_id}
  given = {key: os.environ.get(key) if value is None else value for key, value in given.items()}
  missing = [key for key, value in given.items() if value is None]
  if len(missing) == len(given):
    return False
  if given["CDJAX_COORDINATOR"] == "auto" and len(missing) == 2:
    jax.distributed.initialize()
    return True
  if missing:
    raise ValueError(f"{', '.join(missing)} not set; expected all of {sorted(given)} or none")
  jax.distributed.initialize(given["CDJAX_COORDINATOR"], int(given["CDJAX_NUM_PROCESSES"]),
                             int(given["CDJAX_PROCESS_ID"]))
  return True


def gather_texts(text: str) -> list[str]:
  """Every process's text, in order of the processes; all of them must call it."""
  if jax.process_count() == 1:
    return [text]
  data = np.frombuffer(text.encode(), np.uint8)
  sizes = multihost_utils.process_allgather(np.array([data.size], np.int32)).ravel()
  padded = np.zeros(sizes.max(), np.uint8)
  padded[:data.size] = data
  rows = multihost_utils.process_allgather(padded)
  return [bytes(row[:size]).decode() for row, size in zip(rows, sizes, strict=True)]
