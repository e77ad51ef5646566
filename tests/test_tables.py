"""What a table of results shows, and how it is written where there is no terminal."""

from typing import Any

import pytest

from tasks.leaderboard import SHOWN, make_tables
from tasks.leaderboard_rows import summarize
from tasks.tables import Column, Table


def test_words_stay_whole_in_a_file_that_has_no_width(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"name": " ".join(["model=lenet"] * 80), "data": "fashion_mnist", "folder": f"runs/{'a' * 150}"}
    Table([Column("name"), Column("data"), Column("folder", no_wrap=True)], [row]).print()
    words = capsys.readouterr().out.split()
    assert {"model=lenet", "fashion_mnist", row["folder"]} <= {*words}
    assert words.count("model=lenet") == 80


def shown(records: list[dict[str, Any]]) -> dict[str, str]:
    """The cells of the only row."""
    (table,) = make_tables([summarize(("gan", "mnist", "", "", "cpu"), records)])
    return {column.header: column.cell(table.rows[0]) for column in table.columns}


def test_gans_row_shows_its_fid_beside_the_floor_and_both_halves_of_1_nn() -> None:
    base = {"folder": "x", "test/fid_floor": 2.7, "test/fid_relative": 0.021}
    halves = {"_real": 0.998, "_fake": 0.0, "": 0.499}
    base |= {f"test/nearest_neighbour_accuracy{name}": value for name, value in halves.items()}
    row = shown([base | {"seed": seed, "test/fid": fid} for seed, fid in enumerate((12.0, 14.0))])
    assert row["FID / floor"] == "13 +- 1.41 / 2.7"
    assert row["relative FID"] == "0.021 +- 0"
    assert row["1-NN (real, generated)"] == "0.50 (1.00, 0.00)"
    validated = shown([{"folder": "x", "seed": 0, "val/fid": 12.0, "val/fid_floor": 2.7}])
    assert validated["FID / floor"] == "12 / 2.7 (val)"
    assert "relative FID" not in validated


@pytest.mark.parametrize("stage", ["samples", "test", "val"])
def test_modes_are_shown_whatever_stage_they_are_of(stage: str) -> None:
    row = shown([{"folder": "x", "seed": 0, f"{stage}/modes": 8.0, f"{stage}/high_quality": 0.953}])
    assert (row["modes"], row["high quality (%)"]) == ("8", "95.3")


def test_columns_have_names_of_their_own() -> None:
    assert len({column.header for column in SHOWN}) == len(SHOWN)
