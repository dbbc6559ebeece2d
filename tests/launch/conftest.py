"""Launch scripts with stand-ins for the cloud commands."""

import pytest
from stand_ins import Launch, printed


@pytest.fixture
def launch(tmp_path):
  return Launch(tmp_path, ("gcloud", "kubectl", "sbatch", "srun", "scontrol", "docker", "tar",
                           "sleep", "sudo"))


@pytest.fixture
def same_as_dry_run(launch):
  """Runs a script dry and for real; both must be the same calls, and dry none."""
  def compare(script, *args):
    before, dash, after = list(args), [], []
    if "--" in args:
      at = args.index("--")
      before, dash, after = list(args[:at]), ["--"], list(args[at + 1:])
    dry = printed(launch(script, *before, "--dry-run", *dash, *after))
    assert launch.calls == []
    real = launch(script, *args)
    assert real.returncode == 0, real.stderr
    return dry, launch.calls

  return compare


