"""The pages: every command on them is run by a test or marked, every page is short and begins with a command."""

from __future__ import annotations

import re

import pytest
import yaml

from components.check.findings import CODES
from components.common.data.config import accepted_from
from components.common.data.datasets import dataset_from
from components.common.rasterfiles.formats import FORMATS
from tests.repo.pages import (
    ELSEWHERE,
    FENCE,
    PAGES,
    ROOT,
    RUN_AFTER_TRAINING,
    RUN_BY_PAGE,
    WORD_FOR_WORD,
    Command,
    commands,
    commands_in,
    findings_table,
)

NEEDS = {"cluster", "GPU", "network"}
MOST_LINES = 150
DOCS = [page for page in PAGES if page.is_relative_to(ROOT / "docs")]


def shown(path):
    return str(path.relative_to(ROOT))


def runner_of(command: Command) -> str | None:
    """The file that runs a command, None if none does."""
    if command.text.startswith(RUN_BY_PAGE + RUN_AFTER_TRAINING):
        return "tests/e2e/test_docs_commands.py"
    elsewhere = (file for beginning, file in ELSEWHERE.items() if command.text.startswith(beginning))
    return next(elsewhere, WORD_FOR_WORD.get(command.page))


@pytest.mark.parametrize("command", [c for c in commands() if not c.needs], ids=str)
def test_a_command_that_is_not_marked_is_run_by_a_test(command):
    file = runner_of(command)
    assert file, (
        f"no test runs `{command.text}`; add it to a table in tests/repo/pages.py, or mark its block with "
        "<!-- needs: cluster -->, <!-- needs: GPU --> or <!-- needs: network -->"
    )
    assert (ROOT / file).is_file()


@pytest.mark.parametrize(("beginning", "file"), ELSEWHERE.items())
def test_the_file_that_runs_a_command_contains_its_words(beginning, file):
    found = set(re.findall(r"[\w-]+", (ROOT / file).read_text()))
    assert set(re.findall(r"[\w-]+", beginning)) - {"mobanet"} <= found


@pytest.mark.parametrize(("page", "file"), WORD_FOR_WORD.items())
def test_a_page_that_is_followed_word_for_word_is_read_by_its_test(page, file):
    assert page in (ROOT / file).read_text()


def test_a_block_is_marked_only_with_what_a_test_machine_lacks():
    assert {need for c in commands() for need in c.needs.split(", ") if need} <= NEEDS


def test_every_entry_of_the_tables_is_used_by_a_page():
    texts = [c.text for c in commands() if not c.needs]
    for beginning in (*RUN_BY_PAGE, *RUN_AFTER_TRAINING, *ELSEWHERE):
        assert any(text.startswith(beginning) for text in texts), f"no page contains `{beginning}`"
    assert WORD_FOR_WORD.keys() <= {c.page for c in commands()}


def test_comments_and_continued_lines_are_read_as_bash_reads_them():
    page = "<!-- needs: GPU -->\n```sh\n# first\na --b \\\n   c   # why\nd '#e' ${f#*@}\n```\n\n```python\ng\n```\n"
    assert commands_in(page) == [Command("", "a --b c", "GPU"), Command("", "d '#e' ${f#*@}", "GPU")]
    assert [c.needs for c in commands_in("<!-- needs: GPU -->\n\n```sh\na\n```\n")] == [""]


@pytest.mark.parametrize("page", DOCS, ids=shown)
def test_a_page_begins_with_its_purpose_and_a_command_to_copy(page):
    text = page.read_text()
    first = next(b for b in FENCE.finditer(text) if b["language"] != "text")
    assert first["language"] in ("sh", "bash"), "the first block is no command"
    start = text[: first.start()]
    assert start.startswith("# ") and len(start.split("\n\n", 1)[1].strip()) > 40
    assert start.count("\n") < 15 and "\n## " not in start


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_a_page_is_short_enough_to_read(page):
    assert len(page.read_text().splitlines()) <= MOST_LINES


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_the_links_of_a_page_lead_to_files(page):
    for target in re.findall(r"\]\((?!https?://|#)([^)#\s]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{shown(page)} links to {target}"


def test_the_navigation_of_the_site_has_every_page_once():
    nav = str(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    listed = re.findall(r"[\w/]+\.md", nav)
    assert sorted(listed) == sorted(str(page.relative_to(ROOT / "docs")) for page in DOCS)


def test_every_finding_of_the_check_has_its_remedy_on_a_page():
    page = (ROOT / "docs/findings.md").read_text()
    assert page.endswith(findings_table()), "run .venv/bin/python -m tests.repo.pages, which writes docs/findings.md"


def test_every_format_that_can_be_read_is_on_a_page():
    page = (ROOT / "docs/layers.md").read_text()
    assert not [suffix for suffix in FORMATS if f"`{suffix}`" not in page]


def yaml_blocks(page):
    return [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", (ROOT / page).read_text(), re.S)]


def test_the_example_of_the_keys_of_a_data_set_is_valid():
    (example,), (town, *_) = yaml_blocks("docs/layers.md"), yaml_blocks("docs/your_own_data.md")
    facts = town | example | {"name": "example"} | {kind: example[kind]["ours"] for kind in ("image", "dsm")}
    facts["classes"] = [known | {"value": number} for number, known in enumerate(town["classes"], 1)]
    dataset = dataset_from(facts | {"labels": "values"})
    assert (dataset.image.band_numbers, dataset.image.nodata, dataset.image.scale) == ((1, 2, 4), (0,), 0.0001)
    assert (dataset.dsm.unit_m, dataset.dsm.nodata, dataset.label.ignore) == (0.3048, (-9999,), (0,))


def test_the_example_of_accepted_findings_names_codes_that_can_be_accepted():
    (example,) = [block["check"]["accept"] for block in yaml_blocks("docs/data.md") if "check" in block]
    accepted = accepted_from(example)
    assert accepted.covers("dsm-constant", "3_11") and not accepted.covers("dsm-constant", "3_13")
    assert all(CODES[code].acceptable for code in example)
