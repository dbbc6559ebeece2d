"""The `server` backend against a stand-in endpoint: what is sent, where to, and what comes back."""

import json
import socket
import threading

import pytest
from endpoint import Endpoint, completion, says

from cdjax.findings import Finding
from cdjax.findings.extract import make_backend, retry
from cdjax.findings.extract.retry import LONGEST_WAIT_S, Busy, with_retries

pytest.importorskip("openai", reason="needs the extra `llm`: pip install 'cdjax[llm]'")

from cdjax.findings.extract import chat
from cdjax.findings.extract.answer import answer_schema

SECRET = "Ottilie"  # Stands for everything that must not leave a report.
REPORT = f"HISTORY: Pneumonia.\nFINDINGS: {SECRET} has a left mass."
MASS = {"evidence": "left mass", "name": "mass", "status": "present", "severity": None,
        "size_mm": None, "laterality": "left", "zones": [], "change": None}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
  """Between attempts; `test_pauses_double_…` has them measured."""
  monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.0)


def _read(endpoint, *reports, **options):
  backend = make_backend("server", allow_endpoint=endpoint.url, model="m", **options)
  return list(backend.extract(reports or [REPORT]))


def test_the_schema_and_the_findings_sections_are_sent():
  with Endpoint(lambda body, number: says(MASS)).running() as endpoint:
    ((mass,),) = _read(endpoint)
  assert mass == Finding("mass", laterality="left")
  assert REPORT[slice(*mass.evidence)] == "left mass"
  ((path, headers, body),) = endpoint.requests
  assert path == "/v1/chat/completions"
  assert body["model"] == "m" and body["temperature"] == 0 and body["max_tokens"] == 4096
  assert body["response_format"] == {"type": "json_schema", "json_schema": {
    "name": "findings", "strict": True, "schema": answer_schema()}}
  assert body["messages"][-1]["content"].endswith(f"{SECRET} has a left mass.")
  assert "Pneumonia." not in json.dumps(body), "a history is not sent"
  assert "authorization" not in {name.lower() for name in headers}


def test_the_other_way_to_ask_for_a_schema():
  with Endpoint(lambda body, number: says()).running() as endpoint:
    assert _read(endpoint, response_format="json_object", max_tokens=7) == [[]]
  (body,) = endpoint.bodies()
  assert body["response_format"] == {"type": "json_object", "schema": answer_schema()}
  assert body["max_tokens"] == 7


def test_reports_are_asked_about_together_but_not_too_many():
  """Three requests wait for each other inside: fewer would break, more would be counted."""
  reports = [f"Nodule of {n} mm." for n in range(1, 7)]
  senders = set()

  def answer(body, number):
    senders.update(t.name for t in threading.enumerate() if t.name.startswith("extract_"))
    size = int(body["messages"][-1]["content"].split()[2])
    return says({**MASS, "evidence": f"{size} mm", "name": "nodule", "size_mm": size}
                if size != 4 else {**MASS, "evidence": "Nodule of 4 mm", "name": "nodule"})

  with Endpoint(answer, meet=3).running() as endpoint:
    found = _read(endpoint, *reports, concurrency=3, retries=0)
  assert endpoint.most == len(senders) == 3 and len(endpoint.requests) == 6
  sizes = [[f.size_mm for f in findings if f.evidence] for findings in found]
  assert sizes[3] == [None], "results come in the order of the reports"


def test_it_does_not_read_far_ahead():
  taken = []

  def reports():
    for n in range(100):
      taken.append(n)
      yield REPORT

  with Endpoint(lambda body, number: says(MASS)).running() as endpoint:
    backend = make_backend("server", allow_endpoint=endpoint.url, model="m", concurrency=2)
    results = backend.extract(reports())
    next(results)
    results.close()
  assert len(taken) <= 5 and len(endpoint.requests) <= 5


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_failure_that_may_pass_is_tried_again(status):
  bad = (status, {}, json.dumps({"error": {"message": SECRET}}))
  with Endpoint(lambda body, number: bad if number < 2 else says(MASS)).running() as endpoint:
    (findings,) = _read(endpoint, retries=2)
  assert len(findings) == 1 and len(endpoint.requests) == 3


def test_after_the_last_attempt_the_report_is_given_up():
  bad = (500, {}, json.dumps({"error": {"message": SECRET}}))
  with Endpoint(lambda body, number: bad).running() as endpoint:
    (error,) = _read(endpoint, retries=2)
  assert str(error) == ("the endpoint answered HTTP 500; does it know --response-format? "
                        "(3 attempts)")
  assert isinstance(error, ValueError) and len(endpoint.requests) == 3


def test_a_request_that_is_wrong_is_not_repeated():
  bad = (400, {}, json.dumps({"error": {"message": SECRET}}))
  with Endpoint(lambda body, number: bad).running() as endpoint:
    (error,) = _read(endpoint)
  assert str(error).startswith("the endpoint refused the request (HTTP 400); ")
  assert len(endpoint.requests) == 1 and SECRET not in str(error)


@pytest.mark.parametrize(("status", "says"), [(401, "--api-key-env"), (403, "not allowed"),
                                              (404, "no such model")])
def test_an_endpoint_that_wants_nothing_is_left(status, says):
  with (Endpoint(lambda body, number: (status, {}, "{}")).running() as endpoint,
        pytest.raises(ValueError, match=f"HTTP {status}: .*{says}")):
    _read(endpoint, *[REPORT] * 50, concurrency=1)
  assert len(endpoint.requests) <= 3


def test_nobody_to_ask_ends_the_run():
  with (Endpoint(lambda body, number: (500, {}, "{}")).running() as endpoint,
        pytest.raises(ConnectionError, match="8 reports in a row got no answer; the last: the "
                                             "endpoint answered HTTP 500")):
    _read(endpoint, *[REPORT] * 50, concurrency=1, retries=0)
  assert len(endpoint.requests) <= 8 + 2


def test_some_silence_among_answers_does_not():
  def answer(body, number):
    return says(MASS) if number % 8 == 7 else (500, {}, "{}")

  with Endpoint(answer).running() as endpoint:
    found = _read(endpoint, *[REPORT] * 24, concurrency=1, retries=0)
  assert [isinstance(result, ValueError) for result in found] == ([True] * 7 + [False]) * 3


def test_an_endpoint_that_never_answers():
  with socket.create_server(("127.0.0.1", 0)) as listener:
    backend = make_backend("server", model="m", timeout=0.05, retries=1,
                           allow_endpoint=f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
    (error,) = backend.extract([REPORT])
  assert str(error) == "the endpoint did not answer in time, see --timeout (2 attempts)"


def test_an_endpoint_that_is_not_there():
  with socket.create_server(("127.0.0.1", 0)) as listener:
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
  (error,) = make_backend("server", model="m", retries=0, allow_endpoint=url).extract([REPORT])
  assert str(error) == "the endpoint cannot be reached"


def test_an_interrupted_run_sits_out_no_pause_and_sends_nothing_more(monkeypatch):
  monkeypatch.setattr(retry, "FIRST_WAIT_S", 25.0)
  asked = threading.Event()

  def answer(body, number):
    asked.set()
    return 500, {}, "{}"

  def reports():
    yield REPORT
    assert asked.wait(timeout=20)
    raise KeyboardInterrupt

  with Endpoint(answer).running() as endpoint:
    backend = make_backend("server", allow_endpoint=endpoint.url, model="m")
    with pytest.raises(KeyboardInterrupt):
      list(backend.extract(reports()))
    for sender in [t for t in threading.enumerate() if t.name.startswith("extract_")]:
      sender.join(timeout=15)
      assert not sender.is_alive()
  assert len(endpoint.requests) == 1


@pytest.mark.parametrize(("answer", "message"), [
  ((200, {}, completion(f"{SECRET} is well.")), "the answer is not JSON"),
  ((200, {}, completion('{"findings": [{"name": "' + SECRET + '"}]}')),
   r"the answer is not of the schema: findings\[0\]"),
  ((200, {}, completion('{"findings": [', "length")), "longer than 4096 tokens, see --max-tokens"),
  ((200, {}, completion(None)), "answer is empty"),
  ((200, {}, completion(" ")), "answer is empty"),
  ((200, {}, '{"choices": []}'), "not of the protocol"),
  ((200, {}, f'{{"error": "{SECRET}"}}'), "not of the protocol"),
  ((200, {}, f"[{SECRET}"), "not of the protocol"),
  ((200, {"content-type": "text/html"}, f"<p>{SECRET}</p>"), "not of the protocol"),
])
def test_a_bad_answer_costs_its_report_only(answer, message):
  with Endpoint(lambda body, number: answer if number == 0 else says(MASS)).running() as endpoint:
    error, findings = _read(endpoint, REPORT, REPORT, concurrency=1)
  with pytest.raises(ValueError, match=message):
    raise error
  assert SECRET not in str(error) and len(findings) == 1


def test_pauses_double_up_to_a_bound(monkeypatch):
  monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.5)
  pauses, asked = [], iter([None, None, 7.0, 999.0, None])

  def busy():
    raise Busy("busy", next(asked))

  with pytest.raises(Busy):
    with_retries(busy, retries=4, wait=pauses.append)
  assert pauses == [0.5, 1.0, 7.0, LONGEST_WAIT_S]


def test_the_endpoint_may_ask_for_a_pause(monkeypatch):
  seen = []
  monkeypatch.setattr(chat, "with_retries",
                      lambda ask, **kwargs: with_retries(ask, **{**kwargs, "wait": seen.append}))
  bad = (429, {"retry-after": "3"}, "{}")
  with Endpoint(lambda body, number: bad if number == 0 else says(MASS)).running() as endpoint:
    assert len(_read(endpoint)[0]) == 1
  assert seen == [3.0]


@pytest.mark.parametrize(("options", "says"), [
  ({}, "nothing is sent until --allow-endpoint URL"),
  ({"allow_endpoint": "localhost:8080"}, "expected an address such as"),
  ({"allow_endpoint": "ftp://localhost/v1"}, "expected an address such as"),
  ({"allow_endpoint": "http://[::1/v1"}, "expected an address such as"),
  ({"allow_endpoint": "http://me:word@localhost/v1"}, "password"),
  ({"allow_endpoint": "http://localhost/v1?key=word"}, "password"),
  ({"allow_endpoint": "http://localhost/v1", "concurrency": 0}, "--concurrency 0"),
  ({"allow_endpoint": "http://localhost/v1", "retries": -1}, "--retries -1"),
  ({"allow_endpoint": "http://localhost/v1", "timeout": float("nan")}, "--timeout nan"),
  ({"allow_endpoint": "http://localhost/v1", "response_format": "yaml"}, "json_schema"),
  ({"allow_endpoint": "http://localhost/v1", "api_key_env": "CDJAX_NO_SUCH_KEY"}, "is not set"),
  ({"allow_endpoint": "http://localhost/v1", "batch_size": 3}, "--batch-size is no option"),
])
def test_impossible_options_are_errors(options, says):
  with pytest.raises(ValueError, match=says) as error:
    make_backend("server", model="m", **options)
  assert "word" not in str(error.value).replace("password", "")


def test_the_fingerprint_follows_what_reads():
  make = lambda **options: make_backend("server", **{
    "allow_endpoint": "http://localhost:1/v1", "model": "m", **options}).fingerprint
  assert make() == make(concurrency=9, timeout=1.0, retries=0)
  others = {make(), make(model="n"), make(allow_endpoint="http://localhost:2/v1"),
            make(max_tokens=5), make(response_format="json_object")}
  assert len(others) == 5
