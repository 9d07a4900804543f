"""Jobs that outlive the server, and their pictures: an SQLite file that its owner alone reads."""

import contextlib
import io
import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from pleinair.runtime.errors import SettingError
from pleinair.runtime.record import metadata

from .asked import Asked
from .errors import Unknown
from .job import ENDED, Job, Picture, Status

FILE = "jobs.sqlite"
_TRIES = 3
"""So often a picture is begun; the server did not live to see the end of any of them."""
_PATIENCE = 5.0
"""Seconds that a server before this one usually has to let go of the file."""
_PICTURE = "$picture"
"""The key under which JSON says which of the pictures sent stands there."""
_TABLES = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY,
    client TEXT NOT NULL,
    created REAL NOT NULL,
    asked TEXT NOT NULL,
    previews INTEGER NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    state TEXT,
    error TEXT,
    started REAL,
    ended REAL
);
CREATE INDEX IF NOT EXISTS clients ON jobs (client, created);
CREATE TABLE IF NOT EXISTS sent (
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    png BLOB NOT NULL,
    PRIMARY KEY (job, number)
);
CREATE TABLE IF NOT EXISTS pictures (
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    seed TEXT NOT NULL,
    info TEXT NOT NULL,
    seconds REAL NOT NULL,
    png BLOB,
    PRIMARY KEY (job, number)
);
"""


@dataclass(frozen=True)
class Entry:
    """A job as it is written down. Its pictures are files already: large ones take seconds."""

    job: Job
    asked: str
    sent: Sequence[bytes]

    @classmethod
    def of(cls, job: Job) -> "Entry":
        text, sent = _to_json(job.asked)
        return cls(job, text, [_png(picture) for picture in sent])


class Store:
    """Jobs by their ids. Any thread may use it; one server at a time has a folder.

    What is written is on the disk when a method returns: a process that is killed loses nothing.
    keep: pictures that stay; with more the jobs that were over first go.
    patience: seconds that a server before this one has to let go of the folder; None is a few.
    """

    def __init__(self, folder: Path, *, keep: int = 1000, patience: float | None = None) -> None:
        """Raises SettingError where the folder cannot be had."""
        self._keep, self._using = keep, threading.RLock()
        try:
            file = _private(folder)
            self._file = sqlite3.connect(
                file,
                timeout=_PATIENCE if patience is None else patience,
                isolation_level=None,
                check_same_thread=False,
            )
            # A lock on the file, which the system takes away from a process that is killed.
            for setting in ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "foreign_keys = ON"):
                self._file.execute(f"PRAGMA {setting}").fetchall()
            self._file.executescript(f"BEGIN EXCLUSIVE; {_TABLES} COMMIT;")
        except sqlite3.OperationalError as error:
            raise SettingError(
                f"{folder}: cannot be used for jobs ({error}): does another server use it? Stop "
                "it, or give another folder as --data"
            ) from error
        except (sqlite3.Error, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            raise SettingError(
                f"{folder}: cannot be used for jobs: {reason}; give another folder as --data"
            ) from error

    def close(self) -> None:
        with self._using:
            self._file.close()

    def add(self, entry: Entry) -> None:
        """A job that was accepted."""
        job = entry.job
        with self._changes() as file:
            file.execute(
                "INSERT INTO jobs (id, client, created, asked, previews) VALUES (?, ?, ?, ?, ?)",
                (job.id, job.client, job.created, entry.asked, job.previews),
            )
            file.executemany(
                "INSERT INTO sent VALUES (?, ?, ?)",
                [(job.id, number, png) for number, png in enumerate(entry.sent)],
            )

    def begin(self, job: Job) -> None:
        """One of its pictures is begun: one that ends the server is not begun for ever."""
        with self._changes() as file:
            file.execute(
                "UPDATE jobs SET tries = tries + 1, started = COALESCE(started, ?) WHERE id = ?",
                (job.status.started or time.time(), job.id),
            )

    def hand_back(self, job: Job) -> None:
        """It was left off, and nothing is wrong with it."""
        with self._changes() as file:
            file.execute("UPDATE jobs SET tries = 0 WHERE id = ?", (job.id,))

    def picture(self, job: Job, index: int, picture: Picture) -> Mapping[int, Picture]:
        """A picture is finished; all that are kept of the job's."""
        png = None if picture.image is None else _png(picture.image, picture.info)
        row = job.id, index, str(picture.seed), _json(dict(picture.info)), picture.seconds, png
        with self._changes() as file:
            file.execute("INSERT OR IGNORE INTO pictures VALUES (?, ?, ?, ?, ?, ?)", row)
            file.execute("UPDATE jobs SET tries = 0 WHERE id = ?", (job.id,))
        return self._pictures(job.id)

    def end(self, job: Job, status: Status) -> None:
        """It is over, with that status; what the client sent is no longer needed."""
        with self._changes() as file:
            file.execute(
                "UPDATE jobs SET state = ?, error = ?, started = COALESCE(started, ?), ended = ? "
                "WHERE id = ?",
                (status.state, status.error, status.started, status.ended, job.id),
            )
            file.execute("DELETE FROM sent WHERE job = ?", (job.id,))
            self._drop_oldest(file)

    def find(self, id: str) -> Job | None:
        """A job by its id; None where there is none."""
        rows = self._rows("SELECT * FROM jobs WHERE id = ?", id)
        return self._job(rows[0]) if rows else None

    def of_client(self, client: str, most: int) -> list[Job]:
        """The newest jobs of a client."""
        rows = self._rows(
            "SELECT * FROM jobs WHERE client = ? ORDER BY created DESC, rowid DESC LIMIT ?",
            client,
            most,
        )
        return [self._job(row) for row in rows]

    def unfinished(self) -> list[Job]:
        """The jobs that are to go on, first accepted first.

        One whose last picture came before the server's end is over here; so is one that has ended
        the server again and again.
        """
        rows = self._rows("SELECT * FROM jobs WHERE ended IS NULL ORDER BY created, rowid")
        jobs = []
        for row in rows:
            job = self._job(row)
            if len(job.status.pictures) == job.asked.number:
                job.end("done")
            elif row["tries"] >= _TRIES:
                job.end("failed", f"the server ended {_TRIES} times while this was painted")
            if job.status.over:
                self.end(job, job.status)
            else:
                jobs.append(job)
        return jobs

    def png(self, job: str, index: int) -> bytes:
        """A picture's file, with how it was made. Raises Unknown where it is not kept."""
        rows = self._rows("SELECT png FROM pictures WHERE job = ? AND number = ?", job, index)
        if not rows or rows[0]["png"] is None:
            raise _gone(index)
        found: bytes = rows[0]["png"]
        return found

    def _job(self, row: Mapping[str, Any]) -> Job:
        sent = self._rows("SELECT png FROM sent WHERE job = ? ORDER BY number", row["id"])
        asked = _of_json(row["asked"], [each["png"] for each in sent])
        status = Status(
            state=row["state"] if row["state"] in ENDED else "waiting",
            number=asked.number,
            pictures=self._pictures(row["id"]),
            error=row["error"],
            started=row["started"],
            ended=row["ended"],
        )
        return Job(
            asked,
            row["client"],
            kept=True,
            previews=row["previews"],
            id=row["id"],
            created=row["created"],
            status=status,
        )

    def _pictures(self, job: str) -> "KeptPictures":
        rows = self._rows("SELECT number FROM pictures WHERE job = ? ORDER BY number", job)
        return KeptPictures(self, job, tuple(row["number"] for row in rows))

    def row_of(self, job: str, index: int) -> Mapping[str, Any]:
        """A picture as it is kept. Raises Unknown where it is not."""
        rows = self._rows("SELECT * FROM pictures WHERE job = ? AND number = ?", job, index)
        if not rows:
            raise _gone(index)
        return rows[0]

    def _rows(self, query: str, *values: object) -> list[dict[str, Any]]:
        with self._using:
            found = self._file.execute(query, values)
            names = [column[0] for column in found.description]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    @contextlib.contextmanager
    def _changes(self) -> Iterator[sqlite3.Connection]:
        """Changes that are made together, or not at all."""
        with self._using:
            self._file.execute("BEGIN IMMEDIATE")
            try:
                yield self._file
            except BaseException:
                self._file.execute("ROLLBACK")
                raise
            self._file.execute("COMMIT")

    def _drop_oldest(self, file: sqlite3.Connection) -> None:
        """A job without a picture counts as one, so that refused ones do not pile up either."""
        file.execute(
            """
            DELETE FROM jobs WHERE id IN (
                SELECT id FROM (
                    SELECT id, ROW_NUMBER() OVER newest AS place, SUM(
                        MAX(1, (SELECT COUNT(*) FROM pictures WHERE job = jobs.id))
                    ) OVER newest AS pictures
                    FROM jobs WHERE ended IS NOT NULL
                    WINDOW newest AS (ORDER BY ended DESC, rowid DESC)
                ) WHERE pictures > ? AND place > 1
            )
            """,
            (self._keep,),
        )


@dataclass(frozen=True)
class KeptPictures(Mapping[int, Picture]):
    """A job's pictures, each read when it is asked for; Unknown where it has been dropped since."""

    store: Store
    job: str
    numbers: tuple[int, ...]

    def __getitem__(self, index: int) -> Picture:
        if index not in self.numbers:
            raise KeyError(index)
        row = self.store.row_of(self.job, index)
        image = None if row["png"] is None else Image.open(io.BytesIO(row["png"]))
        return Picture(
            image=image,
            seed=int(row["seed"]),
            info=json.loads(row["info"]),
            seconds=row["seconds"],
        )

    def __contains__(self, index: object) -> bool:
        return index in self.numbers  # without reading it

    def __iter__(self) -> Iterator[int]:
        return iter(self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)


def _private(folder: Path) -> Path:
    """The file in the folder, both made for their owner alone where they are not there."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = folder / FILE
    with contextlib.suppress(FileExistsError):
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    os.chmod(file, 0o600)  # SQLite gives the files beside it the same
    return file


def _gone(index: int) -> Unknown:
    return Unknown(f"picture {index} is no longer kept here", param="index")


def _png(image: Image.Image, info: Mapping[str, Any] | None = None) -> bytes:
    buffer = io.BytesIO()
    plain = image if image.mode in ("1", "L", "LA", "P", "RGB", "RGBA") else image.convert("RGBA")
    plain.save(buffer, "PNG", pnginfo=metadata.png_info(info) if info else None)
    return buffer.getvalue()


def _picture(png: bytes) -> Image.Image:
    """Read now: an open one is nothing for two threads."""
    image = Image.open(io.BytesIO(png))
    image.load()
    return image


def _json(content: object) -> str:
    return json.dumps(content)


def _to_json(asked: Asked) -> tuple[str, list[Image.Image]]:
    """What was asked as JSON, and the pictures in it, to which it refers by their numbers."""
    sent: list[Image.Image] = []

    def plain(value: Any) -> Any:
        if isinstance(value, Image.Image):
            sent.append(value)
            return {_PICTURE: len(sent) - 1}
        if isinstance(value, list | tuple):
            return [plain(one) for one in value]
        return value

    content = {
        **vars(asked),
        "arguments": {name: plain(value) for name, value in asked.arguments.items()},
    }
    return _json(content), sent


def _of_json(text: str, sent: list[bytes]) -> Asked:
    """What was asked, with its pictures; without those that are no longer there."""

    def full(value: Any) -> Any:
        if isinstance(value, dict):
            number = value[_PICTURE]
            return _picture(sent[number]) if number < len(sent) else None
        return [full(one) for one in value] if isinstance(value, list) else value

    content = json.loads(text)
    arguments = {name: full(value) for name, value in content["arguments"].items()}
    pairs = {
        name: tuple((file, weight) for file, weight in content[name])
        for name in ("loras", "controlnets")
    }
    return Asked(**{**content, **pairs, "arguments": arguments})
