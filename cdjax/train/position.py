"""Where the data of every process are, as JSON."""

import base64
import json
from typing import Any

import jax

from cdjax.sharding.hosts import gather_texts


def encode_position(state: Any) -> list[str]:
  """One text for each process from what its iterator's `get_state()` gave; all must call it.

  Args:
    state: JSON, or bytes.
  """
  if isinstance(state, bytes):
    return gather_texts(json.dumps({"base64": base64.b64encode(state).decode()}))
  return gather_texts(json.dumps({"json": state}))


def decode_position(texts: list[str]) -> Any:
  """What this process's iterator takes in `set_state()`.

  Where all processes were at the same place, as those of `data.pipeline` are, any number of
  processes can go on from it.

  Raises:
    ValueError: the run had another number of processes, each with a place of its own.
  """
  if len(set(texts)) > 1 and len(texts) != jax.process_count():
    raise ValueError(f"the checkpoint is of a run of {len(texts)} processes, each at another place "
                     f"of its data; this one has {jax.process_count()}, and the places cannot be "
                     "divided anew")
  state = json.loads(texts[0] if len(set(texts)) == 1 else texts[jax.process_index()])
  return base64.b64decode(state["base64"]) if "base64" in state else state["json"]
