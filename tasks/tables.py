"""Tables of results: on the terminal, in Markdown and as CSV, with everything that comes from outside escaped."""

import csv
import html
import io
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

MIN_WIDTH = 120  # characters: on a narrower terminal a wide table's columns would be cut off
WRAPPED_AT = 30  # characters, where cells are wrapped in a file, unless a word is longer

Row = Mapping[str, Any]


class Column(NamedTuple):
    """A column: its name in the rows and in CSV, its title for readers, and how a row's value is written for them.

    Without `text` the value is written as it is, None as an empty cell. An optional column is left out on a terminal
    that is too narrow for it, which says so; cells that must not be wrapped can be copied from there.
    """

    key: str
    title: str = ""
    text: Callable[[Row], str] | None = None
    right: bool = False
    optional: bool = False
    no_wrap: bool = False

    @property
    def header(self) -> str:
        return self.title or self.key.replace("_", " ")

    def cell(self, row: Row) -> str:
        value = row.get(self.key)
        return self.text(row) if self.text else "" if value is None else str(value)


class Table:
    """Rows (dictionaries) under columns.

    >>> table = Table([Column("name"), Column("count", right=True)], [{"name": "a|b", "count": 3}])
    >>> print(table.to_markdown())
    | name | count |
    |---|---:|
    | a\\|b | 3 |
    >>> table.to_csv()
    'name,count\\na|b,3\\n'
    """

    def __init__(self, columns: Iterable[Column], rows: Iterable[Row]) -> None:
        self.columns = list(columns)
        self.rows = list(rows)

    def without_empty_columns(self) -> "Table":
        """The same table without columns in which no row has anything."""
        return Table((column for column in self.columns if any(map(column.cell, self.rows))), self.rows)

    def print(self, min_width: int = MIN_WIDTH) -> None:
        """Prints the table, at least `min_width` characters wide if its content needs them."""
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.measure import Measurement
        from rich.table import Table as RichTable
        from rich.text import Text

        console = Console(width=max(min_width, Console().width))
        wide = console.options.update(width=10_000)
        needed = [column for column in self.columns if not column.optional]
        widest = 0
        for columns, is_last in ((self.columns, False), (needed, False), (needed, True)):
            table = RichTable(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
            in_file = is_last and not console.is_terminal  # which has no width: cells are wrapped between words alone
            for column in columns:
                words = [word for row in self.rows for word in one_line(column.cell(row)).split()]
                table.add_column(
                    Text(column.header),
                    justify="right" if column.right else "left",
                    overflow="fold",
                    no_wrap=column.no_wrap and not is_last,  # or a long cell would leave nothing to the others
                    max_width=max([WRAPPED_AT, *map(len, words)]) if in_file else None,
                )
            for row in self.rows:
                table.add_row(*(Text(one_line(column.cell(row))) for column in columns))
            needs = Measurement.get(console, wide, table).maximum
            widest = max(widest, needs)
            if needs <= console.width:
                break
            if in_file:
                console.width = needs
        console.print(table)
        if left_out := [column.header for column in self.columns if column not in columns]:
            place = f"for a terminal of {widest} columns, or COLUMNS={widest} before the command"
            print(f"not shown    {', '.join(left_out)}: {place}")

    def to_markdown(self) -> str:
        """The table in GitHub's Markdown, without a line break at its end."""
        lines = [[column.header for column in self.columns]]
        lines += [[column.cell(row) for column in self.columns] for row in self.rows]
        header, *body = (f"| {' | '.join(map(escape_markdown, line))} |" for line in lines)
        rule = "".join("---:|" if column.right else "---|" for column in self.columns)
        return "\n".join([header, f"|{rule}", *body])

    def to_csv(self) -> str:
        """The values as they are, under the columns' keys; texts that a spreadsheet would compute get an apostrophe."""
        file = io.StringIO()
        keys = [column.key for column in self.columns]
        writer = csv.DictWriter(file, keys, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: without_formula(row.get(key)) for key in keys} for row in self.rows)
        return file.getvalue().encode("utf-8", "backslashreplace").decode()  # names of files that are no UTF-8


def without_formula(value: Any) -> Any:
    """A value as a spreadsheet shows it, where it would take a text that begins so for a formula.

    >>> without_formula("=cmd()"), without_formula("-0.5"), without_formula(-0.5)
    ("'=cmd()", '-0.5', -0.5)
    """
    if (
        isinstance(value, str)
        and re.match(r"[=+\-@\t\r]", value)
        and not re.fullmatch(r"[+-]?[\d.]+(e[+-]?\d+)?", value)
    ):
        return f"'{value}"
    return value


def one_line(text: str) -> str:
    """A text without line breaks and control characters, which could move a terminal's cursor or break a table.

    >>> one_line("a\\nb\\x1b[31mc")
    'a b [31mc'
    """
    return "".join(character if character.isprintable() else " " for character in text)


def escape_markdown(text: str) -> str:
    """A text as GitHub's Markdown shows it literally, inside of tables too: no links, no HTML, no cells of its own.

    >>> escape_markdown("[x](y) | <b>")
    '\\\\[x\\\\](y) \\\\| &lt;b&gt;'
    """
    return re.sub(r"([\\`*\[\]|~])", r"\\\1", html.escape(one_line(text), quote=False))


def mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def deviation(values: Sequence[float]) -> float | None:
    """The standard deviation of a sample (n - 1), which a single value does not have."""
    return statistics.stdev(values) if len(values) > 1 else None


def format_mean(average: float | None, deviation: float | None, digits: str = ".4g", unit: float = 1) -> str:
    """A mean with the standard deviation that it has if there are several seeds, in multiples of `unit`.

    >>> format_mean(0.9911, 0.0004, ".2f", unit=0.01), format_mean(7.5, None), format_mean(None, None)
    ('99.11 +- 0.04', '7.5', '')
    """
    return " +- ".join(format_number(value / unit, digits) for value in (average, deviation) if value is not None)


def format_number(value: float, digits: str) -> str:
    """A number with so many digits, and without an exponent where it is below a million.

    >>> format_number(1483.2, ".3g"), format_number(61.62, ".3g"), format_number(99.5, ".2f")
    ('1,480', '61.6', '99.50')
    """
    text = f"{value:{digits}}"
    return f"{float(text):,g}" if digits.endswith("g") else text


def count(key: str) -> Callable[[Row], str]:
    """Writes the integer of a row with separators, nothing for 0 or where there is none.

    >>> count("parameters")({"parameters": 61706})
    '61,706'
    """
    return lambda row: f"{row[key]:,}" if row.get(key) else ""
