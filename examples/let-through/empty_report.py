"""A report about nothing says `no evidence` of every control of every framework, and nothing can be attested."""

from scene import check, shown

WHAT = "a compliance report about nothing says `Compliant`"
OTHERS = "EpykLab/gryt-ci at 51edfca, gryt/compliance.py: five rows `Compliant` that are constant text"


def show(scene):
    empty, (key, _) = scene.folder / "empty", scene.key("auditor")
    empty.mkdir()
    report = scene.estoppel("compliance", "report", "--journal", empty)
    controls = [(one["framework"], control) for one in report["frameworks"] for control in one["controls"]]
    otherwise = [(name, control["id"]) for name, control in controls if control["state"] != "no_evidence"]
    check(f"no evidence, but for {otherwise}", controls and not otherwise)
    words = ["attest", "--framework", "pci-dss-4.0.1", "--journal", empty, "--key", key, "--out", scene.folder / "pci"]
    refused = scene.estoppel(*words, exit=6)
    line = f"{len(controls)} controls of {len(report['frameworks'])} frameworks: no_evidence; attest: {refused['code']}"
    return "no evidence, of every control; nothing is attested", line


if __name__ == "__main__":
    shown(WHAT, OTHERS, show)
