"""The command: what it prints, its exit codes, and what it leaves when it is stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import save_file

from checkpoints import compvis_state, tiny_stable_diffusion
from pleinair.export import cli
from pleinair.export.terminal import stoppable


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from pleinair.export import cli\n"
        "try:\n    cli.main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'diffusers', 'openvino', 'rich', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for option in ("SOURCE", "--format", "--precision", "--revision", "--overwrite"):
        assert option.lower() in done.stdout.lower()
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("CompVis/stable-diffusion-v1-4", "stable-diffusion-v1-4"),
        ("/data/checkpoints/sd-v1-4.ckpt", "sd-v1-4"),
        ("/data/dreamshaper_8.SAFETENSORS", "dreamshaper_8"),
        ("/data/v1.5/", "v1.5"),
    ],
)
def test_the_default_name(source: str, name: str) -> None:
    assert cli.default_name(source) == name


@pytest.mark.parametrize(
    ("given", "folder"),
    [([], "/data/models/sd-v1-4"), (["mine"], "mine"), (["models/mine"], "models/mine")],
)
def test_without_a_folder_it_is_made_in_the_user_s(
    given: list[str], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []
    monkeypatch.setenv("PLEINAIR_MODELS", "/data/models")
    monkeypatch.setattr(
        "pleinair.export.export_model", lambda source, target, **_: made.append(target)
    )
    assert cli.main(["/elsewhere/sd-v1-4.ckpt", *given, "--quiet"]) == 0
    assert made == [Path(folder)]


def test_without_the_extra_it_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: None)
    assert cli.main(["sd.ckpt"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("pleinair-export: converting needs torch, which is not installed;")
    assert "install it with: pip install" in said
    assert len(said.splitlines()) == 1


def test_what_a_converter_makes_of_a_signal_is_still_a_signal() -> None:
    """Python drops some KeyboardInterrupts, and converters wrap others into errors of theirs."""

    def arrives(number: signal.Signals) -> None:
        handler = signal.getsignal(number)
        assert callable(handler)
        handler(number, None)

    def export(stops: bool) -> None:
        with stoppable(lambda stage, share: None):
            try:
                if stops:
                    arrives(signal.SIGTERM)
            finally:
                raise RuntimeError("conversion failed")

    with pytest.raises(KeyboardInterrupt):
        export(stops=True)
    with pytest.raises(RuntimeError):
        export(stops=False)


def test_a_single_file_becomes_a_folder_in_models(
    tmp_path: Path,
    exported_openvino: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The weights are those of the session's diffusers folder, so its graphs must come out."""
    checkpoint = tiny_stable_diffusion(tmp_path / "folder", clip_vocabulary=True)
    save_file(compvis_state(checkpoint), tmp_path / "tiny-v1.safetensors")
    capsys.readouterr()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLEINAIR_MODELS", "models")
    assert cli.main(["tiny-v1.safetensors", "--precision", "fp32"]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{Path('models') / 'tiny-v1'}\n"
    assert "100%" in printed.err
    target = tmp_path / "models" / "tiny-v1"
    manifest = json.loads((target / "pleinair.json").read_text())
    assert manifest["source"] == {"kind": "file", "name": "tiny-v1.safetensors"}
    expected = json.loads((exported_openvino / "pleinair.json").read_text())
    for part in ("unet", "vae_decoder", "vae_encoder"):  # the text encoder's vocabulary differs
        name = f"{part}/openvino_model.bin"
        assert manifest["files"][name] == expected["files"][name]
    assert (target / "tokenizer" / "openvino_tokenizer.xml").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "neither a diffusers folder"),
        (["empty"], "model_index.json: missing"),
        (["empty", "./taken"], "taken exists"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "taken").mkdir()
    assert cli.main([*arguments, "--quiet"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert printed.err.startswith("pleinair-export: ")
    assert message in printed.err


# The command with an export that begins at once, without torch, and never ends.
_ENDLESS = """
import sys, time
from pathlib import Path
from pleinair import export
from pleinair.export import cli, folder
def export_model(source, output, **options):
    with folder.publishing(Path(output)) as partial:
        (partial / "text_encoder").mkdir()
        (partial / "text_encoder" / "openvino_model.xml").touch()
        while True:
            time.sleep(1)
export.export_model = export_model
sys.exit(cli.main())
"""


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize(
    ("number", "command"),
    [
        (signal.SIGINT, ["-c", _ENDLESS]),
        (signal.SIGTERM, ["-c", _ENDLESS]),
        (signal.SIGKILL, ["-c", _ENDLESS]),
        (signal.SIGINT, ["-m", "pleinair.export"]),
    ],
    ids=["SIGINT", "SIGTERM", "SIGKILL", "for real"],
)
def test_a_stopped_export_leaves_no_half_folder(
    tiny_checkpoint: Path, tmp_path: Path, number: signal.Signals, command: list[str]
) -> None:
    target = tmp_path / "models" / "tiny"
    running = subprocess.Popen(
        [sys.executable, *command, str(tiny_checkpoint), str(target), "--quiet"],
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background jobs, and these tests may be in one, ignore Ctrl-C by inheritance.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    graph = "models/.tiny.partial-*/text_encoder/openvino_model.xml"
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob(graph)):
        assert running.poll() is None, running.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    running.send_signal(number)
    _, errors = running.communicate(timeout=60)
    assert not target.exists()
    left = [path.name for path in target.parent.iterdir()]
    if number == signal.SIGKILL:
        assert len(left) == 1
        assert left[0].startswith(".tiny.partial-")
    else:
        assert left == []
        assert running.returncode == 130
        assert "stopped; nothing was written" in errors
        assert "Traceback" not in errors
