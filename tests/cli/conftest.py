"""A tiny trained workdir that the command-line tests share, made by the command line."""

import pytest

from cdjax.cli import main


@pytest.fixture(scope="session")
def tiny_workdir(tmp_path_factory):
  """`cdjax quickstart` with everything shrunk: minutes of compiling, seconds of computing."""
  workdir = tmp_path_factory.mktemp("tiny")
  code = main.main(["quickstart", "--workdir", str(workdir),
                    "--config", "configs/quickstart.py:tiny"])
  assert code == 0
  return workdir
