"""A replay of an altered answer fails at its call, and a replay of nothing fails."""

import json
import zipfile

from scene import BIN, check, limited, post, shown

WHAT = "a replay that replays nothing certifies"
OTHERS = "Clyra-AI/axym at 69b4591, core/replay/replay.go: Run writes pass=true and status certified, whatever it is given"

POLICY = limited("replay")


def alter(bundle, receipt, to):
    """The recorded answer says something else now."""
    name = "bodies/" + receipt["response"]["upstream"]["sha256"].removeprefix("sha256:")
    with zipfile.ZipFile(bundle) as before, zipfile.ZipFile(to, "w") as after:
        check("the answer is in the bundle", name in before.namelist())
        for entry in before.infolist():
            content = before.read(entry)
            after.writestr(entry, content.replace(b"paid", b"open") if entry.filename == name else content)


def certificate(scene, bundle, gateway, name, exit):
    key, _ = scene.key(name)
    words = ["replay", "run", bundle, "--trust", gateway.trust, "--keys", gateway.keys, "--key", key]
    return scene.estoppel(*words, "--out", scene.folder / f"{name}.json", exit=exit)["certificate"]


def of_nothing(scene, bundle, gateway):
    """The call was refused, so no upstream answered, so there is nothing to replay of that side."""
    key, _ = scene.key("nothing")
    words = ["replay", "serve", bundle, "--trust", gateway.trust, "--keys", gateway.keys, "--key", key]
    words += ["--side", "upstream", "--out", scene.folder / "nothing.json", "--until-done"]
    done = scene.command(BIN / "estoppel", "--json", *words, exit=5, timeout=60)
    return json.loads(done.stdout.splitlines()[-1])["data"]["certificate"]


def show(scene):
    gateway = scene.gateway(POLICY, scene.bank())
    check("a refund", post(gateway.url, {"cents": 100}, "paid")[0] == 200)
    check("a refusal", post(gateway.url, {"cents": 90_000}, "refused")[0] == 403)
    paid, refused = gateway.seal("paid"), gateway.seal("refused")
    honest = certificate(scene, paid, gateway, "honest", 0)
    check(f"the replay of what was recorded succeeds: {honest}", honest["status"] == "success")
    receipt = next(entry for entry in scene.estoppel("show", paid)["entries"] if entry["kind"] == "call")
    alter(paid, receipt, scene.folder / "altered.pef.zip")
    altered = certificate(scene, scene.folder / "altered.pef.zip", gateway, "altered", 2)
    check(f"it fails at the call: {altered}", altered["status"] == "failed" and altered["first_divergent_seq"] == receipt["seq"])
    nothing = of_nothing(scene, refused, gateway)
    check(f"nothing is no success: {nothing}", nothing["status"] == "failed" and "NO_STEPS" in nothing["reasons"])
    line = f"seq {receipt['seq']}, call {receipt['call']}: {', '.join(altered['reasons'])}; of nothing: {', '.join(nothing['reasons'])}"
    return "the certificate says failed, both times", line


if __name__ == "__main__":
    shown(WHAT, OTHERS, show)
