"""Whether figures can be read."""


def labelled(ax):
    """Axes of which both say what they show: by a label, or by ticks that are words."""
    ax.figure.canvas.draw()
    for axis in (ax.xaxis, ax.yaxis):
        ticks = [tick.get_text() for tick in axis.get_ticklabels()]
        words = any(text.strip("−-.0123456789") for text in ticks)
        assert axis.get_label_text() or words, ticks
    return ax
