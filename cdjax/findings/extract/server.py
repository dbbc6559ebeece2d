"""The `server` backend: a language model behind an OpenAI-compatible endpoint.

vLLM, llama.cpp, Ollama and others speak this protocol. Reports go to the one address that the user
has named and nowhere else: redirects are refused, proxies of the environment are not used, and no
key is sent that was not named. Several reports are asked about at a time.
"""

import collections
import concurrent.futures
import hashlib
import json
import os
import threading
from collections.abc import Iterable, Iterator, Sequence

from cdjax.findings.extract.backend import Backend, require
from cdjax.findings.extract.chat import FORMATS, Chat, Refused, Unanswered
from cdjax.findings.extract.endpoint import check_endpoint
from cdjax.findings.extract.prompt import make_messages, prompt_digest, read_and_show
from cdjax.findings.types import Finding

# So many reports in a row without an answer, after all retries: there is nobody to ask.
PATIENCE = 8


def make_server(*, model: str, allow_endpoint: str | None = None, api_key_env: str | None = None,
                response_format: str = "json_schema", concurrency: int = 4, timeout: float = 120.0,
                retries: int = 4, max_tokens: int = 4096) -> Backend:
  """A backend that asks an endpoint.

  Args:
    model: name of the model at the endpoint.
    allow_endpoint: its address, e.g. "http://127.0.0.1:8080/v1"; naming it is the permission.
    api_key_env: name of the environment variable that holds the key, or None for no key.
    response_format: how the schema is asked for: "json_schema" as OpenAI, vLLM, Ollama and
      llama.cpp's llama-server have it; "json_object" as llama-cpp-python's server has it.
    concurrency: requests at a time.
    timeout: seconds that an endpoint may be silent before a request counts as failed.
    retries: of a request that is refused for now (HTTP 429, 5xx) or not answered in time.
    max_tokens: of an answer.

  Raises:
    ImportError: the extra `llm` is not installed.
    ValueError: no endpoint is allowed, or an impossible value.
  """
  if not allow_endpoint:
    raise ValueError("the backend 'server' sends reports to a model's endpoint; nothing is sent "
                     "until --allow-endpoint URL says where they may go")
  notice = check_endpoint(allow_endpoint)
  for name, value, least in (("concurrency", concurrency, 1), ("retries", retries, 0),
                             ("max-tokens", max_tokens, 1)):
    if value < least:
      raise ValueError(f"--{name} {value}; expected {least} or more")
  if not timeout > 0:
    raise ValueError(f"--timeout {timeout}; expected a number above 0")
  if response_format not in FORMATS:
    raise ValueError(f"--response-format {response_format!r}; expected one of {list(FORMATS)}")
  if api_key_env is not None and not os.environ.get(api_key_env):
    raise ValueError(f"--api-key-env: the environment variable {api_key_env} is not set")
  for package in ("openai", "pydantic"):
    require(package, "llm")
  from cdjax.findings.extract.answer import schema_digest

  key = os.environ[api_key_env] if api_key_env else None

  def extract(reports: Iterable[str]) -> Iterator[Sequence[Finding] | ValueError]:
    stopped = threading.Event()

    def wait(seconds: float) -> None:
      if stopped.wait(seconds):
        raise Unanswered("stopped")

    chat = Chat(url=allow_endpoint, model=model, key=key, response_format=response_format,
                timeout=timeout, retries=retries, max_tokens=max_tokens, wait=wait)
    return _extract(chat, reports, concurrency, stopped)

  read_by = (allow_endpoint.rstrip("/"), model, response_format, max_tokens, prompt_digest(),
             schema_digest())
  fingerprint = hashlib.sha256(json.dumps(read_by).encode()).hexdigest()[:16]
  return Backend("server", fingerprint, extract, notice)


def _extract(chat: Chat, reports: Iterable[str], concurrency: int, stopped: threading.Event
             ) -> Iterator[Sequence[Finding] | ValueError]:
  """Results in the order of the reports, several under way.

  Raises:
    Refused: the endpoint wants none of it (key, address, model).
    ConnectionError: `PATIENCE` reports in a row got no answer.
  """
  pool = concurrent.futures.ThreadPoolExecutor(concurrency, thread_name_prefix="extract")
  # One slow report must not leave the others idle; what has been read waits here.
  ahead: collections.deque[concurrent.futures.Future] = collections.deque()
  silent, reports = 0, iter(reports)
  try:
    while True:
      while len(ahead) < 2 * concurrency:
        try:
          ahead.append(pool.submit(_read_one, chat, next(reports)))
        except StopIteration:
          break
      if not ahead:
        return
      result = ahead.popleft().result()
      silent = silent + 1 if isinstance(result, Unanswered) else 0
      if silent == PATIENCE:
        raise ConnectionError(f"{silent} reports in a row got no answer; the last: {result}. The "
                              "same command goes on where it was")
      yield result
  finally:  # Also where the user interrupts: no pause is sat out, no further report is sent.
    stopped.set()
    pool.shutdown(wait=False, cancel_futures=True)
    chat.close()


def _read_one(chat: Chat, report: str) -> Sequence[Finding] | ValueError:
  """One report, in a thread of its own."""
  from cdjax.findings.extract.answer import read_answer

  sections, shown = read_and_show(report)
  if not sections:
    return []
  try:
    return read_answer(chat.ask(make_messages(shown)), report, sections)
  except Refused:
    raise
  except ValueError as error:
    return error
