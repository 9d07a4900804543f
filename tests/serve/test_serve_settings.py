"""Settings: each declared once, read from the command line and the environment."""

from pathlib import Path
from typing import Any

import pytest

from pleinair.runtime.errors import SettingError
from pleinair.serve.settings import (
    OPTIONS,
    Settings,
    gathered,
    named,
    parser,
    read,
    variable,
)


def test_every_option_has_a_flag_and_a_help() -> None:
    for name, one in OPTIONS.items():
        assert one.flags == (f"--{name.replace('_', '-')}",)
        assert one.help, name
        assert one.metavar or one.type is bool, name
    assert {action.dest for action in parser().options()} == set(OPTIONS)


def test_defaults_that_the_help_names_are_so() -> None:
    text = parser().format_help()
    usual = Settings()
    for word in (usual.port, usual.max_queue, usual.max_pixels, usual.max_steps, usual.keep):
        assert f"(default: {word})" in " ".join(text.split())
    assert (usual.host, usual.model, usual.beyond) == ("127.0.0.1", ("pocket",), False)


def test_the_command_line_wins_over_the_environment() -> None:
    environment = {
        "PLEINAIR_PORT": "80",
        "PLEINAIR_MAX_STEPS": "30",
        "PLEINAIR_MODEL": "pocket, models/other",
        "PLEINAIR_WARM": "512x512,512x768",
        "PLEINAIR_INSECURE": "1",
        "PLEINAIR_ALLOW_URLS": "no",
        "PLEINAIR_MAX_UPLOAD": "1MiB",
        "PLEINAIR_MODELS": "elsewhere",  # another variable, which is no option
    }
    found = read(["--port", "81", "--cors", "https://a.org", "https://b.org"], environment)
    assert (found.port, found.max_steps) == (81, 30)
    assert found.model == ("pocket", "models/other")
    assert found.warm == ((512, 512), (512, 768))
    assert (found.insecure, found.allow_urls, found.max_upload) == (True, False, 1 << 20)
    assert found.cors == ("https://a.org", "https://b.org")


def test_paths_are_paths() -> None:
    found = read(["--data", "kept", "--controlnet", "a", "b", "--loras", "files"], {})
    assert (found.folder, found.loras) == (Path("kept"), Path("files"))
    assert found.controlnet == (Path("a"), Path("b"))


def test_jobs_are_kept_in_the_user_s_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    assert Settings().folder.name == "serve"


def test_what_kubernetes_calls_a_port_is_none() -> None:
    assert read([], {"PLEINAIR_PORT": "tcp://10.0.0.7:8080"}).port == Settings().port


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--port", "x"], "--port is 'x'; give a whole number"),
        (["--port", "65536"], "--port is 65536; give 0 to 65535"),
        (["--max-queue", "0"], "--max-queue is 0; give 1 to 1000000"),
        (["--warm", "512"], "--warm is '512'; give a size such as 512x512"),
        (["--max-upload", "much"], "--max-upload is 'much'; give a size such as 32MiB"),
        (["--timeout", "nan"], "--timeout is 'nan'; give a number of seconds"),
        (["--prot", "80"], "--prot is no option of pleinair serve; did you mean --port?"),
        (["--max-memory", "much"], "max_memory is 'much'; give a size such as 2GB or 1.5GB"),
    ],
)
def test_a_mistake_is_one_line(words: list[str], line: str) -> None:
    with pytest.raises(SettingError) as refused:
        read(words, {})
    assert str(refused.value) == line


def test_a_mistake_in_the_environment_names_the_variable() -> None:
    with pytest.raises(SettingError, match=r"PLEINAIR_PORT: --port is 'x'; give a whole number"):
        read([], {"PLEINAIR_PORT": "x"})
    with pytest.raises(SettingError, match=r"PLEINAIR_INSECURE: is 'maybe'; give 1 or 0"):
        read([], {"PLEINAIR_INSECURE": "maybe"})
    assert variable(OPTIONS["api_key_file"]) == "PLEINAIR_API_KEY_FILE"


@pytest.mark.parametrize(
    "words", [["--host", "0.0.0.0"], ["--host", "::"], ["--host", "example.org"]]
)
def test_beyond_this_machine_it_wants_keys(words: list[str]) -> None:
    with pytest.raises(SettingError, match="give --api-key-file, or --insecure"):
        read(words, {}).check_safe()
    read([*words, "--insecure"], {}).check_safe()
    read([*words, "--api-key-file", "keys"], {}).check_safe()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_on_this_machine_it_wants_none(host: str) -> None:
    read(["--host", host], {}).check_safe()


def test_a_file_s_settings_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLEINAIR_PORT", "80")
    monkeypatch.setenv("PLEINAIR_REPLICAS", "3")
    given = {"replicas": 12, "model": ["a", "b"], "insecure": True, "max_memory": "2GB"}
    found = named(given)
    assert (found.port, found.replicas, found.model) == (80, 12, ("a", "b"))
    assert (found.insecure, found.max_memory) == (True, "2GB")


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"replica": 3}, "replica is no setting; did you mean replicas?"),
        ({"replicas": "many"}, "PLEINAIR_REPLICAS: --replicas is 'many'; give a whole number"),
        (
            {"replicas": 2, "min_replicas": 3},
            "--min-replicas is 3, more than --replicas, 2",
        ),
    ],
)
def test_a_mistake_in_a_file_is_one_line(given: dict[str, Any], line: str) -> None:
    with pytest.raises(SettingError) as refused:
        named(given)
    assert str(refused.value) == line


def test_a_command_that_takes_some_reads_no_others() -> None:
    typed = {"file": "prompts.jsonl", "model": ["a"], "profile": None, "ray": False}
    environment = {"PLEINAIR_PROFILE": "fast", "PLEINAIR_PORT": "80"}
    found = gathered(typed, ("model", "profile", "ray"), environment)
    assert found == Settings(model=("a",), profile="fast")
