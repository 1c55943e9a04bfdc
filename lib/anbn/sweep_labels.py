"""What stands on the figures of a sweep: titles, names, units."""

import re
import textwrap

from anbn import params, readable, sweep_table


def title(name, table):
    """What a figure shows, of how many points, and whether the data is simulated."""
    ran = sweep_table.done(table)
    counted = int(ran[name].notna().sum())
    what = readable.summary_name(name.split(":")[1])
    text = f"{what} (stage {name[:2]}), {counted} of {len(table)} points"
    return text + simulated(ran)


def simulated(ran):
    """For a title: whether points that ran used simulated data."""
    flags = ran["simulated"].astype(bool) if "simulated" in ran else ran["status"] == ""
    if not flags.any():
        return ""
    return ", " + "partly " * (not flags.all()) + "simulated BOLD"


def axis_label(column):
    """A parameter's name, its stage, and its unit where its comment begins with one."""
    stage, _, name = column.rpartition(".")
    if not stage:
        return name
    try:
        comment = params.declared(stage)[name].comment
    except (OSError, KeyError, params.ParamError):
        comment = ""
    unit = re.match(r"(s|mm|Hz|volumes)\b", comment)
    return f"{name}{f' ({unit[1]})' if unit else ''}, stage {stage[:2]}"


def unit(outcome):
    """What a summary number counts, for its axis."""
    name = outcome.split(":")[1]
    for pattern, text in (
        (r"ppl|perplexity", "perplexity"),
        (r"_significant_neurons", "neurons"),
        (r"encoding_r|_r_|synchrony|isc|ceiling|fwe", "correlation (r)"),
        (r"networks", "networks"),
        (r"^n_", "number"),
        (r"frac|share|recall|variance|accuracy|^sg_|cut", "share"),
    ):
        if re.search(pattern, name):
            return text
    return "value"


def short(values, width=22):
    """Text values as they fit on an axis: long ones broken, their end kept."""
    texts = [str(v).removeprefix("package:").removesuffix("/model") for v in values]
    ends = [t if len(t) <= 2 * width else "…" + t[-2 * width :] for t in texts]
    ends = ends if len(set(ends)) == len(set(texts)) else texts
    marked = [re.sub(r"(?<=[/_.,-])", "\0", t) for t in ends]  # may break there
    lines = [textwrap.wrap(t.replace("\0", "\0 "), width) for t in marked]
    joined = ["\n".join(x).replace("\0 ", "").replace("\0", "") for x in lines]
    return dict(zip(values, joined, strict=True))
