"""What the cases of class journal share."""

from journal import Journal, short
from vector import failed, vector

RUN, NEXT = short(), short("journal next")
UNSIGNED = short("journal unsigned", sign="checkpoint")


FIRST, SECOND = (f"{index:020}.seg" for index in (0, 2))
NO = {"checkpoint": False}


def bad(name, about, step, reason, index, journal, seq=None, *, trust=None, **files):
    files = journal.files(**files) if isinstance(journal, Journal) else journal
    vector(f"journal-{name}", about, failed(step, reason, seq, index), files, trust=trust)


def two(**changes):
    """Two segments with a run each; `changes` are of the second header."""
    return Journal().lines(RUN).end().open(**changes).lines(NEXT)
