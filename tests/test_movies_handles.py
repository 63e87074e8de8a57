"""Open files: one a process, never closed under a reader, gone after a fork."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from cypose_dask.movies import handles, open_movie
from helpers.nd2_writer import write_nd2
from helpers.stamps import stamped
from helpers.tiff_writer import write_tiff


class Fake:
    """A handle that counts how often it was opened and closed."""

    def __init__(self, log, name):
        self.log, self.name = log, name
        log.append(f"open {name}")

    def close(self):
        self.log.append(f"close {self.name}")


@pytest.fixture
def log():
    handles.close_all()
    yield []
    handles.close_all()


def use(log, name):
    with handles.lease(name, lambda: Fake(log, name)) as handle:
        return handle


def test_second_lease_finds_the_file_open(log):
    assert use(log, "a") is use(log, "a")
    assert log == ["open a"]


def test_oldest_idle_handle_is_closed_first(log):
    for i in range(handles.CAPACITY):
        use(log, i)
    use(log, 0)
    use(log, "new")
    assert [line for line in log if "close" in line] == ["close 1"]


def test_handle_in_use_is_never_closed(log):
    with handles.lease("held", lambda: Fake(log, "held")):
        for i in range(3 * handles.CAPACITY):
            use(log, i)
        handles.close_all()
        handles.discard("held")
        assert "close held" not in log
    use(log, "held")
    assert log.count("open held") == 1


def test_discarded_handle_is_opened_anew(log):
    use(log, "a")
    handles.discard("a")
    use(log, "a")
    assert log == ["open a", "close a", "open a"]


def test_threads_that_ask_at_once_open_once(log):
    start = threading.Barrier(8)

    def task(_):
        start.wait()
        return use(log, "a")

    with ThreadPoolExecutor(8) as pool:
        assert len(set(map(id, pool.map(task, range(8))))) == 1
    assert log == ["open a"]


def test_failed_opening_is_tried_again(log):
    def fail():
        raise OSError("not there yet")

    for _ in range(2 * handles.CAPACITY):
        with pytest.raises(OSError, match="not there"), handles.lease("a", fail):
            pass
    use(log, "a")
    assert log == ["open a"]


def test_failed_openings_leave_nothing_behind(log):
    def fail():
        raise OSError("gone")

    for i in range(20):
        with pytest.raises(OSError, match="gone"), handles.lease(i, fail):
            pass
    assert not handles._cache.entries


def test_slow_opening_does_not_hold_up_other_files(log):
    inside, go_on = threading.Event(), threading.Event()

    def slow():
        inside.set()
        assert go_on.wait(10)
        return Fake(log, "slow")

    def lease_slow():
        with handles.lease("slow", slow):
            pass

    thread = threading.Thread(target=lease_slow)
    thread.start()
    assert inside.wait(10)
    use(log, "quick")
    assert log == ["open quick"]
    go_on.set()
    thread.join()


def test_child_of_a_fork_opens_for_itself(log):
    use(log, "a")
    read, write = os.pipe()
    child = os.fork()
    if not child:
        use(log, "a")
        os.write(write, f"{handles.count_opened()} {log.count('open a')}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 100) == b"1 2"
    os.close(read), os.close(write)


def test_opening_and_reading_a_movie_opens_its_file_once(tmp_path):
    pixels = stamped(T=5, C=2)
    for path in (
        write_nd2(tmp_path / "a.nd2", pixels[:, 0, 0], "TCYX"),
        write_tiff(tmp_path / "a.tif", pixels, "imagej", "TCYX"),
        write_tiff(tmp_path / "b.tif", pixels, "ome-zstd", "TCYX"),
    ):
        before = handles.count_opened()
        movie = open_movie(path)
        open_movie(path, channels=[1]).read_frame(0)
        movie.frames.compute(scheduler="threads")
        assert handles.count_opened() - before == 1


def test_more_movies_than_handles_still_read(tmp_path):
    movies = [
        open_movie(write_nd2(tmp_path / f"{i}.nd2", stamped(T=2)[:, 0, 0, 0] + i, "TYX"))
        for i in range(handles.CAPACITY + 3)
    ]
    for _ in range(2):
        for i, movie in enumerate(movies):
            assert movie.read_frame(1).min() == 27 * 64 + i


def test_replaced_file_is_a_new_movie(tmp_path):
    path = tmp_path / "a.tif"
    assert open_movie(write_tiff(path, stamped(T=2), "ome", "TYX")).info.sizes["T"] == 2
    assert open_movie(write_tiff(path, stamped(T=3), "ome", "TYX")).info.sizes["T"] == 3
