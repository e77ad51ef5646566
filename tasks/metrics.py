"""Which way each metric is better, and which of several runs is the best by that. Imports no framework."""

from collections.abc import Sequence

from tasks.run_records import Record

# What is better in each metric, the most important metrics first; others follow in the order in which they came.
BETTER = {
    "accuracy": "higher",
    "fid": "lower",
    "inception_score": "higher",
    "nearest_neighbour_accuracy": "near 0.5",
    "nearest_neighbour_accuracy_real": "near 0.5",  # both halves: 500 copies of one image have 0.5 in total
    "nearest_neighbour_accuracy_fake": "near 0.5",
    "precision": "higher",
    "recall": "higher",
    "gan_test_accuracy": "higher",
    "gan_train_accuracy": "higher",
    "modes": "higher",
    "modes_kl": "lower",
    "high_quality": "higher",
    "loss": "lower",
    "fid_relative": "lower",
    "kid": "lower",
}


def direction(metric: str) -> str:
    """Which way a metric is better; empty where it says nothing about quality.

    >>> direction("accuracy_flip"), direction("generator_loss")
    ('higher', '')
    """
    return BETTER.get(metric, "higher" if metric.startswith("accuracy_") else "")


def best_of(records: Sequence[Record]) -> Record:
    """The run whose checkpoint is the best by validation, the first where none says.

    Where runs keep their checkpoints by different metrics, that of the first which has one counts.

    >>> best_of([{"val/loss": 0.5, "objective": 0.5}, {"val/loss": 0.05, "objective": 0.05}])["objective"]
    0.05
    """
    compared = [record for record in records if record.get("objective") is not None]
    metric = next(filter(None, map(monitored, compared)), "")
    compared = [record for record in compared if monitored(record) == metric]
    if not compared:
        return records[0]
    is_lower_better = direction(metric.partition("/")[2]) == "lower"
    return (min if is_lower_better else max)(compared, key=lambda record: record["objective"])


def monitored(record: Record) -> str:
    """The metric by which a run kept its best checkpoint: the one that has the value of its objective."""
    same = [key for key in record if key.startswith("val/") and record[key] == record.get("objective")]
    return next((key for key in same if direction(key.partition("/")[2])), same[0] if same else "")
