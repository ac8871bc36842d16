"""Makes the OSCAL copy of an attestation again (spec/attestation.md, Copies). For kit_verify.py; Python 3.9 or later, nothing else."""

import hashlib
import re

SPACE = "urn:estoppel:attestation:v0"
STATES = {"fail": "not-satisfied", "pass": "satisfied"}
VERIFIED = ("anchoring", "authenticity", "completeness", "entry", "found", "integrity", "reason")


def prop(name, value):
    return {"name": name, "ns": SPACE, "value": value}


def token(framework, control):
    plain = lambda text: re.sub(r"[^A-Za-z0-9._-]", "-", text)
    return "_%s_%s" % (plain(framework), plain(control))


class Copy:
    """Of a statement whose file has that digest."""

    def __init__(self, statement, digest):
        self.statement, self.digest, self.predicate = statement, digest, statement["predicate"]
        self.framework = self.predicate["framework"]

    def uuid(self, name):
        digits = bytearray(hashlib.sha256(("%s\n%s" % (self.digest, name)).encode()).digest()[:16])
        digits[6] = digits[6] & 0x0F | 0x50
        digits[8] = digits[8] & 0x3F | 0x80
        text = digits.hex()
        return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))

    def made(self):
        predicate = self.predicate
        title = "%(title)s %(edition)s" % self.framework
        tokens = [token(self.framework["id"], control["id"]) for control in predicate["controls"]]
        pairs = list(zip(predicate["controls"], tokens))
        result = {
            "description": "What sealed bundles show, by the statement that this is a copy of.",
            "observations": self.failed() + [self.observation(*pair) for pair in pairs],
            "reviewed-controls": {"control-selections": [{"include-controls": [{"control-id": name} for name in tokens]}]},
            "start": predicate["made"],
            "title": title,
            "uuid": self.uuid("result"),
        }
        findings = [self.finding(*pair) for pair in pairs if pair[0].get("result") in STATES]
        if findings:
            result["findings"] = findings
        metadata = {
            "last-modified": predicate["made"],
            "oscal-version": "1.1.2",
            "title": "Attestation of evidence: " + title,
            "version": predicate["id"],
        }
        results = {
            "back-matter": {"resources": self.resources()},
            "import-ap": {"href": "#" + self.uuid("statement")},
            "metadata": metadata,
            "results": [result],
            "uuid": self.uuid("assessment-results"),
        }
        return {"assessment-results": results}

    def observation(self, control, name):
        checks = control.get("checks", [])
        props = [prop("label", control["id"]), prop("control", name), prop("state", control.get("result", control["state"]))]
        observation = {
            "collected": self.predicate["made"],
            "description": control["about"],
            "methods": ["TEST" if checks else "EXAMINE"],
            "props": props + [prop("check", "%(check)s: %(result)s" % check) for check in checks],
            "uuid": self.uuid("observation " + control["id"]),
        }
        if control["evidence"]:
            observation["relevant-evidence"] = [
                {
                    "description": "%(count)d %(kind)s" % row,
                    "href": "#" + self.uuid("statement"),
                    "props": [prop("root", row["root"])],
                }
                for row in control["evidence"]
            ]
        return observation

    def finding(self, control, name):
        return {
            "description": control["about"],
            "props": [prop("label", control["id"])],
            "related-observations": [{"observation-uuid": self.uuid("observation " + control["id"])}],
            "target": {"status": {"state": STATES[control["result"]]}, "target-id": name, "type": "objective-id"},
            "title": control["id"],
            "uuid": self.uuid("finding " + control["id"]),
        }

    def failed(self):
        """An observation for each list of custody in which a verification failed."""
        observations = []
        for row in self.predicate.get("custody", []):
            if "failed" not in row:
                continue
            failed, last = row["failed"], row["failed"]["listed"][-1]
            what = last.get("reason", last.get("found", "a verdict is none that passes"))
            said = (failed["count"], row["actions"]["verified"], last["ts"], what)
            evidence = [
                {
                    "description": "Entry of the chain of custody, " + one["ts"],
                    "href": "#" + self.uuid("statement"),
                    "props": [prop(name, one[name]) for name in VERIFIED if name in one],
                }
                for one in failed["listed"]
            ]
            observation = {
                "collected": self.predicate["made"],
                "description": "%d of %d verifications by custodians failed; the last of them %s: %s."
                " The bundle verified when this was made." % said,
                "methods": ["EXAMINE"],
                "props": [prop("run", row["run"]), prop("state", "failed"), prop("last-verification", failed["last"])],
                "relevant-evidence": evidence,
                "title": "Verifications of run %s failed" % row["run"],
                "uuid": self.uuid("failed verifications " + row["run"]),
            }
            observations.append(observation)
        return observations

    def resources(self):
        predicate = self.predicate
        files = [("The signed statement", "attestation.json", self.digest[7:], "statement")]
        for subject in self.statement["subject"]:
            name = subject["name"]
            files.append(("Sealed bundle " + name, name, subject["digest"]["sha256"], name))
        for row in predicate.get("custody", []):
            name = row["run"] + ".pef.zip.custody.ndjson"
            files.append(("Chain of custody " + name, name, row["digest"][7:], name))
        if "archive" in predicate:
            files.append(("Index of the archive", "archive.ndjson", predicate["archive"]["digest"][7:], "archive.ndjson"))
        link = lambda name, digest: [{"hashes": [{"algorithm": "SHA-256", "value": digest}], "href": name}]
        resources = [{"rlinks": link(name, digest), "title": title, "uuid": self.uuid(of)} for title, name, digest, of in files]
        if "ledger" in predicate:
            resources.append(
                {
                    "props": [prop("head", predicate["ledger"]["head"])],
                    "title": "Ledger of releases, by the digest of its heads",
                    "uuid": self.uuid("ledger"),
                }
            )
        return resources
