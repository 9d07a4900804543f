"""`pleinair doctor`: nothing wrong, or a line of what to do for each thing."""

import signal
from pathlib import Path

import pytest

from pleinair.runtime.cli import doctor, engine_facts, main
from pleinair.runtime.engines import cgroup, cores
from pleinair.runtime.speed import machine


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a fresh folder, with engines that load at once and room enough."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "_ENGINES", {"numpy": "print('CPU')"})
    monkeypatch.setattr(machine, "memory", lambda: (8 * 10**9, 4 * 10**9))
    monkeypatch.setattr(cgroup, "cpu_quota", lambda: None)
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
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("", (), {"free": 10**6}))
    assert main(["doctor"]) == 2
    wrong = [line for line in capsys.readouterr().out.splitlines() if line.startswith("wrong: ")]
    for what in (
        "memory: little is free",
        "engine numpy: no AVX; install it anew",
        "model models",
        "cache of compiled models: ",
        "pictures: its disk is nearly full",
        "defaults of yours: pleinair.toml: no option is named 'step'; did you mean steps?",
    ):
        assert [line for line in wrong if what in line.replace("\\", "/")], what
    assert len(wrong) == 6


def test_what_the_processor_has_and_what_paints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"physical_cores": 16, "hardware_threads": 24, "numa_nodes": 2}.items():
        monkeypatch.setattr(cores, name, lambda value=value: value)
    monkeypatch.setattr(cores, "performance_cores", lambda: 8)
    monkeypatch.setattr(cgroup, "cpu_quota", lambda: 3.5)
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (
        "cores: 16, of 24 hardware threads; 8 of them for performance; in 2 NUMA nodes: a server "
        "gives streams=2 or more; the container may take 3.5" in lines
    )
    assert "threads that paint: 4, unless --threads says otherwise" in lines


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no signals to end by")
def test_an_engine_of_instructions_that_are_not_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ends = "import os, signal; os.kill(os.getpid(), signal.SIGILL)"
    monkeypatch.setattr(doctor, "_ENGINES", {"numpy": ends, "json": "print('CPU')"})
    assert main(["doctor"]) == 2
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == (
        "wrong: engine numpy: it uses an instruction that this processor does not have; try json"
    )


def test_engines_say_what_they_compute_with() -> None:
    found = engine_facts.openvino()
    assert {"CPU", "fp32"} <= set(found.replace(";", ",").replace("computes in ", "").split(", "))
    assert "8-bit graphs" in found
    assert "CPUExecutionProvider; 8-bit graphs" in engine_facts.onnxruntime()


def test_the_machine_is_known() -> None:
    """Read from this one: whatever it is, the figures make sense."""
    monkey_free = machine._memory()
    assert monkey_free is None or 0 < monkey_free[1] <= monkey_free[0]
    assert cores.physical_cores() >= 1
