"""The store: what outlives the server, who may read it, and what goes first."""

import io
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pleinair.runtime.errors import SettingError
from pleinair.runtime.record import metadata
from pleinair.serve.asked import Asked
from pleinair.serve.errors import Unknown
from pleinair.serve.job import Job, Picture
from pleinair.serve.store import FILE, Entry, Store
from serving import picture

INFO = {"prompt": "a red apple", "seed": 7, "num_inference_steps": 4}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "kept"


def kept(number: int = 1, client: str = "me", **more: Any) -> Job:
    return Job(Asked(number=number, seed=7, model="pocket", **more), client, kept=True)


def painted(store: Store, job: Job, *indexes: int) -> None:
    for index in indexes:
        made = Picture(image=picture(index), seed=7 + index, info=INFO, seconds=0.5)
        job.say(pictures=store.picture(job, index, made))


def over(store: Store, number: int, client: str = "me") -> Job:
    """A job of so many pictures that is over."""
    job = kept(number, client)
    store.add(Entry.of(job))
    painted(store, job, *range(number))
    job.end("done")
    store.end(job, job.status)
    return job


def test_a_job_comes_back_as_it_was_asked(folder: Path) -> None:
    sent = [Image.new("RGB", (9, 7), "red"), Image.new("RGBA", (5, 5), (1, 2, 3, 4))]
    asked = Asked(
        model="pocket",
        profile="exact",
        loras=(("ink", 0.5),),
        controlnets=(("canny", 1.0),),
        arguments={
            "prompt": 'a "red" apple, 苹果 \ud800',
            "image": sent[0],
            "control_image": [sent[1], sent[0]],
            "guidance_scale": 7.5,
            "keep_unmasked": True,
            "timesteps": [999, 499],
            "negative_prompt": None,
        },
        number=3,
        seed=2**64 - 3,
    )
    job = Job(asked, "somebody", kept=True, previews=5)
    store = Store(folder)
    store.add(Entry.of(job))
    store.close()
    store = Store(folder)
    (found,) = store.unfinished()
    assert (found.id, found.client, found.created) == (job.id, "somebody", job.created)
    assert (found.kept, found.previews, found.status.number) == (True, 5, 3)
    pictures = [found.asked.arguments["image"], *found.asked.arguments["control_image"]]
    for one, expected in zip(pictures, [sent[0], sent[1], sent[0]], strict=True):
        assert one.mode == expected.mode
        assert np.array_equal(one, expected)
    plain = {name: value for name, value in asked.arguments.items() if "image" not in name}
    assert {name: found.asked.arguments[name] for name in plain} == plain
    assert found.asked.loras == asked.loras
    assert found.asked.seed == asked.seed
    store.close()


def test_a_picture_is_kept_with_how_it_was_made(folder: Path) -> None:
    store, job = Store(folder), kept(2)
    store.add(Entry.of(job))
    painted(store, job, 1)
    store.close()
    store = Store(folder)
    (found,) = store.unfinished()
    assert list(found.status.pictures) == [1]
    made = found.status.pictures[1]
    assert (made.seed, made.info, made.seconds) == (8, INFO, 0.5)
    assert made.image is not None
    assert np.array_equal(made.image, picture(1))
    file = Image.open(io.BytesIO(store.png(job.id, 1)))
    assert metadata.of_picture(file)["prompt"] == "a red apple"
    with pytest.raises(Unknown):
        store.png(job.id, 0)
    store.close()


def test_a_withheld_picture_is_none(folder: Path) -> None:
    store, job = Store(folder), kept()
    store.add(Entry.of(job))
    found = store.picture(job, 0, Picture(image=None, seed=2**63, info={}))
    assert found[0].image is None
    assert found[0].seed == 2**63
    with pytest.raises(Unknown):
        store.png(job.id, 0)
    store.close()


def test_a_picture_is_kept_once(folder: Path) -> None:
    store, job = Store(folder), kept()
    store.add(Entry.of(job))
    painted(store, job, 0)
    again = store.picture(job, 0, Picture(image=picture(99), seed=99, info={}))
    assert again[0].seed == 7
    store.close()


def test_what_the_client_sent_goes_when_the_job_is_over(folder: Path) -> None:
    store, job = Store(folder), kept(arguments={"prompt": "a cat", "image": picture(1)})
    store.add(Entry.of(job))
    job.end("cancelled")
    store.end(job, job.status)
    found = store.find(job.id)
    assert found is not None
    assert found.status.state == "cancelled"
    assert found.asked.arguments == {"prompt": "a cat", "image": None}
    assert store.unfinished() == []
    store.close()


def test_a_job_whose_last_picture_came_is_done(folder: Path) -> None:
    """The server ended between that picture and the job's own end."""
    store, job = Store(folder), kept(2)
    store.add(Entry.of(job))
    painted(store, job, 0, 1)
    store.close()
    store = Store(folder)
    assert store.unfinished() == []
    found = store.find(job.id)
    assert found is not None
    assert found.status.state == "done"
    store.close()


def test_what_ends_the_server_again_and_again_is_given_up(folder: Path) -> None:
    job, poor = kept(), kept()
    store = Store(folder)
    store.add(Entry.of(job))
    store.add(Entry.of(poor))
    for time in range(3):
        assert len(store.unfinished()) == 2, time
        store.begin(job)
        store.begin(poor)
        store.hand_back(poor)  # which was not to blame
        store.close()
        store = Store(folder)
    assert [one.id for one in store.unfinished()] == [poor.id]
    found = store.find(job.id)
    assert found is not None
    assert found.status.state == "failed"
    assert "the server ended 3 times" in str(found.status.error)
    store.close()


def test_the_oldest_that_are_over_go_first(folder: Path) -> None:
    store = Store(folder, keep=5)
    waiting = kept(2)
    store.add(Entry.of(waiting))
    old, middle, new = over(store, 2), over(store, 2), over(store, 3)
    assert store.find(old.id) is None
    assert store.find(middle.id) is not None
    assert len(store.find(new.id).status.pictures) == 3  # type: ignore[union-attr]
    with pytest.raises(Unknown):
        old.status.pictures[0]
    assert 0 in old.status.pictures  # which reads nothing
    assert [job.id for job in store.unfinished()] == [waiting.id]
    large = over(store, 9)  # more than is kept: it is the newest, and stays
    assert store.find(large.id) is not None
    assert store.find(new.id) is None
    store.close()


def test_jobs_without_pictures_do_not_pile_up(folder: Path) -> None:
    store = Store(folder, keep=3)
    jobs = []
    for _ in range(6):
        jobs.append(kept())
        store.add(Entry.of(jobs[-1]))
        jobs[-1].end("cancelled")
        store.end(jobs[-1], jobs[-1].status)
    assert [store.find(job.id) is not None for job in jobs] == [False] * 3 + [True] * 3
    store.close()


def test_a_client_s_jobs_are_listed_newest_first(folder: Path) -> None:
    store = Store(folder)
    jobs = [over(store, 1), over(store, 1, "other"), over(store, 1)]
    assert [job.id for job in store.of_client("me", 9)] == [jobs[2].id, jobs[0].id]
    assert [job.id for job in store.of_client("me", 1)] == [jobs[2].id]
    store.close()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such modes there")
def test_only_its_owner_reads_it(folder: Path) -> None:
    before = os.umask(0)
    try:
        store = Store(folder)
        store.add(Entry.of(kept()))
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}
        assert FILE in modes
        assert set(modes.values()) == {0o600}
        store.close()
    finally:
        os.umask(before)


def test_two_servers_do_not_share_a_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(folder)
    code = (
        "import sys; from pathlib import Path; from pleinair.serve import store\n"
        "store._PATIENCE = 0.1\n"
        "try: store.Store(Path(sys.argv[1]))\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.startswith("SettingError"), done.stderr
    assert "does another server use it" in done.stdout
    store.close()
    Store(folder).close()


def test_a_folder_that_cannot_be_had_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError, match="give another folder as --data"):
        Store(tmp_path / "file" / "kept")
    (tmp_path / FILE).write_text("this is no database, but a text of some length" * 10)
    with pytest.raises(SettingError, match="cannot be used for jobs"):
        Store(tmp_path)
