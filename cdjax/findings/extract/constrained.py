"""A causal language model's output held to a JSON schema, token by token.

Before each token, what the schema does not allow next gets the logit −∞. The grammar is
llguidance's (Microsoft, MIT; a small library without requirements that works on any fast
tokenizer).
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

# Open-ended spaces between two marks would let a model write spaces for ever.
_COMPACT = {"whitespace_flexible": False}


def make_grammar(schema: dict[str, Any], tokenizer: Any, vocab_size: int) -> Callable[[], Any]:
  """A function that makes a matcher at the start of the schema.

  Args:
    schema: JSON schema.
    tokenizer: of the transformers library, a fast one.
    vocab_size: length of the model's logits; tokenizers may know fewer tokens.

  Raises:
    ValueError: the tokenizer is no fast one, or the schema cannot be a grammar.
  """
  from llguidance import LLMatcher
  from llguidance.hf import from_tokenizer

  if not getattr(tokenizer, "is_fast", False) or tokenizer.eos_token_id is None:
    raise ValueError("the model's tokenizer is not of the fast kind (tokenizer.json) or has no "
                     "end-of-text token")
  known = from_tokenizer(tokenizer, n_vocab=vocab_size)
  grammar = LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=_COMPACT)
  if fault := LLMatcher.validate_grammar(grammar, known):
    raise ValueError(f"the schema cannot be a grammar: {fault}")
  return lambda: LLMatcher(known, grammar)


class Constraint:
  """A logits processor for `generate`: one matcher a row, for greedy decoding or sampling."""

  def __init__(self, matchers: Sequence[Any], prompt_length: int):
    """Takes a fresh matcher for each row, and the length of the padded prompts in tokens."""
    self._matchers, self._prompt_length = matchers, prompt_length

  def __call__(self, input_ids: Any, scores: Any) -> Any:
    """The scores with −∞ for what may not come next.

    Args:
      input_ids: tokens so far, `[B, T]`; every token behind the prompt is seen once.
      scores: logits `[B, V]`.

    Returns:
      `[B, V]`; a row that is done allows its end-of-text token only.

    Raises:
      RuntimeError: a token came that was not allowed.
    """
    import numpy as np
    import torch

    if input_ids.shape[1] > self._prompt_length:
      for matcher, token in zip(self._matchers, input_ids[:, -1].tolist(), strict=True):
        if not matcher.is_stopped() and not matcher.consume_token(token):
          raise RuntimeError("a token that the schema does not allow was generated")
    bits = np.stack([np.frombuffer(m.compute_bitmask(), np.uint8) for m in self._matchers])
    allowed = np.unpackbits(bits, axis=1, bitorder="little")[:, :scores.shape[1]].astype(bool)
    return scores.masked_fill(~torch.from_numpy(allowed).to(scores.device), -torch.inf)
