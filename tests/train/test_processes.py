"""Two real processes on loopback are one run: they stop, resume and fail together."""

import signal

import pair
import pytest
import toy
import two_processes

from cdjax.sharding.hosts import LOST

pytestmark = pytest.mark.slow


def run_both(workdir, *arguments) -> tuple[list[int], list[str]]:
  """Exit codes and outputs of both processes."""
  return pair.run(two_processes.__file__, workdir, *arguments)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
  codes, outputs = run_both(tmp_path_factory.mktemp("undisturbed"))
  assert codes == [0, 0], outputs
  return pair.fingerprint(outputs)


@pytest.mark.parametrize("process", ["0", "1"])
def test_a_signal_to_one_stops_both_at_one_step_and_both_go_on(tmp_path, undisturbed, process):
  codes, outputs = run_both(tmp_path, "SIGTERM", "6", process)
  assert codes == [128 + signal.SIGTERM] * 2, outputs
  steps = {line.split(" of ")[0] for text in outputs for line in text.splitlines()
           if "stopped at step" in line}
  assert steps == {f"{toy.STAGE}: stopped at step 7"}   # one after the signal: all have heard of it
  assert toy.checkpoint_steps(tmp_path)[-1] == 7
  codes, outputs = run_both(tmp_path)
  assert codes == [0, 0] and pair.fingerprint(outputs) == undisturbed


@pytest.mark.parametrize("process", [0, 1])
def test_a_lost_process_ends_the_other_with_a_message(tmp_path, undisturbed, process):
  codes, outputs = run_both(tmp_path, "SIGKILL", "7", str(process))
  assert codes[process] == -signal.SIGKILL
  left = 1 - process
  assert codes[left] in (LOST, -signal.SIGABRT), outputs[left][-3000:]
  assert "cannot be reached" in outputs[left] or "coordination service" in outputs[left].lower()
  codes, outputs = run_both(tmp_path)
  assert codes == [0, 0] and pair.fingerprint(outputs) == undisturbed


def test_a_signal_in_the_last_step_is_heard_by_both(tmp_path, undisturbed):
  codes, outputs = run_both(tmp_path, "SIGTERM", "11", "1")
  assert codes == [128 + signal.SIGTERM] * 2, outputs
  assert all("stopped after its last step; it is done" in text for text in outputs)
  codes, outputs = run_both(tmp_path)
  assert codes == [0, 0] and pair.fingerprint(outputs) == undisturbed


def test_an_error_in_one_ends_both_with_a_message(tmp_path, undisturbed):
  codes, outputs = run_both(tmp_path, "error", "7", "1")
  assert codes[1] == 1 and "process 1 of 2: failed, and the others end with it: row 7" in outputs[1]
  assert codes[0] in (LOST, -signal.SIGABRT), outputs[0][-3000:]
  codes, outputs = run_both(tmp_path)
  assert codes == [0, 0] and pair.fingerprint(outputs) == undisturbed
