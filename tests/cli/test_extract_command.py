"""The commands `extract` and `score-findings`, from files to files."""

import csv
import json

import pytest

from cdjax.cli.main import main

SECRET = "Ottilie"
CASE = ('<eCitation><uId id="CXR{n}"/><AbstractText Label="FINDINGS">{text}</AbstractText>'
        "<major>{term}</major></eCitation>")


@pytest.fixture
def openi(tmp_path):
  """A folder of three cases, one without report."""
  folder = tmp_path / "openi"
  folder.mkdir()
  for n, text, term in ((1, f"{SECRET} has a small left effusion.", "Pleural Effusion/left/small"),
                        (2, "No effusion.", "normal"), (3, "", "normal")):
    (folder / f"{n}.xml").write_text(CASE.format(n=n, text=text, term=term))
  return folder


def test_from_xml_to_scores(openi, tmp_path, capsys):
  output, scores = tmp_path / "f.jsonl", tmp_path / "s.json"
  assert main(["extract", "--input", str(openi), "--output", str(output)]) == 0
  said = capsys.readouterr()
  assert "2 reports read (0 of them by an earlier run), 1 quarantined" in said.out
  assert SECRET not in said.out + said.err
  rows = list(csv.reader((tmp_path / "f.quarantine.csv").open()))
  assert rows[0] == ["row", "report", "kind", "reason"] and rows[1][:3] == ["3", "3.xml",
                                                                           "missing value"]
  assert [json.loads(line)["id"] for line in output.read_text().splitlines()] == ["CXR1", "CXR2"]
  assert SECRET not in output.read_text()

  assert main(["extract", "--input", str(openi), "--output", str(output)]) == 0
  assert "(2 of them by an earlier run)" in capsys.readouterr().out

  assert main(["score-findings", "--pred", str(output), "--openi", str(openi), "--json",
               str(scores), "--resamples", "20"]) == 0
  result = json.loads(scores.read_text())
  assert result["reports"] == 2
  assert result["presence/micro_f1"] == result["presence/pleural_effusion/f1"] == 1
  assert result["side/accuracy"] == result["severity/accuracy"] == 1
  assert result["zone/accuracy"] is None and result["presence/macro_f1"] is None
  assert result["presence/mass/gold"] == 0


def test_a_wrong_prediction_costs(openi, tmp_path):
  output, scores = tmp_path / "f.jsonl", tmp_path / "s.json"
  absent = '{"name": "pleural_effusion", "status": "absent"}'
  output.write_text('{"id": "CXR1", "findings": [{"name": "mass"}]}\n'
                    f'{{"id": "CXR2", "findings": [{absent}]}}\n')
  assert main(["score-findings", "--pred", str(output), "--openi", str(openi), "--json",
               str(scores)]) == 0
  result = json.loads(scores.read_text())
  assert result["presence/micro_f1"] == 0 and result["presence/micro_precision"] == 0


def test_gold_in_a_file_and_names(tmp_path, capsys):
  gold, pred, scores = (tmp_path / name for name in ("g.jsonl", "p.jsonl", "s.json"))
  gold.write_text('{"id": "a", "findings": [{"name": "mass"}, {"name": "nodule"}]}\n')
  pred.write_text('{"id": "a", "findings": [{"name": "nodule", "status": "uncertain"}]}\n')
  command = ["score-findings", "--pred", str(pred), "--gold", str(gold), "--json", str(scores)]
  assert main(command) == 0
  assert json.loads(scores.read_text())["presence/micro_recall"] == 0.5
  assert main([*command, "--names", "Nodule"]) == 0
  assert json.loads(scores.read_text())["presence/micro_recall"] == 1
  pred.write_text('{"id": "b", "findings": []}\n')
  assert main(command) == 1
  assert "e.g. 'b'" in capsys.readouterr().err


def test_reports_on_one_side_are_counted(openi, tmp_path, capsys):
  output, scores = tmp_path / "f.jsonl", tmp_path / "s.json"
  assert main(["extract", "--input", str(openi), "--output", str(output)]) == 0
  lines = output.read_text().splitlines()
  output.write_text(lines[1] + "\n" + '{"id": "CXR9", "findings": []}\n')   # CXR1 is missing
  (openi / "4.xml").write_text("<a>")
  capsys.readouterr()
  command = ["score-findings", "--pred", str(output), "--openi", str(openi), "--json", str(scores),
             "--resamples", "0"]
  assert main(command) == 0
  result, said = json.loads(scores.read_text()), capsys.readouterr()
  assert result["reports"] == 2 and result["presence/pleural_effusion/recall"] == 0
  assert [result[f"reports/{key}"] for key in ("not_predicted", "without_gold", "unreadable_gold")
          ] == [1, 1, 1]
  assert "1 of them are not in PRED and counted as without findings" in said.out
  assert "4.xml: left out: not well-formed XML" in said.err

  other = tmp_path / "g.jsonl"
  other.write_text(lines[1] + "\n" + lines[0] + "\n")
  agreed = tmp_path / "a.json"
  assert main(["extract", "--compare", str(output), str(other), "--json", str(agreed)]) == 0
  result = json.loads(agreed.read_text())
  assert [result[key] for key in ("reports", "reports/only_first", "reports/only_second",
                                  "status/agreement", "status/n")] == [1, 1, 1, 1, 1]
  assert "1 reports in both" in capsys.readouterr().out
  assert main(["extract", "--input", "x", "--output", "y.jsonl", "--json", str(agreed)]) == 1


def test_agreement_of_two_files(tmp_path, capsys):
  first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
  mass = '{"name": "mass", "laterality": "left"}'
  first.write_text(f'{{"id": "1", "findings": [{mass}]}}\n{{"id": "2", "findings": []}}\n')
  second.write_text(first.read_text())
  assert main(["extract", "--compare", str(first), str(second)]) == 0
  said = capsys.readouterr().out
  assert "mass" in said and "1.000   1.000       1       1       1" in said
  assert "the same side in 1.000 of 1 findings" in said
  second.write_text(first.read_text().replace("left", "right"))
  assert main(["extract", "--compare", str(first), str(second)]) == 0
  assert "the same side in 0.000 of 1 findings" in capsys.readouterr().out


@pytest.mark.parametrize(("words", "says"), [
  (["--input", "x.csv"], "--input and --output"),
  (["--input", "x.csv", "--output", "f.jsonl", "--compare", "a", "b"], "--compare stands alone"),
  (["--input", "x.csv", "--output", "f.jsonl", "--backend", "oracle"], "expected one of"),
  (["--input", "none.csv", "--output", "f.jsonl"], "does not exist"),
  (["--compare", "none.jsonl", "none.jsonl"], "No such file"),
])
def test_errors_are_one_line(words, says, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  assert main(["extract", *words]) == 1
  said = capsys.readouterr().err
  assert says in said and said.count("\n") == 1


def test_nothing_readable_is_an_error_that_names_the_list(tmp_path, capsys):
  (tmp_path / "r.csv").write_text("id,report\na,\n")
  assert main(["extract", "--input", str(tmp_path / "r.csv"), "--output",
               str(tmp_path / "f.jsonl")]) == 1
  assert "none of the 1 reports could be read; see" in capsys.readouterr().err
  assert (tmp_path / "f.quarantine.csv").exists()
