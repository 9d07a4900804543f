"""The options of `pleinair serve`, each declared once: flag, variable, default, help."""

import argparse
import importlib.util
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pleinair.runtime.cli.parser import Parser, number, whole_number
from pleinair.runtime.errors import SettingError, did_you_mean, shown, to_install
from pleinair.runtime.model import catalog
from pleinair.runtime.model.footprint import bytes_of
from pleinair.runtime.options.groups import PROFILES
from pleinair.runtime.options.option import Option, declared, option

Size = tuple[int, int]

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_ON, _OFF = frozenset({"1", "true", "yes", "on"}), frozenset({"", "0", "false", "no", "off"})
_RANGES: Mapping[str, tuple[float, float]] = {
    "port": (0, 65535),
    "threads": (1, 4096),
    "workers": (1, 1024),
    "max_queue": (1, 1_000_000),
    "max_pixels": (4096, 80_000_000),
    "max_steps": (1, 10_000),
    "max_n": (1, 10_000),
    "max_prompt": (1, 1_000_000),
    "max_upload": (1024, 1 << 40),
    "upload_timeout": (1, 1e6),
    "timeout": (1, 1e9),
    "keep": (1, 1e9),
    "drain": (0, 1e9),
    "replicas": (1, 100_000),
    "min_replicas": (1, 100_000),
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a server is set up."""

    host: str = option(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="where to listen (default: 127.0.0.1, this machine alone); 0.0.0.0 is every address "
        "of this machine's, and wants --api-key-file",
    )
    port: int = option(
        "--port", default=8080, metavar="N", help="port (default: 8080); 0 takes a free one"
    )
    model: tuple[str, ...] = option(
        "--model",
        default=("pocket",),
        metavar="NAME",
        help="models to offer, folders or catalog names; the first is painted with where a client "
        "names none (default: the bundled one)",
    )
    profile: str | None = option(
        "--profile",
        metavar="NAME",
        help=f"what is given up for speed: one of {', '.join(PROFILES)}, or auto (default: the "
        "model's)",
    )
    loras: Path | None = option(
        "--loras", metavar="DIR", help="LoRA files (.safetensors) that clients may name"
    )
    controlnet: tuple[Path, ...] = option(
        "--controlnet",
        default=(),
        metavar="DIR",
        help="folders of converted ControlNets that clients may name",
    )
    engine: str = option(
        "--engine",
        default="auto",
        metavar="NAME",
        help="auto, openvino or onnxruntime (default: auto)",
    )
    device: str = option(
        "--device",
        default="auto",
        metavar="NAME",
        help="auto, cpu, cuda, gpu, or a name that the engine knows (default: auto)",
    )
    threads: int | None = option(
        "--threads",
        metavar="N",
        help="CPU threads of all workers together (default: the engine's choice; in a container "
        "its share of the CPUs)",
    )
    workers: int = option(
        "--workers",
        default=1,
        metavar="N",
        help="pictures painted at once, which share out the threads (default: 1, which has each "
        "soonest)",
    )
    max_memory: str | None = option(
        "--max-memory",
        metavar="SIZE",
        help="what the process may take, such as 4GB; what was used longest ago makes room "
        "(default: of each part of a model one size stays)",
    )
    warm: tuple[Size, ...] = option(
        "--warm",
        default=(),
        metavar="WxH",
        help="sizes that the first model is compiled for before the server is ready; the last of "
        "them stays in memory, with --max-memory as many as have room (default: the model's own)",
    )
    api_key_file: Path | None = option(
        "--api-key-file",
        metavar="FILE",
        help="keys, one a line; every request then has to bear one of them",
    )
    insecure: bool = option(
        "--insecure", default=False, help="listen beyond this machine without keys"
    )
    allow_urls: bool = option(
        "--allow-urls", default=False, help="fetch pictures that clients name by their URL"
    )
    cors: tuple[str, ...] = option(
        "--cors",
        default=(),
        metavar="ORIGIN",
        help="whose pages may call the server, such as https://example.org",
    )
    max_queue: int = option(
        "--max-queue",
        default=100,
        metavar="N",
        help="pictures that may wait (default: 100); further requests are told to come later",
    )
    max_pixels: int = option(
        "--max-pixels",
        default=4 * 1024 * 1024,
        metavar="N",
        help="pixels of a picture, painted or sent (default: 4194304)",
    )
    max_steps: int = option(
        "--max-steps", default=150, metavar="N", help="steps of a picture (default: 150)"
    )
    max_n: int = option(
        "--max-n", default=10, metavar="N", help="pictures of a request (default: 10)"
    )
    max_prompt: int = option(
        "--max-prompt", default=10_000, metavar="N", help="characters of a prompt (default: 10000)"
    )
    max_upload: int = option(
        "--max-upload", default=32 << 20, metavar="SIZE", help="bytes of a request (default: 32MiB)"
    )
    upload_timeout: float = option(
        "--upload-timeout",
        default=120.0,
        metavar="SECONDS",
        help="how long a request may take to arrive, its head and its body each (default: 120)",
    )
    timeout: float = option(
        "--timeout",
        default=3600.0,
        metavar="SECONDS",
        help="how long a client's request may take, waiting included (default: 3600); jobs of "
        "/v1/jobs may take any time",
    )
    data: Path | None = option(
        "--data",
        metavar="DIR",
        help="where accepted jobs and their pictures are kept (default: the user's data folder)",
    )
    keep: int = option(
        "--keep",
        default=1000,
        metavar="N",
        help="pictures that are kept there (default: 1000); the oldest go first",
    )
    drain: float = option(
        "--drain",
        default=60.0,
        metavar="SECONDS",
        help="how long pictures in work may take when the server is stopped (default: 60)",
    )
    ray: bool = option(
        "--ray",
        default=False,
        help="paint on a Ray cluster: that of RAY_ADDRESS, or the one that runs here, or this "
        "machine's cores (needs the extra ray)",
    )
    replicas: int = option(
        "--replicas",
        default=8,
        metavar="N",
        help="with --ray: painters at most, of --threads each, one picture at a time; as many run "
        "as pictures wait (default: 8)",
    )
    min_replicas: int = option(
        "--min-replicas",
        default=1,
        metavar="N",
        help="with --ray: painters that always run (default: 1)",
    )

    def __post_init__(self) -> None:
        """Raises SettingError for a value out of its range."""
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise SettingError(
                    f"{OPTIONS[name].flags[0]} is {value}; give {least:.0f} to {most:.0f}"
                )
        if self.min_replicas > self.replicas:
            raise SettingError(
                f"--min-replicas is {self.min_replicas}, more than --replicas, {self.replicas}"
            )
        bytes_of(self.max_memory)
        if self.ray and importlib.util.find_spec("ray") is None:
            raise SettingError(f"--ray: ray is not installed; install it with: {to_install('ray')}")
        if not self.model:
            raise SettingError("--model names no model; leave it out for the bundled one")

    @property
    def folder(self) -> Path:
        """Where jobs are kept."""
        return self.data or catalog.data_folder() / "serve"

    @property
    def beyond(self) -> bool:
        """Whether other machines can reach the server."""
        return self.host not in LOOPBACK

    def check_safe(self) -> None:
        """Raises SettingError where anybody in the network could use the server."""
        if self.beyond and self.api_key_file is None and not self.insecure:
            raise SettingError(
                f"--host is {shown(self.host)}, where others can reach the server; give "
                "--api-key-file, or --insecure to let anybody paint"
            )


OPTIONS: Mapping[str, Option] = declared(Settings)


def parser() -> Parser:
    """The options on a command line; their help names the environment variables, too."""
    made = Parser(
        "pleinair serve",
        description="Serve pictures over HTTP: a page, and the APIs of OpenAI and of webui.",
        epilog="Each option is also read from the environment: PLEINAIR_PORT=80 is --port 80, and "
        "several values stand there with commas between them.",
    )
    add_to(made, OPTIONS)
    return made


def add_to(made: Parser, names: Iterable[str]) -> None:
    """Let a command take some of the options."""
    for one in map(OPTIONS.__getitem__, names):
        if one.type is bool:
            made.add_argument(*one.flags, dest=one.name, action="store_true", help=one.help)
        else:
            made.add_argument(
                *one.flags,
                dest=one.name,
                type=_reader(one),
                nargs="+" if one.type is tuple else None,
                metavar=one.metavar,
                help=one.help,
            )


def read(words: Sequence[str], environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings that a command line asks for, over those of the environment.

    Raises SettingError, naming the flag or the variable, for what cannot be read.
    """
    made = parser()
    typed, left = made.given(words)
    if left:
        raise made.unknown(left[0])
    return gathered(typed, OPTIONS, environment)


def gathered(
    typed: Mapping[str, Any], names: Iterable[str], environment: Mapping[str, str] = os.environ
) -> Settings:
    """The settings of those names that were typed, over those of the environment.

    typed: may hold what is no setting, and None or False for what was not typed.
    """
    named = set(names)
    given = {
        name: value
        for name, value in typed.items()
        if name in named and value is not None and value is not False
    }
    found = {name: value for name, value in _of_environment(environment).items() if name in named}
    return Settings(**{**found, **_values(given)})


def named(values: Mapping[str, Any]) -> Settings:
    """The settings of those names, as a file gives them, over those of the environment.

    Raises SettingError for a name that there is not, and for what cannot be read.
    """
    texts = {}
    for name, value in values.items():
        if name not in OPTIONS:
            raise SettingError(f"{shown(name)} is no setting{did_you_mean(name, OPTIONS)}")
        several = isinstance(value, list | tuple)
        texts[variable(OPTIONS[name])] = ",".join(map(str, value)) if several else str(value)
    return gathered({}, OPTIONS, {**os.environ, **texts})


def variable(one: Option) -> str:
    """The environment variable of an option."""
    return f"PLEINAIR_{one.name.upper()}"


def _of_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    made = parser()
    values: dict[str, Any] = {}
    for one in OPTIONS.values():
        text = environment.get(variable(one), "")
        # Kubernetes sets PLEINAIR_PORT to this in every pod beside a service named pleinair.
        if not text or (one.name == "port" and text.startswith("tcp://")):
            continue
        try:
            typed, _ = made.given(_words(one, text))
        except SettingError as error:
            raise SettingError(f"{variable(one)}: {error}") from error
        values.update(_values(typed))
    return values


def _words(one: Option, text: str) -> list[str]:
    """What a variable's text would be on a command line."""
    if one.type is bool:
        if text.lower() not in _ON | _OFF:
            raise SettingError(f"is {shown(text)!r}; give 1 or 0")
        return [one.flags[0]] if text.lower() in _ON else []
    if one.type is tuple:
        return [one.flags[0], *filter(None, (part.strip() for part in text.split(",")))]
    return [f"{one.flags[0]}={text}"]


def _values(typed: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in typed.items()
    }


def _reader(one: Option) -> Callable[[str], Any]:
    """What makes an option's value of a word."""
    if one.name == "warm":
        return _size
    if one.metavar == "SIZE" and one.type is int:
        return _bytes
    item = one.hint.__args__[0] if one.type is tuple else one.type
    readers: Mapping[Any, Callable[[str], Any]] = {int: whole_number, float: _seconds, Path: Path}
    return readers.get(item, str)


def _size(text: str) -> Size:
    width, by, height = text.lower().partition("x")
    if not by or not (width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"is {shown(text)!r}; give a size such as 512x512")
    return whole_number(width), whole_number(height)


def _bytes(text: str) -> int:
    try:
        return bytes_of(text) or 0
    except SettingError:
        raise argparse.ArgumentTypeError(f"is {shown(text)!r}; give a size such as 32MiB") from None


def _seconds(text: str) -> float:
    value: float = number(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"is {shown(text)!r}; give a number of seconds")
    return value
