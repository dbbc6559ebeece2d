"""Stand-ins for cloud commands: they record their arguments and answer as they are told."""

import shlex
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Records its name and arguments, NUL after each and \1 after a call; then runs $ANSWERS, a piece
# of bash, for what it is to say.
STAND_IN = """#!/usr/bin/env bash
printf '%s\\0' "${0##*/}" "$@" >> "$RECORD"
printf '\\1' >> "$RECORD"
if [[ -f "$ANSWERS" ]]; then source "$ANSWERS"; fi
"""


class Launch:
  """Runs a launch script with stand-ins on its PATH.

  Attributes:
    folder: its own folder.
    calls: the arguments of every call of a stand-in in the last run, the command's name first.
  """

  def __init__(self, folder: Path, names: tuple[str, ...]):
    self.folder = folder
    (folder / "bin").mkdir()
    for name in names:
      (folder / "bin" / name).write_text(STAND_IN)
      (folder / "bin" / name).chmod(0o755)
    self.env = {"PATH": f"{folder / 'bin'}:/usr/local/bin:/usr/bin:/bin", "HOME": str(folder),
                "RECORD": str(folder / "record"), "ANSWERS": str(folder / "answers"),
                "STDIN": str(folder / "stdin")}
    self.calls: list[list[str]] = []

  def answer(self, text: str) -> None:
    """A piece of bash that every stand-in runs."""
    (self.folder / "answers").write_text(text)

  @property
  def stdin(self) -> str:
    """What a stand-in was given that keeps its input in $STDIN."""
    return (self.folder / "stdin").read_text()

  def __call__(self, script: str, *args: str, **env: str) -> subprocess.CompletedProcess:
    record = self.folder / "record"
    record.write_bytes(b"")
    result = subprocess.run([ROOT / "launch" / script, *map(str, args)], cwd=self.folder,
                            env={**self.env, **env}, capture_output=True, text=True, timeout=60)
    self.calls = [call.split("\0")[:-1] for call in record.read_text().split("\1")[:-1]]
    return result


def printed(result: subprocess.CompletedProcess) -> list[list[str]]:
  """The commands that a dry run printed, read as a shell reads them."""
  assert result.returncode == 0, result.stderr
  return [shlex.split(line) for line in result.stdout.splitlines()]
