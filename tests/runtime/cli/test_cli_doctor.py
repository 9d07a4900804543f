"""`pleinair doctor`: nothing wrong, or a line of what to do for each thing."""

from pathlib import Path

import pytest

from pleinair.runtime.cli import doctor, main
from pleinair.runtime.speed import machine


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a fresh folder, with engines that load at once and room enough."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "_ENGINES", {"numpy": "print('CPU')"})
    monkeypatch.setattr(machine, "memory", lambda: (8 * 10**9, 4 * 10**9))
    monkeypatch.setattr(machine, "cpu_quota", lambda: None)
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("", (), {"free": 10**10}))


def test_a_healthy_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    output = capsys.readouterr()
    lines = output.out.splitlines()
    assert lines[-1] == "nothing is wrong"
    said = {line.partition(":")[0] for line in lines}
    assert {"pleinair", "python", "system", "processor", "instructions", "cores"} <= said
    assert {"memory", "engine numpy", "cache of compiled models", "model hub"} <= said
    assert output.err == ""


def test_secrets_are_not_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_hushhush")
    monkeypatch.setenv("https_proxy", "http://me:hushhush@proxy")
    main(["doctor"])
    out = capsys.readouterr().out
    assert "HF_TOKEN is set, HTTPS_PROXY is set" in out
    assert "hushhush" not in out


def test_each_thing_that_is_wrong_gets_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PLEINAIR_CACHE", str(tmp_path / "file" / "cache"))
    (tmp_path / "models" / "broken").mkdir(parents=True)
    (tmp_path / "models" / "broken" / "model_index.json").write_text("{")
    (tmp_path / "pleinair.toml").write_text("step = 1")
    monkeypatch.setattr(doctor, "_ENGINES", {"numpy": "raise SystemExit('no AVX')"})
    monkeypatch.setattr(machine, "memory", lambda: (8 * 10**9, 10**8))
    monkeypatch.setattr(machine, "physical_cores", lambda: 16)
    monkeypatch.setattr(machine, "cpu_quota", lambda: 2.0)
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("", (), {"free": 10**6}))
    assert main(["doctor"]) == 2
    wrong = [line for line in capsys.readouterr().out.splitlines() if line.startswith("wrong: ")]
    for what in (
        "cores: the container gives 2 of its 16 cores: give --threads 2",
        "memory: little is free",
        "engine numpy: no AVX; install it anew",
        "model models",
        "cache of compiled models: ",
        "pictures: its disk is nearly full",
        "defaults of yours: pleinair.toml: no option is named 'step'; did you mean steps?",
    ):
        assert [line for line in wrong if what in line.replace("\\", "/")], what
    assert len(wrong) == 7


def test_the_machine_is_known() -> None:
    """Read from this one: whatever it is, the figures make sense."""
    monkey_free = machine._memory()
    assert monkey_free is None or 0 < monkey_free[1] <= monkey_free[0]
    assert machine.physical_cores() >= 1


def test_limits_of_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"cpu.max": "150000 100000\n", "memory.max": "2000000000\n", "memory.current": "5\n"}
    monkeypatch.undo()
    monkeypatch.setattr(machine, "_cgroup", lambda file: files[file])
    monkeypatch.setattr(machine, "_memory", lambda: (8 * 10**9, 4 * 10**9))
    assert machine.cpu_quota() == 1.5
    assert machine.memory() == (2_000_000_000, 1_999_999_995)
    files.update({"cpu.max": "max 100000\n", "memory.max": "max\n"})
    assert machine.cpu_quota() is None
    assert machine.memory() == (8 * 10**9, 4 * 10**9)
