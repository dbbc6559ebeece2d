"""The one address that reports may be sent to: named by the user, checked, and never left."""

import ipaddress
import urllib.parse


def check_endpoint(url: str) -> str:
  """Checks the address that the user allows.

  Args:
    url: e.g. "http://127.0.0.1:8080/v1", up to where "/chat/completions" follows.

  Returns:
    "" where it is this machine, else a sentence that warns.

  Raises:
    ValueError: it is no address of this kind.
  """
  try:
    parts = urllib.parse.urlsplit(url)
    host, port = parts.hostname, parts.port
  except ValueError:
    host, port, parts = None, None, urllib.parse.urlsplit("")
  if parts.scheme not in ("http", "https") or not host or port == 0:
    raise ValueError("--allow-endpoint: expected an address such as http://127.0.0.1:8080/v1")
  if parts.username or parts.password or parts.query or parts.fragment:
    raise ValueError("--allow-endpoint: an address with a password, a query or a fragment; keys "
                     "belong in an environment variable, see --api-key-env")
  if is_loopback(host):
    return ""
  plain = ", unencrypted" if parts.scheme == "http" else ""
  return (f"the findings sections of every report are sent to {host}{plain}, which is not this "
          "machine; make sure that they may go there")


def is_loopback(host: str) -> bool:
  """Whether a host name or address is this machine."""
  try:
    return ipaddress.ip_address(host).is_loopback
  except ValueError:
    return host.lower().rstrip(".") == "localhost"
