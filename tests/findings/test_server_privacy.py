"""What the `server` backend must not do: send a report elsewhere, or say a word of it."""

import json
import logging
import urllib.request

import pytest
from endpoint import Endpoint, completion, says

from cdjax.cli.main import main
from cdjax.findings.extract import make_backend
from cdjax.findings.extract.endpoint import check_endpoint, is_loopback

pytest.importorskip("openai", reason="needs the extra `llm`: pip install 'cdjax[llm]'")

SECRET = "Ottilie"  # Stands for everything that must not leave a report.
REPORT = f"FINDINGS: {SECRET} has a left mass."
MASS = {"evidence": "left mass", "name": "mass", "status": "present", "severity": None,
        "size_mm": None, "laterality": "left", "zones": [], "change": None}


def _read(endpoint, *reports, **options):
  backend = make_backend("server", allow_endpoint=endpoint.url, model="m", **options)
  return list(backend.extract(reports or [REPORT]))


def test_only_the_named_key_is_sent_and_nothing_else_of_the_environment(monkeypatch):
  for name in ("API_KEY", "ORG_ID", "PROJECT_ID", "ADMIN_KEY"):
    monkeypatch.setenv(f"OPENAI_{name}", "not-to-be-sent")
  monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Mine: not-to-be-sent")
  monkeypatch.setenv("MY_KEY", "named")
  with Endpoint(lambda body, number: says()).running() as endpoint:
    _read(endpoint)
    _read(endpoint, api_key_env="MY_KEY")
  first, second = ({name.lower(): value for name, value in headers.items()}
                   for _, headers, _ in endpoint.requests)
  assert second.pop("authorization") == "Bearer named" and "authorization" not in first
  assert "not-to-be-sent" not in str((first, second))
  assert not [name for name in first if name.startswith("x-")]


def test_a_redirect_is_refused():
  with Endpoint(lambda body, number: says(MASS)).running() as other:
    away = (307, {"location": f"{other.url}/chat/completions"}, "")
    with (Endpoint(lambda body, number: away).running() as endpoint,
          pytest.raises(ValueError, match="HTTP 307, a redirect")):
      _read(endpoint)
  assert not other.requests and len(endpoint.requests) == 1


def test_a_proxy_of_the_environment_is_not_used(monkeypatch):
  with Endpoint(lambda body, number: says()).running() as proxy:
    for name in ("no_proxy", "NO_PROXY"):
      monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
      monkeypatch.setenv(name, proxy.url.removesuffix("/v1"))
    assert urllib.request.getproxies()["http"] == proxy.url.removesuffix("/v1")
    with Endpoint(lambda body, number: says(MASS)).running() as endpoint:
      assert len(_read(endpoint)[0]) == 1
  assert not proxy.requests


def test_a_report_without_findings_sections_is_not_sent():
  with Endpoint(lambda body, number: says(MASS)).running() as endpoint:
    assert _read(endpoint, f"HISTORY: {SECRET} coughs.") == [[]]
  assert not endpoint.requests


def test_no_library_logs_what_is_sent(monkeypatch, caplog):
  """The libraries' loggers are told to say everything, and still say nothing of a report."""
  monkeypatch.setenv("OPENAI_LOG", "debug")
  names = ("openai", "openai._base_client", "httpx2", "httpcore2", "httpcore2.http11")
  caplog.set_level(logging.DEBUG)
  for name in names:
    caplog.set_level(logging.DEBUG, logger=name)
  logging.getLogger("openai._base_client").debug("the capture works")
  assert "the capture works" in caplog.text
  bad = (500, {}, json.dumps({"error": {"message": SECRET}}))
  with Endpoint(lambda body, number: bad if number == 0 else says(MASS)).running() as endpoint:
    _read(endpoint, retries=1)
  assert SECRET not in caplog.text
  for name in names:
    logging.getLogger(name).info("Request options: %s", {"content": SECRET})
  assert SECRET not in caplog.text


@pytest.mark.parametrize(("host", "loopback"), [
  ("localhost", True), ("LOCALHOST.", True), ("127.0.0.1", True), ("127.8.8.8", True),
  ("::1", True), ("0.0.0.0", False), ("10.0.0.1", False), ("localhost.example.org", False),
  ("127.0.0.1.example.org", False), ("example.org", False)])
def test_what_is_this_machine(host, loopback):
  assert is_loopback(host) == loopback
  url = f"http://[{host}]:8/v1" if ":" in host else f"http://{host}:8/v1"
  assert bool(check_endpoint(url)) != loopback


def test_another_machine_is_warned_of():
  assert "unencrypted" in check_endpoint("http://example.org/v1")
  assert "sent to example.org, which is not this machine" in check_endpoint(
    "https://example.org/v1")


@pytest.fixture
def table(tmp_path):
  """A table of two reports."""
  path = tmp_path / "reports.csv"
  path.write_text(f"id,report\na,{SECRET} has a left mass.\nb,{SECRET} has no mass.\n")
  return path


def test_the_command_from_reports_to_findings(table, tmp_path, capsys):
  invented = {**MASS, "evidence": "right nodule", "name": "nodule"}
  output = tmp_path / "f.jsonl"
  with Endpoint(lambda body, number: says(MASS, invented) if number == 0 else
                (200, {}, completion(SECRET))).running() as endpoint:
    command = ["extract", "--input", str(table), "--output", str(output), "--backend", "server",
               "--model", "m", "--allow-endpoint", endpoint.url, "--concurrency", "1", "--debug"]
    assert main(command) == 0
    said = capsys.readouterr()
    assert "1 findings were left out: their evidence is not in the report" in said.out
    assert "1 reports read (0 of them by an earlier run), 1 quarantined" in said.out
    assert "warning" not in said.err and SECRET not in said.out + said.err
    (line,) = output.read_text().splitlines()
    record = json.loads(line)
    assert record["backend"] == "server" and [f["name"] for f in record["findings"]] == ["mass"]
    assert "not JSON" in (tmp_path / "f.quarantine.csv").read_text()
    assert main(command) == 0
    assert len(endpoint.requests) == 3, "only the failed report is asked about again"
  assert SECRET not in "".join(path.read_text() for path in tmp_path.iterdir() if path != table)


def test_the_command_sends_nothing_before_the_user_says_where_to(table, tmp_path, capsys):
  words = ["extract", "--input", str(table), "--output", str(tmp_path / "f.jsonl"), "--backend",
           "server", "--model", "m"]
  assert main(words) == 1
  assert "nothing is sent until --allow-endpoint URL" in capsys.readouterr().err
  # A reserved name (RFC 2606): no such host.
  assert main([*words, "--allow-endpoint", "http://cdjax.invalid/v1", "--retries", "0"]) == 1
  said = capsys.readouterr().err
  assert said.startswith("cdjax: warning: the findings sections of every report are sent to "
                         "cdjax.invalid, unencrypted, which is not this machine")
  assert "none of the 2 reports could be read" in said and SECRET not in said
