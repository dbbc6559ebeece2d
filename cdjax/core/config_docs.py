"""What each key of the configuration means: the comments of `config.py`, read from its source.

A comment at the end of a line belongs to the keys that the line sets, a comment on lines of its own
to the key or section that is set right below it.
"""

import ast
import functools
import io
import tokenize
from pathlib import Path

from cdjax.core import config as schema

_ROOT = "c"          # what `base_config` calls the configuration
_OPTIM = "_optim"    # the function of the keys that every training stage has


@functools.cache
def read_meanings() -> dict[str, str]:
  """Key ("autoencoder.loss.sigma") or section ("autoencoder") to its meaning; keys without a
  comment are not in it."""
  return parse_meanings(Path(schema.__file__).read_text("utf-8"))


def parse_meanings(source: str) -> dict[str, str]:
  """`read_meanings` of a module's source.

  Args:
    source: of a module with `_optim` and `base_config`, in the form of `cdjax/core/config.py`.

  Raises:
    ValueError: a function is missing.
  """
  functions = {node.name: node for node in ast.parse(source).body
               if isinstance(node, ast.FunctionDef)}
  if not {_OPTIM, "base_config"} <= set(functions):
    raise ValueError(f"expected the functions {_OPTIM} and base_config")
  beside, above = _comments(source)
  optim = {}
  for node in ast.walk(functions[_OPTIM]):
    if isinstance(node, ast.Call) and _called(node) == "dict":
      optim |= _keywords(node, "", beside, above)
  meanings: dict[str, str] = {}
  sections = {_ROOT: ""}   # a variable to the section that it is
  for statement in functions["base_config"].body:
    if isinstance(statement, ast.Assign):
      _read_statement(statement, meanings, sections, optim, beside, above)
  # `c.classifier = classifier` comes after the statements that fill the variable.
  for name, section in sections.items():
    if section:
      meanings = {key.replace(name, section, 1) if f"{key}.".startswith(f"{name}.") else key: text
                  for key, text in meanings.items()}
  return meanings


def _read_statement(statement: ast.Assign, meanings: dict[str, str], sections: dict[str, str],
                    optim: dict[str, str], beside: dict[int, str], above: dict[int, str]) -> None:
  """Adds what one assignment says to `meanings` and `sections`."""
  value = statement.value
  for target in statement.targets:
    path = _path(target, sections)
    if path is None:   # a variable that holds a section, and becomes one later
      path = sections[target.id] = target.id
    if isinstance(value, ast.Name) and value.id in sections:
      sections[value.id] = path
    calls = [node for node in ast.walk(value) if isinstance(node, ast.Call)]
    if any(_called(call) == _OPTIM for call in calls):
      meanings |= {f"{path}.{key}": text for key, text in optim.items()}
    for call in calls:
      if _called(call) in ("dict", _OPTIM):
        meanings |= _keywords(call, f"{path}.", beside, above)
    source = next((call.func.value.id for call in calls if _called(call) == "to_dict"
                   and isinstance(call.func.value, ast.Name)), None)
    if source:   # a copy of another section
      meanings |= {f"{path}{key.removeprefix(source)}": text
                   for key, text in meanings.items() if key.startswith(f"{source}.")}
    text = above.get(statement.lineno) or beside.get(statement.end_lineno, "")
    if path and text:
      meanings[path] = text


def _path(target: ast.expr, sections: dict[str, str]) -> str | None:
  """`c.data.phantom` to "data.phantom"; None for a variable that is new."""
  if isinstance(target, ast.Attribute):
    base = _path(target.value, sections)
    if base is None:
      base = target.value.id
    return f"{base}.{target.attr}" if base else target.attr
  if target.id in sections:
    return sections[target.id]
  return None


def _called(call: ast.Call) -> str:
  """The last name of what is called."""
  return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _keywords(call: ast.Call, prefix: str, beside: dict[int, str], above: dict[int, str]
              ) -> dict[str, str]:
  """The keyword arguments of a call that have a comment, above or on their last line."""
  # What stands above the call's own line belongs to the section.
  texts = {keyword.arg: (keyword.lineno > call.lineno and above.get(keyword.lineno))
           or beside.get(keyword.value.end_lineno, "")
           for keyword in call.keywords if keyword.arg}
  return {f"{prefix}{name}": text for name, text in texts.items() if text}


def _comments(source: str) -> tuple[dict[int, str], dict[int, str]]:
  """Line to the comment at its end, and line to the comment on the lines right above it."""
  beside, alone = {}, {}
  for token in tokenize.generate_tokens(io.StringIO(source).readline):
    if token.type == tokenize.COMMENT:
      text = token.string.removeprefix("#").strip()
      (alone if token.line.lstrip().startswith("#") else beside)[token.start[0]] = text
  above: dict[int, str] = {}
  for line in sorted(alone):
    above[line + 1] = " ".join(filter(None, (above.pop(line, ""), alone[line])))
  return beside, above
