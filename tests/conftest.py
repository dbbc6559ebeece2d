"""Every test, and every process that a test starts, runs jax as the command line does.

Set here once, before jax is imported: a test that runs a command would otherwise leave flags behind
that only later subprocesses see, and theirs would be other programs, not bit-equal ones.
"""

from cdjax.cli.environment import configure_jax

configure_jax()
