"""What has to be set before jax is imported, and logging. Values that the user has set stay."""

import importlib.metadata
import logging
import os
import platform
import zlib
from collections.abc import MutableMapping
from pathlib import Path

# The default fusion of XLA's CPU backend leaves convolutions out of its fast library: with dots
# only, the backward pass of a 3×3 convolution is up to three times as fast (69 → 199 GFLOP/s on
# two cores at 8×64×64×64). Accelerators do not read it. XLA aborts on a flag it does not know,
# so it is set for the releases that are known to know it.
FUSION_FLAG = "--xla_cpu_experimental_ynn_fusion_type"
FUSION_VALUE = "LIBRARY_FUSION_TYPE_DOT"
FUSION_RELEASES = ("0.10.",)


def configure_jax(environ: MutableMapping[str, str] = os.environ) -> None:
  """Sets XLA flags and the persistent compilation cache; call it before jax is imported.

  Args:
    environ: changed in place. A fusion flag in `XLA_FLAGS`, or any of the cache's variables, that
      is there already is left as it is.
  """
  flags = environ.get("XLA_FLAGS", "")
  known = importlib.metadata.version("jaxlib").startswith(FUSION_RELEASES)
  if known and FUSION_FLAG not in flags:
    environ["XLA_FLAGS"] = f"{flags} {FUSION_FLAG}={FUSION_VALUE}".strip()
  # Compiling is most of a short command's time: 14 s of start-up fall to 4 s with the cache.
  home = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
  environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(home / "cdjax" / "jax" / _host()))
  environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
  environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


def _host() -> str:
  """Names the kind of processor: machines that share a home must not share its machine code."""
  info = Path("/proc/cpuinfo")
  lines = info.read_text("utf-8", "replace").splitlines() if info.is_file() else []
  features = next((line for line in lines if line.startswith(("flags", "Features"))), "")
  return f"{platform.machine()}-{zlib.crc32(features.encode()):08x}"


def configure_logging(debug: bool) -> None:
  """Sends log lines to stderr, with the time; other libraries' only from warnings on.

  Args:
    debug: show every library's information lines too (Orbax alone writes dozens a checkpoint).
  """
  from absl import flags
  from absl import logging as absl_logging

  # Grain's worker processes refuse to start while absl's flags count as unparsed.
  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()
  package = str(Path(__file__).resolve().parent.parent)
  handler = absl_logging.get_absl_handler()
  handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
  handler.addFilter(lambda record: debug or record.levelno >= logging.WARNING
                    or record.pathname.startswith(package))
  absl_logging.use_absl_handler()
  absl_logging.set_verbosity(absl_logging.INFO)
  absl_logging.set_stderrthreshold("info")
