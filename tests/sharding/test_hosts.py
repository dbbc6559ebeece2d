"""One process is the common case; half a description of several is an error."""

import jax
import pytest

from cdjax.sharding.hosts import gather_texts, initialize_distributed, is_primary


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
  monkeypatch.setattr(jax.distributed, "initialize", lambda *args: calls.append(args))
  monkeypatch.setenv("CDJAX_COORDINATOR", "auto")
  for name in ("CDJAX_NUM_PROCESSES", "CDJAX_PROCESS_ID"):
    monkeypatch.delenv(name, raising=False)
  assert initialize_distributed() and calls == [()]
  monkeypatch.setenv("CDJAX_PROCESS_ID", "0")
  with pytest.raises(ValueError, match="CDJAX_NUM_PROCESSES not set"):
    initialize_distributed()
