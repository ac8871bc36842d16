"""One receipt that was exported alone (SPEC section 14)."""

from pef import PAE_ENTRY, canonical, envelope, trust
from run import Lines
from tools import small
from vector import vector


def receipt(
    name,
    about,
    expected,
    *,
    run=None,
    seq=1,
    edit=None,
    raw=None,
    signer=None,
    given=None,
    change=None,
    last=None,
    rows=None,
):
    """The line `seq` of `run`, edited and signed.

    `given` is the key beside it, or `rows` a trust document; `change` alters the envelope, `last` its bytes."""
    run = run or small()
    signer = signer or run.keys.receipt
    line = Lines(run, edit={seq: edit} if edit else None, raw={seq: raw} if raw else None).lines[seq]
    made = envelope(PAE_ENTRY, line, signer)
    data = canonical(change(made) if change else made)
    files = {"receipt.dsse.json": last(data) if last else data}
    if rows is None:
        files["key.pem"] = (given or signer).pem
    vector(name, about, expected, files, trust=None if rows is None else trust(*rows))
