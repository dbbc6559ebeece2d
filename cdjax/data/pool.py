"""Worker processes that keep order, hold little in memory and do not outlive their parent."""

import collections
import concurrent.futures
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import threading
from collections.abc import Callable, Iterable, Iterator


@contextlib.contextmanager
def worker_pool(workers: int) -> Iterator[concurrent.futures.Executor | None]:
  """A pool of processes; None where `workers` is 0."""
  if not workers:
    yield None
    return
  context = multiprocessing.get_context("spawn")  # JAX's threads do not survive a fork.
  with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context,
                                              initializer=leave_with_parent) as pool:
    try:
      yield pool
    except BaseException:
      pool.shutdown(wait=False, cancel_futures=True)
      raise


def leave_with_parent(*unused) -> None:
  """Called in a worker: ends it when the parent is gone, even by SIGKILL.

  Workers hold both ends of their queues and would wait for ever.
  """
  def watch():
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)

  threading.Thread(target=watch, daemon=True).start()


def ordered_map(function: Callable, items: Iterable, *,
                pool: concurrent.futures.Executor | None, ahead: int) -> Iterator[Callable]:
  """Calls `function` of each item, in `pool` or in this process.

  Yields:
    For each item in order a callable that waits for its result, or raises what it raised. At most
    `ahead` results wait in memory.
  """
  if pool is None:
    for item in items:
      yield lambda item=item: function(item)
    return
  waiting: collections.deque[Callable] = collections.deque()
  for item in items:
    waiting.append(pool.submit(function, item).result)
    if len(waiting) > ahead:
      yield waiting.popleft()
  yield from waiting
