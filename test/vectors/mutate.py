"""Evidence in which one JSON member was replaced, with every hash and signature around it made again."""

import json

from journal import Journal, short
from pef import PAE_ENTRY, canonical, envelope, key, trust
from run import Bundle, Keys, Lines, Run
from runs import etl, language_model
from tools import small

#: What may stand in the place of any value, as text.
VALUES = (
    "{}", "[]", "null", "true", "false", '""', '"x"', "0", "1", "-1", "-0", "1.5", "1e3", "01",
    "9007199254740991", "-9007199254740991", "9007199254740992", "9" * 400, '"' + "9" * 30 + '"',
    "[" * 31 + "]" * 31, "[" * 40 + "]" * 40, '{"a":' * 40 + "1" + "}" * 40,
    '"\\ud800"', '"\\udc00\\ud800"', '"\ufffe"', '"\\u0000"', '"\\u007f"', '"\u00e9"', '"\u2028"',
    '{"__proto__":1}', '{"constructor":{}}', '{"toString":1,"valueOf":1}', '[{"seq":0}]', '[[],{}]',
    '"' + "x" * 200 + '"', '"' + "x" * 17000 + '"', "tru", '"', "",
)  # fmt: skip
NAMES = ("__proto__", "constructor", "toString", "length", "", "\u00e9", "ext", "v", "kind", "seq")
MARK = "@@here@@"


def paths(value, before=()):
    """The place of every value below the top."""
    rows = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, below in rows:
        yield (*before, name)
        yield from paths(below, (*before, name))


def replaced(document, path, text):
    """Canonical bytes of the document, but for the value at `path`, which is `text`."""
    top = json.loads(document)
    at = top
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = MARK
    return canonical(top).replace(f'"{MARK}"'.encode(), text.encode("utf-8", "surrogatepass"), 1)


def renamed(document, path, name):
    """… with one member under another name."""
    top = json.loads(document)
    at = top
    for step in path[:-1]:
        at = at[step]
    if not isinstance(at, dict) or name in at:
        return document
    at[name] = at.pop(path[-1])
    return canonical(top)


def dropped(document, path):
    top = json.loads(document)
    at = top
    for step in path[:-1]:
        at = at[step]
    del at[path[-1]]
    return canonical(top)


def changed(document, rng):
    """One random change; says which."""
    path = rng.choice(list(paths(json.loads(document))))
    kind = rng.random()
    if kind < 0.8:
        text = rng.choice(VALUES)
        return replaced(document, path, text), f"{path} = {text[:40]}"
    if kind < 0.9:
        name = rng.choice(NAMES)
        return renamed(document, path, name), f"{path} is called {name!r}"
    return dropped(document, path), f"{path} is absent"


def case(rng):
    """A place, what was changed there, and the files of the folder that comes of it."""
    place, said = rng.choice(list(PLACES)), []

    def change(document):
        made, what = changed(document, rng)
        said.append(what)
        return made

    return place, said, PLACES[place](change)


# --- what is changed: each gives the files of a folder for `change`, a function of bytes ---


def receipt_line(run, seq):
    def make(change):
        signer = run.keys.receipt
        line = change(Lines(run).lines[seq])
        return {"receipt.dsse.json": canonical(envelope(PAE_ENTRY, line, signer)), "key.pem": signer.pem}

    return make


def receipt_envelope(change):
    run = small()
    made = canonical(envelope(PAE_ENTRY, Lines(run).lines[1], run.keys.receipt))
    return {"receipt.dsse.json": change(made), "key.pem": run.keys.receipt.pem}


def receipt_trust(change):
    run = small()
    made = canonical(envelope(PAE_ENTRY, Lines(run).lines[1], run.keys.receipt))
    return {"receipt.dsse.json": made, "trust.json": change(trust(*Keys().rows()))}


def bundle(run, **hooks):
    files = {"bundle.pef.zip": (made := Bundle(run, **hooks)).zip()}
    return files | {f"bundle.pef.zip.d/{path}": data for path, data in made.externals.items()}


def bundle_line(run, seq):
    return lambda change: bundle(run(), lines=Lines(run(), raw={seq: change}))


def hooked(hook, **more):
    return lambda change: bundle(small(), **{hook: change, **more})


def bundle_trust(change):
    return bundle(small()) | {"trust.json": change(trust(*Keys().rows()))}


def journal_line(run, seq, sign="each"):
    def make(change):
        made = run()
        return Journal().lines(made, lines=Lines(made, raw={seq: change})).checkpoint().files()

    return make


def journal_trust(change):
    files = Journal().lines(short()).files()
    return files | {"journal/trust.json": change(files["journal/trust.json"])}


def turned():
    run = Run("mutated rotation")
    run.rotate("receipt", key("receipt", 2))
    run.rotate("checkpoint", key("checkpoint", 2))
    return run.seal()


PLACES = {
    "receipt: open": receipt_line(small(), 0),
    "receipt: call": receipt_line(small(), 1),
    "receipt: chat": receipt_line(language_model("mutated"), 1),
    "receipt: etl": receipt_line(etl("mutated"), 2),
    "receipt: seal": receipt_line(small(), 3),
    "receipt: rotation": receipt_line(turned(), 1),
    "receipt: envelope": receipt_envelope,
    "receipt: trust": receipt_trust,
    "bundle: open": bundle_line(small, 0),
    "bundle: call": bundle_line(small, 1),
    "bundle: gap": bundle_line(small, 2),
    "bundle: seal": bundle_line(small, 3),
    "bundle: rotation": bundle_line(turned, 1),
    "bundle: manifest": hooked("manifest_bytes"),
    "bundle: payload": hooked("payload"),
    "bundle: envelope": hooked("envelope_bytes"),
    "bundle: trust": bundle_trust,
    "journal: open": journal_line(short, 0),
    "journal: seal": journal_line(short, 1),
    "journal: rotation": journal_line(turned, 2),
    "journal: trust": journal_trust,
}
