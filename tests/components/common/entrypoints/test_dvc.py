import logging
import os
import subprocess
import sys

import pytest

from components.common.entrypoints.dvc import entry_point, exit_code
from components.common.errors import DataError, NonFiniteError, TemporaryError


def raising(error):
    def call(**_):
        raise error

    return call


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (DataError("2_10: damaged; replace it"), 2, "error: 2_10: damaged; replace it\n"),
        (NonFiniteError("step 7: the loss is NaN"), 3, "error: step 7: the loss is NaN\n"),
        (TemporaryError("the server is down"), 75, "error: the server is down\n"),
        (FileNotFoundError(2, "No such file", "/data/x.tif"), 2, "error: /data/x.tif: No such file\n"),
        (PermissionError(13, "Permission denied"), 2, "error: system: Permission denied\n"),
        (KeyboardInterrupt(), 130, "interrupted; run the same command again to continue\n"),
    ],
)
def test_what_a_user_can_fix_is_one_line_on_stderr(error, code, sentence, capsys):
    assert exit_code(raising(error)) == code
    captured = capsys.readouterr()
    assert (captured.err, captured.out) == (sentence, "")


def test_success_is_silent(capsys):
    assert exit_code(lambda: None) == 0
    assert capsys.readouterr() == ("", "")


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        exit_code(lambda: 1 / 0)


@pytest.fixture
def clean_logging():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def test_params_and_paths_reach_the_step(monkeypatch, tmp_path, clean_logging):
    seen = {}
    monkeypatch.setattr(sys, "argv", ["preprocess", "--raw", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        entry_point(
            "preprocess", "about", {"raw": "data/raw", "store": "data/store"}, lambda **given: seen.update(given)
        )
    assert ended.value.code == 0
    assert {name: str(path) for name, path in seen.items()} == {
        "params": "params.yaml",
        "raw": str(tmp_path),
        "store": "data/store",
    }


def test_log_lines_follow_stderr_that_a_progress_bar_replaces(monkeypatch, capsys, clean_logging):
    def call(**_):
        import io

        aside = io.StringIO()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", aside)
            logging.getLogger("step").info("above the bar")
        assert aside.getvalue() == "above the bar\n"
        logging.getLogger("step").info("after it")

    logging.getLogger().handlers[:] = []
    monkeypatch.setattr(sys, "argv", ["step"])
    with pytest.raises(SystemExit) as ended:
        entry_point("step", "about", {}, call)
    assert ended.value.code == 0
    assert capsys.readouterr().err == "after it\n"


def test_the_command_of_a_step_exits_with_2_on_a_bad_option_or_file(tmp_path):
    for arguments in (["--nonsense"], ["--params", str(tmp_path / "none.yaml")]):
        done = subprocess.run(
            [sys.executable, "-m", "components.preprocess", *arguments],
            capture_output=True,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert done.stderr.splitlines()[-1].count("error: ") == 1
