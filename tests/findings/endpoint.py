"""A stand-in for an OpenAI-compatible endpoint, in a thread of the test's own process."""

import contextlib
import http.server
import json
import threading


class Endpoint:
  """Answers what it is told to and keeps what it is sent.

  Attributes:
    url: where it listens, with "/v1".
    requests: (path, headers, body) of every request, in the order of arrival.
    most: the largest number of requests that were inside at the same time.
  """

  def __init__(self, answer, meet: int = 1):
    """Answers with `answer(body, number)`: (status, headers, text).

    Args:
      answer: called with the parsed body and the count of earlier requests.
      meet: requests that wait for each other inside, before any of them is answered.
    """
    self._answer, self._lock, self._inside = answer, threading.Lock(), 0
    self._gate = threading.Barrier(meet)
    self.requests, self.most = [], 0
    endpoint = self

    class Handler(http.server.BaseHTTPRequestHandler):
      protocol_version = "HTTP/1.1"

      def do_POST(self):
        endpoint._handle(self)

      def do_GET(self):
        endpoint._handle(self)

      def log_message(self, *args):
        pass

    self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    self._server.daemon_threads = True
    self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

  def _handle(self, handler):
    body = handler.rfile.read(int(handler.headers.get("content-length", 0)))
    with self._lock:
      number = len(self.requests)
      self.requests.append((handler.path, dict(handler.headers), json.loads(body or "null")))
      self._inside += 1
      self.most = max(self.most, self._inside)
    self._gate.wait(timeout=30)  # Broken, and so an error, where too few come.
    status, headers, text = self._answer(self.requests[number][2], number)
    with self._lock:
      self._inside -= 1
    handler.send_response(status)
    for name, value in {"content-type": "application/json", **headers}.items():
      handler.send_header(name, value)
    handler.send_header("content-length", str(len(text.encode())))
    handler.end_headers()
    handler.wfile.write(text.encode())

  def bodies(self):
    """The parsed body of every request."""
    return [body for _, _, body in self.requests]

  @contextlib.contextmanager
  def running(self):
    """Listens as long as the context lasts."""
    thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
      yield self
    finally:
      self._server.shutdown()
      self._server.server_close()
      thread.join()


def completion(content, finish="stop"):
  """The body of an answer of the protocol."""
  return json.dumps({
    "id": "1", "object": "chat.completion", "created": 0, "model": "m",
    "choices": [{"index": 0, "finish_reason": finish,
                 "message": {"role": "assistant", "content": content}}]})


def says(*items):
  """A good answer with these findings."""
  return 200, {}, completion(json.dumps({"findings": items}))
