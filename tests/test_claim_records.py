"""Records of claims: what is published of them, and the pages that are made from them."""

import json
import math
import statistics
from pathlib import Path
from typing import Any

import pytest
from command_line import run, run_well
from conftest import CONF, ROOT
from omegaconf import OmegaConf

import tasks.claims.overview as overview_module
from tasks.claims.overview import claims, completed, draw_page, known_claims, overview, published_claims
from tasks.claims.record import ClaimRecord, ClaimRun, Machine, read_claim


def test_figures_of_further_measurements_are_those_of_their_records() -> None:
    """published/claims/further has the runs beside a claim's own that its remark speaks of."""
    folder = ROOT / "published" / "claims" / "further"
    assert {path.stem for path in folder.iterdir()} == {"occlude", "settle", "saturating"}

    def values(name: str, measure: str) -> list[float]:
        return [run["measures"][measure] for run in read_claim(folder / f"{name}.json")["runs"]]

    on_object, elsewhere = (statistics.fmean(values("occlude", f"{part}_drop")) for part in ("object", "background"))
    assert f"{on_object:.1f} points are lost over the object, {elsewhere:.2f} over" in remark_of("occlude")
    order = values("settle", "order_correlation")
    assert f"{statistics.fmean(order):.2f} +- {statistics.stdev(order):.2f}" in remark_of("settle")
    curves = [run["curves"]["watch/discriminator_accuracy"] for run in read_claim(folder / "saturating.json")["runs"]]
    for first, last, said in ((0, 60, "50 %"), (60, 200, "61 to 77 %"), (400, 800, "89 to 93 %")):
        means = [100 * statistics.fmean(y for x, y in curve if first <= x <= last) for curve in curves]
        assert said in (f"{min(means):.0f} %", f"{min(means):.0f} to {max(means):.0f} %")
        assert said in remark_of("saturating")


def remark_of(name: str) -> str:
    return str(OmegaConf.load(CONF / "experiment" / "claim" / f"{name}.yaml").task.remark)


WRONG: tuple[object, ...] = (None, 1e308, "${x", "<img src=x>", "text\n<b>`", -1, math.nan, [], [[]], {}, {"x": "nan"})


def damaged_records() -> list[tuple[str, object]]:
    """A published record with each of its keys, each of its first run and of that run's machine of a wrong type."""
    whole = json.loads((ROOT / "published" / "claims" / "lesion.json").read_text())
    first, *others = whole["runs"]

    def with_first(**changes: object) -> dict[str, object]:
        return {"runs": [first | changes, *others]}

    tops = [(key, wrong, {key: wrong}) for key in ClaimRecord.__annotations__ for wrong in WRONG]
    runs = [(f"runs.{key}", wrong, with_first(**{key: wrong})) for key in ClaimRun.__annotations__ for wrong in WRONG]
    machines = [
        (f"machine.{key}", wrong, with_first(machine=first["machine"] | {key: wrong}))
        for key in Machine.__annotations__
        for wrong in WRONG
    ]
    values = [
        (f"{key} of {name}", wrong, with_first(**{key: first[key] | {name: wrong}}))
        for key in ("measures", "curves")
        for name in first[key]
        for wrong in (*WRONG, [[1e308, 0]], [[0, 1e308]], [[0]], [[0, 1, 2]])
        if wrong != {"measures": -1, "curves": []}[key]  # which a measure or a curve may be
    ]
    few = [run if run["seed"] < 2 else run | {"measures": {}} for run in whole["runs"]]
    lists = [("runs", "twice", {"runs": [*whole["runs"], first]}), ("runs", "of two seeds", {"runs": few})]
    lists.append(("runs", "of no arm", {"runs": [*whole["runs"], first | {"arm": "other"}]}))
    all_changes = (*tops, *runs, *machines, *values, *lists)
    found = [(f"{key}={wrong}", whole | changes) for key, wrong, changes in all_changes]
    return [(name, record) for name, record in found if name not in HARMLESS]


HARMLESS = {  # nothing was typed or measured, or is known of the machine
    "overrides=[]",
    *(f"runs.{key}={{}}" for key in ("measures", "curves")),
    *(f"machine.{key}=None" for key in ("gpu", "commit")),
    *(f"machine.{key}={text}" for key in Machine.__annotations__ for text in ("${x", "<img src=x>")),  # is escaped
}


def test_damaged_record_is_refused_and_nothing_of_it_is_published(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview_module, "ROOT", Path.cwd())
    for name in ("docs", "published", "sweep"):
        Path(name).mkdir()
    for name, record in damaged_records():
        Path("sweep/claim.json").write_text(json.dumps(record))
        with pytest.raises(ValueError, match="claim") as refusal:  # which run.py prints in one line
            claims(OmegaConf.create(), Path(), ["sweep"])
        assert "\n" not in str(refusal.value), name
        assert not [*Path("docs").iterdir(), *Path("published").iterdir()], name
    outcome = run("task=claims", "task.add=[sweep]")
    assert (outcome.status, outcome.err.count("\n")) == (2, 1), outcome


def test_record_of_a_whole_claim_is_published_and_names_no_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview_module, "ROOT", Path.cwd())
    for name in ("docs", "published", "sweep"):
        Path(name).mkdir()
    whole = json.loads((ROOT / "published" / "claims" / "lesion.json").read_text())
    node = {"_target_": "os.mkdir", "path": "made"}
    Path("sweep/claim.json").write_text(json.dumps(whole | {"figure": node, "details": node, "remark": "made"}))
    assert "lesion" in run_well("task=claims", "task.add=[sweep]").out
    assert not Path("made").exists()
    assert Path("docs/claims/lesion.png").stat().st_size > 10_000
    for page in ("claims.md", "claims/lesion.md"):
        text = (ROOT / "docs" / page).read_text()
        assert page == "claims.md" or Path("docs", page).read_text() == text
    assert "claims/lesion.md" in Path("docs/claims.md").read_text()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"overrides": ["experiment=claim/lesion", "trainer.max_epochs=2"]}, "trainer.max_epochs=2"),
        ({"arm": "vgg"}, "arm vgg"),
        ({"commit": "abc1234-dirty"}, "in no commit"),
        ({"number of seeds": 2}, "seeds"),
    ],
)
def test_claim_that_was_not_run_whole_is_not_published(
    changes: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview_module, "ROOT", Path.cwd())
    for name in ("docs", "published", "sweep"):
        Path(name).mkdir()
    whole = json.loads((ROOT / "published" / "claims" / "lesion.json").read_text())
    seeds = sorted({run["seed"] for run in whole["runs"]})[: changes.get("number of seeds")]
    left = [run for run in whole["runs"] if run["arm"] != changes.get("arm") and run["seed"] in seeds]
    left[0]["machine"] |= {key: value for key, value in changes.items() if key == "commit"}
    Path("sweep/claim.json").write_text(
        json.dumps(whole | {"runs": left} | {k: v for k, v in changes.items() if k in whole})
    )
    outcome = run("task=claims", "task.add=[sweep]")
    assert (outcome.status, outcome.err.count("\n")) == (2, 1)
    assert said in outcome.err
    assert not list(Path("published").iterdir())


def test_record_gives_numbers_and_the_yaml_texts_and_verdict() -> None:
    whole = json.loads((ROOT / "published" / "claims" / "lesion.json").read_text())
    path = Path("claim.json")
    path.write_text(json.dumps(whole | {"sentence": "[x](y)", "verdict": "holds", "outcomes": []}))
    claim = completed(read_claim(path))
    assert claim == published_claims()["lesion"]
    whole["runs"][0]["machine"]["processor"] = "<script>"
    path.write_text(json.dumps(whole))
    assert "<script>" not in draw_page(completed(read_claim(path)))[0]


def test_record_that_is_too_large_is_called_so() -> None:
    Path("claim.json").write_bytes(b" " * 10_000_001)
    with pytest.raises(ValueError, match=r"claim\.json: cannot be read \(larger than 10,000,000 bytes\)"):
        read_claim(Path("claim.json"))


@pytest.mark.parametrize("key", ["arms", "expectations"])
def test_record_of_other_arms_or_bounds_than_the_yaml_has_is_refused(key: str) -> None:
    whole = json.loads((ROOT / "published" / "claims" / "lesion.json").read_text())
    changed = {"arms": {**whole["arms"], "more": ["model=lenet"]}, "expectations": whole["expectations"][1:]}
    Path("claim.json").write_text(json.dumps(whole | {key: changed[key]}))
    with pytest.raises(ValueError, match=f"the {key} of the claim lesion have changed"):
        completed(read_claim(Path("claim.json")))


def test_a_new_record_takes_the_place_of_one_whose_bounds_have_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = json.loads((ROOT / "published" / "claims" / "lesion.json").read_text())
    for folder in ("docs", "sweep", "published/claims"):
        Path(folder).mkdir(parents=True)
    Path("published/claims/lesion.json").write_text(json.dumps(whole | {"expectations": whole["expectations"][1:]}))
    monkeypatch.setattr(overview_module, "ROOT", Path.cwd())
    with pytest.raises(ValueError, match="run it again"):
        published_claims()
    Path("sweep/claim.json").write_text(json.dumps(whole))
    run_well("task=claims", "task.add=[sweep]")
    assert [*published_claims()] == ["lesion"]


@pytest.mark.extended
def test_docs_are_what_their_records_say() -> None:
    records = published_claims()
    assert records
    for name, claim in records.items():
        assert (ROOT / "docs" / "claims" / f"{name}.md").read_text() == draw_page(claim)[0]
        assert (ROOT / "docs" / "claims" / f"{name}.png").is_file()
        task: Any = OmegaConf.to_container(OmegaConf.load(CONF / "experiment" / "claim" / f"{name}.yaml").task)
        ran: dict[str, Any] = {**claim}
        for key in ("sentence", "paper", "arms", "expectations"):  # what was run is what the file says
            assert ran[key] == task[key]
    assert (ROOT / "docs" / "claims.md").read_text() == overview(records)


def test_claims_are_listed() -> None:
    said = run_well("task=claims").out
    assert [name for name in known_claims() if name not in said] == []
    assert not list(Path("outputs").rglob("*.json"))


@pytest.mark.parametrize("content", [None, "{", "[]", "{}", '{"name": "relu"}', "[" * 100_000])
def test_what_is_no_record_of_a_claim_is_one_line(content: str | None) -> None:
    Path("sweep").mkdir()
    if content is not None:
        Path("sweep/claim.json").write_text(content)
    outcome = run("task=claims", "task.add=[sweep]")
    assert outcome.status == 2
    assert "claim.json" in outcome.err
    assert len(outcome.err.splitlines()) == 1
