#!/usr/bin/env python3
"""What differs between two records, made from spec/diff.md alone, to be held against what others made.

    diff_check.py            checks every vector of spec/diff-vectors.json
    diff_check.py FILE       checks that the digest of a diff is that of its content

Exit code 0 when all is as it says, 2 when something is not. Python 3.9, standard library; nothing is written.
"""

import hashlib
import json
import math
import os
import re
import sys
from decimal import Decimal

SPEC = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
PLACES = (("request",), ("response", "client"), ("response", "upstream"))
NAMES = {"columns": 3, "constraints": 3, "extensions": 1, "functions": 2, "indexes": 3, "namespaces": 1, "policies": 3,
         "relations": 2, "rules": 3, "sequences": 2, "triggers": 3, "types": 2, "views": 2}
TAG = re.compile(r"hmac-sha256:([0-9a-f]{16}):[0-9a-f]{64}\Z")
VALUE_MAX, BODY_MAX, CHANGES_MAX = 16384, 8 << 20, 100000
ABSENT = object()


def number(value):
    """ECMAScript Number::toString, as RFC 8785 asks."""
    value = float(value)
    if value == 0:
        return "0"
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    text, n = "".join(map(str, digits)), len(digits) + exponent
    if len(digits) <= n <= 21:
        out = text + "0" * (n - len(digits))
    elif 0 < n <= 21:
        out = text[:n] + "." + text[n:]
    elif -6 < n <= 0:
        out = "0." + "0" * -n + text
    else:
        out = text[0] + ("." + text[1:] if len(text) > 1 else "") + "e" + ("+" if n > 0 else "-") + str(abs(n - 1))
    return ("-" if sign else "") + out


def canonical(value):
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: name.encode("utf-16-be"))
        return "{" + ",".join(canonical(name) + ":" + canonical(value[name]) for name in names) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, (int, float)):
        return number(value)
    return json.dumps(value, ensure_ascii=False)


def sha256(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def digest(value):
    return sha256(canonical(value).encode())


def pointer(names):
    return "".join("/" + name.replace("~", "~0").replace("/", "~1") for name in names)


def names_of(path):
    return tuple(name.replace("~1", "/").replace("~0", "~") for name in path.split("/")[1:])


class Normalizers:
    def __init__(self, further):
        with open(os.path.join(SPEC, "diff-normalizers.json"), encoding="utf-8") as file:
            default = json.load(file)
        self.paths = sorted(set(default["paths"]) | set(further), key=str.encode)
        self.digest = digest({"format": default["format"], "paths": self.paths})

    def take(self, names, value, found):
        """Takes out of the value at `names` what the paths reach; `found` gets it by path."""
        for path in self.paths:
            pattern = names_of(path)
            above, below = pattern[:len(names)], pattern[len(names):]
            if below and len(above) == len(names) and all(a in ("*", n) for a, n in zip(above, names)):
                self._one(value, below, path, found, ())

    def _one(self, value, names, path, found, at):
        name, rest = names[0], names[1:]
        if isinstance(value, dict):
            lost = False
            for member in list(value) if name == "*" else [name]:
                if member not in value:
                    continue
                if not rest:
                    found.setdefault(path, []).append((at + (member,), canonical(value[member])))
                elif not self._one(value[member], rest, path, found, at + (member,)):
                    continue
                del value[member]
                lost = True
            return lost and not value
        if isinstance(value, list):
            for place in range(len(value)):
                if name not in ("*", str(place)):
                    continue
                if rest:
                    self._one(value[place], rest, path, found, at + (str(place),))
                else:
                    found.setdefault(path, []).append((at + (str(place),), canonical(value[place])))
                    value[place] = None
        return False


def entries_of(kind, items):
    """Names to value, bodies and place."""
    entries, counts, runs = {}, {}, {}
    items = json.loads(json.dumps(items))
    if kind == "schema":
        def below(names, depth, value):
            if depth == 0:
                entries[names] = (value, {}, {})
            else:
                for name in value:
                    below(names + (name,), depth - 1, value[name])
        for part, depth in NAMES.items():
            below((part,), depth, items[0]["parts"][part])
        below(("uncovered",), 1, items[0]["uncovered"])
        return entries
    for line in items:
        before = ()
        if kind == "journal":
            if line["kind"] == "run.open":
                runs[line["run"]] = ("runs", line["class"], line.get("name", ""))
            before = runs[line["run"]]
        bodies, place = {}, {name: line[name] for name in ("call", "hold", "run", "seq", "ts") if name in line}
        if line["kind"] == "call":
            facts = line.get("facts", {})
            subject = ",".join(facts.get("tools_called", [])) if line.get("dialect") == "mcp" else facts.get("model", "")
            like = before + ("calls", line["request"].get("route", ""), line.get("dialect", ""), line["operation"], subject)
            entries[before + ("policies", line["policy"]["hash"])] = (True, {}, {})
            for names in PLACES:
                side = line
                for name in names:
                    side = side.get(name, {})
                if "bytes" in side:
                    bodies[names] = (side["bytes"], side.pop("sha256", None), side.pop("tag", None))
        else:
            like = before + ("events", line["kind"])
        counts[like] = counts.get(like, 0) + 1
        entries[like + ("%06d" % counts[like],)] = (line, bodies, place)
    return entries


def compare(names, one, other, changes):
    if one is ABSENT or other is ABSENT:
        op, value = ("add", other) if one is ABSENT else ("remove", one)
        changes.append((names, op, value, None))
    elif isinstance(one, dict) and isinstance(other, dict):
        for name in set(one) | set(other):
            compare(names + (name,), one.get(name, ABSENT), other.get(name, ABSENT), changes)
    elif isinstance(one, list) and isinstance(other, list):
        for at in range(max(len(one), len(other))):
            element = [side[at] if at < len(side) else ABSENT for side in (one, other)]
            compare(names + (str(at),), element[0], element[1], changes)
    elif canonical(one) != canonical(other):
        changes.append((names, "change", one, other))


class NotExact(Exception):
    pass


def read_body(bodies, name):
    """The JSON of a stored body, or why there is none."""
    order = ("budget", "missing", "too_large", "not_json", "numbers")
    if name not in bodies:
        return None, order.index("missing")
    text = bodies[name]
    if len(text.encode()) > BODY_MAX:
        return None, order.index("too_large")

    def pairs(members):
        if len({name for name, _ in members}) < len(members):
            raise ValueError
        return dict(members)

    def exact(text):
        value = float(text)
        if math.isinf(value):
            raise ValueError
        if Decimal(text) != Decimal(number(value)):
            raise NotExact
        return value

    def refused(_):
        raise ValueError

    try:
        return json.loads(text, object_pairs_hook=pairs, parse_int=exact, parse_float=exact, parse_constant=refused), -1
    except NotExact:
        return None, order.index("numbers")
    except (ValueError, RecursionError):
        return None, order.index("not_json")


def marks(value):
    """Every redacted value's mark."""
    if isinstance(value, list):
        for element in value:
            yield from marks(element)
    elif isinstance(value, dict):
        mark = value.get("$redacted")
        if len(value) == 1 and isinstance(mark, dict):
            yield mark
        else:
            for member in value.values():
                yield from marks(member)


def body(names, above, one, other, stored, normalizers, changes, ignored, opaque):
    """Whether it is known if two bodies differ."""
    keys = [TAG.match(side[2]).group(1) if side[2] and TAG.match(side[2]) else None for side in (one, other)]
    if one[1] and other[1]:
        if one[1] == other[1]:
            return True
        read = [read_body(stored, side[1]) for side in (one, other)]
        causes = [cause for _, cause in read if cause >= 0]
        if causes:
            changes.append((names + ("sha256",), "change", one[1], other[1]))
            opaque.append({"cause": ("budget", "missing", "too_large", "not_json", "numbers")[min(causes)],
                           "path": pointer(names + ("body",))})
            return True
        values, found = [value for value, _ in read], ({}, {})
        for value, into in zip(values, found):
            normalizers.take(names[above:] + ("body",), value, into)
        ignored |= {path for path in set(found[0]) | set(found[1]) if found[0].get(path) != found[1].get(path)}
        tags = [mark["tag"] for value in values for mark in marks(value) if isinstance(mark.get("tag"), str)]
        foreign = len({TAG.match(tag).group(1) if TAG.match(tag) else None for tag in tags}) > 1
        if foreign:
            for value in values:
                for mark in marks(value):
                    mark.pop("tag", None)
        changes[:] = [change for change in changes if change[0] != names + ("bytes",)]
        count = len(changes)
        compare(names + ("body",), values[0], values[1], changes)
        return not foreign or len(changes) > count
    if keys[0] and keys[0] == keys[1]:
        if one[2] != other[2]:
            changes.append((names + ("tag",), "change", one[2], other[2]))
        return True
    return one[0] != other[0] or one[0] == 0


def row(change):
    names, op, one, other = change
    out = {"op": op, "path": pointer(names)}
    for name, value in (("from", one), ("to", other)) if op == "change" else (("value", one),):
        data = canonical(value).encode()
        if len(data) <= VALUE_MAX:
            out[name] = value
        else:
            out[name + "_large"] = {"bytes": len(data), "sha256": sha256(data)}
    return out


def document(kind, one, other, stored, further):
    """The whole document for two lists of lines, or of one schema each."""
    normalizers = Normalizers(further)
    sides = [entries_of(kind, items) for items in (one, other)]
    above = 3 if kind == "journal" else 0
    taken = [{}, {}]
    for side, into in zip(sides, taken):
        for names, entry in side.items():
            normalizers.take(names[above:], entry[0], into.setdefault(names, {}))
    order = lambda names: [name.encode() for name in names]
    counts = {"added": 0, "changed": 0, "equal": 0, "removed": 0}
    known, changes, context, ignored, opaque = [0, 0], [], [], {}, []
    for names in sorted(set(sides[0]) | set(sides[1]), key=order):
        pair = [side.get(names) for side in sides]
        here = []
        if pair[0] is None or pair[1] is None:
            compare(names, pair[0][0] if pair[0] else ABSENT, pair[1][0] if pair[1] else ABSENT, here)
            counts["added" if pair[0] is None else "removed"] += 1
        else:
            found = [into[names] for into in taken]
            passed = {path for path in set(found[0]) | set(found[1]) if found[0].get(path) != found[1].get(path)}
            compare(names, pair[0][0], pair[1][0], here)
            for place in PLACES:
                if place in pair[0][1] and place in pair[1][1]:
                    is_known = body(names + place, above, pair[0][1][place], pair[1][1][place], stored, normalizers,
                                    here, passed, opaque)
                    known[0 if is_known else 1] += 1
            for path in passed:
                ignored[path] = ignored.get(path, 0) + 1
            counts["changed" if here else "equal"] += 1
        if here:
            changes += sorted(here, key=lambda change: order(change[0]))
            place = {"path": pointer(names)}
            place.update({name: entry[2] for name, entry in zip(("from", "to"), pair) if entry is not None})
            context.append(place)
    diff = {"bodies": {"compared": known[0], "unknown": known[1]}, "changes": [row(change) for change in changes[:CHANGES_MAX]],
            "counts": counts, "format": "estoppel-diff/1", "kind": kind, "normalizers": normalizers.digest}
    if len(changes) > CHANGES_MAX:
        diff["left_out"] = len(changes) - CHANGES_MAX
    rows = [{"entries": ignored[path], "path": path} for path in sorted(ignored, key=str.encode)]
    return {"context": {"entries": context, "from": {}, "ignored": rows, "opaque": opaque, "to": {}}, "diff": diff,
            "digest": digest(diff)}


def vectors():
    with open(os.path.join(SPEC, "diff-vectors.json"), encoding="utf-8") as file:
        return json.load(file)["vectors"]


def check(vector):
    """Whether this program makes the same document of a vector."""
    made = document(vector["kind"], vector["from"], vector["to"], vector["bodies"], vector["normalizers"])
    return canonical(made) == canonical(vector["document"])


def main(arguments):
    if arguments:
        with open(arguments[0], "rb") as file:
            text = file.read()
        said = json.loads(text)
        good = said["digest"] == digest(said["diff"]) and canonical(said).encode() == text
        print("ok" if good else "the digest, or the form, is not that of the content")
        return 0 if good else 2
    bad = [vector["name"] for vector in vectors() if not check(vector)]
    print("\n".join("differs: " + name for name in bad) or "ok")
    return 2 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
