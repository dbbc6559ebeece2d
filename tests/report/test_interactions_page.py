import numpy as np

from cdjax.report.interactions import effect_sheet, heat_table, interaction_tables


def test_cells_are_coloured_by_value_and_gaps_are_marked():
  table = heat_table({("a<b", "x"): 0.5, ("a<b", "y"): 1.0, ("c", "x"): 0.75}, low=0.5, high=1.0)
  assert "a&lt;b" in table and "a<b" not in table
  assert table.count("<tr>") == 3 and "<td>–</td>" in table
  assert [f"{alpha})" in table for alpha in ("0.00", "0.75", "0.38")] == [True] * 3


def test_keys_become_tables():
  entry = lambda value: {"value": value, "low": None, "high": None, "n": 3}
  page = interaction_tables({
      "interactions/probe/pathology/nodule": entry(0.91),
      "interactions/nats/pathology": entry(33.0),
      "interactions/attention/nodule/identity 1": entry(None), "healthy/judged": entry(0.123)})
  assert "0.91" in page and "33.00" in page and "nats held" in page
  assert "attends" not in page and "0.12" not in page
  assert interaction_tables({}) == ""


def test_brighter_where_a_slot_changes_more():
  effects = np.zeros((2, 8, 8))
  effects[0, :4] = 0.2
  sheet = effect_sheet(effects, ["identity 1", "pathology"], size=64)
  top, bottom = sheet[40:50, 20:60], sheet[75:85, 20:60]
  assert top.min() > 200 and bottom.max() < 10 and sheet[40:50, 90:120].max() < 10
