"""Kinds of argument that several commands take."""

import argparse


def name_list(text: str) -> tuple[str, ...]:
  """"a,b , c" as ("a", "b", "c")."""
  return tuple(name.strip() for name in text.split(",") if name.strip())


def number_list(text: str) -> tuple[float, ...]:
  """"1,0.5" as (1.0, 0.5).

  Raises:
    argparse.ArgumentTypeError: not numbers.
  """
  try:
    return tuple(map(float, name_list(text)))
  except ValueError:
    raise argparse.ArgumentTypeError(f"{text!r}; expected numbers with commas between") from None


def column(text: str) -> tuple[str, str]:
  """"field=column" as (field, column).

  Raises:
    argparse.ArgumentTypeError: one of them, or the sign, is missing.
  """
  field, equals, name = text.partition("=")
  if not (field and equals and name):
    raise argparse.ArgumentTypeError(f"{text!r}; expected FIELD=COLUMN")
  return field, name
