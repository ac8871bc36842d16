#!/usr/bin/env python3
"""Verify a PEF bundle, a journal or one receipt with nothing but Python (3.9 or later).

    pef_verify.py [--trust FILE] [--key FILE] [--schemas DIR] [--json] PATH

PATH is a .pef.zip, a bundle directory, a journal directory, or (with --key) a receipt envelope.
Exit codes: 0 verified, 2 refused, 6 unreadable input or bad arguments.

This is written from SPEC.md and the schemas alone and shares no code with any other verifier. It
uses the standard library for SHA-2, CRC-32, base64 and files; JSON, JCS, schemas, Ed25519, P-256,
RFC 6962, notes, DSSE, ZIP and segments are below. It never writes anything.
"""

import base64
import binascii
import hashlib
import json  # for the schemas and for printing; evidence is read by `admit`
import mmap
import os
import re
import stat
import struct
import sys
import zlib

__all__ = ["verify_path", "main"]

LINE_MAX = 16384
MANIFEST_MAX = 64 * 1024 * 1024
DEPTH_MAX = 32
INTEGER_MAX = 2**53 - 1
CONTAINER_MAX = 2**32 - 1
CONTAINER_ENTRIES_MAX = 65534
STREAM_NODES_MAX = 65536
CLAIMS_MAX = 16
PATH_MAX = 200

TYPE_ENTRY = "application/vnd.estoppel.pef.entry.v0+json"
TYPE_STATEMENT = "application/vnd.in-toto+json"
TYPE_POSSESSION = "application/vnd.estoppel.pef.possession.v0+json"

ED25519 = "ed25519"
P256 = "ecdsa-p256-sha256"


class Refusal(Exception):
    """A step of the specification that failed."""

    def __init__(self, code, detail, seq=None, index=None):
        super().__init__(code)
        self.code = code
        self.detail = detail
        self.seq = seq
        self.index = index


class Unreadable(Exception):
    """Exit code 6: nothing was decided about the evidence."""

    def __init__(self, detail, code="FILE_UNREADABLE"):
        super().__init__(detail)
        self.code = code
        self.detail = detail


# --- JSON: admission and canonical form (section 1) -------------------------------------------


class Malformed(Exception):
    pass


_SPACE = re.compile(r"[ \t\n\r]*")
_PLAIN = re.compile(r'[^"\\\x00-\x1f]*')
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
_HEX4 = re.compile(r"[0-9A-Fa-f]{4}")
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_NONCHARACTER = re.compile(
    "[\ufdd0-\ufdef" + "".join(chr(p * 0x10000 + e) for p in range(17) for e in (0xFFFE, 0xFFFF)) + "]"
)


def admit(data):
    """Bytes of one evidence document -> its object. Raises Malformed."""
    if data[:3] == b"\xef\xbb\xbf":
        raise Malformed("it begins with a byte order mark")
    try:
        text = str(data, "utf-8", "strict")
    except UnicodeDecodeError:
        raise Malformed("it is not UTF-8") from None
    if _NONCHARACTER.search(text):
        raise Malformed("it holds a Unicode noncharacter")
    at = _SPACE.match(text).end()
    if text[at : at + 1] != "{":
        raise Malformed("it is not a JSON object")
    value, at = _value(text, at, 0)
    if _SPACE.match(text, at).end() != len(text):
        raise Malformed("something follows the JSON value")
    return value


def _value(text, at, depth):
    c = text[at : at + 1]
    if c == '"':
        return _string(text, at)
    if c == "{":
        return _object(text, at, depth + 1)
    if c == "[":
        return _array(text, at, depth + 1)
    if c == "t" and text.startswith("true", at):
        return True, at + 4
    if c == "f" and text.startswith("false", at):
        return False, at + 5
    if c == "n" and text.startswith("null", at):
        raise Malformed("it holds null")
    found = _INTEGER.match(text, at)
    if not found:
        raise Malformed("it is not JSON")
    token = found.group()
    if text[found.end() : found.end() + 1] in (".", "e", "E"):
        raise Malformed("it holds a number with a fraction or an exponent")
    if token == "-0" or len(token) > 17 or not -INTEGER_MAX <= int(token) <= INTEGER_MAX:
        raise Malformed("it holds a number that is not allowed")
    return int(token), found.end()


def _string(text, at):
    """`at` is at the opening quote. -> (string, position after the closing quote)"""
    end = _PLAIN.match(text, at + 1).end()
    if text[end : end + 1] == '"':
        return text[at + 1 : end], end + 1
    parts = []
    at += 1
    while True:
        end = _PLAIN.match(text, at).end()
        parts.append(text[at:end])
        c = text[end : end + 1]
        if c == '"':
            break
        if c != "\\":
            raise Malformed("a string is not ended, or holds a bare control character")
        at = end + 2
        c = text[end + 1 : at]
        if c == "u":
            unit, at = _unit(text, at)
            if 0xDC00 <= unit <= 0xDFFF:
                raise Malformed("an escape names half of a surrogate pair")
            if 0xD800 <= unit <= 0xDBFF:
                if text[at : at + 2] != "\\u":
                    raise Malformed("an escape names half of a surrogate pair")
                low, at = _unit(text, at + 2)
                if not 0xDC00 <= low <= 0xDFFF:
                    raise Malformed("an escape names half of a surrogate pair")
                unit = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00)
            if 0xFDD0 <= unit <= 0xFDEF or unit & 0xFFFE == 0xFFFE:
                raise Malformed("it holds a Unicode noncharacter")
            parts.append(chr(unit))
        elif c in _ESCAPES:
            parts.append(_ESCAPES[c])
        else:
            raise Malformed("a string holds an unknown escape")
    return "".join(parts), end + 1


def _unit(text, at):
    if not _HEX4.match(text, at):
        raise Malformed("a string holds a broken \\u escape")
    return int(text[at : at + 4], 16), at + 4


def _object(text, at, depth):
    if depth > DEPTH_MAX:
        raise Malformed("it is nested too deeply")
    members = {}
    at = _SPACE.match(text, at + 1).end()
    if text[at : at + 1] == "}":
        return members, at + 1
    while True:
        if text[at : at + 1] != '"':
            raise Malformed("a member name is not a string")
        name, at = _string(text, at)
        if name in members:
            raise Malformed("a member name comes twice")
        at = _SPACE.match(text, at).end()
        if text[at : at + 1] != ":":
            raise Malformed("a member has no value")
        members[name], at = _value(text, _SPACE.match(text, at + 1).end(), depth)
        at = _SPACE.match(text, at).end()
        c = text[at : at + 1]
        if c == "}":
            return members, at + 1
        if c != ",":
            raise Malformed("an object is not ended")
        at = _SPACE.match(text, at + 1).end()


def _array(text, at, depth):
    if depth > DEPTH_MAX:
        raise Malformed("it is nested too deeply")
    items = []
    at = _SPACE.match(text, at + 1).end()
    if text[at : at + 1] == "]":
        return items, at + 1
    while True:
        item, at = _value(text, at, depth)
        items.append(item)
        at = _SPACE.match(text, at).end()
        c = text[at : at + 1]
        if c == "]":
            return items, at + 1
        if c != ",":
            raise Malformed("an array is not ended")
        at = _SPACE.match(text, at + 1).end()


_MUST_ESCAPE = re.compile(r'["\\\x00-\x1f]')
_SHORT = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}


def _escape(found):
    c = found.group()
    return _SHORT.get(c) or "\\u%04x" % ord(c)


def _utf16(name):
    return name.encode("utf-16-be")


def _write(value, out):
    kind = type(value)
    if kind is str:
        out.append('"' + _MUST_ESCAPE.sub(_escape, value) + '"')
    elif kind is dict:
        names = sorted(value) if all(map(str.isascii, value)) else sorted(value, key=_utf16)
        mark = "{"
        for name in names:
            out.append(mark + '"' + _MUST_ESCAPE.sub(_escape, name) + '":')
            _write(value[name], out)
            mark = ","
        out.append("}" if names else "{}")
    elif kind is list:
        mark = "["
        for item in value:
            out.append(mark)
            _write(item, out)
            mark = ","
        out.append("]" if value else "[]")
    elif kind is bool:
        out.append("true" if value else "false")
    else:
        out.append(str(value))


def canonical(value):
    """The RFC 8785 serialization of an admitted value."""
    out = []
    _write(value, out)
    return "".join(out).encode("utf-8")


# --- base64 (RFC 4648 section 4, strict) ------------------------------------------------------

_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


def unbase64(text):
    """-> bytes, or None when the text is not strict base64."""
    if not _BASE64.fullmatch(text):
        return None
    data = binascii.a2b_base64(text)
    return data if base64.b64encode(data).decode("ascii") == text else None


# --- JSON Schema, the subset of section 1 -----------------------------------------------------

_ANNOTATIONS = {"$schema", "$id", "$defs", "title", "description"}
_TYPES = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}


def _same(a, b):
    """JSON equality: Python's True is not 1."""
    return type(a) is type(b) and a == b


class Schema:
    """A schema compiled to closures; `error(value)` is None or says what is wrong."""

    def __init__(self, document):
        self._defs = document.get("$defs", {})
        self._compiled = {}
        self.kinds = frozenset(s["$ref"][len("#/$defs/") :] for s in document.get("oneOf", ()))
        if not self.kinds:
            self.error = self._compile(document)

    def definition(self, name):
        if name not in self._compiled:
            self._compiled[name] = self._compile(self._defs[name])
        return self._compiled[name]

    def _compile(self, schema):
        checks = [
            getattr(self, "_kw_" + word.lstrip("$"))(value, schema)
            for word, value in schema.items()
            if word not in _ANNOTATIONS and word not in ("properties", "required")
        ]
        if "properties" in schema or "required" in schema:
            checks.append(self._members(schema))
        checks = [check for check in checks if check]
        if len(checks) == 1:
            return checks[0]

        def check_all(value):
            for check in checks:
                wrong = check(value)
                if wrong:
                    return wrong
            return None

        return check_all

    def _kw_ref(self, value, _schema):
        name = value[len("#/$defs/") :]
        self._defs[name]  # a dangling reference is found at once
        return lambda v: self.definition(name)(v)

    def _kw_type(self, name, _schema):
        wanted = _TYPES[name]
        return lambda v: None if type(v) is wanted else "it is not of type " + name

    def _kw_const(self, value, _schema):
        return lambda v: None if _same(v, value) else "it is not %r" % (value,)

    def _kw_enum(self, values, _schema):
        return lambda v: None if any(_same(v, e) for e in values) else "it is none of the allowed values"

    def _kw_pattern(self, pattern, _schema):
        if pattern[:1] != "^" or pattern[-1:] != "$":
            raise ValueError("a pattern is not anchored")
        match = re.compile(pattern[1:-1]).fullmatch
        return lambda v: None if type(v) is not str or match(v) else "it does not match " + pattern

    def _kw_minLength(self, n, _schema):
        return lambda v: "it is too short" if type(v) is str and len(v) < n else None

    def _kw_maxLength(self, n, _schema):
        return lambda v: "it is too long" if type(v) is str and len(v) > n else None

    def _kw_minimum(self, n, _schema):
        return lambda v: "it is below %d" % n if type(v) is int and v < n else None

    def _kw_maximum(self, n, _schema):
        return lambda v: "it is above %d" % n if type(v) is int and v > n else None

    def _kw_minItems(self, n, _schema):
        return lambda v: "it has too few items" if type(v) is list and len(v) < n else None

    def _kw_maxItems(self, n, _schema):
        return lambda v: "it has too many items" if type(v) is list and len(v) > n else None

    def _kw_uniqueItems(self, wanted, _schema):
        def check(v):
            if wanted and type(v) is list and len({canonical([item]) for item in v}) != len(v):
                return "it has equal items"
            return None

        return check

    def _kw_items(self, schema, _schema):
        check = self._compile(schema)

        def check_items(v):
            if type(v) is list:
                for i, item in enumerate(v):
                    wrong = check(item)
                    if wrong:
                        return "[%d]: %s" % (i, wrong)
            return None

        return check_items

    def _kw_additionalProperties(self, allowed, schema):
        if allowed is True:
            return None
        known = schema.get("properties", {})
        other = None if allowed is False else self._compile(allowed)

        def check(v):
            if type(v) is dict:
                for name in v:
                    if name not in known:
                        if other is None:
                            return "it has the unknown member %s" % _shown(name)
                        wrong = other(v[name])
                        if wrong:
                            return "%s: %s" % (_shown(name), wrong)
            return None

        return check

    def _members(self, schema):
        known = [(name, self._compile(s)) for name, s in schema.get("properties", {}).items()]
        required = schema.get("required", ())

        def check(v):
            if type(v) is not dict:
                return None
            for name in required:
                if name not in v:
                    return "%s is missing" % name
            for name, of in known:
                if name in v:
                    wrong = of(v[name])
                    if wrong:
                        return "%s: %s" % (name, wrong)
            return None

        return check


def _shown(text, most=60):
    """Foreign text made safe for a terminal."""
    text = text if len(text) <= most else text[:most] + "..."
    return text.encode("unicode_escape").decode("ascii")


class Schemas:
    NAMES = ("receipt", "journal_event", "manifest", "trust", "signature")

    def __init__(self, folder):
        for name in self.NAMES:
            path = os.path.join(folder, name + ".schema.json")
            try:
                with open(path, "rb") as file:
                    setattr(self, name, Schema(json.loads(file.read())))
            except OSError as error:
                raise Unreadable("schema %s: %s" % (path, error.strerror)) from None
            except (ValueError, KeyError, AttributeError, TypeError, re.error, RecursionError):
                raise Unreadable("schema %s cannot be used" % path) from None

    def entry_error(self, entry):
        """Section 4: receipts by receipt.schema.json, all other kinds by their definition."""
        kind = entry.get("kind")
        if kind == "call":
            return self.receipt.error(entry)
        if type(kind) is str and kind in self.journal_event.kinds:
            return self.journal_event.definition(kind)(entry)
        return "its kind is unknown to this verifier"


def find_schemas(folder=None):
    if folder is not None:
        return Schemas(folder)
    here = os.path.dirname(os.path.abspath(__file__))
    beside = os.path.join(here, "schemas")
    if os.path.isdir(beside):
        return Schemas(beside)
    return Schemas(os.path.join(here, "..", "..", "pef", "schemas"))


# --- Ed25519 (RFC 8032), strict verification (section 3) --------------------------------------
#
# Every key's multiples are tabulated once (64 windows of 4 bits), so that [S]B - [k]A takes at most
# 128 additions and no doublings. Nothing here is secret, so nothing is constant in time.

_P = 2**255 - 19
_L = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, _P) % _P
_D2 = 2 * _D % _P
_SQRT_M1 = pow(2, (_P - 1) // 4, _P)
_IDENTITY = (0, 1, 1, 0)  # X, Y, Z, T with x = X/Z, y = Y/Z, xy = T/Z


def _ed_add(p, q):
    """RFC 8032 section 5.1.4; complete, so it also doubles."""
    a = (p[1] - p[0]) * (q[1] - q[0]) % _P
    b = (p[1] + p[0]) * (q[1] + q[0]) % _P
    c = p[3] * q[3] % _P * _D2 % _P
    d = 2 * p[2] * q[2] % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _ed_decode(data):
    """32 bytes -> (x, y), or None when they are not the canonical encoding of a point."""
    y = int.from_bytes(data, "little")
    sign = y >> 255
    y &= 2**255 - 1
    if y >= _P:
        return None
    u, v = (y * y - 1) % _P, (_D * y * y + 1) % _P
    x = u * pow(v, 3, _P) * pow(u * pow(v, 7, _P), (_P - 5) // 8, _P) % _P
    square = v * x * x % _P
    if square == (-u) % _P:
        x = x * _SQRT_M1 % _P
    elif square != u:
        return None
    if x == 0 and sign:
        return None
    return (_P - x if x & 1 != sign else x), y


def _ed_encode(p):
    z = pow(p[2], -1, _P)
    x, y = p[0] * z % _P, p[1] * z % _P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _ed_small_order(point):
    p = (point[0], point[1], 1, point[0] * point[1] % _P)
    for _ in range(3):
        p = _ed_add(p, p)
    return p[0] == 0 and p[1] == p[2]


def _inverses(values, modulus):
    """All inverses for the price of one."""
    partial, product = [], 1
    for value in values:
        partial.append(product)
        product = product * value % modulus
    inverse = pow(product, -1, modulus)
    out = [0] * len(values)
    for i in range(len(values) - 1, -1, -1):
        out[i] = inverse * partial[i] % modulus
        inverse = inverse * values[i] % modulus
    return out


def _ed_table(point):
    """table[16 * i + j] = [j * 16^i] point as (y + x, y - x, 2dxy)."""
    step = (point[0], point[1], 1, point[0] * point[1] % _P)
    points = []
    for _ in range(64):
        multiple = _IDENTITY
        for _ in range(16):
            points.append(multiple)
            multiple = _ed_add(multiple, step)
        step = multiple
    table = []
    for p, z in zip(points, _inverses([p[2] for p in points], _P)):
        x, y = p[0] * z % _P, p[1] * z % _P
        table.append(((y + x) % _P, (y - x) % _P, x * y % _P * _D2 % _P))
    return table


def _ed_sum(acc, table, scalar):
    """acc + [scalar] point, with the point's table."""
    x, y, z, t = acc
    p, at = _P, 0
    while scalar:
        digit = scalar & 15
        if digit:
            plus, minus, double = table[at + digit]
            a = (y - x) * minus % p
            b = (y + x) * plus % p
            c = t * double % p
            d = z + z
            e, f, g, h = b - a, d - c, d + c, b + a
            x, y, z, t = e * f % p, g * h % p, f * g % p, e * h % p
        scalar >>= 4
        at += 16
    return x, y, z, t


_ED_BASE_POINT = _ed_decode((4 * pow(5, -1, _P) % _P).to_bytes(32, "little"))
_ed_base = []


class Ed25519:
    def __init__(self, raw):
        self.raw = raw
        self._table = None

    def verify(self, signature, message):
        """`message` is a list of byte strings."""
        if len(signature) != 64:
            return False
        if self._table is None:
            point = _ed_decode(self.raw)
            if point is None or _ed_small_order(point):
                self._table = []
            else:
                if not _ed_base:
                    _ed_base.extend(_ed_table(_ED_BASE_POINT))
                self._table = _ed_table((_P - point[0], point[1]))  # of -A
        if not self._table:
            return False
        s = int.from_bytes(signature[32:], "little")
        if s >= _L:
            return False
        digest = hashlib.sha512(signature[:32] + self.raw)
        for part in message:
            digest.update(part)
        k = int.from_bytes(digest.digest(), "little") % _L
        # R = [S]B - [k]A; equal encodings mean that R is canonical too
        found = _ed_encode(_ed_sum(_ed_sum(_IDENTITY, _ed_base, s), self._table, k))
        return found == signature[:32] and not _ed_small_order(_ed_decode(found))


# --- ECDSA on P-256 with SHA-256 (FIPS 186-5) -------------------------------------------------

_Q = 2**256 - 2**224 + 2**192 + 2**96 - 1
_N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
_P256_BASE_POINT = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)


def _p256_double(p):
    x, y, z = p
    if not z or not y:
        return 1, 1, 0
    delta, gamma = z * z % _Q, y * y % _Q
    beta = x * gamma % _Q
    alpha = 3 * (x - delta) * (x + delta) % _Q
    x3 = (alpha * alpha - 8 * beta) % _Q
    return x3, (alpha * (4 * beta - x3) - 8 * gamma * gamma) % _Q, 2 * y * z % _Q


def _p256_add(p, q):
    """Jacobian p + affine q; z = 0 is the point at infinity."""
    x, y, z = p
    if not z:
        return q[0], q[1], 1
    zz = z * z % _Q
    h = (q[0] * zz - x) % _Q
    r = (q[1] * zz % _Q * z - y) % _Q
    if not h:
        return _p256_double(p) if not r else (1, 1, 0)
    hh = h * h % _Q
    hhh, v = h * hh % _Q, x * hh % _Q
    x3 = (r * r - hhh - 2 * v) % _Q
    return x3, (r * (v - x3) - y * hhh) % _Q, z * h % _Q


def _p256_affine(points):
    out = []
    for p, z in zip(points, _inverses([p[2] for p in points], _Q)):
        zz = z * z % _Q
        out.append((p[0] * zz % _Q, p[1] * zz % _Q * z % _Q))
    return out


def _p256_table(point):
    """table[16 * i + j] = [j * 16^i] point, affine; j = 0 is never read."""
    steps = [(point[0], point[1], 1)]
    for _ in range(63):
        p = steps[-1]
        for _ in range(4):
            p = _p256_double(p)
        steps.append(p)
    points = []
    for step in _p256_affine(steps):
        p = (step[0], step[1], 1)
        points.append(p)
        for _ in range(15):
            points.append(p)
            p = _p256_add(p, step)
    return _p256_affine(points)


def _p256_sum(acc, table, scalar):
    at = 0
    while scalar:
        digit = scalar & 15
        if digit:
            acc = _p256_add(acc, table[at + digit])
        scalar >>= 4
        at += 16
    return acc


_p256_base = []


class P256Key:
    def __init__(self, x, y):
        self.x, self.y = x, y
        self._table = None

    def verify(self, signature, message):
        """`signature` is r and s, 32 bytes each; `message` is a list of byte strings."""
        if len(signature) != 64:
            return False
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        if not (0 < r < _N and 0 < s < _N):
            return False
        if self._table is None:
            x, y = self.x, self.y
            if x >= _Q or y >= _Q or (y * y - (x * x - 3) * x - _B) % _Q:
                self._table = []  # not a point of the curve
            else:
                if not _p256_base:
                    _p256_base.extend(_p256_table(_P256_BASE_POINT))
                self._table = _p256_table((x, y))
        if not self._table:
            return False
        digest = hashlib.sha256()
        for part in message:
            digest.update(part)
        w = pow(s, -1, _N)
        p = _p256_sum((1, 1, 0), _p256_base, int.from_bytes(digest.digest(), "big") * w % _N)
        p = _p256_sum(p, self._table, r * w % _N)
        if not p[2]:
            return False
        z = pow(p[2], -1, _Q)
        return p[0] * z * z % _Q % _N == r


def _der_signature(data):
    """ASN.1 DER SEQUENCE(r, s) -> r and s, 32 bytes each; None when it is anything else."""
    if len(data) < 8 or data[0] != 0x30 or data[1] != len(data) - 2 or data[1] > 0x7F:
        return None
    at, out = 2, b""
    for _ in range(2):
        if len(data) < at + 2 or data[at] != 2:
            return None
        size = data[at + 1]
        number = data[at + 2 : at + 2 + size]
        if not size or len(number) != size or number[0] & 0x80:
            return None
        if size > 1 and number[0] == 0 and not number[1] & 0x80:
            return None
        number = number.lstrip(b"\0")
        if len(number) > 32:
            return None
        out += number.rjust(32, b"\0")
        at += 2 + size
    return out if at == len(data) else None


# --- keys, DSSE -------------------------------------------------------------------------------

_SPKI_ED25519 = bytes.fromhex("302a300506032b6570032100")
_SPKI_P256 = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200") + b"\x04"


class Key:
    """A public key, and what a document says it may do."""

    def __init__(self, spki, use=None, iss=None, revoked_from=None):
        self.spki, self.use, self.iss, self.revoked_from = spki, use, iss, revoked_from
        self.kid = hashlib.sha256(spki).hexdigest()
        if len(spki) == 44 and spki.startswith(_SPKI_ED25519):
            self.alg, self._key = ED25519, Ed25519(spki[12:])
        elif len(spki) == 91 and spki.startswith(_SPKI_P256):
            x, y = int.from_bytes(spki[27:59], "big"), int.from_bytes(spki[59:], "big")
            self.alg, self._key = P256, P256Key(x, y)
        else:
            self.alg = self._key = None

    def verify_raw(self, signature, payload_type, body):
        """A signature as `receipts.sig` holds it, over PAE(payload_type, body)."""
        kind = payload_type.encode("ascii")
        head = b"DSSEv1 %d %s %d " % (len(kind), kind, len(body))
        return self._key.verify(signature, [head, body])

    def verify_dsse(self, signature, payload_type, body):
        if self.alg == P256:
            signature = _der_signature(signature)
        return signature is not None and self.verify_raw(signature, payload_type, body)

    def note_id(self, name):
        return hashlib.sha256(name.encode("utf-8") + b"\n\x01" + self._key.raw).digest()[:4]

    def verify_note(self, signature, text):
        return self._key.verify(signature, [text])


def read_keys(rows):
    """M3 and M4, over the rows of a manifest or a trust document. -> {key id: Key}"""
    keys = {}
    for row in rows:
        if row["kid"] in keys:
            raise Refusal("KEY_ID_MISMATCH", "the key id %s comes twice" % row["kid"])
        spki = unbase64(row["spki"])
        if spki is None or hashlib.sha256(spki).hexdigest() != row["kid"]:
            raise Refusal("KEY_ID_MISMATCH", "the key id %s is not the hash of its key" % row["kid"])
        keys[row["kid"]] = Key(spki, row["use"], row.get("iss"), row.get("revoked_from_index"))
    for row in rows:
        key = keys[row["kid"]]
        if key.alg != row["alg"]:
            raise Refusal("ALGORITHM_MISMATCH", "key %s is not of the algorithm it names" % key.kid)
        if key.use == "checkpoint" and key.alg != ED25519:
            raise Refusal("ALGORITHM_MISMATCH", "checkpoint key %s is not an Ed25519 key" % key.kid)
    return keys


def read_envelope(schemas, data, payload_type):
    """DSSE form, as M5 has it up to the payload. -> (payload, key id, signature)"""

    def refuse(detail):
        raise Refusal("ENVELOPE_MALFORMED", detail)

    try:
        envelope = admit(data)
    except Malformed as wrong:
        refuse("the envelope cannot be read: %s" % wrong)
    if canonical(envelope) != data:
        refuse("the envelope is not in canonical form")
    wrong = schemas.signature.error(envelope)
    if wrong:
        refuse("the envelope does not fit its schema: %s" % wrong)
    if envelope["payloadType"] != payload_type:
        refuse("the envelope's payload is of another type")
    row = envelope["signatures"][0]
    payload, signature = unbase64(envelope["payload"]), unbase64(row["sig"])
    if payload is None or signature is None:
        refuse("the envelope holds base64 that is not strict")
    return payload, row["keyid"], signature
