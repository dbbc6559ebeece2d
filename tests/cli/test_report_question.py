"""`cdjax counterfactual --report`: what a report asks for, and what is said of the rest."""

import pytest

from cdjax.cli.counterfactual import read_stated


def stated(tmp_path, text):
  path = tmp_path / "report.txt"
  path.write_bytes(text if isinstance(text, bytes) else text.encode())
  return [finding.name for finding in read_stated(path)]


@pytest.mark.parametrize("text", ["", " \n\n", "\ufeff", "HISTORY: Left effusion.",
                                  "INDICATION: Nodule?\n\nHISTORY: Smoker.", "FINDINGS:\n"])
def test_a_report_that_states_nothing_asks_for_nothing(tmp_path, text):
  with pytest.raises(ValueError, match=r"report\.txt: no part of it states findings"):
    stated(tmp_path, text)


def test_what_a_report_is_not_sure_of_is_said(tmp_path, capsys):
  assert stated(tmp_path, "FINDINGS: Possible left effusion. No nodule.") == []
  said = capsys.readouterr().err
  assert "report.txt: left out, since the report is not sure: pleural_effusion" in said
  assert "states no finding as present; an image without findings is asked for" in said
  assert stated(tmp_path, "Cardiomegaly. Possible left effusion.") == ["cardiomegaly"]
  assert capsys.readouterr().err.count("\n") == 1
  assert stated(tmp_path, "Cardiomegaly.") == ["cardiomegaly"] and not capsys.readouterr().err


def test_the_mark_that_windows_puts_first_is_no_text(tmp_path):
  assert stated(tmp_path, "HISTORY: nodule.\n\nFINDINGS: Mass.".encode("utf-8-sig")) == ["mass"]
  with pytest.raises(ValueError, match="not UTF-8 text"):
    stated(tmp_path, b"\xff\xfe")
