"""Every test, and every process that a test starts, runs jax with the same settings.

Set here once, before jax is imported: a test that runs a command would otherwise leave flags behind
that only later subprocesses see, and theirs would be other programs, not bit-equal ones.

They are those of the command line, but for two. Nearly all of the suite's time is the compiling of
programs that run once on tiny arrays, so LLVM's expensive passes are left out (a third of the
computing of a tiny quickstart without a cache), and every program is kept, however small: most
tests train or ask the same toys anew. Values that are set already stay:
`JAX_DISABLE_MOST_OPTIMIZATIONS=0` tests the programs that users run.
"""

import os

import pytest

from cdjax.cli.environment import configure_jax

# Two jax programs that spread over the same cores hinder each other: each of pytest-xdist's workers
# has its own. Before jax is imported: it counts the cores then.
worker = os.environ.get("PYTEST_XDIST_WORKER", "")
if worker and hasattr(os, "sched_setaffinity"):
  cores = sorted(os.sched_getaffinity(0))
  count = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
  os.sched_setaffinity(0, cores[int(worker.removeprefix("gw"))::count] or cores)

os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
configure_jax()


@pytest.hookimpl(tryfirst=True)   # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items):
  """A file's tests run in one process, those of files that ask `tiny_workdir` in one as well."""
  asking = {item.path for item in items if "tiny_workdir" in item.fixturenames}
  for item in items:
    group = "tiny_workdir" if item.path in asking else str(item.path)
    item.add_marker(pytest.mark.xdist_group(group))
