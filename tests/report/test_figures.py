"""Figures: signs and marks; the page: nothing of the user's text becomes markup."""

import json

import numpy as np
from PIL import Image

from cdjax.report.figures import contact_sheet, grey, save_png, signed
from cdjax.report.page import metrics_table, write_page


def test_denser_is_red_less_dense_is_blue_unchanged_is_white():
  red, blue, white = signed(np.array([[0.3, -0.3, 0.0]]))[0].astype(int)
  assert red[0] > 200 and red[2] < 60 and blue[2] > 200 and blue[0] < 60
  np.testing.assert_array_equal(white, 255)


def test_grey_is_exact_and_clipped():
  np.testing.assert_array_equal(grey(np.array([[0.0, 0.5, 2.0, -1.0]]))[0, :, 1], [0, 128, 255, 0])


def test_a_generated_picture_says_so_and_a_real_one_does_not(tmp_path):
  save_png(tmp_path / "made.png", grey(np.zeros((4, 4))), {"seed": 3})
  save_png(tmp_path / "real.png", grey(np.zeros((4, 4))))
  made = Image.open(tmp_path / "made.png")
  assert json.loads(made.text["cdjax"]) == {"synthetic": True, "seed": 3}
  assert not Image.open(tmp_path / "real.png").text
  assert sorted(p.name for p in tmp_path.iterdir()) == ["made.png", "real.png"]


def test_the_sheet_shows_every_picture_and_leaves_gaps():
  tile = lambda v: np.full((8, 8, 3), (v, 0, 255), np.uint8)   # no grey, as the text has
  sheet = contact_sheet([[tile(10), None], [tile(20), tile(30)]], columns=["a", "b"],
                        labels=["first", "second " * 50], size=16)
  counts = {v: int((sheet == (v, 0, 255)).all(-1).sum()) for v in (10, 20, 30)}
  assert counts == {10: 256, 20: 256, 30: 256}


def test_text_on_the_page_is_escaped(tmp_path):
  bad = "<script>alert(1)</script>"
  table = metrics_table({bad: {"value": 0.5, "low": None, "high": None, "n": 3}, "machine": "x"})
  write_page(tmp_path / "p.html", title=bad, sections=[(bad, table)], provenance={"a": bad})
  page = (tmp_path / "p.html").read_text()
  assert "<script" not in page and page.count("&lt;script&gt;") == 5
