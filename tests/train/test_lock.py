"""Two processes never train in one folder."""

import os
import subprocess
import sys

import pytest

from cdjax.train.lock import folder_lock

HOLD = ("import sys; from pathlib import Path; from cdjax.train.lock import folder_lock\n"
        "with folder_lock(Path(sys.argv[1])):\n  print('held', flush=True); sys.stdin.read()")


def test_a_folder_in_use_is_an_error_that_names_the_process(tmp_path):
  other = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE,
                           stdout=subprocess.PIPE, text=True)
  try:
    assert other.stdout.readline() == "held\n"
    with pytest.raises(BlockingIOError, match=f"process {other.pid} "), folder_lock(tmp_path):
      pass
  finally:
    other.kill()
    other.wait()
  with folder_lock(tmp_path):   # a killed process holds nothing
    assert (tmp_path / ".lock").read_text().startswith(f"process {os.getpid()} ")
