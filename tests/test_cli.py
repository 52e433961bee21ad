"""The command: help that teaches, and one line for what a user can mend."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path

import pytest

from stream.cli import main
from stream.settings import Settings, settings_table
from workers.errors import ModelError, SettingsError


def run(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stream", *words]
    return subprocess.run(
        command, capture_output=True, text=True, env={"PYTHONPATH": ".", **environ}, timeout=20
    )


class App(types.ModuleType):
    """Stands for the wiring, which is another module's matter."""

    def __init__(self, outcome: int | BaseException) -> None:
        super().__init__("stream.app")
        self.outcome = outcome
        self.settings: Settings | None = None

    async def serve(self, settings: Settings) -> int:
        self.settings = settings
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


def with_app(monkeypatch: pytest.MonkeyPatch, outcome: int | BaseException) -> App:
    app = App(outcome)
    monkeypatch.setitem(sys.modules, "stream.app", app)
    return app


def test_help_names_every_flag_its_default_and_how_else_to_set_it() -> None:
    done = run("serve", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    for it in settings_table():
        assert f"{it.flag} " in done.stdout
    for taught in ("[default: 8080]", "OMOKAGE_MAX_WAIT_MS=8", "max_wait_ms = 8", "Examples:"):
        assert taught in done.stdout
    assert "--config FILE" in done.stdout


def test_help_and_version_answer_without_a_command() -> None:
    assert "serve" in run().stdout
    assert run("--version").stdout.startswith("omokage ")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["serve", "--prot", "1"], "No such option '--prot'"),
        (["serve", "--port"], "requires an argument"),
        (["serve", "extra"], "extra argument"),
        (["start"], "No such command 'start'"),
        (["serve", "--port", "abc"], "--port abc is no whole number"),
        (["serve", "--token", ""], "--token is too short"),
        (["serve", "--host", "0.0.0.0"], "--host 0.0.0.0 opens the server to others"),
        (["serve", "--batch", "32"], "--batch 32 is more than --max-sessions 16: "),
        (["serve", "--config", "absent.toml"], "--config absent.toml cannot be read"),
    ],
)
def test_a_wrong_word_is_one_line_and_exit_code_2(words: list[str], says: str) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("omokage: ") and says in line


def test_a_wrong_variable_is_one_line_too() -> None:
    done = run("serve", OMOKAGE_FIT="wide")
    assert done.returncode == 2
    assert done.stderr == "omokage: OMOKAGE_FIT=wide is not known: pass cover or contain\n"


def test_flags_reach_the_server_as_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    app = with_app(monkeypatch, 0)
    file = tmp_path / "omokage.toml"
    file.write_text("threads = 3")
    words = "serve --compile --batch 1,4 --rtsp a=rtsp://cam/1 --rtsp b=rtsp://cam/2 --node me"
    assert main([*words.split(), "--config", str(file)]) == 0
    settings = app.settings
    assert settings is not None
    assert (settings.compile, settings.insecure) == (True, False)
    assert (settings.batch_sizes, settings.threads, settings.node) == ((1, 4), 3, "me")
    assert [camera.name for camera in settings.cameras] == ["a", "b"]


def test_the_servers_exit_code_is_the_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    with_app(monkeypatch, 3)
    assert main(["serve"]) == 3


@pytest.mark.parametrize(
    "error",
    [
        SettingsError("port 8080 is taken:\n stop its owner"),
        ExceptionGroup(
            "tasks", [ExceptionGroup("inner", [ModelError("port 8080 is taken: stop it")])]
        ),
    ],
)
def test_what_a_user_can_mend_is_one_line_also_out_of_a_group(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    with_app(monkeypatch, error)
    assert main(["serve"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("omokage: port 8080 is taken: stop")


@pytest.mark.parametrize(
    "bug",
    [ValueError("a bug"), ExceptionGroup("tasks", [ModelError("mend"), ValueError("a bug")])],
)
def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, bug: Exception) -> None:
    with_app(monkeypatch, bug)
    with pytest.raises(type(bug)):
        main(["serve"])
