"""Class forged: the statement, SHA256SUMS, files, streams and bodies."""

from pef import content, key, sha_hex
from run import Bundle, Run, uuid
from runs import STREAM, externals, sse
from tools import file, flip, replacing, setting, small, tiny, without
from vector import failed, vector


def forged(name, about, step, reason, seq=None, *, trust=None, **bundle):
    answer = failed(step, reason, seq, anchored="anchor" in bundle)
    vector(f"forged-{name}", about, answer, Bundle(**{"run": tiny(), **bundle}), trust=trust)


# --- Statement, SHA256SUMS and files ---

for case, about, how in (
    ("predicate-type", "has another predicateType", setting(predicateType="urn:estoppel:pef:replay:v0")),
    ("type", "is a statement of another version", setting(_type="https://in-toto.io/Statement/v0.1")),
    ("root", "names another root", lambda made: made["predicate"].update(root="root:" + "0" * 64)),
    ("run", "names another run", lambda made: made["predicate"].update(run=uuid("other"))),
    ("size", "names another size", lambda made: made["predicate"].update(size=3)),
    (
        "predicate-member",
        "has a further member in its predicate",
        lambda made: made["predicate"].update(more=1),
    ),
    ("subject-missing", "lacks a subject", lambda made: made["subject"].pop()),
    ("subject-manifest", "lacks the manifest", lambda made: made["subject"].pop(1)),
    (
        "subject-digest",
        "has another digest for a file",
        lambda made: made["subject"][0]["digest"].update(sha256="0" * 64),
    ),
    ("subject-order", "has its subjects in another order", lambda made: made["subject"].reverse()),
    ("member", "has a further member", setting(more=1)),
):
    forged(f"statement-{case}", f"The signed statement {about}.", "F5", "STATEMENT_MISMATCH", statement=how)

for case, about, how in (
    ("digest", "has another digest", lambda data: flip(data, 0)),
    ("one-space", "has one space in place of two", replacing(b"  ", b" ")),
    ("order", "is in another order", lambda data: b"".join(reversed(data.splitlines(True)))),
    ("missing", "lacks a file", lambda data: b"".join(data.splitlines(True)[1:])),
    ("itself", "lists itself", lambda data: f"{'0' * 64}  SHA256SUMS\n".encode() + data),
    ("no-line-feed", "does not end in a line feed", lambda data: data[:-1]),
):
    forged(f"sums-{case}", f"SHA256SUMS {about}.", "F6", "SUMS_MISMATCH", sums=how)

POLICY_PATH = next(path for path in Bundle(small()).files if path.startswith("policy/"))
forged(
    "file-unlisted",
    "A file that the manifest does not list.",
    "F2",
    "FILE_UNLISTED",
    unlisted=file("notes.txt", b"more"),
)
forged(
    "file-unlisted-key",
    "A key file that the manifest does not list.",
    "F2",
    "FILE_UNLISTED",
    unlisted=file(key("receipt").path, key("receipt").pem),
)
forged(
    "file-listed-missing",
    "A file that the manifest lists is not there.",
    "F2",
    "FILE_MISSING",
    run=small(),
    unlisted=without(POLICY_PATH),
)
forged(
    "file-list-order",
    "The manifest's list is not sorted.",
    "F2",
    "FILE_UNLISTED",
    manifest=lambda made: made["files"].reverse(),
)
forged(
    "file-list-twice",
    "The manifest lists a file twice.",
    "F2",
    "FILE_UNLISTED",
    manifest=lambda made: made["files"].insert(1, made["files"][0]),
)
forged(
    "file-bit",
    "One bit of the policy was flipped.",
    "F3",
    "FILE_DIGEST",
    run=small(),
    unlisted=file(POLICY_PATH, flip),
)
forged(
    "file-size",
    "The manifest states another size of a file.",
    "F3",
    "FILE_DIGEST",
    manifest=lambda made: made["files"][0].update(bytes=1),
)
forged(
    "file-digest",
    "The manifest states another digest of the checkpoint.",
    "F3",
    "FILE_DIGEST",
    manifest=lambda made: made["files"][0].update(sha256="sha256:" + "0" * 64),
)
for folder, name in (("policy", "0" * 64 + ".json"), ("contracts", "1" * 64 + ".json"), ("bodies", "2" * 64)):
    forged(
        f"file-name-{folder}",
        f"A file in {folder}/ is not named by its digest.",
        "F4",
        "FILE_NAME_DIGEST",
        listed=file(f"{folder}/{name}", b"{}"),
    )
forged(
    "file-name-no-digest",
    "A file in policy/ whose name is no digest.",
    "F4",
    "FILE_NAME_DIGEST",
    listed=file("policy/readme.txt", b"{}"),
)
judged = Run("policy missing")
judged.call(1)
judged.call(2, policy={"hash": content(b"nowhere")})
forged(
    "policy-missing",
    "The policy that judged a call is not in the bundle.",
    "F4",
    "POLICY_MISSING",
    2,
    run=judged.seal(),
)

# --- Streams and bodies ---


def streamed(name, about, nodes=None, **members):
    run = Run(f"stream {name}")
    call = run.call_id(1)
    made = sse(run, call, STREAM, events=3) | members
    if nodes is not None:
        run.streams[call] = nodes(run.streams[call])
        made["nodes"] = content(run.streams[call])
    run.call(1, sse=made)
    forged(f"stream-{name}", about, "N1", "STREAM_MISMATCH", 1, run=run.seal())


streamed("root", "The root of a stream is not that of its nodes.", root="root:" + "0" * 64)
streamed("node-bit", "One bit of a stream's nodes was flipped; file and receipt agree.", nodes=flip)
streamed("node-missing", "A node is missing; file and receipt agree.", nodes=lambda data: data[:-32])
streamed("node-cut", "The nodes are no multiple of 32 bytes.", nodes=lambda data: data[:-1])
streamed("units", "A receipt counts a unit too many.", units=5)
streamed("level", "The level is higher than the number of units asks for.", level=1)
run = Run("stream absent")
run.call(1, sse=sse(run, run.call_id(1), STREAM, events=3))
forged(
    "stream-absent",
    "The nodes of a stream are not in the bundle.",
    "N1",
    "STREAM_MISMATCH",
    1,
    run=run.seal(),
    listed=without(f"streams/{run.call_id(1)}.nodes"),
)
run = Run("stream digest")
run.call(1, sse=sse(run, run.call_id(1), STREAM, events=3) | {"nodes": "sha256:" + "0" * 64})
forged(
    "stream-digest",
    "The receipt names another digest of the nodes.",
    "N1",
    "STREAM_MISMATCH",
    1,
    run=run.seal(),
)

run = Run("stream no level")
nodes = sse(run, run.call_id(1), STREAM, events=3)
del nodes["level"]
run.call(1, sse=nodes)
forged(
    "stream-no-level",
    "A receipt names the nodes of a stream, and no level.",
    "N1",
    "STREAM_MISMATCH",
    1,
    run=run.seal(),
)

for side in ("request", "response"):
    run = Run(f"body missing {side}")
    stored = {"bytes": 4, "sha256": content(b"gone")}
    if side == "request":
        run.call(1, body={"mode": "full"}, request=stored | {"method": "PUT"})
    else:
        run.call(1, body={"mode": "full"}, response={"client": {"bytes": 0}, "upstream": stored})
    forged(
        f"body-missing-{side}",
        f"The stored {side} body is neither inside nor beside the bundle.",
        "B1",
        "BODY_MISSING",
        1,
        run=run.seal(),
    )
extra = externals("external unknown")
extra.externals[sha_hex(b"nobody's")] = b"nobody's"
forged(
    "external-unknown",
    "The manifest lists an external that no receipt names.",
    "B1",
    "EXTERNAL_UNKNOWN",
    run=extra,
)
