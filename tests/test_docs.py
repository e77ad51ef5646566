"""The examples of docs/library.md run as printed, on fewer batches."""

import re

import pytest
from conftest import ROOT
from documents import blocks

LIMITS = "limit_train_batches=2, limit_val_batches=1, limit_test_batches=1, enable_progress_bar=False, "


@pytest.mark.extended
@pytest.mark.filterwarnings("ignore")  # a plain Trainer warns of few workers and many log steps
@pytest.mark.parametrize("source", blocks(ROOT / "docs" / "library.md", "python"))
def test_example_runs(source: str) -> None:
    source = re.sub(r"\bTrainer\((?=\w)", f"Trainer({LIMITS}", source)
    exec(compile(source, "docs/library.md", "exec"), {"__name__": "library"})
