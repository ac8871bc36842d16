"""A reading of spec/generation.md that shares no code with the product, on the published vectors."""

import hashlib
import json
import pathlib
import tomllib

import pytest
import yaml

SPEC = pathlib.Path(__file__).resolve().parents[2] / "spec"
VECTORS = json.loads((SPEC / "generation-vectors.json").read_bytes())["vectors"]
GOOD = [vector for vector in VECTORS if "contract" in vector]


def digest(value):
    """SHA-256 of the canonical form; documents have ASCII names, texts, booleans and whole numbers only."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


def change_digest(document, change):
    steps = {step["id"]: step for step in document["steps"]}
    wanted = {id for id, step in steps.items() if step["proves"] == "all" or change["id"] in step["proves"]}
    while needed := {need for id in wanted for need in steps[id].get("needs", [])} - wanted:
        wanted |= needed
    covered = {
        "change": change,
        "steps": [
            {name: value for name, value in steps[id].items() if name != "proves"}
            for id in sorted(wanted, key=str.encode)
        ],
    }
    policy = document.get("change_policies", {}).get(change["type"])
    return digest(covered if policy is None else covered | {"policy": policy})


def test_there_are_vectors_of_both_kinds():
    assert len(GOOD) >= 4 and len(VECTORS) - len(GOOD) >= 10


@pytest.mark.parametrize("vector", GOOD, ids=lambda vector: vector["name"])
def test_every_digest_is_what_another_program_computes(vector):
    document = (yaml.safe_load if vector["format"] == "yaml" else tomllib.loads)(vector["text"])
    assert digest(document) == vector["contract"]
    changes = {change["id"]: change_digest(document, change) for change in document["changes"]}
    assert changes == vector["changes"]


def test_what_is_written_in_two_ways_is_one_contract():
    digests = {vector["name"]: vector["contract"] for vector in GOOD}
    assert digests["smallest"] == digests["the same in TOML"]
