"""Class forged: checkpoint, anchor, key rotations, and what the manifest says of the files."""

from pef import P256, PAE_POSSESSION, b64, canonical, content, key, note, pae, root, sha, sha_hex, trust
from run import ISS, Bundle, Keys, Lines, Run, uuid
from runs import STREAM, etl, externals, language_model, sse
from tools import file, flip, lined, replacing, setting, tiny, without
from vector import failed, vector


def forged(name, about, step, reason, seq=None, *, trust=None, **bundle):
    answer = failed(step, reason, seq, anchored="anchor" in bundle)
    vector(f"forged-{name}", about, answer, Bundle(**{"run": tiny(), **bundle}), trust=trust)


def change(**members):
    """A hook on the arguments of a note."""
    return lambda made: made | members


# --- Checkpoint ----------------------------------------------------------------------------------------

ORIGIN = f"{ISS}/run/{tiny().id}"
ROOT = root(Lines(tiny()).hashes())
TEXT = f"{ORIGIN}\n2\n{b64(ROOT)}\n"

for case, about, text in (
    ("origin", "is of another run", TEXT.replace(tiny().id, uuid("other"))),
    ("origin-instance", "is one of the instance log", TEXT.replace(ORIGIN, ISS)),
    ("size-zero-first", "has a size with a leading zero", TEXT.replace("\n2\n", "\n02\n")),
    ("root-short", "has a root of 31 bytes", TEXT.replace(b64(ROOT), b64(ROOT[:31]))),
    ("fourth-line", "has a fourth line", TEXT + "more\n"),
    ("carriage-return", "ends its lines in CRLF", TEXT.replace("\n", "\r\n")),
):
    forged(f"checkpoint-{case}", f"The checkpoint {about}, and is signed so.", "T1", "CHECKPOINT_MALFORMED",
           checkpoint=change(text=text.encode()))  # fmt: skip
for case, about, how in (
    ("no-line-feed", "does not end in a line feed", lambda data: data[:-1]),
    ("hyphen", "has a hyphen before its signature", lambda data: data.replace("\u2014".encode(), b"-")),
    ("two-signatures", "has two signatures", lambda data: data + data[data.index("\u2014".encode()) :]),
    ("no-signature", "has no signature", lambda data: data[: data.index("\u2014".encode())]),
    ("signature-short", "has a signature that is cut off",
     lambda data: data[: data.rindex(b" ") + 1] + b64(bytes(30)).encode() + b"\n"),
):  # fmt: skip
    forged(f"checkpoint-{case}", f"The checkpoint {about}.", "T1", "CHECKPOINT_MALFORMED", checkpoint_bytes=how)
forged("checkpoint-size", "The checkpoint signs another size.", "T2", "CHECKPOINT_MISMATCH", checkpoint=change(size=1))
forged("checkpoint-root", "The checkpoint signs another root.", "T2", "CHECKPOINT_MISMATCH",
       checkpoint=change(tree_root=flip(ROOT)))  # fmt: skip
forged("checkpoint-root-without-seal", "The checkpoint signs the tree without the seal.", "T2", "CHECKPOINT_MISMATCH",
       checkpoint=change(tree_root=root(Lines(tiny()).hashes()[:1])))  # fmt: skip
for case, about, more in (
    ("bit", "One bit of the checkpoint's signature was flipped.",
     {"signature": flip(key("checkpoint").sign(TEXT.encode()))}),
    ("name", "The checkpoint's signature has another name than the instance.", {"name": "gw.example.org/main/2"}),
    ("id", "The checkpoint's signature has an id that is no key's.", {"key_id": b"\0\1\2\3"}),
    ("id-other-algorithm", "The id is made with another algorithm's byte.",
     {"key_id": sha(f"{ISS}\n\2".encode() + key("checkpoint").public)[:4]}),
    ("unlisted-key", "The checkpoint is signed by a key that the manifest does not list.", {"signer": key("checkpoint", 9)}),
    ("receipt-key", "The checkpoint is signed by the receipt key.", {"signer": key("receipt")}),
    ("signed-without-line-feed", "The signature covers the text without its last line feed.", {"signed": TEXT[:-1].encode()}),
    ("of-other-text", "The signature is that of another checkpoint.", {"signed": TEXT.replace("\n2\n", "\n5\n").encode()}),
):  # fmt: skip
    forged(f"checkpoint-signature-{case}", about, "T3", "CHECKPOINT_SIGNATURE", checkpoint=change(**more))

# --- Anchor ----------------------------------------------------------------------------------------------


def anchored(name, about, step, reason, anchor=None, **more):
    place = {"before": 7, "after": 3, **(anchor or {})}
    forged(f"anchor-{name}", about, step, reason, anchor=place, **more)


for case, about, how in (
    ("header", "has another first line", replacing(b"@v1", b"@v2")),
    ("index-zero-first", "has an index with a leading zero", replacing(b"index 8", b"index 08")),
    ("hash-short", "has a hash of 31 bytes", lambda data: data.replace(data.split(b"\n")[2], b64(bytes(31)).encode())),
    ("no-empty-line", "lacks the empty line before its checkpoint", replacing(f"\n\n{ISS}".encode(), f"\n{ISS}".encode())),
):
    anchored(case, f"The anchor {about}.", "A1", "ANCHOR_MALFORMED", anchor_bytes=how)
anchored("origin", "The anchor's checkpoint is of another log.", "A1", "ANCHOR_MALFORMED",
         {"note": {"origin": "gw.example.org/main/2"}})  # fmt: skip
anchored("index", "The anchor states the index of the entry before the seal.", "A2", "ANCHOR_MISMATCH", {"index": 7})
anchored("index-after-size", "The anchor states an index that the log does not reach.", "A2", "ANCHOR_MISMATCH", {"index": 12})
anchored("root", "The anchor's checkpoint has another root.", "A2", "ANCHOR_MISMATCH", {"note": {"tree_root": bytes(32)}})
anchored("path-bit", "One bit of the anchor's path was flipped.", "A2", "ANCHOR_MISMATCH",
         anchor_bytes=lambda data: data.replace(data.split(b"\n")[2], b64(bytes(32)).encode()))  # fmt: skip
anchored("path-short", "The anchor's path lacks a hash.", "A2", "ANCHOR_MISMATCH",
         anchor_bytes=lambda data: data.replace(data.split(b"\n")[3] + b"\n", b"", 1))  # fmt: skip
anchored("path-long", "The anchor's path has a hash too many.", "A2", "ANCHOR_MISMATCH",
         anchor_bytes=lambda data: data.replace(data.split(b"\n")[2], data.split(b"\n")[2] + b"\n" + b64(bytes(32)).encode(), 1))  # fmt: skip
anchored("signature-bit", "One bit of the signature in the anchor was flipped.", "A3", "ANCHOR_SIGNATURE",
         {"note": {"signature": bytes(64)}})  # fmt: skip
anchored("signature-name", "The signature in the anchor has another name.", "A3", "ANCHOR_SIGNATURE",
         {"note": {"name": "gw.example.org/main/2"}})  # fmt: skip
anchored("signature-key", "The anchor is signed by a key that the manifest does not list.", "A3", "ANCHOR_SIGNATURE",
         {"note": {"signer": key("checkpoint", 9)}})  # fmt: skip

# --- Rotation ----------------------------------------------------------------------------------------------


def rotation(name, about, use="receipt", step="L11", reason="ROTATION_INVALID", seq=1, new=None, listed=None, **members):
    run = Run(f"rotation {name}")
    run.rotate(use, new or key(use, 2), **members)
    run.seal()
    forged(f"rotation-{name}", about, step, reason, seq, run=run, **({"manifest": listed} if listed else {}))


def proven(run_label, **changes):
    """The new key's signature over a statement that differs in one member."""
    statement = {"iss": ISS, "new": key("receipt", 2).kid, "old": key("receipt").kid, "use": "receipt"}
    statement |= {"run": uuid(f"run rotation {run_label}"), **changes}
    return key("receipt", 2).sign(pae(PAE_POSSESSION, canonical(statement)))


rotation("possession-bit", "The possession proof is no signature of the new key.", possession=bytes(64))
rotation("possession-run", "The possession proof is for another run.", possession=proven("possession-run", run=uuid("other")))
rotation("possession-use", "The possession proof is for another use.", possession=proven("possession-use", use="manifest"))
rotation("possession-by-old", "The possession proof is by the old key.", possession=key("receipt").sign(b"new"))
rotation("old", "The old key is not the current one.", old=key("receipt", 9))
rotation("new-not-listed", "The new receipt key is not in the manifest.",
         listed=lambda made: made.update(keys=[row for row in made["keys"] if row["kid"] != key("receipt", 2).kid]))  # fmt: skip
rotation("new-of-other-use", "The new receipt key is listed as a manifest key.", new=key("manifest", 2),
         listed=lambda made: None)  # fmt: skip

for case, about, current in (
    ("not-applied", "The old key signs on after its rotation.", key("receipt")),
    ("too-early", "The new key already signs its own rotation.", key("receipt", 2)),
):
    run = Run(f"rotation {case}")
    run.rotate("receipt", key("receipt", 2))
    run.add("gap", reason="DISK_FULL")
    at = 2 if case == "not-applied" else 1
    run.steps[at] = (run.steps[at][0], current)
    forged(f"rotation-{case}", about, "L8", "KEY_MISMATCH", at, run=run.seal())

# --- Statement, SHA256SUMS and files -------------------------------------------------------------------------

for case, about, how in (
    ("predicate-type", "has another predicateType", setting(predicateType="urn:estoppel:pef:replay:v0")),
    ("type", "is a statement of another version", setting(_type="https://in-toto.io/Statement/v0.1")),
    ("root", "names another root", lambda made: made["predicate"].update(root="root:" + "0" * 64)),
    ("run", "names another run", lambda made: made["predicate"].update(run=uuid("other"))),
    ("size", "names another size", lambda made: made["predicate"].update(size=3)),
    ("predicate-member", "has a further member in its predicate", lambda made: made["predicate"].update(more=1)),
    ("subject-missing", "lacks a subject", lambda made: made["subject"].pop()),
    ("subject-manifest", "lacks the manifest", lambda made: made["subject"].pop(1)),
    ("subject-digest", "has another digest for a file", lambda made: made["subject"][0]["digest"].update(sha256="0" * 64)),
    ("subject-order", "has its subjects in another order", lambda made: made["subject"].reverse()),
    ("member", "has a further member", setting(more=1)),
):  # fmt: skip
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

POLICY_PATH = next(path for path in Bundle(tiny()).files if path.startswith("policy/"))
forged("file-unlisted", "A file that the manifest does not list.", "F2", "FILE_UNLISTED", unlisted=file("notes.txt", b"more"))
forged("file-unlisted-key", "A key file that the manifest does not list.", "F2", "FILE_UNLISTED",
       unlisted=file(key("receipt").path, key("receipt").pem))  # fmt: skip
forged("file-listed-missing", "A file that the manifest lists is not there.", "F2", "FILE_MISSING",
       unlisted=without(POLICY_PATH))  # fmt: skip
forged("file-list-order", "The manifest's list is not sorted.", "F2", "FILE_UNLISTED",
       manifest=lambda made: made["files"].reverse())  # fmt: skip
forged("file-list-twice", "The manifest lists a file twice.", "F2", "FILE_UNLISTED",
       manifest=lambda made: made["files"].insert(1, made["files"][0]))  # fmt: skip
forged("file-bit", "One bit of the policy was flipped.", "F3", "FILE_DIGEST", unlisted=file(POLICY_PATH, flip))
forged("file-size", "The manifest states another size of a file.", "F3", "FILE_DIGEST",
       manifest=lambda made: made["files"][0].update(bytes=1))  # fmt: skip
forged("file-digest", "The manifest states another digest of the checkpoint.", "F3", "FILE_DIGEST",
       manifest=lambda made: made["files"][0].update(sha256="sha256:" + "0" * 64))  # fmt: skip
for folder, name in (("policy", "0" * 64 + ".json"), ("contracts", "1" * 64 + ".json"), ("bodies", "2" * 64)):
    forged(f"file-name-{folder}", f"A file in {folder}/ is not named by its digest.", "F4", "FILE_NAME_DIGEST",
           listed=file(f"{folder}/{name}", b"{}"))  # fmt: skip
forged("file-name-no-digest", "A file in policy/ whose name is no digest.", "F4", "FILE_NAME_DIGEST",
       listed=file("policy/readme.txt", b"{}"))  # fmt: skip
judged = Run("policy missing")
judged.call(1)
judged.call(2, policy={"hash": content(b"nowhere")})
forged("policy-missing", "The policy that judged a call is not in the bundle.", "F4", "POLICY_MISSING", 2, run=judged.seal())

# --- Streams and bodies ----------------------------------------------------------------------------------------


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
forged("stream-absent", "The nodes of a stream are not in the bundle.", "N1", "STREAM_MISMATCH", 1, run=run.seal(),
       listed=without(f"streams/{run.call_id(1)}.nodes"))  # fmt: skip
run = Run("stream digest")
run.call(1, sse=sse(run, run.call_id(1), STREAM, events=3) | {"nodes": "sha256:" + "0" * 64})
forged("stream-digest", "The receipt names another digest of the nodes.", "N1", "STREAM_MISMATCH", 1, run=run.seal())

for side in ("request", "response"):
    run = Run(f"body missing {side}")
    stored = {"bytes": 4, "sha256": content(b"gone")}
    if side == "request":
        run.call(1, body={"mode": "full"}, request=stored | {"method": "PUT"})
    else:
        run.call(1, body={"mode": "full"}, response={"client": {"bytes": 0}, "upstream": stored})
    forged(f"body-missing-{side}", f"The stored {side} body is neither inside nor beside the bundle.", "B1",
           "BODY_MISSING", 1, run=run.seal())  # fmt: skip
extra = externals("external unknown")
extra.externals[sha_hex(b"nobody's")] = b"nobody's"
forged("external-unknown", "The manifest lists an external that no receipt names.", "B1", "EXTERNAL_UNKNOWN", run=extra)

# --- Everything again by other keys --------------------------------------------------------------------------------

for case, run, more in (
    ("each", tiny(Keys(5)), {}),
    ("p256", tiny(Keys(5, P256)), {}),
    ("sign-checkpoint", tiny(Keys(5), sign="checkpoint"), {}),
    ("anchored", tiny(Keys(5)), {"anchor": {"before": 3, "after": 2}}),
):
    forged(f"all-keys-{case}", "The whole bundle was signed again by other keys, which it carries; the reader trusts the real ones.",
           "K1", "KEY_UNTRUSTED", run=run, trust=trust(*Keys().rows()), **more)  # fmt: skip
