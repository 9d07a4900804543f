"""`pleinair pull`: a model by its name, from the hub or by hand, ready to paint with."""

from collections.abc import Sequence
from pathlib import Path

from ..errors import SourceError
from ..exits import tell
from ..hub import pull as hub
from ..hub.repository import UnreachableError
from ..model import catalog
from ..model.bundle import Bundle
from .parser import Parser
from .progress import TransferBar

EPILOG = """\
examples:
  pleinair pull stable-diffusion-v1-5-fp16-ov        ready-made: fetched as it is
  pleinair pull stable-diffusion-v1-4                fetched and converted
  pleinair pull owner/name/model.safetensors         one file of a repository
  pleinair pull Downloads/sd-turbo-ov                by hand: a folder or file on this machine

HF_ENDPOINT chooses a mirror, HF_TOKEN opens gated models, HF_HUB_OFFLINE=1 takes what is cached.
A transfer that was stopped, even killed, goes on when the same command is given again.
"""


def pull(argv: Sequence[str]) -> int:
    """Run the command; 0 when the model is in place, 2 where its conversion was refused."""
    options = parser().parse_args(argv)
    entry = catalog.known(options.name)
    name = entry.source if entry else options.name
    if entry and entry.source == "bundled":
        raise SourceError(f"{entry.name} comes with the program: {catalog.bundled()}")
    local = Path(options.name).expanduser()
    short = entry.name if entry else _short_name(local)
    target = options.folder or catalog.user_folder() / short
    hub.refuse_existing(target)
    if entry is None and local.exists():
        if options.revision:
            raise SourceError(f"{local} is here already: --revision is for hub ids; leave it out")
        code = _bring(local, target)
    else:
        code = _fetch(name, target, options.revision, entry)
    if code == 0:
        formats = ", ".join(Bundle.open(target).graphs)
        tell(f"ready ({formats}); paint with: pleinair --model {target}")
        print(target)
    return code


def parser() -> Parser:
    parser = Parser(
        "pleinair pull",
        description="Fetch a model, convert it if it needs that; it goes into your model folder.",
        epilog=EPILOG,
    )
    parser.add_argument(
        "name", help="a known model (see: pleinair models), a hub id, or a folder or file here"
    )
    parser.add_argument(
        "folder",
        nargs="?",
        type=Path,
        help="where to put it (default: NAME in PLEINAIR_MODELS, or in the user's model folder)",
    )
    parser.add_argument("--revision", help="branch, tag or commit of a hub id")
    return parser


def _short_name(path: Path) -> str:
    name = path.resolve().name
    return path.stem if path.suffix.lower() in {".safetensors", ".ckpt"} else name


def _bring(source: Path, target: Path) -> int:
    """By hand: copy a ready-made model, convert a checkpoint."""
    if source.is_dir() and hub.is_ready_made(source):
        hub.copy(source, target)
        return 0
    hub.require_converter(str(source))
    return hub.run_converter(str(source), target)


def _fetch(name: str, target: Path, revision: str | None, entry: catalog.Entry | None) -> int:
    try:
        order = hub.placed(name, target, revision)
    except UnreachableError:
        folder = hub.cached(name, revision)
        if folder is None:
            raise
        tell(f"{name}: no network; taken from the hub's cache")
        return _take_cached(name, folder, target, revision)
    licence = entry.licence if entry else order.repository.licence
    kind = "ready-made" if order.ready_made else "a checkpoint, to be converted"
    tell(
        f"{name}: {kind}; {len(order.files)} files, {_gigabytes(order.size)}; licence: {licence}",
    )
    if order.missing < order.size:
        tell(f"{_gigabytes(order.size - order.missing)} are here already")
    try:
        with TransferBar(order.size, order.size - order.missing) as bar:
            hub.fetch(order, bar)
    except KeyboardInterrupt:
        tell("what has come stays; the same command goes on from there")
        raise
    if order.ready_made:
        hub.publish(order)
        return 0
    code = hub.convert(order)
    if code:
        tell(f"the checkpoint stays in {order.staging}")
    return code


def _take_cached(name: str, folder: Path, target: Path, revision: str | None) -> int:
    if hub.is_ready_made(folder):
        hub.copy(folder, target)
        return 0
    hub.require_converter(name)
    options = ["--revision", revision] if revision else []
    return hub.run_converter(name, target, *options)  # which looks into the cache itself


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
