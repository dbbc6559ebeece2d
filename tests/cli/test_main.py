"""The shell: quick help, one-line errors, exit codes, what is set before jax is imported."""

import argparse
import errno
import importlib
import subprocess
import sys
import types

import pytest

from cdjax.cli import main as cli
from cdjax.cli.environment import FUSION_FLAG, FUSION_VALUE, configure_jax


@pytest.fixture
def command(monkeypatch):
  """A command "demo" whose `run` is set by the test; the process's settings stay as they are."""
  module = types.ModuleType("demo_command", "Shows a demo.\n\nExample:\n  cdjax demo --size 3\n")
  module.add_arguments = lambda parser: parser.add_argument("--size", type=int, default=1)
  module.run = lambda args: 0
  monkeypatch.setitem(sys.modules, "demo_command", module)
  monkeypatch.setitem(cli.COMMANDS, "demo", ("demo_command", "a demo"))
  monkeypatch.setattr(cli, "configure_jax", lambda: None)
  monkeypatch.setattr(cli, "configure_logging", lambda debug: None)
  return module


def test_help_names_every_command_and_imports_nothing_heavy():
  code = ("import sys; from cdjax.cli.main import main; assert main(['--help']) == 0; "
          "heavy = {'jax', 'flax', 'numpy', 'tensorflow_datasets'} & set(sys.modules); "
          "assert not heavy, heavy")
  result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
  assert result.returncode == 0, result.stderr
  for name in cli.COMMANDS:
    assert f"  {name} " in result.stdout


@pytest.mark.parametrize("name", sorted(cli.COMMANDS))
def test_every_command_explains_itself(name, capsys):
  module = importlib.import_module(cli.COMMANDS[name][0])
  with pytest.raises(SystemExit) as leave:
    cli.parse_arguments(name, module, ["--help"])
  assert leave.value.code == 0
  text = capsys.readouterr().out
  assert f"cdjax {name} " in text.split("options:")[0].split("usage:")[1].split("\n", 1)[1], (
    "the module's docstring shows no example")
  assert callable(module.run)


def test_module_entry_point():
  result = subprocess.run([sys.executable, "-m", "cdjax", "--version"], capture_output=True,
                          text=True, timeout=60)
  assert result.returncode == 0 and result.stdout.startswith("cdjax ")


def test_arguments_reach_the_command(command):
  seen = {}
  command.run = lambda args: seen.update(vars(args)) or 7
  assert cli.main(["demo", "--size", "3"]) == 7
  assert seen == {"size": 3, "debug": False}


def test_overrides_need_a_config(command, capsys):
  assert cli.main(["demo", "--config.seed=1"]) == 2
  assert "takes no config" in capsys.readouterr().err
  command.add_arguments = lambda parser: parser.add_argument("--config", default="c.py")
  seen = {}
  command.run = lambda args: seen.update(vars(args)) or 0
  assert cli.main(["demo", "--config.data.path=a b", "--config", "x.py", "--config.seed=1"]) == 0
  assert seen["config"] == "x.py"
  assert seen["overrides"] == ["--config.data.path=a b", "--config.seed=1"]


@pytest.mark.parametrize(("argv", "code", "says"), [
  ([], 2, "usage"),
  (["trian"], 2, "nearest: train"),
  (["demo", "--sise", "3"], 2, "--sise"),
  (["demo", "--size", "x"], 2, "invalid int"),
  (["demo", "--siz", "3"], 2, "--siz"),
])
def test_wrong_usage(command, capsys, argv, code, says):
  assert cli.main(argv) == code
  assert says in capsys.readouterr().err


@pytest.mark.parametrize(("error", "code", "line"), [
  (ValueError("sampler='x';\n expected 'ddim'"), 1, "sampler='x'; expected 'ddim'"),
  (FileNotFoundError(errno.ENOENT, "No such file", "a.png"), 1, "No such file: a.png"),
  (FileNotFoundError("config 'x' not found"), 1, "config 'x' not found"),
  (OSError(errno.ENOSPC, "No space left", "w/x"), 1,
   "no space left: w/x; make room, the same command then goes on where it was"),
  (ImportError("install cdjax[text]"), 1, "install cdjax[text]"),
  (FloatingPointError("loss at step 7"), 1, "loss at step 7"),
  (KeyboardInterrupt(), 130, "interrupted; the same command goes on where it was"),
])
def test_errors_are_one_line(command, capsys, error, code, line):
  def run(args):
    raise error
  command.run = run
  assert cli.main(["demo"]) == code
  assert capsys.readouterr().err == f"cdjax: error: {line}\n"


def test_debug_shows_the_traceback_and_faults_are_not_hidden(command, capsys):
  def run(args):
    raise {True: ValueError, False: ZeroDivisionError}[args.debug]("why")
  command.run = run
  assert cli.main(["demo", "--debug"]) == 1
  text = capsys.readouterr().err
  assert "Traceback" in text and text.endswith("cdjax: error: why\n")
  with pytest.raises(ZeroDivisionError):
    cli.main(["demo"])


def test_users_settings_stay():
  environ = {"XLA_FLAGS": "--xla_dump_to=d", "XDG_CACHE_HOME": "/cache"}
  configure_jax(environ)
  assert environ["XLA_FLAGS"] == f"--xla_dump_to=d {FUSION_FLAG}={FUSION_VALUE}"
  assert environ["JAX_COMPILATION_CACHE_DIR"].startswith("/cache/cdjax/jax/")
  once = dict(environ)
  configure_jax(environ)
  assert environ == once
  own = {"XLA_FLAGS": f"{FUSION_FLAG}=LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT",
         "JAX_COMPILATION_CACHE_DIR": "mine", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "9",
         "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "9"}
  before = dict(own)
  configure_jax(own)
  assert own == before


def test_jax_takes_the_settings_and_only_our_lines_are_logged(tmp_path):
  """In a process of its own: XLA would abort on a flag it does not know."""
  package = f"{cli.__file__.rsplit('/', 2)[0]}/train/loop.py"
  code = f"""
import sys, types
module = types.ModuleType("demo_command", "demo")
module.add_arguments = lambda parser: None
def run(args):
  import jax, jax.numpy as jnp
  from absl import flags, logging
  assert flags.FLAGS.is_parsed()
  jax.jit(lambda x: jnp.tanh(x @ x).sum())(jnp.ones((64, 64))).block_until_ready()
  logging.info("from another library")
  logging.warning("a warning")
  exec(compile('logging.info("from cdjax")', {package!r}, "exec"))
  print(jax.config.jax_compilation_cache_dir)
  return 0
module.run = run
sys.modules["demo_command"] = module
from cdjax.cli import main
main.COMMANDS["demo"] = ("demo_command", "demo")
sys.exit(main.main(["demo"]))
"""
  result = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, timeout=120,
    env={**_environ(), "XDG_CACHE_HOME": str(tmp_path), "JAX_PLATFORMS": "cpu"})
  assert result.returncode == 0, result.stderr
  assert result.stdout.startswith(str(tmp_path))
  assert "from cdjax" in result.stderr and "a warning" in result.stderr
  assert "from another library" not in result.stderr


def _environ() -> dict[str, str]:
  """This process's environment without what the test sets."""
  import os

  return {key: value for key, value in os.environ.items()
          if key != "XLA_FLAGS" and not key.startswith("JAX_")}


def test_parser_refuses_abbreviations(command):
  assert isinstance(cli.parse_arguments("demo", command, []), argparse.Namespace)
  with pytest.raises(SystemExit):
    cli.parse_arguments("demo", command, ["--deb"])
