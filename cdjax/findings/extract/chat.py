"""One conversation with an OpenAI-compatible endpoint, with the schema of the answer.

Whatever goes wrong is said by the status alone: the endpoint's own message may repeat the report.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from cdjax.findings.extract.retry import Busy, with_retries

# How a schema is asked for.
FORMATS: dict[str, Callable[[dict], dict]] = {
  "json_schema": lambda schema: {
    "type": "json_schema",
    "json_schema": {"name": "findings", "strict": True, "schema": schema}},
  "json_object": lambda schema: {"type": "json_object", "schema": schema},
}
# Of the protocol's libraries: some say at debug level what they send.
_LOGGERS = ("openai", "httpx", "httpx2", "httpcore", "httpcore2")
# The library adds what it knows of the machine, and of OPENAI_… variables that nobody has named.
_HEADERS = frozenset(("accept", "accept-encoding", "authorization", "connection", "content-length",
                      "content-type", "host", "user-agent"))
_REFUSED = {401: "the key is missing or wrong, see --api-key-env", 403: "not allowed",
            404: "no such model, or the address lacks its last part, often /v1"}


class Refused(ValueError):
  """The endpoint refuses every request, not only this one."""


class Unanswered(ValueError):
  """A report got no answer, also after all retries."""


class Chat:
  """A connection; `ask` may be called from several threads."""

  def __init__(self, *, url: str, model: str, key: str | None, response_format: str,
               timeout: float, retries: int, max_tokens: int, wait: Callable[[float], object]):
    """Connects to nothing yet.

    Args:
      url, model, response_format, timeout, retries, max_tokens: of `make_server`.
      key: sent with every request, or None.
      wait: sits out the seconds between two attempts.
    """
    import openai

    from cdjax.findings.extract.answer import answer_schema

    _silence()
    def bare(request: Any) -> None:
      for name in list(request.headers):
        if name.lower() not in _HEADERS:
          del request.headers[name]
      if key:
        request.headers["authorization"] = f"Bearer {key}"
      else:
        request.headers.pop("authorization", None)

    # A redirect would take the report to another address, and so would a proxy.
    http = openai.DefaultHttpxClient(follow_redirects=False, trust_env=False, timeout=timeout,
                                     event_hooks={"request": [bare]})
    # The library wants a key; retries are ours, so that they can be told what to wait for.
    self._client = openai.OpenAI(base_url=url, api_key=key or "none", timeout=timeout,
                                 max_retries=0, http_client=http)
    self._retries, self._wait, self._max_tokens = retries, wait, max_tokens
    self._request = {"model": model, "temperature": 0, "max_tokens": max_tokens,
                     "response_format": FORMATS[response_format](answer_schema())}

  def ask(self, messages: Sequence[dict[str, str]]) -> str:
    """The text of the answer.

    Raises:
      Refused: the endpoint will not answer anything as it is asked.
      Unanswered: no answer to this.
      ValueError: an answer that is none.
    """
    try:
      reply = with_retries(lambda: self._once(messages), retries=self._retries, wait=self._wait)
    except Busy as busy:
      tried = f" ({self._retries + 1} attempts)" if self._retries else ""
      raise Unanswered(f"{busy.reason}{tried}") from None
    try:
      choice = reply.choices[0]
      text, finish = choice.message.content, choice.finish_reason
    except (AttributeError, IndexError, TypeError):
      raise ValueError("the endpoint's answer is not of the protocol") from None
    if finish == "length":
      raise ValueError(f"the answer is longer than {self._max_tokens} tokens, see --max-tokens")
    if not isinstance(text, str) or not text.strip():
      raise ValueError("the endpoint's answer is empty")
    return text

  def close(self) -> None:
    """Ends the connections, also those in use."""
    self._client.close()

  def _once(self, messages: Sequence[dict[str, str]]) -> Any:
    """One attempt."""
    import openai

    try:
      return self._client.chat.completions.create(messages=list(messages), **self._request)
    except openai.APITimeoutError:
      raise Busy("the endpoint did not answer in time, see --timeout") from None
    except openai.APIConnectionError:
      raise Busy("the endpoint cannot be reached") from None
    except openai.APIStatusError as error:
      status, asked = error.status_code, error.response.headers.get("retry-after", "")
    except (openai.OpenAIError, ValueError):  # E.g. a body that is not JSON.
      raise ValueError("the endpoint's answer is not of the protocol") from None
    if status in (408, 409, 429) or status >= 500:
      wait_s = float(asked) if asked.replace(".", "", 1).isdecimal() else None
      # Some servers fail so on a format that they do not know.
      hint = "; does it know --response-format?" if status == 500 else ""
      raise Busy(f"the endpoint answered HTTP {status}{hint}", wait_s)
    if 300 <= status < 400:
      raise Refused(f"the endpoint answered HTTP {status}, a redirect; reports go only to the "
                    "address of --allow-endpoint: name the right one there")
    if status in _REFUSED:
      raise Refused(f"the endpoint answered HTTP {status}: {_REFUSED[status]}")
    raise Unanswered(f"the endpoint refused the request (HTTP {status}); does it know "
                     "--response-format, is the report too long for the model?")


def _silence() -> None:
  """Keeps the libraries' loggers from saying what is sent, also under --debug or OPENAI_LOG."""
  known = [name for name in logging.root.manager.loggerDict
           if name.split(".")[0] in _LOGGERS]
  for name in (*_LOGGERS, *known):
    logging.getLogger(name).setLevel(logging.WARNING)
