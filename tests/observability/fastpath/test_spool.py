"""Requests on disk: their order, their bound, and who takes over what is left."""

from __future__ import annotations

import os
import stat
from collections import deque
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from observability.fastpath.spool import Spool
from tests.forked import Forked

BLOCK = 4096


def _drain(spool: Spool) -> list[tuple[bytes, int]]:
    found = []
    while (stored := spool.oldest()) is not None:
        found.append((spool.read(stored), stored.items))
        spool.remove()
    return found


@settings(max_examples=30)
@given(st.lists(st.binary(min_size=1, max_size=2 * BLOCK) | st.sampled_from(["remove", "again"]), max_size=30))
def test_like_a_queue(steps: list[bytes | str]) -> None:
    """It gives what it took in the order in which it took it, within its bound, whenever it is opened anew."""
    expected: deque[bytes] = deque()
    with TemporaryDirectory() as folder:
        spool = Spool(Path(folder), max_bytes=6 * BLOCK)
        for step in steps:
            match step:
                case "remove":
                    assert (spool.oldest() is None) is (not expected)
                    if expected:
                        spool.remove()
                        expected.popleft()
                case "again":
                    spool.close()
                    spool = Spool(Path(folder), max_bytes=6 * BLOCK)
                case bytes():
                    taken = sum(max(1, -(-len(body) // BLOCK)) for body in (*expected, step)) <= 6
                    assert spool.add(step, len(step)) is taken
                    if taken:
                        expected.append(step)
            assert spool.items == sum(map(len, expected))
        assert _drain(spool) == [(body, len(body)) for body in expected]
        spool.close()
        assert list(Path(folder).iterdir()) == []


def test_nobody_else_reads_it(tmp_path: Path) -> None:
    """Folders and files are their owner's alone."""
    spool = Spool(tmp_path / "spool")
    spool.add(b"spans", 1)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "spool").rglob("*")}
    assert modes == {0o700, 0o600}
    spool.close()


def test_a_process_that_lives_keeps_its_own(tmp_path: Path) -> None:
    """Two that share a folder do not see each other's requests, in this process or in another one."""
    one, two = Spool(tmp_path), Spool(tmp_path)
    one.add(b"one", 1)
    two.add(b"two", 2)
    other = Forked(
        "import sys; from pathlib import Path; from observability.fastpath.spool import Spool\n"
        "print(Spool(Path(sys.argv[1])).items)",
        [str(tmp_path)],
    )
    try:
        assert other.readline() == "0\n"
        assert (_drain(one), _drain(two)) == ([(b"one", 1)], [(b"two", 2)])
    finally:
        other.close()
        one.close()
        two.close()


def test_a_process_that_was_killed(tmp_path: Path) -> None:
    """The next one takes over what it left, without what it had not finished."""
    killed = Forked(
        "import sys, time; from pathlib import Path; from observability.fastpath.spool import Spool\n"
        "spool = Spool(Path(sys.argv[1])); spool.add(b'a', 1); spool.add(b'b', 2)\n"
        "(spool._folder / '7-1.unfinished').write_bytes(b'c'); print('there', flush=True); time.sleep(60)",
        [str(tmp_path)],
    )
    assert killed.readline() == "there\n"
    killed.close()
    spool = Spool(tmp_path)
    assert (spool.items, _drain(spool)) == (3, [(b"a", 1), (b"b", 2)])
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_more_than_there_is_room_for(tmp_path: Path) -> None:
    """What it has no room to take over waits for the next one that has."""
    one = Spool(tmp_path)
    for body in (b"a", b"b", b"c"):
        one.add(body, 1)
    one.close()
    small = Spool(tmp_path, max_bytes=2 * BLOCK)
    next_one = Spool(tmp_path)
    assert (_drain(small), _drain(next_one)) == ([(b"a", 1), (b"b", 1)], [(b"c", 1)])
    small.close()
    next_one.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child(tmp_path: Path) -> None:
    """A forked process begins empty, in a folder of its own, and its end gives up nothing of its parent's."""
    parent = Spool(tmp_path)
    parent.add(b"parent", 1)
    if (pid := os.fork()) == 0:
        code = 1
        try:
            parent.reopen()
            code = parent.items or (0 if parent.add(b"child", 1) else 2)
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    heir = Spool(tmp_path)
    assert (_drain(parent), _drain(heir)) == ([(b"parent", 1)], [(b"child", 1)])
    parent.close()
    heir.close()


def test_strange_files(tmp_path: Path) -> None:
    """What others have put into the folder stays there and harms nothing."""
    (tmp_path / "README").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes").write_text("mine")
    spool = Spool(tmp_path)
    assert _drain(spool) == []
    spool.close()
    assert (tmp_path / "README").exists()
    assert (tmp_path / "folder" / "notes").exists()


def test_disk_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the disk does not take is not counted, and leaves nothing."""
    spool = Spool(tmp_path)

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="No space"):
        spool.add(b"a", 1)
    monkeypatch.undo()
    assert (spool.items, spool.oldest()) == (0, None)
    spool.close()
    assert list(tmp_path.iterdir()) == []
