"""The `local` backend: a causal language model in this process, through transformers.

The model is a folder on this machine with safetensors weights. Nothing is downloaded, no code of
the folder is run, nothing is unpickled; its answers are held to the schema (`constrained`).
"""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cdjax.findings.extract.backend import Backend, require
from cdjax.findings.extract.constrained import Constraint, make_grammar
from cdjax.findings.extract.prompt import make_messages, prompt_digest, read_and_show
from cdjax.findings.types import Finding


def make_local(*, model: str, device: str | None = None, batch_size: int = 4,
               max_tokens: int = 2048) -> Backend:
  """A backend that runs a model.

  Args:
    model: folder with config.json, tokenizer.json and *.safetensors.
    device: of PyTorch, "cpu" or "cuda"; None: a GPU where there is one.
    batch_size: reports at a time.
    max_tokens: of an answer.

  Raises:
    ImportError: the extra `llm-local` is not installed.
    ValueError: an impossible value, or the folder holds no such model.
  """
  folder = Path(model)
  for name, value in (("batch-size", batch_size), ("max-tokens", max_tokens)):
    if value < 1:
      raise ValueError(f"--{name} {value}; expected 1 or more")
  if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
    raise ValueError(f"--model {model}: expected a folder with config.json and *.safetensors; "
                     "models are not downloaded")
  for package in ("torch", "transformers", "llguidance", "pydantic"):
    require(package, "llm-local")
  from cdjax.findings.extract.answer import answer_schema, schema_digest

  def extract(reports: Iterable[str]) -> Iterator[Sequence[Finding] | ValueError]:
    writer = load_writer(folder, answer_schema(), device=device, max_tokens=max_tokens)
    reports = iter(reports)
    while batch := list(itertools.islice(reports, batch_size)):
      yield from _read_batch(writer, batch)

  read_by = (_digest(folder), max_tokens, prompt_digest(), schema_digest())
  return Backend("local", hashlib.sha256(json.dumps(read_by).encode()).hexdigest()[:16], extract)


def _digest(folder: Path) -> str:
  """Changes with any file of the model."""
  digest = hashlib.sha256()
  for path in sorted(path for path in folder.iterdir() if path.is_file()):
    with path.open("rb") as file:
      digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
  return digest.hexdigest()


def _read_batch(writer: "Writer", reports: Sequence[str]) -> list[Sequence[Finding] | ValueError]:
  """Findings, or what went wrong, for each report."""
  from cdjax.findings.extract.answer import read_answer

  shown = [read_and_show(report) for report in reports]
  results: list[Sequence[Finding] | ValueError] = [[] for _ in reports]
  asked = [k for k, (sections, _) in enumerate(shown) if sections]
  answers = writer.write([make_messages(shown[k][1]) for k in asked])
  for k, answer in zip(asked, answers, strict=True):
    try:
      if isinstance(answer, ValueError):
        raise answer
      results[k] = read_answer(answer, reports[k], shown[k][0])
    except ValueError as error:
      results[k] = error
  return results


@dataclasses.dataclass(frozen=True)
class Writer:
  """A loaded model that answers in JSON of one schema.

  Attributes:
    model, tokenizer: of the transformers library.
    grammar: makes a matcher, see `make_grammar`.
    max_tokens: of an answer.
  """

  model: Any
  tokenizer: Any
  grammar: Any
  max_tokens: int

  def write(self, conversations: Sequence[Sequence[dict[str, str]]]) -> list[str | ValueError]:
    """The answer to each conversation, greedily decoded; or why there is none."""
    import torch
    from transformers import LogitsProcessorList

    prompts = [encode_prompt(self.tokenizer, messages) for messages in conversations]
    longest = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
    room = float("inf") if longest is None else longest - self.max_tokens
    results: list[str | ValueError] = [
        ValueError(f"the report is too long for the model: {len(ids)} tokens with the task, and "
                   f"{self.max_tokens} for the answer, of {longest}") for ids in prompts]
    fitting = [k for k, ids in enumerate(prompts) if len(ids) <= room]
    if not fitting:
      return results
    batch = self.tokenizer.pad({"input_ids": [prompts[k] for k in fitting]}, padding_side="left",
                               return_tensors="pt").to(self.model.device)
    length = batch["input_ids"].shape[1]
    matchers = [self.grammar() for _ in fitting]
    with torch.inference_mode():
      tokens = self.model.generate(
          **batch, logits_processor=LogitsProcessorList([Constraint(matchers, length)]))
    for k, row in zip(fitting, tokens[:, length:].tolist(), strict=True):
      end = self.tokenizer.eos_token_id
      results[k] = (self.tokenizer.decode(row[:row.index(end)], skip_special_tokens=True,
                                          clean_up_tokenization_spaces=False)
                    if end in row else
                    ValueError(f"the answer is longer than {self.max_tokens} tokens, see "
                               "--max-tokens"))
    return results


def encode_prompt(tokenizer: Any, messages: Sequence[dict[str, str]]) -> list[int]:
  """Tokens of a conversation up to where the answer begins.

  By the model's own chat template; plainly, under headings, where it has none.
  """
  if tokenizer.chat_template:
    return tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=True,
                                         return_dict=True)["input_ids"]
  titles = {"system": "TASK", "user": "REPORT", "assistant": "JSON"}
  text = "".join(f"{titles[m['role']]}:\n{m['content']}\n\n" for m in messages) + "JSON:\n"
  return tokenizer(text)["input_ids"]


def _greedy(tokenizer: Any, max_tokens: int) -> Any:
  """Greedy decoding and nothing else."""
  from transformers import GenerationConfig

  return GenerationConfig(max_new_tokens=max_tokens, do_sample=False, num_beams=1,
                          eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)


def load_writer(folder: str | Path, schema: dict[str, Any], *, device: str | None = None,
                max_tokens: int) -> Writer:
  """Loads a model of a folder, in the precision of its file.

  Args:
    folder: with config.json, tokenizer.json and *.safetensors.
    schema: JSON schema of every answer.
    device: of PyTorch; None: a GPU where there is one.
    max_tokens: of an answer.

  Raises:
    ValueError: the model or its tokenizer cannot be used so.
  """
  import torch
  from transformers import AutoModelForCausalLM, AutoTokenizer

  local = {"local_files_only": True, "trust_remote_code": False}
  tokenizer = AutoTokenizer.from_pretrained(folder, **local)
  model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True, dtype="auto", **local)
  device = device or ("cuda" if torch.cuda.is_available() else "cpu")
  if tokenizer.pad_token_id is None:
    tokenizer.pad_token = tokenizer.eos_token
  # `generate` fills what it is not told from here: a folder may ask for sampling or least lengths.
  model.generation_config = _greedy(tokenizer, max_tokens)
  grammar = make_grammar(schema, tokenizer, model.get_output_embeddings().weight.shape[0])
  return Writer(model.to(device).eval(), tokenizer, grammar, max_tokens)
