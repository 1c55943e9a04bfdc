import os
import time
from contextlib import closing

import numpy as np
import pytest
from distributed import Client, LocalCluster, get_worker

from anbn.core import workers


@pytest.fixture(params=["loop", "two workers"])
def client(request):
    """None, and two workers: what holds for one must hold for the other."""
    if request.param == "two workers":
        return request.getfixturevalue("two_workers")
    return None


def test_results_and_what_is_printed_come_in_the_order_of_items(client, capsys):
    def square(item, shared, other):
        time.sleep(0.1 * (item == 0))  # the first ends last
        print(f"item {item}")
        return item**2 + shared.sum() + other

    found = workers.each(square, range(5), client, shared=[np.ones((2, 3)), 1])
    assert list(found) == [7, 8, 11, 16, 23]
    assert capsys.readouterr().out.split("\n") == [*(f"item {k}" for k in range(5)), ""]


def test_a_worker_holds_one_item_at_a_time(two_workers, tmp_path):
    on_their_way = []

    def items():
        for k in range(8):
            on_their_way.append(k + 1 - len(list(tmp_path.iterdir())))
            yield np.full(10_000, k)

    def busy(item):
        begin = time.time()
        time.sleep(0.05 + 0.1 * (item[0] == 3))
        (tmp_path / str(item[0])).touch()
        return os.getpid(), begin, time.time()

    given = list(workers.each(busy, items(), two_workers))
    assert max(on_their_way) == 2
    assert len({pid for pid, _, _ in given}) == 2
    for pid, begin, end in given:
        others = [one for one in given if one != (pid, begin, end)]
        beside = {p for p, b, e in others if b < end and begin < e}
        assert pid not in beside


def test_slots_of_subjects_are_taken_beside_stages(tmp_path):
    """A worker that runs a stage, on its other thread, takes subjects as others do."""

    def stage():
        while not (tmp_path / "end").exists():
            time.sleep(0.05)

    options = {"n_workers": 2, "threads_per_worker": 2, "dashboard_address": ":0"}
    options |= {"processes": False, "resources": {"stage": 1, "subject": 1}}
    with LocalCluster(**options) as cluster:
        with Client(cluster, set_as_default=False) as client:
            running = client.submit(stage, resources={"stage": 1})
            found = workers.each(lambda _: get_worker().address, range(6), client)
            addresses = list(found)
            (tmp_path / "end").touch()
            running.result()
    assert len(set(addresses)) == 2


@pytest.mark.parametrize("slow", [2, 3])
def test_the_error_is_that_of_the_first_item_that_fails(client, tmp_path, slow):
    def fail(item):
        (tmp_path / str(item)).touch()
        time.sleep(0.2 * (item == slow))
        if item in (2, 3):
            raise FileNotFoundError(2, f"run {item} is not there")
        return item

    found, given = workers.each(fail, range(20), client), []
    with pytest.raises(FileNotFoundError) as error:
        given.extend(found)
    assert str(error.value) == "[Errno 2] run 2 is not there"
    assert len(list(tmp_path.iterdir())) <= 4  # and no others


def test_what_is_not_waited_for_is_not_begun(two_workers, tmp_path):
    def touch(item, shared):
        (tmp_path / str(item)).touch()
        time.sleep(0.1)

    with pytest.raises(KeyboardInterrupt):
        with closing(
            workers.each(touch, range(20), two_workers, shared=[np.ones(9)])
        ) as found:
            for _ in found:
                raise KeyboardInterrupt
    time.sleep(0.5)
    assert len(list(tmp_path.iterdir())) < 15
    assert not any(two_workers.who_has().values())


def test_a_worker_that_dies_changes_nothing(two_workers, tmp_path):
    def die_once(item, shared):
        died = tmp_path / "died"
        if item == 2 and not died.exists():
            died.touch()
            os.kill(os.getpid(), 9)
        return item + shared.sum()

    shared = np.arange(100_000)
    found = list(workers.each(die_once, range(6), two_workers, shared=[shared]))
    assert found == [k + shared.sum() for k in range(6)]
    assert (tmp_path / "died").exists()


def test_an_item_that_kills_its_workers_is_named(two_workers):
    def die(item):
        if item == 1:
            os.kill(os.getpid(), 9)
        return item

    found = workers.each(die, range(4), two_workers)
    assert next(found) == 0
    with pytest.raises(workers.WorkersError, match=r"run 2,.* 2 workers died.*memory"):
        list(found)


def test_client_of_the_address_in_the_environment(monkeypatch, two_workers):
    monkeypatch.delenv("ANBN_WORKERS", raising=False)
    assert workers.client() is None
    monkeypatch.setenv("ANBN_WORKERS", two_workers.scheduler.address)
    with workers.client() as client:
        assert list(workers.each(abs, [-1, 2], client)) == [1, 2]


def test_an_address_of_no_workers_is_named(monkeypatch):
    monkeypatch.setattr(workers, "CONNECT", 0.5)
    monkeypatch.setattr(workers, "WORKERS_WITHIN", 0.2)
    with LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as cluster:
        address = cluster.scheduler_address
        for wrong, said in (
            (address, "has no workers"),
            ("tcp://127.0.0.1:1", "does not answer"),
            ("here", "does not answer.*Expected an address as tcp://host:8786"),
        ):
            monkeypatch.setenv("ANBN_WORKERS", wrong)
            message = f"ANBN_WORKERS={wrong}: the Dask scheduler {said}.*dask worker"
            with pytest.raises(workers.WorkersError, match=message):
                workers.client()
