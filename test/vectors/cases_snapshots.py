"""Snapshots that came too late for the receipts of their calls: step L15, and the entry that came with minor v0.5."""

from pef import canonical, content
from run import Bundle, Run
from vector import VECTORS, failed, passed, vector

DOCUMENT = content(b'{"format":"estoppel-schema/1"}')
LATE = {"post": {"code": "POST_TIMEOUT"}, "pre": {"digest": DOCUMENT, "lsn": "0/16B6C00"}, "source": "shop"}


class Looked(Run):
    """A run with one call, whose receipt did not wait for the snapshot after it."""

    def __init__(self, label, **snapshot):
        super().__init__("late snapshot " + label)
        self.call(1, snapshot={**LATE, **snapshot})

    def comes(self, call=1, **members):
        stated = {"call": self.call_id(call), "digest": DOCUMENT, "lsn": "0/16B6C50", "source": "shop"}
        self.add("snapshot", **{**stated, **members})
        return self


def good(name, about, run):
    vector(f"valid-{name}", about, passed(), Bundle(run.seal()))


def bad(name, about, run, seq):
    vector(f"forged-{name}", about, failed("L15", "SNAPSHOT_MISMATCH", seq), Bundle(run.seal()))


good("snapshot-late", "What the database looked like came after the receipt.", Looked("a").comes())
unplaced = Looked("b").comes(code="LSN_MISSING")
del unplaced.steps[-1][0]["lsn"]
good("snapshot-late-unplaced", "It came late, and the server did not say where its log was.", unplaced)
good("snapshot-never", "It never came.", Looked("c"))

bad("snapshot-unasked", "The receipt has the snapshot already.", Looked("d", post={"digest": DOCUMENT, "lsn": "0/16B6C10"}).comes(), 2)
bad("snapshot-elsewhere", "The snapshot is of another database.", Looked("e").comes(source="stock"), 2)
bad("snapshot-twice", "Two snapshots came for one call.", Looked("f").comes().comes(), 3)
bad("snapshot-no-call", "No call of that id comes before it.", Looked("g").comes(call=2), 2)
plain = Run("late snapshot h")
plain.call(1)
bad("snapshot-not-looked", "The call was not looked at around.", Looked.comes(plain), 2)


def documents():
    """As cases_approvals.py does: what is published does not change."""
    from cases_schemas import entries, rows

    found = [entry for entry in entries(Looked("schemas").comes().seal()) if entry["kind"] == "snapshot"]
    return b"".join(canonical(row) + b"\n" for row in rows({"snapshot": found[0]}, {}))


VECTORS.setdefault("schemas", {})["journal_event-v0.5.ndjson"] = documents()
