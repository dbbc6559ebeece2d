"""One process is the common case; half a description of several is an error."""

import jax
import pytest

from cdjax.sharding.hosts import (
  gather_texts,
  initialize_distributed,
  is_primary,
  leave_when_others_are_lost,
)


def test_one_process_is_its_own_first(monkeypatch):
  for name in ("CDJAX_COORDINATOR", "CDJAX_NUM_PROCESSES", "CDJAX_PROCESS_ID"):
    monkeypatch.delenv(name, raising=False)
  assert is_primary() and not initialize_distributed()
  assert gather_texts("größe") == ["größe"]


def test_half_a_description_names_what_is_missing(monkeypatch):
  monkeypatch.setenv("CDJAX_COORDINATOR", "localhost:1234")
  monkeypatch.delenv("CDJAX_NUM_PROCESSES", raising=False)
  with pytest.raises(ValueError, match="CDJAX_NUM_PROCESSES not set"):
    initialize_distributed(process_id=0)


def test_auto_leaves_it_to_jax(monkeypatch):
  calls = []
  monkeypatch.setattr(jax.distributed, "initialize", lambda *args, **timeouts: calls.append(args))
  monkeypatch.setenv("CDJAX_COORDINATOR", "auto")
  for name in ("CDJAX_NUM_PROCESSES", "CDJAX_PROCESS_ID"):
    monkeypatch.delenv(name, raising=False)
  assert initialize_distributed() and calls == [()]
  monkeypatch.setenv("CDJAX_PROCESS_ID", "0")
  with pytest.raises(ValueError, match="CDJAX_NUM_PROCESSES not set"):
    initialize_distributed()


def test_how_long_a_silent_process_is_waited_for_is_a_number(monkeypatch):
  monkeypatch.setattr(jax.distributed, "initialize", lambda *args, **timeouts: None)
  monkeypatch.setenv("CDJAX_COORDINATOR", "auto")
  monkeypatch.setenv("CDJAX_HEARTBEAT_SECONDS", "soon")
  with pytest.raises(ValueError, match="CDJAX_HEARTBEAT_SECONDS='soon'"):
    initialize_distributed()


def test_an_error_of_the_device_stays_one_in_a_run_of_one_process():
  with pytest.raises(jax.errors.JaxRuntimeError), leave_when_others_are_lost():
    raise jax.errors.JaxRuntimeError("out of memory")
