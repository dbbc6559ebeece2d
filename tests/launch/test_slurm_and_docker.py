"""Slurm and Docker: every argument, the job's own part, what the image is made from, linters."""

import fnmatch
import os
import shutil
import signal
import subprocess

import pytest
from stand_ins import ROOT, printed

SCRIPTS = sorted((ROOT / "launch").glob("*.sh"))


def sbatch(*words, name="cdjax", nodes=1, gpus=1, cpus=8, time="24:00:00", logs=".", extra=()):
  return ["sbatch", f"--job-name={name}", f"--nodes={nodes}", "--ntasks-per-node=1",
          f"--gpus-per-node={gpus}", f"--cpus-per-task={cpus}", f"--time={time}",
          f"--output={logs}/%x-%j.log", "--open-mode=append", "--requeue", "--signal=B:USR1@300",
          "--export=ALL", *extra, str(ROOT / "launch" / "slurm.sh"), *words]


def test_slurm_submits(same_as_dry_run):
  expected = sbatch("train", "--workdir", "a b")
  assert same_as_dry_run("slurm.sh", "--", "train", "--workdir", "a b") == ([expected], [expected])


def test_slurm_options(launch):
  (launch.folder / "logs").mkdir()
  result = launch("slurm.sh", "--name", "cf", "--nodes", "2", "--gpus", "4", "--cpus", "32",
                  "--time", "2:00:00", "--partition", "gpu", "--account", "lab", "--logs", "logs",
                  "--dry-run", "--", "train")
  assert printed(result) == [sbatch("train", name="cf", nodes=2, gpus=4, cpus=32, time="2:00:00",
                                    logs="logs", extra=("--partition=gpu", "--account=lab"))]
  for args, said in (((), "what cdjax is to do"), (("--logs", "no", "--", "x"), "not a folder"),
                     (("--partition",), "--partition needs a value"),
                     (("--gpus", "all", "--", "x"), "--gpus is 'all'"),
                     (("--fast", "--", "x"), "--fast")):
    result = launch("slurm.sh", *args)
    assert result.returncode == 2 and said in result.stderr and launch.calls == []


def in_job(launch, gpus=1):
  return {"CDJAX_SLURM_DIR": str(launch.folder), "CDJAX_SLURM_VENV": "/venv", "SLURM_JOB_ID": "77",
          "CDJAX_SLURM_GPUS": str(gpus)}


@pytest.mark.parametrize(("asked", "expected"), [("4", "0,1,2,3"), ("a100:2", "0,1"), ("0", "")])
def test_slurm_job_uses_all_gpus_of_its_node(launch, asked, expected):
  """jax would take the first one alone: it counts on a process for each."""
  launch.answer('if [[ "$0" == *sbatch ]]; then echo "$CDJAX_SLURM_GPUS"; fi\n'
                'if [[ "$0" == *srun ]]; then echo "<$JAX_LOCAL_DEVICE_IDS>"; fi')
  gpus = launch("slurm.sh", "--gpus", asked, "--", "train").stdout.strip()
  assert f"--gpus-per-node={asked}" in launch.calls[0]
  result = launch("slurm.sh", "train", **in_job(launch, gpus))
  assert result.returncode == 0 and result.stdout == f"<{expected}>\n"


def test_slurm_job_runs_one_process_a_node(launch):
  launch.answer('if [[ "$0" == *srun ]]; then echo "$CDJAX_COORDINATOR $PWD"; exit 3; fi')
  result = launch("slurm.sh", "train", "a b", **in_job(launch))
  assert result.returncode == 3   # an error of cdjax ends the job
  assert launch.calls == [["srun", "--kill-on-bad-exit=1", "/venv/bin/cdjax", "train", "a b"]]
  assert result.stdout.split() == ["auto", str(launch.folder)]


def test_slurm_job_saves_and_queues_again_before_its_time_is_up(launch):
  fifo = launch.folder / "fifo"
  os.mkfifo(fifo)
  launch.answer('if [[ "$0" == *srun ]]; then trap "echo saved; exit 143" TERM; '
                f'echo ready > {fifo}; read -r < {fifo}; fi')
  job = subprocess.Popen([ROOT / "launch" / "slurm.sh", "train"], cwd=launch.folder, text=True,
                         env={**launch.env, **in_job(launch)}, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE)
  assert fifo.read_text() == "ready\n"
  job.send_signal(signal.SIGUSR1)
  out, err = job.communicate(timeout=60)
  assert job.returncode == 0 and "saved" in out and "in the queue again" in err
  calls = (launch.folder / "record").read_text().split("\1")[:-1]
  assert calls[-1].split("\0")[:-1] == ["scontrol", "requeue", "77"]


def test_docker(same_as_dry_run, launch):
  build = ["docker", "build", f"--file={ROOT}/launch/Dockerfile", "--build-arg=EXTRA=cuda",
           "--tag=a/cdjax:1", str(ROOT)]
  named = ("--image", "a/cdjax:1")
  assert same_as_dry_run("docker.sh", "build", *named, "--extra", "cuda") == ([build], [build])
  push = ["docker", "push", "a/cdjax:1"]
  assert same_as_dry_run("docker.sh", "push", *named) == ([push], [push])
  for extra, devices in (("cuda", ["--gpus=all"]), ("tpu", ["--privileged", "--net=host"]),
                         ("text", [])):
    run = ["docker", "run", "--rm", *devices, f"--user={os.getuid()}:{os.getgid()}",
           "--volume=/x y:/data", "--env=HOME=/tmp", "a/cdjax:1", "train", "--workdir", "/data/run"]
    asked = (*named, "--extra", extra, "--data", "/x y", "--", "train", "--workdir", "/data/run")
    assert same_as_dry_run("docker.sh", "run", *asked) == ([run], [run])
  for args, said in (((), "expected build"), (("build",), "--image is needed"),
                     (("run", *named), "what cdjax is to do"),
                     (("build", *named, "--extra", "torch"), "--extra is 'torch'")):
    result = launch("docker.sh", *args)
    assert result.returncode == 2 and said in result.stderr and launch.calls == []


def test_image_is_made_from_what_the_context_holds():
  """Every path that the Dockerfile copies is let through, and nothing else is."""
  lines = (ROOT / ".dockerignore").read_text().splitlines()
  assert lines[0] == "*"
  allowed = [line[1:] for line in lines if line.startswith("!")]
  copied = []
  for line in (ROOT / "launch" / "Dockerfile").read_text().splitlines():
    if line.startswith("COPY "):
      copied += line.split()[1:-1]
  for path in copied:
    assert (ROOT / path).exists(), path
    assert any(path == name or path.startswith(f"{name}/") for name in allowed), path
  assert set(allowed) == {name for name in allowed
                          if any(path == name or path.startswith(f"{name}/") for path in copied)}
  assert all(fnmatch.fnmatch("a/__pycache__", line) or "pyc" in line
             for line in lines[1:] if not line.startswith("!"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck(script):
  if not shutil.which("shellcheck"):
    pytest.skip("shellcheck is not installed")
  result = subprocess.run(["shellcheck", "-x", script], capture_output=True, text=True)
  assert result.returncode == 0, result.stdout


def test_dockerfile_lint():
  if not shutil.which("hadolint"):
    pytest.skip("hadolint is not installed")
  result = subprocess.run(["hadolint", ROOT / "launch" / "Dockerfile"], capture_output=True,
                          text=True)
  assert result.returncode == 0, result.stdout
