"""Compiled programs are kept for the session: most of these tests train the same toy anew."""

import jax
import pytest


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory):
  before = {key: getattr(jax.config, key) for key in (
      "jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")}
  jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("compiled")))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
  yield
  for key, value in before.items():
    jax.config.update(key, value)
