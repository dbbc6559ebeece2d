"""Where the data were, for the processes that go on."""

import jax
import pytest

from cdjax.train.position import decode_position, encode_position


@pytest.fixture
def processes(monkeypatch):
  def run(count, index=0):
    monkeypatch.setattr(jax, "process_count", lambda: count)
    monkeypatch.setattr(jax, "process_index", lambda: index)

  return run


@pytest.mark.parametrize("state", [b"\x00\xffbytes", {"next": 3}, [1, 2], "text"])
def test_one_process_gets_back_what_it_gave(state):
  assert decode_position(encode_position(state)) == state


@pytest.mark.parametrize("count", [1, 2, 5])
def test_one_place_for_all_is_one_for_any_number(processes, count):
  texts = encode_position({"next": 3})
  processes(count, count - 1)
  assert decode_position(texts * 2) == {"next": 3}


def test_places_of_their_own_are_for_as_many_processes(processes):
  texts = encode_position({"next": 3}) + encode_position(b"other")
  processes(2, 0)
  assert decode_position(texts) == {"next": 3}
  processes(2, 1)
  assert decode_position(texts) == b"other"
  processes(3, 0)
  with pytest.raises(ValueError, match=r"of a run of 2 processes.*this one has 3"):
    decode_position(texts)
