"""Cloud TPU VMs: every argument of every gcloud command, the restart loop, the worker's side."""

import os
import re
import signal
import subprocess
import tarfile

import pytest
from stand_ins import ROOT, printed

TPU = ["gcloud", "compute", "tpus", "tpu-vm"]
WHERE = ["--zone=us-west4-a"]
SOURCES = ["LICENSE", "README.md", "cdjax", "configs", "launch", "pyproject.toml", "setup.py"]
NAMED = ("--name", "cf", "--zone", "us-west4-a")


def ssh(command, worker="all", where=WHERE):
  return [*TPU, "ssh", "cf", *where, f"--worker={worker}", f"--command={command}"]


def create(*extra):
  return [*TPU, "create", "cf", *WHERE, "--accelerator-type=v5litepod-8",
          "--version=v2-alpha-tpuv5-lite", *extra]


def set_up(archive):
  return [["tar", "-czf", archive, "--exclude=__pycache__", "-C", str(ROOT), *SOURCES],
          [*TPU, "scp", archive, "cf:cdjax.tar.gz", *WHERE, "--worker=all"],
          ssh("mkdir -p cdjax && tar -xzf cdjax.tar.gz -C cdjax"),
          ssh("cdjax/launch/tpu_worker.sh setup")]


def start(words):
  return ssh(f"cdjax/launch/tpu_worker.sh start {words}")


STOP = ssh("cdjax/launch/tpu_worker.sh stop")
FOLLOW = ssh("cdjax/launch/tpu_worker.sh follow", worker="0")
DESCRIBE = [*TPU, "describe", "cf", *WHERE, "--format=value(state)"]
DELETE = [*TPU, "delete", "cf", *WHERE, "--quiet"]


@pytest.mark.parametrize(("args", "expected"), [
  (("create", *NAMED, "--spot"), [create("--spot")]),
  (("run", *NAMED, "--", "train", "--workdir", "/mnt/a b"),
   [start("train --workdir /mnt/a\\ b"), FOLLOW]),
  (("logs", *NAMED), [FOLLOW]),
  (("stop", *NAMED), [STOP]),
  (("delete", *NAMED), [DELETE]),
])
def test_commands(same_as_dry_run, args, expected):
  dry, real = same_as_dry_run("tpu_vm.sh", *args)
  assert dry == expected and real == expected


def test_options(launch):
  result = launch("tpu_vm.sh", "create", *NAMED, "--type", "v6e-16", "--version", "v2-alpha-tpuv6e",
                  "--project", "my-project", "--dry-run")
  assert printed(result) == [[*TPU, "create", "cf", *WHERE, "--project=my-project",
                              "--accelerator-type=v6e-16", "--version=v2-alpha-tpuv6e"]]
  result = launch("tpu_vm.sh", "logs", *NAMED, "--worker", "3", "--dry-run")
  assert printed(result) == [ssh("cdjax/launch/tpu_worker.sh follow", worker="3")]


def test_setup_copies_the_checkout_to_every_worker(launch):
  dry = printed(launch("tpu_vm.sh", "setup", *NAMED, "--dry-run"))
  assert dry == set_up("/tmp/cdjax.tar.gz")
  assert launch("tpu_vm.sh", "setup", *NAMED).returncode == 0
  archive = launch.calls[0][2]
  assert launch.calls == set_up(archive) and not os.path.exists(os.path.dirname(archive))
  launch.answer('if [[ "$*" == *scp* ]]; then exit 9; fi')
  assert launch("tpu_vm.sh", "setup", *NAMED).returncode == 9
  assert len(launch.calls) == 2   # what comes after a failure is not tried


def test_setup_sends_what_installing_needs_and_no_data(launch, tmp_path):
  """Data sets and runs in the checkout would be patients' images on every worker."""
  archive = tmp_path / "kept.tar.gz"
  (launch.folder / "bin" / "tar").unlink()   # the real one
  launch.answer(f'case "$*" in *scp*) cp "$5" {archive} ;; esac')
  assert launch("tpu_vm.sh", "setup", *NAMED).returncode == 0
  with tarfile.open(archive) as file:
    names = {name.split("/")[0] for name in file.getnames()}
    assert {"cdjax/cli/main.py", "launch/tpu_worker.sh", "launch/constraints.txt",
            "configs/nih.py"} <= set(file.getnames())
  assert names == set(SOURCES) and "setup.py" in names


def test_dry_loop_prints_one_round(launch):
  result = launch("tpu_vm.sh", "loop", *NAMED, "--dry-run", "--", "train")
  assert printed(result) == [DESCRIBE, create(), *set_up("/tmp/cdjax.tar.gz"), STOP, start("train"),
                             FOLLOW]
  assert launch.calls == []


def test_loop_starts_again_on_the_same_vm(launch):
  launch.answer('case "$*" in *describe*) echo READY ;; *follow*) '
                '[[ -f failed ]] || { touch failed; exit 1; } ;; esac')
  result = launch("tpu_vm.sh", "loop", *NAMED, "--wait", "7", "--restarts", "3", "--", "train")
  assert result.returncode == 0 and "3 times left" in result.stderr
  once = [DESCRIBE, STOP, start("train"), FOLLOW]
  assert launch.calls == [*once, ["sleep", "7"], *once]


def test_loop_makes_a_vm_anew_that_was_taken_away(launch):
  launch.answer('case "$*" in *describe*) echo PREEMPTED ;; esac')
  assert launch("tpu_vm.sh", "loop", *NAMED, "--spot", "--", "train").returncode == 0
  archive = launch.calls[3][2]
  assert launch.calls == [DESCRIBE, DELETE, create("--spot"), *set_up(archive), STOP,
                          start("train"), FOLLOW]


def test_loop_gives_up(launch):
  launch.answer('case "$*" in *describe*) echo READY ;; *start*) exit 1 ;; esac')
  result = launch("tpu_vm.sh", "loop", *NAMED, "--restarts", "2", "--wait", "0", "--", "train")
  assert result.returncode == 1
  assert launch.calls.count(start("train")) == 3 and FOLLOW not in launch.calls


@pytest.mark.parametrize(("args", "said"), [
  ((), "expected create"), (("train",), "expected create"), (("create",), "--name and --zone"),
  (("create", "--name"), "--name needs a value"),
  (("create", *NAMED, "--project"), "--project needs a value"),
  (("run", *NAMED), "what cdjax is to do"),
  (("delete", *NAMED, "--", "x"), "takes no arguments"), (("logs", *NAMED, "--fast"), "--fast"),
  (("loop", *NAMED, "--restarts", "many", "--", "train"), "are numbers"),
])
def test_wrong_usage(launch, args, said):
  result = launch("tpu_vm.sh", *args)
  assert result.returncode == 2 and said in result.stderr and launch.calls == []


@pytest.fixture
def worker(launch):
  """The worker's script with a `cdjax` of our own."""
  command = launch.folder / "venv" / "bin" / "cdjax"
  command.parent.mkdir(parents=True)

  def install(body):
    command.write_text(f"#!/usr/bin/env bash\n{body}\n")
    command.chmod(0o755)
    return lambda *args: launch("tpu_worker.sh", *args, CDJAX_VENV=str(launch.folder / "venv"))

  return install


def test_worker_follows_to_the_end_with_its_exit_code(worker):
  run = worker('echo "$CDJAX_COORDINATOR"; printf "<%s>" "$@"; exit 5')
  assert run("start", "train", "--workdir", "a b").returncode == 0
  result = run("follow")
  assert result.returncode == 5
  assert result.stdout.strip() == "auto\n<train><--workdir><a b>"
  assert run("start", "evaluate").returncode == 0   # it may start again
  assert "<evaluate>" in run("follow").stdout


def test_worker_runs_one_at_a_time_and_stops_it_gently(worker, launch):
  fifo = launch.folder / "fifo"
  os.mkfifo(fifo)
  run = worker(f"trap 'echo saved; exit 143' TERM\necho ready > {fifo}\nread -r < {fifo}")
  assert run("start", "train").returncode == 0
  assert fifo.read_text() == "ready\n"
  refused = run("start", "train")
  assert refused.returncode == 2 and "already running" in refused.stderr
  assert run("stop").returncode == 0
  result = run("follow")
  assert result.returncode == 143 and "saved" in result.stdout
  assert run("stop").returncode == 0   # nothing to stop is no error


def test_worker_says_that_it_was_killed(worker, launch):
  fifo = launch.folder / "fifo"
  os.mkfifo(fifo)
  run = worker(f"echo ready > {fifo}\nread -r < {fifo}")
  run("start", "train")
  assert fifo.read_text() == "ready\n"
  os.killpg(int((launch.folder / "cdjax-run" / "pid").read_text()), signal.SIGKILL)
  result = run("follow")
  assert result.returncode == 2 and "was killed" in result.stderr


def test_worker_setup_installs_for_tpus(worker, launch):
  run = worker("exit 0")
  python = launch.folder / "bin" / "python3.11"
  python.write_text((launch.folder / "bin" / "sudo").read_text()
                    + 'mkdir -p "$3/bin"; cp "$0" "$3/bin/python"\n')
  python.chmod(0o755)
  assert run("setup").returncode == 0
  venv = str(launch.folder / "venv")
  pip = ["python", "-m", "pip", "install", "--quiet"]
  assert launch.calls == [
      ["python3.11", "-m", "venv", venv], [*pip, "--upgrade", "pip"],
      [*pip, "--constraint", f"{ROOT}/launch/constraints.txt", "--editable", f"{ROOT}[tpu]"]]


def test_help_lists_every_option():
  for script in ("tpu_vm.sh", "gke.sh", "slurm.sh", "docker.sh"):
    text = subprocess.run([ROOT / "launch" / script, "--help"], capture_output=True, text=True,
                          check=True).stdout
    source = (ROOT / "launch" / script).read_text()
    options = set(re.findall(r"^ +(--[a-z-]+)(?=[) ].*;;$)", source, re.MULTILINE)) - {"--"}
    assert len(options) >= 2 and all(option in text for option in options), script
    assert "set -euo" not in text
