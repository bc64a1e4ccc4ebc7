import pytest

from mfm_hf.commands._errors import one_line_errors


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ValueError("a crop is\n  too large"), 2, "error: a crop is too large\n"),
        (FileNotFoundError("no folder"), 2, "error: no folder\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_errors_end_with_a_line_and_a_code(error, code, line, capsys) -> None:
    with pytest.raises(SystemExit) as stopped, one_line_errors():
        raise error
    assert stopped.value.code == code
    assert capsys.readouterr().err == line


def test_bugs_keep_their_traceback() -> None:
    with pytest.raises(KeyError), one_line_errors():
        raise KeyError("weights")
