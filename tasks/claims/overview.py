"""task=claims: all claims with their verdicts; with `task.add` the pages of docs/ are made from a sweep's record."""

import io
from collections import Counter
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf

from datamodules.contract import LocalPath
from tasks.claims.record import CLAIM, ClaimRecord, check_complete, check_unchanged, complete, cost, read_claim, to_json
from tasks.claims.report import page, plot
from tasks.claims.verdict import FAILS, HOLDS, UNDECIDED
from tasks.overrides import CONF
from tasks.plots import save_plot
from tasks.results import atomic_writer
from tasks.tables import Column, Table

ROOT = CONF.parent
RECORDS = Path("published", "claims")
DOCS = Path("docs")
LABELS = {HOLDS: "hold", FAILS: "do not hold here", UNDECIDED: "undecided"}
Claim = Mapping[str, Any]


def claims(cfg: DictConfig, folder: Path, add: list[LocalPath] | None = None) -> dict[str, Any]:
    """Lists the claims of conf/experiment/claim with verdict, date and cost.

    Args:
        cfg: the config of the task.
        folder: the task's own; nothing is written there.
        add: folders of claims' sweeps, whose records become part of published/; the pages of docs/ are made anew from
            all that are there, also with an empty list.

    Raises:
        ValueError: a folder has no record of a claim as its YAML has it, with three seeds or more of each arm, or this
            is not a checkout with docs/.
    """
    if add is not None and not (ROOT / DOCS).is_dir():
        raise ValueError("task.add: there is no docs/ beside run.py, pages are made in a checkout of the project")
    read = {Path(path, CLAIM): read_claim(Path(path, CLAIM)) for path in add or ()}
    if unknown := [record["name"] for record in read.values() if record["name"] not in known_claims()]:
        raise ValueError(f"task.add: {unknown[0]} is no claim of conf/experiment/claim")
    for path, record in read.items():
        try:
            check_complete(record, settings(record["name"]))
            draw_page(completed(record))[1].savefig(io.BytesIO())  # what cannot be drawn is seen only then
        except (ValueError, LookupError, ArithmeticError, TypeError) as error:
            raise ValueError(f"{path}: {error if isinstance(error, ValueError) else f'lacks {error}'}") from error
    added = {record["name"]: completed(record) for record in read.values()}
    records = dict(sorted((published_claims(but=added) | added).items()))
    if add is not None:
        for claim in records.values():
            publish(claim)  # with the texts of its page
            write_page(claim)
        with atomic_writer(ROOT / DOCS / "claims.md") as file:
            file.write(overview(records))
    table(records).print(min_width=80)
    print(f"{count(records.values())}; {len(known_claims()) - len(records)} not tried")
    if add is not None:
        print(f"written      {DOCS}/claims.md, and a page for each in {DOCS}/claims/")
    return {}


def known_claims() -> list[str]:
    return sorted(file.stem for file in (CONF / "experiment" / "claim").glob("*.yaml"))


def published_claims(but: Container[str] = ()) -> dict[str, Claim]:
    """The claims that have a record in published/claims, in the order of their names, without some."""
    found = {name: ROOT / RECORDS / f"{name}.json" for name in known_claims() if name not in but}
    return {name: completed(read_claim(path)) for name, path in found.items() if path.is_file()}


def completed(record: ClaimRecord) -> Claim:
    """A record with the texts of the YAML here: it may come from elsewhere, and only its numbers count.

    Raises:
        ValueError: its arms or bounds are others than those of the YAML.
    """
    check_unchanged(record, settings(record["name"]))
    return complete(record, settings(record["name"]))


def publish(claim: Claim) -> None:
    """Writes a claim's record into published/."""
    (ROOT / RECORDS).mkdir(exist_ok=True)
    with atomic_writer(ROOT / RECORDS / f"{claim['name']}.json") as file:
        file.write(to_json(claim))


def draw_page(claim: Claim) -> tuple[str, Figure]:
    """A claim's page in docs/claims and its plot, by what its YAML has of them."""
    own = settings(claim["name"])
    return page(claim, own, f"{claim['name']}.png"), plot(claim, own.get("figure"))


def write_page(claim: Claim) -> None:
    """Writes a claim's page with its plot into docs/."""
    text, figure = draw_page(claim)
    (ROOT / DOCS / "claims").mkdir(exist_ok=True)
    save_plot(figure, ROOT / DOCS / "claims" / f"{claim['name']}.png")
    with atomic_writer(ROOT / DOCS / "claims" / f"{claim['name']}.md") as file:
        file.write(text)


def settings(name: str) -> DictConfig:
    """What the YAML of a claim has under `task`."""
    return OmegaConf.load(CONF / "experiment" / "claim" / f"{name}.yaml").task


def table(records: Mapping[str, Claim]) -> Table:
    """A row for each claim of conf/experiment/claim, whether it has been tried or not."""
    rows = [
        {
            "claim": name,
            "verdict": records[name]["verdict"] if name in records else "not tried",
            "runs": len(records[name]["runs"]) if name in records else "",
            "minutes": f"{cost(records[name])[0]:.0f}" if name in records else "",
            "date": records[name]["date"] if name in records else "",
        }
        for name in known_claims()
    ]
    return Table(
        [Column("claim"), Column("verdict"), *(Column(key, right=True) for key in ("runs", "minutes")), Column("date")],
        rows,
    )


def count(records: Iterable[Claim]) -> str:
    found = Counter(claim["verdict"] for claim in records)
    return (
        ", ".join(f"{found[verdict]} {label}" for verdict, label in LABELS.items())
        + f" of {sum(found.values())} claims that were tried"
    )


def overview(records: Mapping[str, Claim]) -> str:
    """docs/claims.md."""
    rows = [
        f"| [{claim['sentence']}](claims/{name}.md)<br>{claim['paper']} | **{claim['verdict']}** | "
        f'<a href="claims/{name}.md"><img src="claims/{name}.png" width="420"></a><br>'
        f"`python run.py experiment=claim/{name}` |"
        for name, claim in records.items()
    ]
    return "\n".join(
        [HEAD.format(count=count(records.values())), "| claim | verdict | what came out |", "|---|---|---|", *rows, ""]
    )


HEAD = """# The papers' claims, tried

Each row is a sentence of a paper, tried here at the scale of a laptop: one command runs every arm with at least three
seeds and computes the verdict. An effect **holds** if its 95 % interval over seeds lies wholly on the side that the
claim predicts, **does not hold here** if it lies on the other, and is **undecided** otherwise; a claim with several
effects holds if all of them do, and does not hold if one of them does not. Bounds were set before the runs, but where a
page says otherwise; no arm was tuned more than another. {count}.
`python run.py task=claims` lists them and those that wait for their runs. `task.size=full` after a claim's command,
where it has that, trains longer and on all images, most nets at their full width: for a GPU.

This page is made from the records in published/claims by `python run.py task=claims task.add=[]`; a sweep's folder in
the list adds its record.
"""
