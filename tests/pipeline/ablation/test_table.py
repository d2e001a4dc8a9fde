from __future__ import annotations

from pipeline.ablation.table import COLUMNS, as_latex, as_markdown, as_text, head, rows

TWO = {"first": [(80.0, 70.0), (82.0, 70.0)], "50 % full & more": [(70.0, 75.0), (70.0, 75.0)]}


def test_a_cell_is_the_mean_and_its_spread_and_the_difference_to_the_first_variant(made_up):
    results = made_up(TWO)
    titles, (first, second) = head(results), rows(results, "val")
    assert titles[:5] == ["variant", "E(0.1)", "Δ", "fused mIoU", "Δ"]
    assert first[:5] == ["first", "70.0 ± 0.0", "–", "81.0 ± 1.4", "–"]
    assert second[1:5] == ["75.0 ± 0.0", "+5.0", "70.0 ± 0.0", "−11.0"]


def test_one_seed_has_no_spread_and_what_is_not_defined_is_a_dash(made_up):
    results = made_up({"a": [(80.0, 70.0)], "b": [(60.0, 60.0)]}, gates=False, single={"b": "rgb"})
    _, second = rows(results, "val")
    defined = {title for title, cell in zip(head(results), second, strict=True) if cell != "–"}
    assert defined == {"variant", "image only", "computation"}
    assert second[head(results).index("image only")] == "60.0"


def test_every_format_has_a_row_per_variant_for_validation_and_for_test_tiles(made_up):
    for as_table in (as_text, as_markdown, as_latex):
        lines = [line for line in as_table(made_up(TWO)).splitlines() if line.count("40.0") == 1]
        assert ["first" in line for line in lines] == [True, False, True, False]


def test_text_is_aligned_and_ends_with_the_rule_and_the_protocol(made_up):
    *tables, rule, protocol = as_text(made_up(TWO)).split("\n\n")
    assert rule.startswith("Highest E(0.1)") and protocol.startswith("sample (generated)")
    for table in tables[1:]:
        assert len({len(line) for line in table.splitlines()[1:]}) == 1


def test_markdown_has_as_many_cells_in_every_row_and_the_chosen_one_in_bold(made_up):
    table = [line for line in as_markdown(made_up(TWO)).splitlines() if line.startswith("|")]
    assert {line.count("|") for line in table} == {len(head(made_up(TWO))) + 1}
    assert sum("**first**" in line for line in table) == 2


def test_latex_escapes_what_it_would_read_as_a_command(made_up):
    latex = as_latex(made_up({r"50 % & a_b \x {y} $": [(80.0, 70.0)], "b": [(70.0, 75.0)]}))
    assert r"50 \% \& a\_b \textbackslash{}x \{y\} \$" in latex
    body = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert len(body) == 6 and all(line.count(" & ") == len(COLUMNS) + 3 for line in body)
    assert latex.count(r"\toprule") == latex.count(r"\bottomrule") == 2
    assert latex.isascii()


def test_sentences_say_what_is_reached_of_the_networks_for_one_sensor(made_up):
    found = TWO | {"image_alone": [(50.0, 50.0)], "DSM alone": [(60.0, 60.0)]}
    results = made_up(found, single={"image_alone": "rgb", "DSM alone": "dsm"})
    line = "first: with the image 80.0 % of image_alone (40.0 of 50.0), with the DSM 50.0 % of DSM alone (30.0 of 60.0)"
    assert as_markdown(results).count(f"- {line}\n") == as_text(results).count(f"\n{line}") == 2
    assert as_latex(results).count(r"with the image 80.0 \% of image\_alone") == 4  # two variants, two subsets
    assert "Reached" not in as_markdown(made_up(TWO))


def test_computation_is_relative_to_the_first_variant(made_up):
    results = made_up(TWO | {"c": [(60.0, 60.0)]}, single={"c": "rgb"})
    assert [row[-1] for row in rows(results, "val")] == ["1.00", "1.00", "0.50"]
