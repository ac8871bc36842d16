"""Class forged: key rotations, and bundles that were signed again by other keys."""

from pef import P256, PAE_POSSESSION, b64, canonical, key, pae, trust
from run import ISS, Bundle, Keys, Run, uuid
from tools import tiny
from vector import failed, vector


def forged(name, about, step, reason, seq=None, *, trust=None, **bundle):
    answer = failed(step, reason, seq, anchored="anchor" in bundle)
    vector(f"forged-{name}", about, answer, Bundle(**{"run": tiny(), **bundle}), trust=trust)


# --- Rotation ---


def rotation(
    name, about, use="receipt", step="L11", reason="ROTATION_INVALID", seq=1, new=None, listed=None, **members
):
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
rotation(
    "possession-run",
    "The possession proof is for another run.",
    possession=proven("possession-run", run=uuid("other")),
)
rotation(
    "possession-use",
    "The possession proof is for another use.",
    possession=proven("possession-use", use="manifest"),
)
rotation(
    "possession-by-old", "The possession proof is by the old key.", possession=key("receipt").sign(b"new")
)
rotation("old", "The old key is not the current one.", old=key("receipt", 9))
rotation(
    "new-not-listed",
    "The new receipt key is not in the manifest.",
    listed=lambda made: made.update(
        keys=[row for row in made["keys"] if row["kid"] != key("receipt", 2).kid]
    ),
)
rotation(
    "new-of-other-use",
    "The new receipt key is listed as a manifest key.",
    new=key("manifest", 2),
    listed=lambda made: None,
)

rotation("spki", "key.rotate carries the SPKI of another key.", spki=b64(key("receipt", 3).spki))
rotation("algorithm", "key.rotate states an algorithm that is not the new key's.", alg=P256)
NEW = key("receipt", 2, P256)
possession = {
    "iss": ISS,
    "new": NEW.kid,
    "old": key("receipt").kid,
    "run": uuid("run rotation possession-der"),
    "use": "receipt",
}
rotation(
    "possession-der",
    "The possession proof is in the form that envelopes have.",
    new=NEW,
    possession=NEW.sign_dsse(pae(PAE_POSSESSION, canonical(possession))),
)
run = Run("rotation manifest old")
run.rotate("manifest", key("manifest", 2))
run.rotate("manifest", key("manifest", 3), old=key("manifest"))
forged(
    "rotation-manifest-old",
    "The second rotation of the manifest key names the key before the first.",
    "L11",
    "ROTATION_INVALID",
    2,
    run=run.seal(),
    manifest=lambda made: made["keys"].append(key("manifest", 2).row()),
)

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

# --- Everything again by other keys ---

for case, run, more in (
    ("each", tiny(Keys(5)), {}),
    ("p256", tiny(Keys(5, P256)), {}),
    ("sign-checkpoint", tiny(Keys(5), sign="checkpoint"), {}),
    ("anchored", tiny(Keys(5)), {"anchor": {"before": 3, "after": 2}}),
):
    forged(
        f"all-keys-{case}",
        "The whole bundle was signed again by other keys, which it carries; the reader trusts the real ones.",
        "K1",
        "KEY_UNTRUSTED",
        run=run,
        trust=trust(*Keys().rows()),
        **more,
    )
forged(
    "anchor-key",
    "The anchor is signed by a checkpoint key of the bundle that the reader does not trust.",
    "K1",
    "KEY_UNTRUSTED",
    trust=trust(*Keys().rows()),
    manifest=lambda made: made["keys"].append(key("checkpoint", 9).row()),
    anchor={"before": 1, "after": 1, "note": {"signer": key("checkpoint", 9)}},
)
