"""Counts how every fault ended, and prints the counts."""

from collections import Counter

import pytest

counts = Counter()
ENDINGS = ("right result", "clear error", "otherwise")


@pytest.fixture
def tally():
    """Count a fault: its kind, how it ended, and why that is not as it should be."""
    wrong = []

    def count(kind, ending, why=""):
        counts[kind, ending] += 1
        if ending == "otherwise":
            wrong.append(f"{kind}: {why}")

    yield count
    assert not wrong, f"{len(wrong)} faults ended otherwise:\n" + "\n".join(wrong[:20])


def pytest_terminal_summary(terminalreporter):
    kinds = sorted({kind for kind, _ in counts})
    if not kinds:
        return
    width = max(map(len, kinds)) + 2
    lines = [f"{'faults put in':{width}}{'':>8}" + "".join(f"{e:>14}" for e in ENDINGS)]
    rows = {kind: [counts[kind, e] for e in ENDINGS] for kind in kinds}
    rows["all"] = [sum(column) for column in zip(*rows.values(), strict=True)]
    for kind, row in rows.items():
        cells = "".join(f"{n:>14}" for n in row)
        lines.append(f"{kind:{width}}{sum(row):>8}{cells}")
    terminalreporter.write_sep("=", "fault campaign")
    terminalreporter.write_line("\n".join(lines))
