"""Work over many subjects: on the workers of a Dask cluster, or one after another."""

import contextlib
import io
import logging
import os
import sys
import threading

ADDRESS = "ANBN_WORKERS"  # environment variable that holds a scheduler's address
CONNECT = 10.0  # s, to reach a scheduler
WORKERS_WITHIN = 60.0  # s, for a scheduler that has none to get one
SLOT = "subject"  # resource of workers that run stages beside subjects
AGAIN = "See that scheduler and workers run, and run this again."
_alone = threading.Lock()  # a worker takes one item at a time, whatever its threads


class WorkersError(RuntimeError):
    """No workers can be reached, or they were lost."""


def client():
    """Client of the scheduler whose address stands in ``ANBN_WORKERS``.

    Its workers need the library and see the same files. The last digits of sums depend
    on the number of threads (``OMP_NUM_THREADS``): results equal those of the loop bit
    for bit where workers have as many as the caller.

    Returns
    -------
    client : distributed.Client or None
        None if the variable is not set or empty.

    Raises
    ------
    WorkersError
        Nothing answers at the address, or it gets no workers in a minute.
    """
    address = os.environ.get(ADDRESS)
    if not address:
        return None
    import distributed

    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    start = f"`{sys.executable} -m dask worker {address} --nthreads 1`"
    found = None
    try:
        # by default arrays on disk would be read by the workers, too
        found = distributed.Client(address, timeout=CONNECT, set_as_default=False)
        found.wait_for_workers(1, timeout=WORKERS_WITHIN)
    except (OSError, TimeoutError, ValueError) as error:
        lack = "has no workers" if found else "does not answer"
        if found:
            found.close()
        raise WorkersError(
            f"{ADDRESS}={address}: the Dask scheduler {lack}. Expected an address as "
            f"tcp://host:8786. Start it, `dask scheduler`, and workers, {start}, or "
            f"unset {ADDRESS} to work on one subject after another. "
            f"({type(error).__name__})"
        ) from error
    return found


def each(function, items, client=None, *, shared=()):
    """Results of ``function(item, *shared)``, in the order of the items.

    Without a client this is a loop. With one, as many items are on their way as there
    are workers, and a worker takes one at a time, so that it holds no more than one
    subject. What ``function`` prints is printed here, in the order of the items.

    Parameters
    ----------
    function : callable
        Known by name to the workers, or to be pickled by cloudpickle.
    items : iterable
    client : distributed.Client, optional
        From ``client``, or the user's own.
    shared : sequence
        Further arguments, which every worker gets once.

    Yields
    ------
    result : object
        What is large is better left by ``function`` in a file. If the caller stops
        (``contextlib.closing``), tasks are cancelled: those that run end unheard.

    Raises
    ------
    Exception
        What ``function`` raises, as it is, of the first item that fails.
    WorkersError
        If worker after worker died over an item, or all were lost.
    """
    if client is None:
        for item in items:
            yield function(item, *shared)
        return
    import dask
    import distributed

    waiting, running, done = enumerate(items), {}, {}
    finished, first, failed = distributed.as_completed(loop=client.loop), 0, False
    if shared:
        shared = client.scatter(list(shared), broadcast=True, hash=False)
    try:
        while True:
            free = [] if failed else _free(client, [at for _, at in running.values()])
            for options in free:
                if (job := next(waiting, None)) is None:
                    break
                # an item goes with its task: a worker that dies loses nothing
                with dask.config.set(
                    {"distributed.admin.large-graph-warning-threshold": "1 PB"}
                ):
                    future = client.submit(
                        _one_item, function, job[1], *shared, pure=False, **options
                    )
                running[future] = job[0], options.get("workers")
                finished.add(future)
            while first in done:
                yield _result(done.pop(first), first)
                first += 1
            if not running:
                return
            future = next(finished)
            done[running.pop(future)[0]] = future
            failed |= future.status != "finished"
    finally:
        if client.status == "running":
            client.cancel([*running, *done.values(), *shared])


def _one_item(function, item, *shared):
    """On the worker: the result, and what was printed."""
    out, err = io.StringIO(), io.StringIO()
    with _alone, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        result = function(item, *shared)
    return result, out.getvalue(), err.getvalue()


def _free(client, taken):
    """Options of ``client.submit`` for every worker that none of ours is at."""
    try:
        workers = client.scheduler_info(n_workers=-1)["workers"]
    except OSError as error:
        raise WorkersError(f"the Dask scheduler was lost: {error}. {AGAIN}") from None
    n_free = max(0, max(1, len(workers)) - len(taken))
    if not workers or not all(SLOT in one["resources"] for one in workers.values()):
        return [{}] * n_free  # Dask chooses one that is idle
    at = {"resources": {SLOT: 1}, "allow_other_workers": True}
    return [at | {"workers": [w]} for w in workers if [w] not in taken][:n_free]


def _result(future, number):
    import distributed

    try:
        result, out, err = future.result()
    except distributed.KilledWorker as error:
        raise WorkersError(
            f"subject or run {number + 1}, in their order: "
            f"{error.allowed_failures + 1} workers died over it, the last at "
            f"{error.last_worker.address}. Expected memory for one of them on each "
            "worker: start workers with more, or fewer on a machine."
        ) from None
    except distributed.CancelledError as error:
        raise WorkersError(
            f"subject or run {number + 1}, in their order, was lost with the workers "
            f"or the scheduler: {error}. {AGAIN}"
        ) from None
    print(out, end="")
    print(err, end="", file=sys.stderr)
    return result
