"""The `local` backend with a tiny model of random weights that the test makes itself."""

import json

import pytest

from cdjax.cli.main import main
from cdjax.findings import Finding
from cdjax.findings.extract import local, make_backend
from cdjax.findings.extract.prompt import make_messages

pytestmark = pytest.mark.parity
for package in ("torch", "transformers", "llguidance", "pydantic"):
  pytest.importorskip(package, reason="needs the extra `llm-local`: pip install 'cdjax[llm-local]'")

SECRET = "Ottilie"
# Small bounds, so that the longest answer of one token a byte fits.
BOUNDS = {"max_findings": 1, "max_quote": 6}
MAX_TOKENS = 400


@pytest.fixture(autouse=True)
def one_thread():
  """The model is so small that threads only wait for each other."""
  import torch

  before = torch.get_num_threads()
  torch.set_num_threads(1)
  yield
  torch.set_num_threads(before)


def make_model(folder, seed=0, scale=1.0, merged=False):
  """A two-layer Llama in float64, saved as transformers saves models.

  Its tokens are bytes; `merged`: also pieces of words and of JSON, learnt from the task.
  """
  import torch
  from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
  from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

  vocab = {byte: i for i, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
  vocab["<end>"] = len(vocab)
  tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
  tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  tokenizer.decoder = decoders.ByteLevel()
  if merged:
    tokenizer.train_from_iterator(
      [message["content"] for message in make_messages("")],
      trainers.BpeTrainer(vocab_size=500, special_tokens=["<end>"], show_progress=False,
                          initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    vocab = tokenizer.get_vocab()
    assert len(vocab) == 500
  tokenizer.add_special_tokens(["<end>"])
  torch.manual_seed(seed)
  config = LlamaConfig(vocab_size=512, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                       num_attention_heads=2, num_key_value_heads=2, initializer_range=scale,
                       max_position_embeddings=8192, eos_token_id=vocab["<end>"],
                       bos_token_id=None)
  LlamaForCausalLM(config).double().save_pretrained(folder)
  PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(folder)
  return folder


def _writer(folder, max_tokens=MAX_TOKENS):
  from cdjax.findings.extract.answer import answer_schema

  return local.load_writer(folder, answer_schema(**BOUNDS), device="cpu", max_tokens=max_tokens)


def _ask(text):
  return [{"role": "user", "content": text}]


@pytest.mark.parametrize(("seed", "scale", "merged"), [
  (0, 1.0, False), (1, 1.0, True), (2, 0.02, False), (3, 0.3, True), (4, 0.02, True)])
def test_the_answer_is_of_the_schema_whatever_the_weights(tmp_path, seed, scale, merged):
  from cdjax.findings.extract.answer import answer_model

  writer = _writer(make_model(tmp_path, seed, scale, merged))
  answers = writer.write([_ask("No mass."), _ask("Öl?")])
  for answer in answers:
    found = answer_model().model_validate_json(answer).findings
    assert len(found) <= 1 and all(len(item.evidence) <= 6 for item in found)


def test_without_the_constraint_the_same_model_writes_no_json(tmp_path):
  import torch

  writer = _writer(make_model(tmp_path))
  ids = torch.tensor([local.encode_prompt(writer.tokenizer, _ask("No mass."))])
  tokens = writer.model.generate(ids, max_new_tokens=20, do_sample=False)
  with pytest.raises(ValueError, match="Expecting"):
    json.loads(writer.tokenizer.decode(tokens[0, ids.shape[1]:]))


def test_a_report_is_answered_alike_alone_and_beside_a_longer_one(tmp_path):
  writer = _writer(make_model(tmp_path, seed=5))
  long, short = _ask("A left mass, " * 20), _ask("No mass.")
  assert writer.write([long, short]) == writer.write([long]) + writer.write([short])


def test_the_folder_s_own_way_of_decoding_is_not_used(tmp_path):
  plain = _writer(make_model(tmp_path / "a")).write([_ask("No mass.")])
  folder = make_model(tmp_path / "b")
  (folder / "generation_config.json").write_text(json.dumps(
    {"do_sample": True, "temperature": 9.0, "repetition_penalty": 3.0, "max_length": 5,
     "min_new_tokens": 300, "eos_token_id": 3}))
  assert _writer(folder).write([_ask("No mass.")]) == plain


def test_what_does_not_fit_is_said(tmp_path):
  writer = _writer(make_model(tmp_path), max_tokens=12)
  cut, long = writer.write([_ask("No mass."), _ask(SECRET * 2000)])
  assert str(cut) == "the answer is longer than 12 tokens, see --max-tokens"
  assert str(long).startswith("the report is too long for the model: 14")
  assert writer.write([_ask(SECRET * 2000)])[0].args == long.args


def test_the_model_s_own_template_is_used(tmp_path):
  tokenizer = _writer(make_model(tmp_path)).tokenizer
  decode = lambda: tokenizer.decode(local.encode_prompt(tokenizer, make_messages("No mass.")))
  assert decode().startswith("TASK:\n") and decode().endswith("REPORT:\nNo mass.\n\nJSON:\n")
  tokenizer.chat_template = ("{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
                             "{% if add_generation_prompt %}<answer>{% endif %}")
  assert decode().startswith("<system>You turn") and decode().endswith("<user>No mass.<answer>")


def test_answers_become_findings_in_the_order_of_the_reports():
  item = {"evidence": "left mass", "name": "mass", "status": "present", "severity": None,
          "size_mm": None, "laterality": "left", "zones": [], "change": None}

  class Told:
    def write(self, conversations):
      self.shown = [messages[-1]["content"] for messages in conversations]
      return [json.dumps({"findings": [item]}), ValueError("the answer is longer"), SECRET]

  writer = Told()
  found = local._read_batch(writer, ["HISTORY: cough.", "A left mass.", "Two", "Three"])
  assert writer.shown == ["A left mass.", "Two", "Three"]
  assert found[:2] == [[], [Finding("mass", laterality="left")]]
  assert [str(error) for error in found[2:]] == ["the answer is longer", "the answer is not JSON"]


def test_the_command_reads_with_a_folder(tmp_path, capsys):
  folder = make_model(tmp_path / "model")
  (tmp_path / "r.csv").write_text(f"id,report\na,{SECRET} has a mass.\nb,HISTORY: {SECRET}\n")
  output = tmp_path / "f.jsonl"
  assert main(["extract", "--input", str(tmp_path / "r.csv"), "--output", str(output),
               "--backend", "local", "--model", str(folder), "--device", "cpu", "--max-tokens",
               "9", "--debug"]) == 0
  said = capsys.readouterr()
  assert "1 reports read (0 of them by an earlier run), 1 quarantined" in said.out
  assert "longer than 9 tokens" in (tmp_path / "f.quarantine.csv").read_text()
  assert SECRET not in said.out + said.err + output.read_text()


def test_no_code_of_the_folder_is_run_and_nothing_is_unpickled(tmp_path):
  folder = make_model(tmp_path / "model")
  config = json.loads((folder / "config.json").read_text())
  config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.C",
                                                "AutoModelForCausalLM": "mine.M"}}
  (folder / "config.json").write_text(json.dumps(config))
  (folder / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
  with pytest.raises(ValueError):  # Whatever transformers says of it.
    _writer(folder)
  assert not (tmp_path / "ran").exists()
  for path in folder.glob("*.safetensors"):
    path.rename(path.with_suffix(".bin"))
  with pytest.raises(ValueError, match=r"config\.json and \*\.safetensors; models are not"):
    make_backend("local", model=str(folder))


def test_the_fingerprint_follows_the_files(tmp_path):
  make = lambda name, **options: make_backend("local", model=str(tmp_path / name),
                                              **options).fingerprint
  for name, seed in (("a", 0), ("b", 0), ("c", 1)):
    make_model(tmp_path / name, seed)
  assert make("a") == make("b") == make("a", batch_size=9)
  assert len({make("a"), make("c"), make("a", max_tokens=5)}) == 3


@pytest.mark.parametrize(("options", "says"), [
  ({"model": "org/name"}, "models are not downloaded"),
  ({"model": "m", "batch_size": 0}, "--batch-size 0"),
  ({"model": "m", "max_tokens": 0}, "--max-tokens 0"),
  ({}, "needs --model"),
  ({"model": "m", "allow_endpoint": "http://localhost"}, "--allow-endpoint is no option"),
])
def test_impossible_options_are_errors(options, says):
  with pytest.raises(ValueError, match=says):
    make_backend("local", **options)
