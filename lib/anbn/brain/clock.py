"""The clock of the volumes, and from words to it.

The clock counts kept volumes: volume t is at ``first_volume + t tr`` seconds of the
story, and the volumes of a run follow those of the run before it without a gap. So the
times of words go on from run to run: those of run k are counted from its first kept
volume, plus ``first_volume`` and the volumes of all runs before it times ``tr``.

The haemodynamic response takes what happens at a word to the volumes that show it.
"""

import numpy as np
import scipy.sparse

from anbn.brain.hrf import HRF_LENGTH, response_function
from anbn.stats import timeseries

SILENCE = 12.0  # s after the last word that are of the story, too
REACH = 60.0  # s, farther off no clock is looked for
TOLERANCE = 0.025  # of a TR: clocks that differ by less are the same


def alignment_matrix(
    word,
    onset,
    *,
    n_times,
    tr,
    start=0.0,
    hrf="spm",
    pooling="mean",
    token_pooling="mean",
    run_lengths=(),
):
    """Matrix that carries tokens to the BOLD clock: ``responses = H @ activations``.

    Tokens are pooled to words, and the words that begin in the same TR to one value;
    each word acts as an impulse at its onset::

        H[t, k] = h(start + t tr - onset[w]) p[w] q[k]

    with w the word of token k, h the response, p = 1 / (words in the TR of w) and
    q = 1 / (tokens of w) for ``mean``, 1 for ``sum``, and 1 for the last one and 0 for
    others for ``last``.

    Parameters
    ----------
    word : int array of shape (n_tokens,)
        Word of each token; -1 for none.
    onset : array of shape (n_words,)
        s, on the stimulus clock; NaN for a word without time, which is left out.
    n_times : int
    tr : float
        s.
    start : float
        Time of the first kept volume on the stimulus clock (s). Words before it count
        as far as their response reaches into the scan.
    hrf : {"spm", "glover", "none"}
        Response; with ``none`` a word counts in the TR in which it begins.
    pooling, token_pooling : {"mean", "sum", "last"}
        Of the words of a TR, and of the tokens of a word.
    run_lengths : sequence of int
        Volumes of each run that the clock is made of, () for one. The clock goes on
        from run to run, the response does not: a word acts in the run in which it
        begins alone (before the first volume: in the first run).

    Returns
    -------
    H : sparse csr_array of shape (n_times, n_tokens)
    """
    word, onset = np.asarray(word), np.asarray(onset, float)
    if n_times < 1 or tr <= 0:
        raise ValueError(f"expected n_times >= 1 and tr > 0, found {n_times} and {tr}")
    known = np.flatnonzero(word >= 0)
    to_words = scipy.sparse.csr_array(
        (_share(word[known], token_pooling), (word[known], known)),
        shape=(len(onset), len(word)),
    )
    heard = np.isfinite(onset) & np.isin(np.arange(len(onset)), word)
    # rounding keeps words on a TR's border in the same TR whatever the clock's zero
    of_tr = np.floor(np.round((onset[heard] - start) / tr, 9)).astype(int)
    if hrf == "none":
        rows, response = of_tr[None], np.ones((1, len(of_tr)))
    else:
        # volumes from the word on, as many as the response lasts
        rows = of_tr + np.arange(int(HRF_LENGTH / tr) + 2)[:, None]
        response = response_function(np.round(start + rows * tr - onset[heard], 9), hrf)
    runs = timeseries.spans(n_times, run_lengths)
    begin, end = np.array([(run.start, run.stop) for run in runs]).T
    of_run = np.searchsorted(begin[1:], of_tr, side="right")
    weights = response * _share(of_tr, pooling)
    inside = (rows >= begin[of_run]) & (rows < end[of_run]) & (weights != 0)
    columns = np.broadcast_to(np.flatnonzero(heard), rows.shape)
    to_times = scipy.sparse.csr_array(
        (weights[inside], (rows[inside], columns[inside])), shape=(n_times, len(onset))
    )
    return to_times @ to_words


def _share(group, pooling):
    """Weight of each member of a group."""
    _, index, counts = np.unique(group, return_inverse=True, return_counts=True)
    if pooling == "mean":
        return 1.0 / counts[index]
    if pooling == "sum":
        return np.ones(len(index))
    if pooling == "last":
        last = np.full(len(counts), -1)
        last[index] = np.arange(len(index))  # the last assignment stays
        return (last[index] == np.arange(len(index))).astype(float)
    raise ValueError(f"pooling must be mean, sum or last, found {pooling!r}")


def word_rate(onset, *, n_times, tr, start=0.0, hrf="spm", run_lengths=()):
    """Words a second on the BOLD clock, after the haemodynamic response.

    Parameters are those of ``alignment_matrix``.

    Returns
    -------
    rate : array of shape (n_times,)
    """
    times = np.arange(len(onset))
    options = {"n_times": n_times, "tr": tr, "start": start, "hrf": hrf}
    options["run_lengths"] = run_lengths
    H = alignment_matrix(times, onset, **options, pooling="sum")
    return H @ np.ones(len(onset))


class ClockError(ValueError):
    """What is said of the clock in two places does not agree."""


def count_volumes(story_end, *, tr, first_volume, n_volumes=0, run_lengths=()):
    """Kept volumes of the clock.

    Parameters
    ----------
    story_end : float
        s, end of the last word on the story's clock.
    tr, first_volume : float
        s.
    n_volumes : int
        As asked for, 0 for as many as the story and 12 s after it need.
    run_lengths : sequence of int
        Volumes of each run, () for one.

    Returns
    -------
    n_times : int

    Raises
    ------
    ClockError
        Runs that do not add up to ``n_volumes``, or a story that ends before the first
        volume.
    """
    total = sum(run_lengths)
    if run_lengths and n_volumes not in (0, total):
        raise ClockError(
            f"run_lengths {list(run_lengths)} add up to {total} volumes, n_volumes is "
            f"{n_volumes}. Set n_volumes to {total} or 0, or correct run_lengths."
        )
    needed = int(np.ceil((story_end + SILENCE - first_volume) / tr))
    if needed < 1:
        raise ClockError(
            f"first_volume: the first kept volume is at {first_volume:g} s of the "
            f"story, which ends at {story_end:g} s. Lower first_volume."
        )
    return total or n_volumes or needed


def words_after(onset, *, n_times, tr, first_volume):
    """What of a story the volumes do not hold, in a line; empty if they hold it all.

    Parameters
    ----------
    onset : array of shape (n_words,)
        s, on the story's clock; NaN where unknown.
    n_times : int
    tr, first_volume : float
        s.

    Returns
    -------
    line : str
    """
    onset = np.asarray(onset, float)
    end = first_volume + n_times * tr
    n_after = int((onset >= end).sum())
    if not n_after:
        return ""
    return (
        f"{n_after} of {len(onset)} words begin after the last volume, which ends at "
        f"{end:g} s: they are in no response. Is the story longer than the scan, or "
        "n_volumes or run_lengths too short?"
    )


def agreed_runs(of_clock, asked):
    """Run lengths of stage 01, if a later stage asks for none or for the same.

    Raises
    ------
    ClockError
        If the two differ.
    """
    of_clock, asked = ([int(n) for n in lengths] for lengths in (of_clock, asked))
    if asked and asked != of_clock:
        raise ClockError(
            f"run_lengths is {asked} here and {of_clock} in stage 01, where responses "
            "end with their run. Set it in stage 01 alone: the later stages take it "
            "from there."
        )
    return of_clock


def check_start(runs, *, tr, first_volume, cut_start=0, by_events, whole_scans):
    """Whether stage 01 has the first kept volume where the files have it.

    On the scan's clock (seconds from the acquisition of the first volume in the file)
    the first kept volume is at::

        cut_start tr + StartTime

    with StartTime of the JSON file beside a run: fMRIPrep writes there the moment of a
    volume that its slice timing corrects to.

    Parameters
    ----------
    runs : list of bids.Run
    tr, first_volume : float
        s, of stage 01.
    cut_start : int
        Volumes dropped at the beginning.
    by_events : bool
        Whether the word times of stage 01 are those of the scan, by its events.
    whole_scans : bool
        Whether files begin with the scan, as BIDS has it; others may have been cut.

    Returns
    -------
    line : str
        What was compared.

    Raises
    ------
    ClockError
        If both clocks are known and differ, the StartTime is not in ``first_volume``
        (says which ``first_volume`` fits), or runs differ in it.
    """
    tolerance, found = TOLERANCE * tr, set()
    _check_start_times(runs, tr)
    for run in runs:
        start_time = run.start_time
        on_scan = cut_start * tr + (start_time or 0.0)
        found.add(f"{on_scan:g} s")
        if abs(first_volume - on_scan) <= tolerance:
            continue
        where = f"cut_start {cut_start} x tr {tr:g} s"
        if start_time is not None:
            where += f" + StartTime {start_time:g} s of its JSON file"
        if by_events and (whole_scans or cut_start or start_time is not None):
            raise ClockError(
                f"{run.bold}: its first kept volume is at {on_scan:g} s of the scan "
                f"({where}); word times are those of the scan, by the events of stage "
                f"01, which has first_volume {first_volume:g} s. Set first_volume: "
                f"{on_scan:g} there, or correct cut_start. If the files were cut "
                "before, set check_clock: false."
            )
        steps = (first_volume - (start_time or 0.0)) / tr
        if start_time and abs(steps - round(steps)) * tr > tolerance:
            other = ""
            if abs(first_volume + start_time - on_scan) > tolerance:
                other = (
                    f", or {first_volume + start_time:g} if the first kept volume "
                    f"begins at {first_volume:g} s of the story"
                )
            raise ClockError(
                f"{run.bold}: a volume stands for the moment {start_time:g} s after "
                "its beginning (StartTime of its JSON file, after slice timing), and "
                f"first_volume of stage 01, {first_volume:g} s, leaves that out. Set "
                f"first_volume: {on_scan:g} there if word times count from the "
                f"beginning of the scan ({where}){other}. If it is in first_volume "
                "already, set check_clock: false."
            )
    line = (
        f"first kept volume: {first_volume:g} s on the story's clock; "
        f"{', '.join(sorted(found))} on the scan's if files begin with it"
    )
    discarded = max(run.discarded for run in runs)
    if by_events and discarded:
        line += (
            f". {discarded} volumes were discarded before the files were made "
            "(NumberOfVolumesDiscardedByUser): events count from the first volume in "
            "the file, as BIDS has it. If these count from the first one measured, "
            f"first_volume is {first_volume + discarded * tr:g} and check_clock: false"
        )
    return line


def _check_start_times(runs, tr):
    """Refuse runs whose volumes stand for different moments, or for none."""
    low, high = (pick(runs, key=lambda r: r.start_time or 0.0) for pick in (min, max))
    latest = high.start_time or 0.0
    if latest > tr * (1 + TOLERANCE):
        raise ClockError(
            f"{high.bold}: StartTime {latest:g} s of its JSON file is more than a TR "
            f"of {tr:g} s. Is it in ms? Correct the file."
        )
    if latest - (low.start_time or 0.0) > TOLERANCE * tr:
        other = "none" if low.start_time is None else f"{low.start_time:g} s"
        raise ClockError(
            f"{high.bold} has StartTime {latest:g} s in its JSON file, "
            f"{low.bold} has {other}: one first_volume cannot fit both. Expected "
            "runs preprocessed alike: leave one out or correct slice timing in all; "
            "set check_clock: false if a JSON file is wrong."
        )


def best_offset(timecourses, onset, *, n_times, tr, start, hrf, basis, run_lengths=()):
    """Time of the first volume at which the word rate fits time courses best.

    Looked for in steps of half a TR, no farther than 60 s and a quarter of the time.

    Parameters
    ----------
    timecourses : array of shape (n_times, n_networks)
        Without drift.
    onset : array of shape (n_words,)
        s, on the story's clock.
    n_times, tr, start, hrf, run_lengths
        As for ``regressors.story_regressors``.
    basis : array of shape (n_times, n_kept)
        Drift, which the word rate loses, too.

    Returns
    -------
    start : float
        s, the ``first_volume`` that fits best.
    r : float
        Largest |r| of any network there.
    r_now : float
        The same at the clock as it is.
    """
    z = timeseries.zscore(np.asarray(timecourses, float))
    steps = int(2 * min(REACH, n_times * tr / 4) / tr)
    starts = start + tr / 2 * np.arange(-steps, steps + 1)
    clock = {"n_times": n_times, "tr": tr, "hrf": hrf, "run_lengths": run_lengths}
    r = np.zeros(len(starts))
    for i, at in enumerate(starts):
        rate = word_rate(onset, start=at, **clock)
        rate = timeseries.zscore(timeseries.residuals(rate, basis))
        r[i] = np.abs(z.T @ rate / n_times).max()
    best = r.argmax()
    return float(starts[best]), float(r[best]), float(r[steps])


def offset_line(start, best, r, r_now, n_times, tr):
    """What ``best_offset`` found, in a line; a question where another clock fits.

    Parameters
    ----------
    start : float
        s, ``first_volume`` as it is.
    best, r, r_now : float
        From ``best_offset``.
    n_times : int
        Few volumes fit many clocks by chance.
    tr : float
        s; a clock fits if no better one is farther off.
    """
    if r < 4 / np.sqrt(n_times):
        return f"no network follows the word rate (|r| up to {r:.2f}): unknown clock"
    gain = np.arctanh(min(r, 0.9999)) - np.arctanh(min(r_now, 0.9999))
    if abs(best - start) <= tr * (1 + TOLERANCE) and gain < 3 / np.sqrt(n_times):
        return f"word rate fits the clock: |r| = {r_now:.2f}, elsewhere {r:.2f} at most"
    way = "later" if best > start else "earlier"
    if gain < 3 / np.sqrt(n_times):
        return (
            f"word rate fits {abs(best - start):g} s {way} about as well "
            f"(|r| = {r:.2f} for {r_now:.2f}): the clock cannot be told from it"
        )
    return (
        f"word rate fits best {abs(best - start):g} s {way} (|r| = {r:.2f} for "
        f"{r_now:.2f}): is first_volume {best:g}?"
    )
