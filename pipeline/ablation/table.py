"""Results as tables: aligned text, Markdown, and LaTeX for a paper. All formats use the same rows of strings.

A cell is the mean and the standard deviation over the seeds, `81.20 ± 0.35`. `E(p)` and mIoU also show the difference
between the means of the variant and of the first variant. The last column is the computation of the variant, relative
to the first one. Sentences below a table say what networks for both sensors reach of those trained for one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from components.common.data.datasets import Subset
from pipeline.ablation.results import SUBSET_TITLES, Results
from pipeline.ablation.trainings import SUBSETS

NOTHING = "–"
"""Cell of an undefined figure."""


@dataclass(frozen=True, slots=True)
class Column:
    """One figure of a table."""

    figure: str
    title: str
    digits: int = 1
    difference: bool = False  # whether to add a column with the difference to the first variant


COLUMNS = (
    Column("expected_miou", "E({p:g})", difference=True),
    Column("miou", "fused mIoU", difference=True),
    Column("miou_rgb", "image only"),
    Column("miou_dsm", "DSM only"),
    Column("worst_class_iou", "worst class"),
    Column("shapley_rgb", "φ image"),
    Column("shapley_dsm", "φ DSM"),
    Column("imbalance", "imbalance", digits=2),
    Column("gate_mean", "gate", digits=2),
    Column("gate_std", "gate std", digits=2),
    Column("gate_saturated", "saturated, %"),
)

COMPUTATION = "computation"
"""Title of the last column, see `computation.passes`."""

TEX = str.maketrans(
    {char: "\\" + char for char in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"±": r"$\pm$", "φ": r"$\phi$", "Δ": r"$\Delta$", "−": "$-$", "–": "--", "<": "$<$", ">": "$>$"}
)
"""Character -> LaTeX, for characters with a special meaning and those that common fonts lack."""


def head(results: Results) -> list[str]:
    """Titles of the columns."""
    titles = ["variant"]
    for column in COLUMNS:
        titles += [column.title.format(p=results.protocol.failure_probability)] + ["Δ"] * column.difference
    return [*titles, COMPUTATION]


def rows(results: Results, subset: Subset) -> list[list[str]]:
    """One row of strings per variant."""
    return [[variant, *_cells(results, variant, subset)] for variant in results.variants]


def _cells(results: Results, variant: str, subset: Subset) -> Iterator[str]:
    first = next(iter(results.variants))
    for column in COLUMNS:
        mean, std = (ask(variant, subset, column.figure) for ask in (results.mean, results.std))
        if mean is None:
            yield NOTHING
        else:
            yield _number(mean, column.digits) + ("" if std is None else f" ± {std:.{column.digits}f}")
        if column.difference:
            other = results.mean(first, subset, column.figure)
            apart = None if mean is None or other is None or variant == first else mean - other
            yield NOTHING if apart is None else _number(apart, column.digits, "+")
    yield _number(results.recipes[variant].passes / results.recipes[first].passes, 2)


def share_lines(results: Results, subset: Subset) -> list[str]:
    """One line per variant with what it reaches of the networks for one sensor; empty: the study has none of these."""
    shares = results.shares(subset)
    texts = {variant: [share.text for share in shares if share.variant == variant] for variant in results.fused}
    return [f"{variant}: {', '.join(parts)}" for variant, parts in texts.items() if parts]


def _number(value: float, digits: int, sign: str = "") -> str:
    return f"{value:{sign}.{digits}f}".replace("-", "−")


def as_text(results: Results) -> str:
    """All tables as aligned text, then the rule and the protocol."""
    parts = [f"{results.study}: {results.about}"]
    for subset in SUBSETS:
        lines = [head(results), *rows(results, subset)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        table = [SUBSET_TITLES[subset], *(_aligned(line, widths) for line in lines)]
        parts.append("\n".join([*table, *share_lines(results, subset)]))
    return "\n\n".join([*parts, results.rule, results.protocol.sentence])


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    padded = [f"{text:>{width}}" for text, width in zip(line, widths, strict=True)]
    return "  ".join([line[0].ljust(widths[0]), *padded[1:]])


def as_markdown(results: Results) -> str:
    """All tables as Markdown."""
    return _render("table.md.j2", results)


def as_latex(results: Results) -> str:
    """All tables as LaTeX; needs the packages booktabs and graphicx."""
    return _render("table.tex.j2", results)


def _render(template: str, results: Results) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        variable_start_string="<<",  # LaTeX has too many braces of its own
        variable_end_string=">>",
    )
    environment.filters |= {"tex": lambda text: text.translate(TEX), "md": lambda text: text.replace("|", "\\|")}
    tables = {s: (SUBSET_TITLES[s], rows(results, s), share_lines(results, s)) for s in SUBSETS}
    return environment.get_template(template).render(results=results, head=head(results), tables=tables)
