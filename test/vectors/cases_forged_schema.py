"""Class forged: lines with members that the schemas refuse."""

from receipts import receipt
from run import Bundle
from tools import dropping, lined, plain, setting, small
from vector import failed, vector

ZERO = "0" * 64


def nested(*path, **members):
    def edit(entry):
        for name in path:
            entry = entry[name]
        entry.update(members)

    return edit


SCHEMA = {
    "unknown-member": ("A member that the schema does not know.", 1, setting(surprise=1)),
    "unknown-kind": ("A kind that no schema defines.", 1, setting(kind="note")),
    "reserved-kind": ("A kind that is reserved for a later minor.", 1, setting(kind="hold")),
    "no-kind": ("A line without kind.", 1, dropping("kind")),
    "version": ("A line of another version.", 1, setting(v="pef/v1")),
    "missing-member": ("A call without its outcome.", 1, dropping("outcome")),
    "prev-at-open": ("run.open with a prev.", 0, setting(prev="leaf:" + ZERO)),
    "hash-upper-case": ("A digest in upper case.", 0, setting(config="sha256:" + "AB" * 32)),
    "seal-without-root": ("A seal without its root.", 3, dropping("root")),
}
CALL_SCHEMA = {
    "unknown-nested-member": ("An unknown member inside verdict.", nested("verdict", surprise=True)),
    "kind-is-a-number": ("A kind that is no string.", setting(kind=1)),
    "prev-missing": ("A call without prev.", dropping("prev")),
    "time-without-fraction": ("A time without six fraction digits.", setting(ts="2026-11-21T04:00:00Z")),
    "negative-count": ("A count below zero.", nested("request", bytes=-1)),
    "attempt-zero": ("An attempt below its minimum.", setting(attempt=0)),
    "attempt-string": ("A number as a string.", setting(attempt="1")),
    "boolean-as-number": ("A boolean where a number belongs.", setting(attempt=True)),
    "empty-name": ("A name of no character.", setting(operation="")),
    "long-name": ("A name of 129 code points.", setting(operation="\U0001f600" * 129)),
    "action": ("A verdict that is none of the four.", nested("verdict", action="permit")),
    "array-for-object": ("An array where an object belongs.", setting(time=[])),
    "pattern-line-feed": (
        "A run id that ends in a line feed.",
        lambda entry: entry.update(run=entry["run"] + "\n"),
    ),
    "too-many-items": ("More items than allowed.", setting(data_class=["a"] * 17)),
}
for case, (about, seq, edit) in SCHEMA.items():
    run = small() if case in ("unknown-nested-member", "missing-member") else plain()
    answer = failed("L4", "LINE_SCHEMA", seq)
    vector(f"forged-schema-{case}", about, answer, Bundle(**lined(run, edit={seq: edit})))
# The rest as receipts alone, which are smaller.
for case, (about, edit) in CALL_SCHEMA.items():
    receipt(f"forged-receipt-schema-{case}", about, failed("L4", "LINE_SCHEMA", 1), edit=edit)
