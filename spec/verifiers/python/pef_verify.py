#!/usr/bin/env python3
"""Verify a PEF bundle, a journal or one receipt with nothing but Python (3.9 or later).

    pef_verify.py [--trust FILE | --key FILE] [--against FILE] [--schemas DIR] [--json] PATH
    pef_verify.py --stream CALL --disclosure FILE --events FILE [--place N] … PATH
    pef_verify.py --body CALL --part PART --disclosure FILE --content FILE … PATH

PATH is a .pef.zip, a bundle directory, a journal directory, or (with --key or --trust) a receipt envelope.
Exit codes: 0 verified, 2 refused, 6 unreadable input or bad arguments.

This is written from SPEC.md and the schemas alone and shares no code with any other verifier. It
uses the standard library for SHA-2, CRC-32, base64 and files; JSON, JCS, schemas, Ed25519, P-256,
RFC 6962, notes, DSSE, ZIP and segments are below. It never writes anything.
"""

import base64
import binascii
import functools
import hashlib
import hmac
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
PROOF_HASHES_MAX = 63
CLAIMS_MAX = 16
PATH_MAX = 200

TYPE_ENTRY = "application/vnd.estoppel.pef.entry.v0+json"
TYPE_STATEMENT = "application/vnd.in-toto+json"
TYPE_POSSESSION = "application/vnd.estoppel.pef.possession.v0+json"
TYPE_APPROVAL = "application/vnd.estoppel.pef.approval.v0+json"

ED25519 = "ed25519"
P256 = "ecdsa-p256-sha256"


class Refusal(Exception):
    """A step of the specification that failed."""

    def __init__(self, code, detail, seq=None, index=None, unit=None):
        super().__init__(code)
        self.code = code
        self.detail = detail
        self.seq = seq
        self.index = index
        self.unit = unit


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
    if not text.isascii() and _NONCHARACTER.search(text):
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
    NAMES = ("receipt", "journal_event", "manifest", "trust", "signature", "disclosure", "beginning")

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


@functools.lru_cache(maxsize=4)
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


def _ed_extend(point):
    return point[0], point[1], 1, point[0] * point[1] % _P


def _ed_small_order(p):
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


@functools.lru_cache(maxsize=64)
def _ed_table(point):
    """table[16 * i + j] = [j * 16^i] point as (y + x, y - x, 2dxy)."""
    step = _ed_extend(point)
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
            if point is None or _ed_small_order(_ed_extend(point)):
                self._table = []
            else:
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
        found = _ed_sum(_ed_sum(_IDENTITY, _ed_table(_ED_BASE_POINT), s), self._table, k)
        return _ed_encode(found) == signature[:32] and not _ed_small_order(found)


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


@functools.lru_cache(maxsize=64)
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
                self._table = _p256_table((x, y))
        if not self._table:
            return False
        digest = hashlib.sha256()
        for part in message:
            digest.update(part)
        w = pow(s, -1, _N)
        u = int.from_bytes(digest.digest(), "big") * w % _N
        p = _p256_sum((1, 1, 0), _p256_table(_P256_BASE_POINT), u)
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


# --- hashes and RFC 6962 trees (sections 2 and 5) ---------------------------------------------


def sha256(data):
    return hashlib.sha256(data).digest()


def leaf_hash(line):
    return sha256(b"\0" + line)


def node_hash(left, right):
    return sha256(b"\1" + left + right)


class Tree:
    """A Merkle tree that grows at its right end; it keeps one hash per full subtree."""

    def __init__(self):
        self.size = 0
        self._full = []  # (level, hash), levels strictly falling

    def begin(self, size, peaks):
        """A tree of which only the full subtrees are known, from the largest on."""
        levels = [level for level in range(size.bit_length()) if size >> level & 1]
        self.size, self._full = size, list(zip(reversed(levels), peaks))

    def push(self, leaf):
        level = 0
        while self._full and self._full[-1][0] == level:
            leaf = node_hash(self._full.pop()[1], leaf)
            level += 1
        self._full.append((level, leaf))
        self.size += 1

    def root(self):
        if not self._full:
            return sha256(b"")
        root = self._full[-1][1]
        for _, left in reversed(self._full[:-1]):
            root = node_hash(left, root)
        return root


def tree_root(leaves):
    tree = Tree()
    for leaf in leaves:
        tree.push(leaf)
    return tree.root()


def root_from_path(index, size, leaf, path):
    """RFC 9162 section 2.1.3.2. -> the root, or None when the path does not fit."""
    if index >= size:
        return None
    fn, sn, root = index, size - 1, leaf
    for sibling in path:
        if sn == 0:
            return None
        if fn & 1 or fn == sn:
            root = node_hash(sibling, root)
            while not fn & 1 and fn:
                fn >>= 1
                sn >>= 1
        else:
            root = node_hash(root, sibling)
        fn >>= 1
        sn >>= 1
    return root if sn == 0 else None


# --- notes and anchors (sections 3 and 5) -----------------------------------------------------

_DECIMAL = re.compile(r"0|[1-9][0-9]{0,19}")
_NOTE_NAME = re.compile(r"[!-*,-~]+")  # printable ASCII but the plus sign


def _decimal(text):
    number = int(text) if _DECIMAL.fullmatch(text) else 2**64
    return number if number < 2**64 else None


class Note:
    """A checkpoint note with one signature. Raises Malformed."""

    def __init__(self, data):
        try:
            text = str(data, "utf-8", "strict")
        except UnicodeDecodeError:
            raise Malformed("it is not UTF-8") from None
        lines = text.split("\n")
        if len(lines) != 6 or lines[3] or lines[5]:
            raise Malformed("it is not three lines, an empty line and one signature line")
        self.origin, size, root, _, signature, _ = lines
        if not self.origin:
            raise Malformed("it has no origin")
        self.size, self.root = _decimal(size), unbase64(root)
        if self.size is None:
            raise Malformed("its size is not a decimal number")
        if self.root is None or len(self.root) != 32:
            raise Malformed("its root is not the base64 of 32 bytes")
        words = signature.split(" ")
        if len(words) != 3 or words[0] != "\u2014" or not _NOTE_NAME.fullmatch(words[1]):
            raise Malformed("its last line is not a signature line")
        blob = unbase64(words[2])
        if blob is None or len(blob) != 68:
            raise Malformed("its signature is not the base64 of 68 bytes")
        self.name, self.id, self.signature = words[1], blob[:4], blob[4:]
        self.text = "".join(line + "\n" for line in lines[:3]).encode("utf-8")

    def signer(self, keys, iss):
        """T3: the checkpoint key that made the signature, or None."""
        if self.name == iss:
            for key in keys:
                if key.use == "checkpoint" and key.iss in (None, iss) and key.alg == ED25519:
                    if key.note_id(iss) == self.id and key.verify_note(self.signature, self.text):
                        return key
        return None


class Anchor:
    """A C2SP tlog-proof. Raises Malformed."""

    def __init__(self, data):
        head, empty, note = bytes(data).partition(b"\n\n")
        try:
            lines = head.decode("ascii").split("\n")
        except UnicodeDecodeError:
            raise Malformed("its head is not ASCII") from None
        if not empty or lines[0] != "c2sp.org/tlog-proof@v1":
            raise Malformed("it does not begin as a tlog-proof does")
        if len(lines) < 2 or not lines[1].startswith("index "):
            raise Malformed("it has no index line")
        self.index = _decimal(lines[1][len("index ") :])
        if self.index is None:
            raise Malformed("its index is not a decimal number")
        self.path = [unbase64(line) for line in lines[2:]]
        if len(self.path) > PROOF_HASHES_MAX:
            raise Malformed("its path is longer than that of any tree")
        if any(h is None or len(h) != 32 for h in self.path):
            raise Malformed("a hash of its path is not the base64 of 32 bytes")
        self.note = Note(note)


# --- bundles as a ZIP or a directory (section 9) ----------------------------------------------

_PATH = re.compile(rb"[a-z0-9._-]+(?:/[a-z0-9._-]+)*")
_LOCAL = struct.Struct("<IHHHHHIIIHH")
_CENTRAL = struct.Struct("<IHHHHHHIIIHHHHHII")
_END = struct.Struct("<IHHHHIIH")
_LOCAL_MAGIC = struct.pack("<I", 0x04034B50)


def path_allowed(name):
    if name == b"SHA256SUMS":
        return True
    if not 1 <= len(name) <= PATH_MAX or not _PATH.fullmatch(name):
        return False
    return not any(segment in (b".", b"..") for segment in name.split(b"/"))


def open_mapped(path):
    """A whole file as bytes or as a read-only map. Raises OSError."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size < 1 << 20:
            return file.read()
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


class ZipBundle:
    def __init__(self, path):
        if os.stat(path).st_size > CONTAINER_MAX:
            raise Refusal("CONTAINER_LIMIT", "the file is larger than 4 GiB - 1")
        self.folder = path + ".d"
        self._data = data = open_mapped(path)
        self._at = {}  # name -> (position, size, crc)
        order, central, at = [], [], 0
        while data[at : at + 4] == _LOCAL_MAGIC:
            if len(order) == CONTAINER_ENTRIES_MAX:
                raise Refusal("CONTAINER_LIMIT", "it has more than 65,534 entries")
            if len(data) < at + _LOCAL.size:
                raise Refusal("CONTAINER_MALFORMED", "the file ends inside a local header")
            header = _LOCAL.unpack_from(data, at)
            _, version, flags, method, time, date, crc, size, size2, name_size, extra = header
            if method != 0:
                raise Refusal("ENTRY_COMPRESSED", "the entry at byte %d is not stored" % at)
            name = bytes(data[at + _LOCAL.size : at + _LOCAL.size + name_size])
            if len(name) != name_size:
                raise Refusal("CONTAINER_MALFORMED", "the file ends inside a name")
            if not path_allowed(name):
                raise Refusal("PATH_FORBIDDEN", "the entry at byte %d has a forbidden name" % at)
            name = name.decode("ascii")
            if name in self._at:
                raise Refusal("ENTRY_DUPLICATE", "%s comes twice" % name)
            start = at + _LOCAL.size + name_size
            if (version, flags, time, date, extra) != (10, 0, 0, 0x0021, 0) or size != size2:
                raise Refusal("CONTAINER_MALFORMED", "the local header of %s is not as it must be" % name)
            if len(data) < start + size:
                raise Refusal("CONTAINER_MALFORMED", "the file ends inside %s" % name)
            self._at[name] = (start, size, crc)
            order.append(name)
            central.append(
                _CENTRAL.pack(
                    0x02014B50, 0x0314, 10, 0, 0, 0, 0x0021, crc, size, size,
                    name_size, 0, 0, 0, 0, 0x81A40000, at,
                )
                + name.encode("ascii")
            )  # fmt: skip
            at = start + size
        directory = b"".join(central)
        count = len(order)
        tail_size = len(directory) + _END.size
        # `at` and the sizes fit 32 bits because the whole file does; a longer tail cannot be equal
        if len(data) - at != tail_size:
            raise Refusal("CONTAINER_MALFORMED", "the central directory is not as it must be")
        end = _END.pack(0x06054B50, 0, 0, count, count, len(directory), at, 0)
        if data[at:] != directory + end:
            raise Refusal("CONTAINER_MALFORMED", "the central directory is not as it must be")
        if order != sorted(order):
            raise Refusal("CONTAINER_MALFORMED", "the entries are not in byte order of their names")
        self.names = order

    def size(self, name):
        return self._at[name][1]

    def span(self, name):
        """-> (buffer, start, end)"""
        start, size, _ = self._at[name]
        return self._data, start, start + size

    def check_crcs(self):
        for name in self.names:
            if zlib.crc32(self.view(name)) != self._at[name][2]:
                raise Refusal("CRC_MISMATCH", "the CRC-32 of %s is not that of its data" % name)

    def view(self, name):
        data, start, end = self.span(name)
        return memoryview(data)[start:end]

    def read(self, name):
        return bytes(self.view(name))


class FolderBundle:
    def __init__(self, path):
        self.folder = os.path.join(os.path.dirname(os.path.abspath(path)), os.path.basename(os.path.abspath(path)) + ".d")
        self._root = os.fsencode(path)
        self._sizes = {}
        self._data = {}
        forbidden = []
        total = 0
        waiting = [b""]
        while waiting:
            inside = waiting.pop()
            with os.scandir(os.path.join(self._root, inside)) as rows:
                for row in rows:
                    name = inside + b"/" + row.name if inside else row.name
                    if row.is_dir(follow_symlinks=False):
                        waiting.append(name)
                        continue
                    found = row.stat(follow_symlinks=False)
                    if not stat.S_ISREG(found.st_mode) or not path_allowed(name):
                        forbidden.append(name)
                    total += found.st_size
                    self._sizes[name] = found.st_size
                    if total > CONTAINER_MAX or len(self._sizes) > CONTAINER_ENTRIES_MAX:
                        raise Refusal("CONTAINER_LIMIT", "the directory is too large or has too many files")
        if forbidden:
            shown = _shown(min(forbidden).decode("utf-8", "replace"))
            raise Refusal("PATH_FORBIDDEN", "%s is not a regular file with an allowed path" % shown)
        self._sizes = {name.decode("ascii"): size for name, size in self._sizes.items()}
        self.names = sorted(self._sizes)

    def size(self, name):
        return len(self._whole(name))

    def _whole(self, name):
        if name not in self._data:
            data = open_mapped(os.path.join(self._root, name.encode("ascii")))
            if name != "receipts.ndjson" and name != "receipts.sig":
                return data
            self._data[name] = data
        return self._data[name]

    def span(self, name):
        data = self._whole(name)
        return data, 0, len(data)

    def view(self, name):
        return memoryview(self._whole(name))

    def read(self, name):
        return bytes(self._whole(name))

    def check_crcs(self):
        pass


# --- the entries of one run (section 11, L1-L12 and S3) ---------------------------------------


def read_line(schemas, line, seq=None, index=None):
    """L1-L4. -> the entry. With seq None the entry's own seq is named where it can be read."""
    if not 1 <= len(line) <= LINE_MAX:
        raise Refusal("LINE_LENGTH", "the line has %d bytes, not 1 to 16,384" % len(line), seq, index)
    try:
        entry = admit(line)
    except Malformed as wrong:
        raise Refusal("LINE_MALFORMED", "the line cannot be read: %s" % wrong, seq, index) from None
    if seq is None:
        own = entry.get("seq")
        seq = own if type(own) is int and own >= 0 else None
    if canonical(entry) != line:
        raise Refusal("LINE_NOT_CANONICAL", "the line is not in canonical form", seq, index)
    wrong = schemas.entry_error(entry)
    if wrong:
        detail = "the line does not fit its schema (%s); a newer verifier may know it" % wrong
        raise Refusal("LINE_SCHEMA", detail, seq, index)
    return entry


class Holds:
    """L13 and L14: the holds of a run, and the decisions on them."""

    SIGNED = ("by", "comment", "decision", "expires", "hold", "iss", "nonce", "payload", "policy", "run")

    def __init__(self):
        self._holds = {}

    def take(self, entry, leaf, refuse):
        kind = entry["kind"]
        if kind == "hold":
            self._open(entry, leaf, refuse)
        elif kind == "approval":
            self._decide(entry, refuse)
        elif "approval" in entry:
            self._use(entry, refuse)

    def _open(self, entry, leaf, refuse):
        approvers = entry["approvers"]
        if len(set(approvers)) != len(approvers) or entry["needs"] > len(approvers):
            refuse("the hold lists an approver twice, or needs more than it has")
        if entry["hold"] in self._holds:
            refuse("there is a hold of this id already")
        state = {"entry": entry, "leaf": "leaf:" + leaf.hex(), "approved": set(), "decided": set()}
        self._holds[entry["hold"]] = dict(state, nonces=set(), denied=False, used=False)

    def _of(self, hold, refuse):
        if hold not in self._holds:
            refuse("no hold of the id %s comes before" % hold)
        return self._holds[hold]

    def _decide(self, entry, refuse):
        hold = self._of(entry["hold"], refuse)
        held, approver = hold["entry"], entry["approver"]
        if (entry["payload"], entry["policy"]) != (held["payload"], held["policy"]):
            refuse("the decision is on another payload, or under another policy, than the hold")
        if approver not in held["approvers"]:
            refuse("the decision is by no approver of the hold")
        if approver in hold["decided"]:
            refuse("the approver has decided already")
        if entry["nonce"] in hold["nonces"]:
            refuse("the nonce was used before")
        if not entry["ts"] <= entry["expires"] <= held["expires"]:
            refuse("the decision came after it expired, or expires after the hold")
        spki, signature = unbase64(entry["spki"]), unbase64(entry["signature"])
        key = None if spki is None else Key(spki)
        if key is None or key.alg is None or key.kid != approver or key.alg != entry["alg"]:
            refuse("spki or alg is not that of the approver")
        statement = canonical({name: entry[name] for name in self.SIGNED if name in entry})
        if signature is None or not key.verify_raw(signature, TYPE_APPROVAL, statement):
            refuse("the decision does not verify with the approver's key")
        hold["decided"].add(approver)
        hold["nonces"].add(entry["nonce"])
        if entry["decision"] == "approve":
            hold["approved"].add(approver)
        else:
            hold["denied"] = True

    def _use(self, entry, refuse):
        approval = entry["approval"]
        hold = self._of(approval["hold"], refuse)
        held = hold["entry"]
        if hold["used"]:
            refuse("the hold let a call pass before")
        hold["used"] = True
        if "of" not in held and "call_tag" in approval:
            refuse("the hold is of the request's body, not of what it asks for")
        tag = approval.get("call_tag") if "of" in held else entry["request"].get("tag")
        if (tag, entry["policy"]["hash"]) != (held["payload"], held["policy"]):
            refuse("the call has another payload or policy than the one that was approved")
        if approval.get("leaf", hold["leaf"]) != hold["leaf"]:
            refuse("approval.leaf is not the hash of the hold")
        listed = approval.get("approved", [])
        if len(set(listed)) != len(listed) or len(listed) < held["needs"] or not hold["approved"].issuperset(listed):
            refuse("the approvals that the hold needs are not all there")
        if hold["denied"]:
            refuse("an approver denied the call")


class Run:
    """What the lines of a run have said so far."""

    def __init__(self, run, iss, collect):
        self.run, self.iss = run, iss
        self.collect = collect  # whether what only a manifest needs is kept
        self.tree = Tree()
        self.head = None  # hash of the newest entry
        self.opening = None
        self.seal = None
        self.before_seal = None  # count, head, root, counters
        self.mono = 0
        self.current = {}  # use -> key id, as far as known
        self.brought = []  # (use, key id) of rotations
        self.first_key = None  # id of the receipt key that signs run.open
        self.counters = dict.fromkeys(("calls", "allow", "repair", "hold", "block", "interrupted", "incomplete"), 0)
        self.carried = False  # its first entries are not there any more
        self.holds = Holds()
        self.awaited = {}  # the sources of snapshots that came too late for their calls' receipts, by call id
        self.claims = {}
        self.policies = set()
        self.policy_first = {}  # policy hash -> seq of the first receipt that names it
        self.totals = []
        self.streams = []
        self.calls = {}  # of each call id, the first entry's seq, `sse` and commitments  # (seq, call, sse)
        self.bodies = []  # (seq, sha256:..)

    def begin(self, before):
        """Section 12: what the entries add up to that are not there any more."""
        self.carried = True
        self.opening = before
        self.tree.begin(before["size"], [bytes.fromhex(peak[5:]) for peak in before["peaks"]])
        self.head = before["head"]
        self.current["receipt"] = self.first_key = before["kid"]
        self.mono = before["mono_us"]
        self.counters = dict(before["counters"])

    @property
    def sign_each(self):
        return self.opening["sign"] == "each"

    def add(self, entry, line, signature, keys, index=None):
        """L5-L15. `signature` is a function of the position that gives the stored bytes."""
        seq = self.tree.size
        shown = seq if index is None else entry["seq"]

        def refuse(code, detail):
            raise Refusal(code, detail, shown, index)

        kind = entry["kind"]
        if entry["seq"] != seq:
            refuse("SEQ_MISMATCH", "seq is %d where %d is due" % (entry["seq"], seq))
        if (kind == "run.open") != (seq == 0):
            refuse("SEQ_MISMATCH", "run.open must be the first entry, and only the first")
        if entry["run"] != self.run:
            refuse("RUN_MISMATCH", "the entry is of another run")
        if entry["iss"] != self.iss:
            refuse("RUN_MISMATCH", "the entry is of another instance")
        if entry.get("prev") != self.head:
            refuse("CHAIN_BROKEN", "prev is not the hash of the entry before")
        if seq == 0:
            self.opening = entry
            self.current["receipt"] = entry["kid"]
            self.first_key = entry["kid"]
        key = self._key(keys, entry["kid"], "receipt")
        if entry["kid"] != self.current["receipt"]:
            refuse("KEY_MISMATCH", "kid is not the key that signs receipts at this place")
        if key is None:
            refuse("KEY_MISMATCH", "kid is no known receipt key of this instance")
        if entry["mono_us"] < self.mono:
            refuse("TIME_REVERSED", "mono_us is smaller than in the entry before")
        self.mono = entry["mono_us"]
        stored = signature(seq)
        if self.sign_each:
            if not stored:
                refuse("SIGNATURE_MISSING", "there is no signature for this entry")
            if not key.verify_raw(stored, TYPE_ENTRY, line):
                refuse("SIGNATURE_INVALID", "the signature does not fit the entry and the key")
        elif index is not None and stored:
            refuse("SIGNATURE_SURPLUS", "there is a signature, but the run has none per entry")
        if index is not None and key.revoked_from is not None and index >= key.revoked_from:
            refuse("KEY_REVOKED", "the key is revoked from index %d" % key.revoked_from)
        if kind == "key.rotate":
            self._rotate(entry, keys, refuse)
        if self.seal is not None:
            refuse("SEAL_NOT_LAST", "an entry follows the seal")
        leaf = leaf_hash(line)
        if self.carried:
            pass  # what an entry names may have been before; the bundle of the run shows it
        elif kind in ("hold", "approval", "call"):
            self.holds.take(entry, leaf, lambda text: refuse("APPROVAL_INVALID", text))
        if self.carried:
            pass
        elif kind == "call":
            looked = entry.get("snapshot", {})
            self.awaited.pop(entry["call"], None)
            if looked.get("post", {}).get("code") == "POST_TIMEOUT":
                self.awaited[entry["call"]] = looked.get("source")
        elif kind == "snapshot" and self.awaited.pop(entry["call"], None) != entry["source"]:
            refuse("SNAPSHOT_MISMATCH", "no receipt before it awaits this snapshot")
        if kind == "run.seal":
            self.seal = entry
            self.before_seal = (seq, self.head, "root:" + self.tree.root().hex(), dict(self.counters))
        else:
            self._count(entry, kind, seq)
        self.tree.push(leaf)
        self.head = "leaf:" + leaf.hex()
        return leaf

    def _key(self, keys, kid, use):
        key = keys.get(kid)
        return key if key and key.use == use and key.iss in (None, self.iss) else None

    def _rotate(self, entry, keys, refuse):
        use, new = entry["use"], entry["new"]
        if self.current.get(use, entry["old"]) != entry["old"]:
            refuse("ROTATION_INVALID", "the old key is not the current one")
        key = self._key(keys, new, use)
        if key is None:
            refuse("ROTATION_INVALID", "the new key is not among the known keys of that use")
        if unbase64(entry["spki"]) != key.spki or entry["alg"] != key.alg:
            refuse("ROTATION_INVALID", "spki and alg are not those of the new key")
        body = {"iss": entry["iss"], "new": new, "old": entry["old"], "run": entry["run"], "use": use}
        proof = unbase64(entry["possession"])
        if proof is None or not key.verify_raw(proof, TYPE_POSSESSION, canonical(body)):
            refuse("ROTATION_INVALID", "the new key's proof of possession does not verify")
        self.current[use] = new
        self.brought.append((use, new))

    def _count(self, entry, kind, seq):
        if kind == "interrupted":
            self.counters["interrupted"] += 1
        elif kind == "call":
            self.counters["calls"] += 1
            self.counters[entry["verdict"]["action"]] += 1
            self.counters["incomplete"] += not entry["outcome"]["complete"]
        if not self.collect:
            return
        if kind == "run.open":
            self.policies.add(entry["policy"])
        elif kind == "call":
            self.calls.setdefault(entry["call"], (seq, entry.get("sse"), _commitments(entry)))
            self.policies.add(entry["policy"]["hash"])
            self.policy_first.setdefault(entry["policy"]["hash"], seq)
            self.totals.append(entry["time"]["total_us"])
            for name, value in entry.get("claims", {}).items():
                self.claims.setdefault(name, set()).add(value)
            if "nodes" in entry.get("sse", ()):
                self.streams.append((seq, entry["call"], entry["sse"]))
            response = entry["response"]
            for body in (entry["request"], response["client"], response.get("upstream", {})):
                if "sha256" in body:
                    self.bodies.append((seq, body["sha256"]))

    def check_seal(self, index=None):
        """S3 and J7."""
        count, head, root, counters = self.before_seal
        found = {"count": count, "head": head, "root": root, "counters": counters}
        for name, value in found.items():
            if self.seal[name] != value:
                detail = "the seal's %s is not what the entries say" % name
                raise Refusal("SEAL_MISMATCH", detail, self.seal["seq"], index)

    def summary(self):
        """S4: what a manifest must say."""
        opening, seal = self.opening, self.seal
        facts = {
            "tree": {"root": "root:" + self.tree.root().hex(), "size": self.tree.size},
            "counters": self.counters,
            "claims": {
                name: sorted(values, key=lambda v: v.encode("utf-8"))[:CLAIMS_MAX]
                for name, values in self.claims.items()
            },
            "policies": sorted(self.policies),
            "sign": opening["sign"],
            "durability": opening["durability"],
            "class": opening["class"],
            "name": opening.get("name"),
            "opened": opening["ts"],
            "sealed": seal["ts"],
            "seal_reason": seal["reason"],
            "build": opening["build"],
            "metrics": None,
        }
        totals = sorted(self.totals)
        if totals:
            facts["metrics"] = {}
            for percent in (50, 95, 99):
                position = -(-percent * len(totals) // 100)
                facts["metrics"]["total_p%d_us" % percent] = totals[position - 1]
        return facts


# --- trust documents (section 10) -------------------------------------------------------------


def read_trust(schemas, data):
    """-> {key id: Key}. Raises Unreadable with TRUST_INVALID."""
    try:
        document = admit(data)
        if canonical(document) != data:
            raise Malformed("it is not in canonical form")
        wrong = schemas.trust.error(document)
        if wrong:
            raise Malformed(wrong)
        return read_keys(document["keys"])
    except Malformed as wrong:
        detail = str(wrong)
    except Refusal as wrong:
        detail = wrong.detail
    raise Unreadable("the trust document cannot be used: %s" % detail, "TRUST_INVALID")


# --- verifying a bundle (section 11) ----------------------------------------------------------

_REQUIRED = ("manifest.json", "manifest.dsse.json", "receipts.ndjson", "checkpoint", "SHA256SUMS")
_UNLISTED = ("manifest.json", "manifest.dsse.json", "SHA256SUMS")
_NAMED_BY_DIGEST = (
    re.compile(r"policy/([0-9a-f]{64})\.json"),
    re.compile(r"contracts/([0-9a-f]{64})\.json"),
    re.compile(r"bodies/([0-9a-f]{64})"),
)


class Bundle:
    """One method per group of steps, called in the order of the table."""

    kind = "bundle"

    def __init__(self, schemas, path, trust):
        self.schemas, self.path, self.trust = schemas, path, trust
        self.run_id = None
        self.entries = None
        self.anchor = None
        self.decided = {}  # verdicts that no later step can change

    def verify(self):
        if self.trust is not None:
            self.trusted = read_trust(self.schemas, self.trust)
        self.box = (FolderBundle if os.path.isdir(self.path) else ZipBundle)(self.path)
        self.names = set(self.box.names)
        for name in _REQUIRED:
            if name not in self.names:
                raise Refusal("FILE_MISSING", "%s is not there" % name)
        self.check_manifest()
        self.check_envelope()
        self.check_lines()
        self.check_totals()
        self.check_checkpoint()
        self.check_files()
        self.check_statement()
        self.check_streams()
        self.check_bodies()
        self.check_externals()
        self.decided["completeness"] = "complete"
        self.check_anchor()
        self.decided["anchoring"] = "absent" if self.anchor is None else "anchored"
        if self.trust is not None:
            self.check_trust()
        self.decided["authenticity"] = "self_asserted" if self.trust is None else "trusted"
        self.box.check_crcs()
        self.decided["integrity"] = "ok"

    def check_manifest(self):
        def refuse(detail):
            raise Refusal("MANIFEST_MALFORMED", detail)

        if self.box.size("manifest.json") > MANIFEST_MAX:
            refuse("manifest.json is larger than 64 MiB")
        data = self.box.read("manifest.json")
        try:
            self.manifest = admit(data)
        except Malformed as wrong:
            refuse("manifest.json cannot be read: %s" % wrong)
        if canonical(self.manifest) != data:
            refuse("manifest.json is not in canonical form")
        wrong = self.schemas.manifest.error(self.manifest)
        if wrong:
            detail = "manifest.json does not fit its schema (%s); a newer verifier may know it" % wrong
            raise Refusal("MANIFEST_SCHEMA", detail)
        self.run_id, self.iss = self.manifest["run"], self.manifest["iss"]
        self.keys = read_keys(self.manifest["keys"])

    def check_envelope(self):
        data = self.box.read("manifest.dsse.json")
        payload, kid, signature = read_envelope(self.schemas, data, TYPE_STATEMENT)
        try:
            if canonical(admit(payload)) != payload:
                raise Malformed("it is not in canonical form")
        except Malformed as wrong:
            raise Refusal("ENVELOPE_MALFORMED", "the envelope's payload cannot be used: %s" % wrong) from None
        key = self.keys.get(kid)
        if key is None or key.use != "manifest":
            raise Refusal("KEY_UNKNOWN", "the manifest is signed by a key that it does not list for it")
        if not key.verify_dsse(signature, TYPE_STATEMENT, payload):
            raise Refusal("ENVELOPE_SIGNATURE", "the manifest's signature does not verify")
        self.statement, self.manifest_key = payload, key

    def check_lines(self):
        self.run = run = Run(self.run_id, self.iss, collect=True)
        if "receipts.sig" in self.names:
            sig_data, sig_start, sig_end = self.box.span("receipts.sig")
        else:
            sig_data, sig_start, sig_end = b"", 0, 0

        def signature(seq):
            at = sig_start + 64 * seq
            return bytes(sig_data[at : at + 64]) if at + 64 <= sig_end else None

        data, at, end = self.box.span("receipts.ndjson")
        while at < end or run.tree.size == 0:
            self.entries = seq = run.tree.size
            stop = data.find(b"\n", at, end)
            if stop < 0:
                what = "receipts.ndjson is empty" if at == end else "the last line does not end in LF"
                raise Refusal("LINE_LENGTH", what, seq)
            if stop - at > LINE_MAX:
                raise Refusal("LINE_LENGTH", "the line is longer than 16,384 bytes", seq)
            line = bytes(data[at:stop])
            run.add(read_line(self.schemas, line, seq), line, signature, self.keys)
            at = stop + 1
        self.entries = size = run.tree.size
        if run.seal is None:
            raise Refusal("SEAL_MISSING", "the run was not sealed: entries may be missing at its end", size)
        if (sig_end - sig_start != 64 * size) if run.sign_each else ("receipts.sig" in self.names):
            raise Refusal("SIGNATURE_SURPLUS", "receipts.sig holds more than one signature per entry")

    def check_totals(self):
        self.run.check_seal()
        for name, value in self.run.summary().items():
            said = self.manifest.get(name)
            if name == "metrics" and said is not None:
                said = {k: v for k, v in said.items() if k != "snapshot_lag_bytes_max"}
            if said != value:
                raise Refusal("MANIFEST_MISMATCH", "the manifest's %s is not what the entries say" % name)

    def check_checkpoint(self):
        try:
            note = Note(self.box.read("checkpoint"))
            if note.origin != "%s/run/%s" % (self.iss, self.run_id):
                raise Malformed("its origin is not that of this run")
        except Malformed as wrong:
            raise Refusal("CHECKPOINT_MALFORMED", "the checkpoint cannot be used: %s" % wrong) from None
        if (note.size, note.root) != (self.run.tree.size, self.run.tree.root()):
            raise Refusal("CHECKPOINT_MISMATCH", "the checkpoint is of another size or root than the run")
        self.checkpoint_keys = [note.signer(self.keys.values(), self.iss)]
        if self.checkpoint_keys[0] is None:
            raise Refusal("CHECKPOINT_SIGNATURE", "the checkpoint's signature does not verify")

    def check_files(self):
        files = self.manifest["files"]
        paths = [row["path"] for row in files]
        for path in paths:
            if path not in self.names:
                raise Refusal("FILE_MISSING", "%s is listed but not there" % _shown(path))
        listed = set(paths)
        for name in self.box.names:
            if name not in listed and name not in _UNLISTED:
                raise Refusal("FILE_UNLISTED", "%s is there but not listed" % name)
        if paths != sorted(listed) or listed.intersection(_UNLISTED):
            raise Refusal("FILE_UNLISTED", "the list of files is not sorted, or lists a file twice or wrongly")
        self.sums = {}
        for row in files:
            view = self.box.view(row["path"])
            self.sums[row["path"]] = hashlib.sha256(view).hexdigest()
            if len(view) != row["bytes"] or "sha256:" + self.sums[row["path"]] != row["sha256"]:
                raise Refusal("FILE_DIGEST", "%s is not of the size and digest in the manifest" % row["path"])
        for path in paths:
            if path.startswith(("policy/", "contracts/", "bodies/")):
                names = [form.fullmatch(path) for form in _NAMED_BY_DIGEST]
                if not any(found and found.group(1) == self.sums[path] for found in names):
                    raise Refusal("FILE_NAME_DIGEST", "%s is not named by its digest" % path)
        for policy, seq in sorted(self.run.policy_first.items(), key=lambda item: item[1]):
            if "policy/%s.json" % policy[len("sha256:") :] not in self.names:
                raise Refusal("POLICY_MISSING", "the policy of this receipt is not in the bundle", seq)

    def check_statement(self):
        manifest = hashlib.sha256(self.box.view("manifest.json")).hexdigest()
        subjects = sorted([("manifest.json", manifest)] + list(self.sums.items()))
        wanted = {
            "_type": "https://in-toto.io/Statement/v1",
            "predicate": dict(self.manifest["tree"], run=self.run_id, v="pef/v0"),
            "predicateType": "urn:estoppel:pef:manifest:v0",
            "subject": [{"digest": {"sha256": digest}, "name": name} for name, digest in subjects],
        }
        if canonical(wanted) != self.statement:
            raise Refusal("STATEMENT_MISMATCH", "the signed statement is not about these files and this run")
        sums = dict(subjects)
        sums["manifest.dsse.json"] = hashlib.sha256(self.box.view("manifest.dsse.json")).hexdigest()
        text = "".join("%s  %s\n" % (sums[name], name) for name in sorted(sums))
        if self.box.read("SHA256SUMS") != text.encode("ascii"):
            raise Refusal("SUMS_MISMATCH", "SHA256SUMS is not the list of these files")

    def check_streams(self):
        for seq, call, sse in self.run.streams:

            def refuse(detail):
                raise Refusal("STREAM_MISMATCH", detail, seq)

            name = "streams/%s.nodes" % call
            if name not in self.names:
                refuse("the stream's file is not there")
            if "sha256:" + self.sums[name] != sse["nodes"]:
                refuse("the stream's file is not the one that the receipt names")
            level = 0
            while -(-sse["units"] >> level) > STREAM_NODES_MAX:
                level += 1
            if sse.get("level") != level:
                refuse("the stream's level does not fit its number of units")
            data = self.box.read(name)
            if len(data) != 32 * -(-sse["units"] >> level):
                refuse("the stream's file does not have the number of nodes that is due")
            root = tree_root(data[at : at + 32] for at in range(0, len(data), 32))
            if "root:" + root.hex() != sse["root"]:
                refuse("the stream's nodes do not lead to its root")

    def check_bodies(self):
        externals = [row["sha256"] for row in self.manifest["externals"]]
        kept = set(externals)
        for seq, digest in self.run.bodies:
            if digest not in kept and "bodies/" + digest[len("sha256:") :] not in self.names:
                raise Refusal("BODY_MISSING", "a stored body of this receipt is not in the bundle", seq)
        named = {digest for _, digest in self.run.bodies}
        for digest in externals:
            if digest not in named:
                raise Refusal("EXTERNAL_UNKNOWN", "no receipt names the external %s" % digest)

    def check_externals(self):
        paths = []
        for row in self.manifest["externals"]:
            paths.append(os.path.join(self.box.folder, row["sha256"][len("sha256:") :]))
            if not os.path.isfile(paths[-1]):
                raise Refusal("MISSING_EXTERNAL", "the external %s is not beside the bundle" % row["sha256"])
        for row, path in zip(self.manifest["externals"], paths):
            digest, size = hashlib.sha256(), 0
            with open(path, "rb") as file:
                for block in iter(lambda: file.read(1 << 20), b""):
                    digest.update(block)
                    size += len(block)
            if size != row["bytes"] or "sha256:" + digest.hexdigest() != row["sha256"]:
                raise Refusal("EXTERNAL_DIGEST", "the external %s is not of its size and digest" % row["sha256"])

    def check_anchor(self):
        if "anchor.tlog-proof" not in self.names:
            return
        try:
            anchor = Anchor(self.box.read("anchor.tlog-proof"))
            if anchor.note.origin != self.iss:
                raise Malformed("its checkpoint is not of this instance")
        except Malformed as wrong:
            raise Refusal("ANCHOR_MALFORMED", "the anchor cannot be used: %s" % wrong) from None
        leaf = bytes.fromhex(self.run.head[len("leaf:") :])
        if root_from_path(anchor.index, anchor.note.size, leaf, anchor.path) != anchor.note.root:
            raise Refusal("ANCHOR_MISMATCH", "the anchor does not lead from the seal to its checkpoint")
        signer = anchor.note.signer(self.keys.values(), self.iss)
        if signer is None:
            raise Refusal("ANCHOR_SIGNATURE", "the signature of the anchor's checkpoint does not verify")
        self.anchor = anchor
        self.checkpoint_keys.append(signer)

    def check_trust(self):
        first = ("receipt", self.run.first_key)
        manifest = ("manifest", self.manifest_key.kid)
        checkpoints = [("checkpoint", key.kid) for key in self.checkpoint_keys]

        def row(use, kid):
            key = self.trusted.get(kid)
            return key if key and key.use == use and key.iss == self.iss else None

        # Unsigned entries stand on the manifest and the checkpoint: one of these must not need the entries in turn.
        vouched = self.run.sign_each or row(*manifest) or row(*checkpoints[0])
        for use, kid in [first, manifest] + checkpoints:
            by_rotation = vouched and use != "receipt" and (use, kid) in self.run.brought
            if not by_rotation and row(use, kid) is None:
                raise Refusal("KEY_UNTRUSTED", "the %s key %s is not in the trust document" % (use, kid))
        for use, kid in [first, manifest] + checkpoints + self.run.brought:
            key = row(use, kid)
            if key and key.revoked_from is not None:
                if self.anchor is None or self.anchor.index >= key.revoked_from:
                    detail = "the %s key %s is revoked from index %d, and this run is not proven to be older"
                    raise Refusal("KEY_REVOKED", detail % (use, kid, key.revoked_from))


# --- proving an event (section 16) ------------------------------------------------------------

_LINE_END = re.compile(rb"\r\n?|\n")
_START, _AFTER_CR, _AFTER_LF = range(3)
_UNDECIDED = frozenset("DISCLOSURE_MISMATCH STREAM_NODES_ABSENT EVENT_BLOCK BODY_ABSENT".split())
_REFUTED = frozenset(
    "CALL_UNKNOWN STREAM_ABSENT EVENT_MISSING EVENT_SURPLUS EVENTS_UNKNOWN EVENT_MISMATCH BODY_UNKNOWN".split()
)


def cut_units(data, before):
    """Section 7: the units of `data`, which stands at the start of a stream, or after a unit that ends in CR or LF."""
    start = line = 0
    if before == _START and data.startswith(b"\xef\xbb\xbf"):
        line = 3
    elif before == _AFTER_CR and data.startswith(b"\n"):
        line = 1
    for end in _LINE_END.finditer(data, line):
        if end.start() == line:
            yield data[start : line + 1]  # of a CRLF, the LF is the next unit's
            start = line + 1
        line = end.end()
    if start < len(data):
        yield data[start:]


def read_disclosure(schemas, data):
    """-> the document. Raises Unreadable with DISCLOSURE_INVALID."""
    try:
        document = admit(data)
        if canonical(document) != data:
            raise Malformed("it is not in canonical form")
        wrong = schemas.disclosure.error(document)
        if wrong:
            raise Malformed(wrong)
        if ("call" in document) == (document["scope"] == "run"):
            raise Malformed("`call` goes with the scopes `events` and `call`, and only with them")
        return document
    except Malformed as wrong:
        raise Unreadable("the disclosure cannot be used: %s" % wrong, "DISCLOSURE_INVALID") from None


def call_key(document, call):
    """K_call of the call, of a key that is not K_events."""
    key = bytes.fromhex(document["key"])
    if document["scope"] == "run":
        key = hmac.digest(key, b"pef/v0/call-key\0" + bytes.fromhex(call.replace("-", "")), "sha256")
    return key


def events_key(document, call):
    """K_events of the call."""
    if document["scope"] == "events":
        return bytes.fromhex(document["key"])
    return hmac.digest(call_key(document, call), b"pef/v0/sse-events", "sha256")


def disclosure_fault(document, opening, call):
    """Why the key is not for this call, if it is not (E4, D4)."""
    if document["run"] != opening["run"] or document.get("call", call) != call:
        return "the disclosed key is of another run or call"
    commitment = "commit:" + sha256(b"pef/v0/capture-key\0" + bytes.fromhex(document["key"])).hex()
    if document["scope"] == "run" and commitment != opening["capture"]["commitment"]:
        return "the disclosed key is not the one that the run committed to"
    return None


class Given:
    """A bundle, and bytes that are said to be of one of its calls."""

    kind = "bundle"

    def __init__(self, bundle, call, disclosure):
        self.bundle, self.call, self.disclosure = bundle, call, disclosure
        self.proof = "unchecked"

    @property
    def run_id(self):
        return self.bundle.run_id

    @property
    def entries(self):
        return self.bundle.entries

    @property
    def decided(self):
        return self.bundle.decided

    def verify(self):
        if self.bundle.trust is not None:
            read_trust(self.bundle.schemas, self.bundle.trust)
        document = read_disclosure(self.bundle.schemas, self.disclosure)
        self.bundle.verify()
        try:
            self.prove(document)
        except Refusal as refusal:
            self.proof = "failed" if refusal.code in _REFUTED else "unchecked"
            raise
        self.proof = "proven"

    def refuse(self, code, detail, unit=None):
        raise Refusal(code, detail, self.seq, unit=unit)

    def find(self):
        """-> `sse` and the commitments of the call."""
        self.seq, sse, commits = self.bundle.run.calls.get(self.call, (None, None, None))
        if self.seq is None:
            self.refuse("CALL_UNKNOWN", "the run has no call with this id")
        return sse, commits

    def check_key(self, document):
        fault = disclosure_fault(document, self.bundle.run.opening, self.call)
        if fault:
            self.refuse("DISCLOSURE_MISMATCH", fault)


class Body(Given):
    """One body of a call (section 17)."""

    about = "body"

    def __init__(self, bundle, call, disclosure, part, content):
        super().__init__(bundle, call, disclosure)
        self.part, self.content = part, content

    def prove(self, document):
        _, commits = self.find()
        commit = commits[self.part]
        if commit is None:
            self.refuse("BODY_ABSENT", "the receipt commits to no such body")
        self.check_key(document)
        if document["scope"] == "events":
            self.refuse("DISCLOSURE_MISMATCH", "the disclosed key is of the events, and proves no body")
        label = b"pef/v0/request-body\0" if self.part == "request" else b"pef/v0/response-body\0"
        mac = hmac.digest(call_key(document, self.call), label + sha256(self.content), "sha256")
        if commit != "commit:" + mac.hex():
            self.refuse("BODY_UNKNOWN", "the receipt commits to other bytes, or the key is another")


class Events(Given):
    """A stream, or units of it (section 16)."""

    about = "stream"

    def __init__(self, bundle, call, disclosure, events, place):
        super().__init__(bundle, call, disclosure)
        self.events, self.place = events, place

    def prove(self, document):
        sse, _ = self.find()
        if sse is None:
            self.refuse("STREAM_ABSENT", "the call was not answered by an event stream")
        self.check_key(document)
        self.units, self.block = sse["units"], 1 << sse.get("level", 0)
        self.root, self.nodes = sse["root"], None
        if "nodes" in sse:
            data = self.bundle.box.read("streams/%s.nodes" % self.call)
            self.nodes = [data[at : at + 32] for at in range(0, len(data), 32)]
        self.prefix = b"\0" + events_key(document, self.call)
        if self.place and self.events.startswith(b"\n"):
            try:
                return self.compare(_AFTER_CR)
            except Refusal:
                return self.compare(_AFTER_LF)
        return self.compare(_AFTER_LF if self.place else _START)

    def compare(self, before):
        first = self.place or 0
        hashes = [sha256(self.prefix + unit) for unit in cut_units(self.events, before)]
        count = len(hashes)
        if self.place is not None:
            self.check_place(count)
        if self.nodes is None:
            self.check_count(count)
            if "root:" + tree_root(hashes).hex() != self.root:
                self.refuse("EVENTS_UNKNOWN", "the units have another root than the receipt states")
            return
        if self.block > 1:
            hashes = hashes[: self.units - first]
            whole = range(0, len(hashes), self.block)
            if first + len(hashes) < self.units:
                whole = range(0, len(hashes) - self.block + 1, self.block)
            hashes = [tree_root(hashes[at : at + self.block]) for at in whole]
        if hashes and set(self.nodes).isdisjoint(hashes):
            self.refuse("EVENTS_UNKNOWN", "nothing that was given is in the stream: other bytes, or another key")
        for at, (given, node) in enumerate(zip(hashes, self.nodes[first // self.block :])):
            if given != node:
                unit = first + at * self.block
                self.refuse("EVENT_MISMATCH", "the stream holds something else at this place", unit)
        if self.place is None:
            self.check_count(count)

    def check_place(self, count):
        if self.nodes is None:
            self.refuse("STREAM_NODES_ABSENT", "only the whole stream can be proven, as no nodes of it were kept")
        if count == 0:
            self.refuse("EVENT_MISSING", "there is no byte", self.place)
        end = self.place + count
        if end > self.units:
            self.refuse("EVENT_SURPLUS", "the stream has %d units" % self.units, self.units)
        for cut in (self.place, end):
            if cut % self.block and cut != self.units:
                detail = "a node of this stream covers %d units, which can only be proven together"
                self.refuse("EVENT_BLOCK", detail % self.block, cut - cut % self.block)

    def check_count(self, count):
        at = None if self.nodes is None else min(count, self.units)
        if count < self.units:
            self.refuse("EVENT_MISSING", "the stream has %d units, and %d were given" % (self.units, count), at)
        if count > self.units:
            self.refuse("EVENT_SURPLUS", "the stream has %d units, and %d were given" % (self.units, count), at)


# --- verifying a journal (sections 12 and 13) -------------------------------------------------

_SEGMENT_NAME = re.compile(r"([0-9]{20})\.seg")
_INSTANCE = re.compile(r"[a-z0-9.-]{1,64}/[a-z0-9._-]{1,64}/[0-9]{1,9}")
_HEADER_SIZE = 256
_FRAME = struct.Struct("<IBQI")
_PAYLOAD_MAX = 32 + 32 * STREAM_NODES_MAX  # a blob of as many nodes as a stream has at most
_BEGINNING_MAX = 2**26  # bytes of beginning.json
_SEARCH_MAX = 2**30  # payload bytes that the search for a later frame may look at
_UNFINISHED = re.compile(r"[0-9]{20}\.seg\.tmp")  # what a crash leaves; the next start removes it
_NONZERO = re.compile(rb"[^\0]")
_FRAME_LIKE = re.compile(rb"(?=(?!\0\0\0\0)....[\1-\4])", re.DOTALL)
_ENTRY, _BLOB, _CHECKPOINT, _END_OF_SEGMENT = 1, 2, 3, 4


class Segment:
    """The header is read at once; the file is mapped only while its frames are looked at."""

    def __init__(self, path, name):
        def refuse(detail):
            raise Refusal("SEGMENT_HEADER", "segment %s: %s" % (_shown(name), detail))

        self.path, self.name = path, name
        found = _SEGMENT_NAME.fullmatch(name)
        if not found or not stat.S_ISREG(os.lstat(path).st_mode):
            refuse("it is not a regular file of that kind")
        with open(path, "rb") as file:
            header = file.read(_HEADER_SIZE)
        if len(header) < _HEADER_SIZE:
            refuse("it is shorter than its header")
        magic, self.first, self.prev, size, name_field, crc = struct.unpack("<8sQ32sH202sI", header)
        if magic != b"PEFSEG0\n" or crc != zlib.crc32(header[: _HEADER_SIZE - 4]):
            refuse("its header is damaged")
        self.instance = name_field[:size].decode("ascii", "replace")
        if size > len(name_field) or any(name_field[size:]) or not _INSTANCE.fullmatch(self.instance):
            refuse("its header holds no well-formed instance name")
        if self.first != int(found.group(1)):
            refuse("its name is not the index of its first entry")

    def open(self):
        self.data = open_mapped(self.path)

    def close(self):
        self.data = None

    def frame(self, at):
        """-> (type, log index, payload start, payload end), or None for a bad frame."""
        size = self.payload_size(at)
        if not size:
            return None
        _, kind, index, crc = _FRAME.unpack_from(self.data, at)
        start = at + _FRAME.size
        with memoryview(self.data) as view:
            if zlib.crc32(view[start : start + size], zlib.crc32(view[at : at + 13])) != crc:
                return None
        return kind, index, start, start + size

    def payload_size(self, at):
        """The length that a frame states, or 0 when no frame of a known type fits there."""
        if len(self.data) - at < _FRAME.size:
            return 0
        size, kind, _, _ = _FRAME.unpack_from(self.data, at)
        fits = 1 <= kind <= 4 and size <= min(_PAYLOAD_MAX, len(self.data) - at - _FRAME.size)
        return size if fits else 0

    def only_zeros_from(self, at):
        return _NONZERO.search(self.data, at) is None

    def valid_frame_after(self, at):
        left = _SEARCH_MAX
        for found in _FRAME_LIKE.finditer(self.data, at + 1):
            size = self.payload_size(found.start())
            if size > left or (size and self.frame(found.start())):
                return True  # past the limit a journal counts as damaged, which claims less than torn
            left -= size
        return False


class Beginning:
    """beginning.json: what is said of segments that were deleted (G1-G6)."""

    def __init__(self, schemas, data, keys, iss):
        def malformed(detail):
            raise Refusal("ENVELOPE_MALFORMED", "beginning.json: %s" % detail)

        def refuse(detail):
            raise Refusal("STATEMENT_MISMATCH", "beginning.json: %s" % detail)

        if len(data) > _BEGINNING_MAX:
            malformed("it has more than 64 MiB")
        payload, kid, signature = read_envelope(schemas, data, TYPE_STATEMENT)
        self.key = keys.get(kid)
        if self.key is None or self.key.use != "manifest" or self.key.iss not in (None, iss):
            raise Refusal("KEY_UNKNOWN", "beginning.json is signed by no known manifest key of this instance")
        if not self.key.verify_dsse(signature, TYPE_STATEMENT, payload):
            raise Refusal("ENVELOPE_SIGNATURE", "the signature of beginning.json does not verify")
        try:
            document = admit(payload)
        except Malformed as wrong:
            malformed("its payload cannot be read: %s" % wrong)
        if canonical(document) != payload:
            malformed("its payload is not in canonical form")
        wrong = schemas.beginning.error(document)
        if wrong:
            malformed("its payload does not fit its schema: %s" % wrong)
        said = document["predicate"]
        if said["iss"] != iss:
            refuse("it is of another instance")
        due, subjects = 0, []
        for segment in said["segments"]:
            if segment["first"] != due:
                refuse("its segments do not follow each other")
            due += segment["entries"]
            name = "segments/%020d.seg" % segment["first"]
            subjects.append({"digest": {"sha256": segment["sha256"][len("sha256:") :]}, "name": name})
        if due != said["size"] or said["head"] != said["segments"][-1]["head"]:
            refuse("its segments do not add up to its size and head")
        if document["subject"] != subjects:
            refuse("it is not about the segments that it lists")
        ids = [run["run"] for run in said["runs"]]
        if ids != sorted(set(ids)):
            refuse("its runs are not in order")
        if any(bin(each["size"]).count("1") != len(each["peaks"]) for each in (said, *said["runs"])):
            refuse("its peaks are not as many as its sizes ask for")
        self.size, self.plan, self.said = said["size"], said["plan"], said
        self.recorded = None  # index of the first entry that says that the deletion was begun

    def facts(self):
        """-> (entries before, segments before, plan, [(endpoint, bucket) of copies])"""
        copies = sorted({(each["copy"]["endpoint"], each["copy"]["bucket"]) for each in self.said["segments"]})
        return (self.size, len(self.said["segments"]), self.plan, copies)

    def see(self, entry, index):
        named = entry["kind"] == "act" and (entry["act"], entry.get("on")) == ("retention_planned", self.plan)
        if named and self.recorded is None:
            self.recorded = index

    def check_recorded(self, entries):
        if self.recorded is None:
            detail = "no entry says that the segments before the first one were to be deleted"
            raise Refusal("BEGINNING_UNRECORDED", detail, None, entries)
        if self.key.revoked_from is not None and self.recorded >= self.key.revoked_from:
            detail = "the key of beginning.json is revoked from index %d" % self.key.revoked_from
            raise Refusal("KEY_REVOKED", detail, None, self.recorded)


class Journal:
    kind = "journal"
    run_id = None

    def __init__(self, schemas, path, trust, against):
        self.schemas, self.path, self.given, self.against = schemas, path, trust, against
        self.tree = Tree()
        self.last = bytes(32)  # hash of the newest entry
        self.runs = {}
        self.blobs = []  # digests of blobs that the next entry must name
        self.unsigned = 0  # size of the log when its newest entry without a signature was in
        self.covered = 0  # largest size that a verified checkpoint has
        self.beginning = None  # what was before the first segment, where that was deleted
        self.decided = {}

    @property
    def entries(self):
        return self.tree.size

    def verify(self):
        trust = self.given
        if trust is None:
            trust = self.read_file("trust.json")
            if trust is None:
                raise Unreadable("the journal has no trust.json, and none was given", "TRUST_INVALID")
        self.keys = read_trust(self.schemas, trust)
        self.read_newest()
        segments = self.open_segments()
        self.iss = segments[0].instance
        segments = self.begin(segments)
        for segment in segments:
            segment.open()
            self.check_segment(segment, segment is segments[-1])
            segment.close()
        if self.blobs:
            raise Refusal("BLOB_MISMATCH", "no entry follows that names a blob", None, self.entries)
        self.check_newest()
        self.decided["integrity"] = "ok"
        if self.unsigned <= self.covered:  # else entries are there that nobody has signed in any way
            self.decided["authenticity"] = "self_asserted" if self.given is None else "trusted"
        # The file `checkpoint` can be set back together with the segments; only one from elsewhere says more.
        self.decided["completeness"] = "unchecked" if self.against is None else "complete"
        self.decided["anchoring"] = "absent" if self.against is None else "anchored"

    def begin(self, segments):
        """G1-G5. -> the segments that are read."""
        data = self.read_file("beginning.json")
        if data is None:
            return segments
        self.beginning = Beginning(self.schemas, data, self.keys, self.iss)
        said = self.beginning.said
        segments = [segment for segment in segments if segment.first >= said["size"]]
        if not segments:
            detail = "there is no segment after those that were deleted"
            raise Refusal("INDEX_MISMATCH", detail, None, said["size"])
        self.tree.begin(said["size"], [bytes.fromhex(peak[5:]) for peak in said["peaks"]])
        self.last = bytes.fromhex(said["head"][5:])
        for before in said["runs"]:
            run = Run(before["run"], self.iss, collect=False)
            run.begin(before)
            self.runs[before["run"]] = run
        self.mark()
        return segments

    def read_newest(self):
        """The file `checkpoint` and the reader's are judged last; their sizes are needed while the tree grows."""
        self.newest = []  # [note, or what is wrong with it; root of the log at its size]
        for data in (self.read_file("checkpoint"), self.against):
            if data is not None:
                try:
                    self.newest.append([Note(data), None])
                except Malformed as wrong:
                    self.newest.append([wrong, None])
        self.mark()

    def read_file(self, name):
        path = os.path.join(self.path, name)
        if not os.path.lexists(path):
            return None
        if not os.path.isfile(path):
            raise Unreadable("%s is not a file" % name)
        with open(path, "rb") as file:
            return file.read()

    def mark(self):
        for newest in self.newest:
            if isinstance(newest[0], Note) and newest[0].size == self.tree.size:
                newest[1] = self.tree.root()

    def open_segments(self):
        folder = os.path.join(self.path, "segments")
        try:
            names = sorted(os.listdir(folder), key=os.fsencode)
        except (FileNotFoundError, NotADirectoryError):
            names = []
        names = [name for name in names if not _UNFINISHED.fullmatch(name)]
        if not names:
            raise Refusal("SEGMENT_HEADER", "there is no segment")
        segments = [Segment(os.path.join(folder, name), name) for name in names]
        for segment in segments:
            if segment.instance != segments[0].instance:
                raise Refusal("SEGMENT_HEADER", "segment %s is of another instance" % segment.name)
        return segments

    def check_segment(self, segment, is_last):
        def refuse(code, detail):
            raise Refusal(code, "segment %s: %s" % (segment.name, detail), None, self.entries)

        if segment.first != self.entries:
            refuse("INDEX_MISMATCH", "it begins with another index than the one that is due")
        if segment.prev != self.last:
            refuse("INDEX_MISMATCH", "it does not continue from the entry before")
        at, ended = _HEADER_SIZE, False
        while not segment.only_zeros_from(at):
            if ended:
                refuse("INDEX_MISMATCH", "something follows its end frame")
            frame = segment.frame(at)
            if frame is None:
                torn = is_last and not segment.valid_frame_after(at)
                where = "the frame at byte %d is broken" % at
                refuse("JOURNAL_TORN" if torn else "FRAME_INVALID", where)
            kind, index, start, end = frame
            payload = bytes(segment.data[start:end])
            if index != self.entries:
                refuse("INDEX_MISMATCH", "the frame at byte %d has another index than the one that is due" % at)
            if kind == _ENTRY and (payload[0] not in (0, 64) or len(payload) < 1 + payload[0]):
                refuse("FRAME_INVALID", "the entry at byte %d has no well-formed signature length" % at)
            if kind == _BLOB and len(payload) < 32:
                refuse("FRAME_INVALID", "the blob at byte %d has no digest" % at)
            if kind == _END_OF_SEGMENT and payload != b"\0":
                refuse("FRAME_INVALID", "the end frame at byte %d has a payload" % at)
            if kind == _ENTRY:
                self.check_entry(payload)
            elif kind == _BLOB:
                if sha256(payload[32:]) != payload[:32]:
                    refuse("BLOB_MISMATCH", "the blob at byte %d does not have its digest" % at)
                self.blobs.append("sha256:" + payload[:32].hex())
            elif kind == _CHECKPOINT:
                self.check_note(payload)
            ended = kind == _END_OF_SEGMENT
            at = end
        if not ended and not is_last:
            refuse("INDEX_MISMATCH", "it has no end frame, and another segment follows")

    def check_entry(self, payload):
        index = self.entries
        line = payload[1 + payload[0] :]
        stored = payload[1 : 1 + payload[0]]
        entry = read_line(self.schemas, line, None, index)
        run = self.runs.get(entry["run"])
        if run is None:
            run = Run(entry["run"], self.iss, collect=False)
        leaf = run.add(entry, line, lambda _seq: stored, self.keys, index)
        self.runs[entry["run"]] = run
        for digest in self.blobs:
            if entry.get("sse", {}).get("nodes") != digest:
                raise Refusal("BLOB_MISMATCH", "the entry does not name the blob before it", entry["seq"], index)
        self.blobs = []
        if entry["kind"] == "run.seal":
            run.check_seal(index)
        if self.beginning:
            self.beginning.see(entry, index)
        self.tree.push(leaf)
        self.last = leaf
        if not stored:
            self.unsigned = self.tree.size
        self.mark()

    def note(self, data, index):
        """T1 and T3 are as for a run, but for the origin."""
        try:
            if isinstance(data, Malformed):
                raise data
            note = data if isinstance(data, Note) else Note(data)
            if note.origin != self.iss:
                raise Malformed("its origin is not this instance")
        except Malformed as wrong:
            raise Refusal("CHECKPOINT_MALFORMED", "a checkpoint cannot be used: %s" % wrong, None, index) from None
        return note

    def signer(self, note, index):
        key = note.signer(self.keys.values(), self.iss)
        if key is None:
            raise Refusal("CHECKPOINT_SIGNATURE", "a checkpoint's signature does not verify", None, index)
        if key.revoked_from is not None and note.size > key.revoked_from:
            detail = "the checkpoint key is revoked from index %d" % key.revoked_from
            raise Refusal("KEY_REVOKED", detail, None, index)

    def check_note(self, payload):
        index = self.entries
        note = self.note(payload, index)
        if (note.size, note.root) != (self.tree.size, self.tree.root()):
            detail = "a checkpoint is of another size or root than the log at its place"
            raise Refusal("CHECKPOINT_MISMATCH", detail, None, index)
        self.signer(note, index)
        self.covered = note.size

    def check_newest(self):
        for newest, root in self.newest:
            note = self.note(newest, self.entries)
            self.signer(note, self.entries)
            if note.size > self.entries:
                detail = "the checkpoint counts %d entries, and only %d are there" % (note.size, self.entries)
                raise Refusal("JOURNAL_TRUNCATED", detail, None, self.entries)
            if self.beginning and note.size < self.beginning.size:
                detail = "the checkpoint counts %d entries, and those were deleted" % note.size
                raise Refusal("JOURNAL_BEGINS_LATER", detail, None, self.entries)
            if note.root != root:
                detail = "the log is not the one that the checkpoint is about"
                raise Refusal("CHECKPOINT_MISMATCH", detail, None, self.entries)
            self.covered = max(self.covered, note.size)
        if self.beginning:
            self.beginning.check_recorded(self.entries)


# --- verifying one receipt (section 14) -------------------------------------------------------


def read_public_key(data):
    """A PEM file, or the base64 of the SPKI."""
    try:
        words = data.decode("ascii").split("\n")
    except UnicodeDecodeError:
        words = []
    words = [word.strip() for word in words if word.strip()]
    if words and words[0] == "-----BEGIN PUBLIC KEY-----":
        words = words[1:-1] if words[-1] == "-----END PUBLIC KEY-----" else []
    spki = unbase64("".join(words))
    key = Key(spki) if spki else None
    if key is None or key.alg is None:
        raise Unreadable("the key is not an Ed25519 or P-256 public key in PEM or base64 SPKI", "ARGUMENT_INVALID")
    return key


class Receipt:
    kind = "receipt"
    run_id = entries = None

    def __init__(self, schemas, path, key, trust):
        self.schemas, self.path, self.key, self.trust = schemas, path, key, trust
        self.decided = {}

    def verify(self):
        keys = {self.key.kid: self.key} if self.key else read_trust(self.schemas, self.trust)
        with open(self.path, "rb") as file:
            data = file.read()
        line, kid, signature = read_envelope(self.schemas, data, TYPE_ENTRY)
        key = keys.get(kid)
        if key is None or key.use not in (None, "receipt"):
            raise Refusal("KEY_UNKNOWN", "the receipt is signed by no receipt key that was given")
        if not key.verify_dsse(signature, TYPE_ENTRY, line):
            raise Refusal("ENVELOPE_SIGNATURE", "the receipt's signature does not verify")
        entry = read_line(self.schemas, line)
        if entry["kid"] != kid or key.iss not in (None, entry["iss"]):
            detail = "the entry names another key or instance than that of the key that signed it"
            raise Refusal("KEY_MISMATCH", detail, entry["seq"])
        if key.revoked_from is not None:
            detail = "the key is revoked from index %d, and nothing proves that this receipt is older"
            raise Refusal("KEY_REVOKED", detail % key.revoked_from, entry["seq"])
        self.run_id, self.entries = entry["run"], 1
        self.decided = {"integrity": "ok", "authenticity": "trusted"}


# --- the answer -------------------------------------------------------------------------------

_VERDICTS = ("integrity", "authenticity", "completeness", "anchoring")
_AUTHENTICITY = frozenset(
    "KEY_UNKNOWN ENVELOPE_SIGNATURE KEY_MISMATCH SIGNATURE_MISSING SIGNATURE_INVALID ROTATION_INVALID APPROVAL_INVALID "
    "CHECKPOINT_SIGNATURE KEY_UNTRUSTED KEY_REVOKED".split()
)
_COMPLETENESS = frozenset(
    "SEAL_MISSING MISSING_EXTERNAL EXTERNAL_DIGEST JOURNAL_TRUNCATED JOURNAL_BEGINS_LATER BEGINNING_UNRECORDED".split()
)
_ANCHORING = frozenset("ANCHOR_MALFORMED ANCHOR_MISMATCH ANCHOR_SIGNATURE".split())


def _verdicts_of(code, decided):
    verdicts = dict(dict.fromkeys(_VERDICTS, "unchecked"), **decided)
    if code in _REFUTED or code in _UNDECIDED:
        return verdicts
    if code in _AUTHENTICITY:
        verdicts["authenticity"] = "failed"
    elif code in _COMPLETENESS:
        verdicts["completeness"] = "open" if code == "SEAL_MISSING" else "failed"
    elif code in _ANCHORING:
        verdicts["anchoring"] = "failed"
    else:
        verdicts["integrity"] = "failed"
    return verdicts


def _is_journal(path):
    def there(name):
        return os.path.lexists(os.path.join(path, name))

    if there("manifest.json") or there("receipts.ndjson"):
        return False
    return there("segments") or there("trust.json")


def _read_argument(source):
    """A file named on the command line, or the bytes that a caller of verify_path has already."""
    if source is None or isinstance(source, (bytes, bytearray)):
        return source
    with open(source, "rb") as file:
        return file.read()


def _subject(path, trust, key, against, disclosure, events, content, stream, place, body, part, schemas):
    subject = _evidence(path, trust, key, against, schemas)
    asked = (body, disclosure, part, content)
    if any(given is not None for given in (body, part, content)):
        others = any(given is not None for given in (stream, events, place))
        if others or any(given is None for given in asked) or subject.kind != "bundle" or part not in _PARTS:
            detail = "--body goes with --disclosure, --content, --part request|upstream|client, and a bundle"
            raise Unreadable(detail, "ARGUMENT_INVALID")
        return Body(subject, *asked)
    asked = (stream, disclosure, events)
    if all(given is None for given in (*asked, place)):
        return subject
    if any(given is None for given in asked) or subject.kind != "bundle":
        detail = "--stream goes with --disclosure, --events, and a bundle; --place goes with it"
        raise Unreadable(detail, "ARGUMENT_INVALID")
    if place is not None and not _DECIMAL.fullmatch(str(place)):
        raise Unreadable("a place is a number, counted from 0", "ARGUMENT_INVALID")
    return Events(subject, *asked, None if place is None else int(place))


_PARTS = ("request", "upstream", "client")


def _commitments(entry):
    bodies = {"request": entry["request"], **entry["response"]}
    return {part: bodies.get(part, {}).get("commit") for part in _PARTS}


def _evidence(path, trust, key, against, schemas):
    mode = os.stat(path).st_mode
    is_folder = stat.S_ISDIR(mode)
    if not is_folder and not stat.S_ISREG(mode):
        raise Unreadable("it is neither a file nor a directory")
    if key is not None:
        if is_folder:
            raise Unreadable("--key goes with a receipt envelope, and this is a directory", "ARGUMENT_INVALID")
        if trust is not None:
            raise Unreadable("--key and --trust do not go together", "ARGUMENT_INVALID")
    is_journal = is_folder and _is_journal(path)
    if against is not None and not is_journal:
        raise Unreadable("--against goes with a journal", "ARGUMENT_INVALID")
    if key is not None:
        return Receipt(schemas, path, read_public_key(key), None)
    if is_journal:
        return Journal(schemas, path, trust, against)
    if not is_folder:
        with open(path, "rb") as file:
            is_receipt = file.read(1) == b"{"
        if is_receipt and trust is None:
            raise Unreadable("a receipt is verified with --key FILE or --trust FILE", "ARGUMENT_INVALID")
        if is_receipt:
            return Receipt(schemas, path, None, trust)
    return Bundle(schemas, path, trust)


def verify_path(
    path, trust=None, key=None, against=None, schemas=None,
    stream=None, disclosure=None, events=None, place=None, body=None, part=None, content=None,
):  # fmt: skip
    """Verify what is at `path`. `trust`, `key`, `against`, `disclosure`, `events` and `content` are file names or bytes,
    `schemas` is a folder, `stream` and `body` are call ids, `place` is a number.

    -> {"ok", "reason", "seq", "index", "verdicts", "stream", "unit", "body", "run", "entries", "kind", "exit", "detail"}
    """
    subject = None
    answer = {
        "ok": False, "reason": None, "seq": None, "index": None,
        "verdicts": dict.fromkeys(_VERDICTS, "unchecked"), "stream": None, "unit": None, "body": None,
        "run": None, "entries": None, "kind": None, "exit": 6, "detail": "",
    }  # fmt: skip
    try:
        path = os.fsdecode(path)
        given = [_read_argument(source) for source in (trust, key, against, disclosure, events, content)]
        subject = _subject(path, *given, stream, place, body, part, find_schemas(schemas))
        subject.verify()
        answer["verdicts"].update(subject.decided)
        answer.update(ok=True, exit=0)
    except Refusal as refusal:
        code = 6 if refusal.code in _UNDECIDED else 2
        answer.update(reason=refusal.code, seq=refusal.seq, index=refusal.index, unit=refusal.unit, exit=code)
        answer.update(verdicts=_verdicts_of(refusal.code, subject.decided), detail=refusal.detail)
    except Unreadable as wrong:
        answer.update(reason=wrong.code, detail=wrong.detail)
    except OSError as error:
        where = ": " + _shown(os.fsdecode(error.filename), 300) if error.filename is not None else ""
        answer.update(reason="FILE_UNREADABLE", detail=(error.strerror or "cannot be read") + where)
    except ValueError as error:
        if "null" not in str(error):  # "embedded null byte": a path that no file can have
            raise
        answer.update(reason="FILE_UNREADABLE", detail="the path holds a NUL byte")
    if subject is not None:
        entries = None if answer["exit"] == 6 else subject.entries
        answer.update(kind=subject.kind, run=subject.run_id, entries=entries)
        if isinstance(subject, Journal) and subject.beginning:
            answer["begins"] = subject.beginning.facts()
        if isinstance(subject, Given):
            answer[subject.about] = subject.proof
    return answer


_MEANING = {
    ("bundle", "integrity", "ok"): "every byte is as it was sealed: entries, order, counts, files",
    ("journal", "integrity", "ok"): "every frame, entry, chain and checkpoint is as it was written",
    ("receipt", "integrity", "ok"): "the receipt is as it was signed",
    ("bundle", "authenticity", "trusted"): "the keys that signed are in your trust document",
    ("journal", "authenticity", "trusted"): "the keys that signed are in your trust document",
    ("receipt", "authenticity", "trusted"): "the key that you gave signed it",
    ("bundle", "authenticity", "self_asserted"): "NOBODY HAS VOUCHED FOR THE KEYS. They come from the bundle itself, and\n"
    "                               anyone can make such a bundle. Give --trust FILE, obtained from elsewhere.",
    ("journal", "authenticity", "self_asserted"): "NOBODY HAS VOUCHED FOR THE KEYS. They come from the journal itself, and\n"
    "                               anyone can make such a journal. Give --trust FILE, obtained from elsewhere.",
    ("journal", "authenticity", "unchecked"): "the newest entries are not signed, nor under a checkpoint that is",
    ("bundle", "completeness", "complete"): "from opening to seal no entry of this run is missing",
    ("journal", "completeness", "complete"): "nothing is missing up to the checkpoint that you gave; runs may be open",
    ("journal", "completeness", "unchecked"): "the end may have been cut off, and the file `checkpoint` with it:\n"
    "                               give --against FILE, a checkpoint that was kept elsewhere",
    ("receipt", "completeness", "unchecked"): "one receipt says nothing about the calls around it",
    ("bundle", "anchoring", "anchored"): "the seal is in a log whose checkpoint is signed",
    ("bundle", "anchoring", "absent"): "nothing ties this run to a log that others can see",
    ("journal", "anchoring", "anchored"): "it still holds what the checkpoint that you gave signs",
    ("journal", "anchoring", "absent"): "it was compared with no checkpoint from elsewhere",
    ("receipt", "anchoring", "unchecked"): "one receipt says nothing about a log",
}
_STREAM_MEANING = {
    "proven": "the bytes that you gave are what the client got, at their place",
    "failed": "by this bundle the bytes that you gave are not what the client got",
    "unchecked": "",
}
_BODY_MEANING = {
    "proven": "the bytes that you gave are that body, all of it",
    "failed": "by this bundle the bytes that you gave are not that body",
    "unchecked": "",
}
_NO_MEANING = {"open": "there is no seal: entries may be missing at the end"}
_NOT_PROVEN = """Not proven: that calls which did not pass the gateway did not happen, that what callers said of
themselves is true, that what upstream answered is true, and that the gateway's clock was right."""


def explain(answer, path):
    """The plain words."""
    shown = _shown(path, 300)
    if answer["exit"] == 6:
        return "NOT VERIFIED: %s\n%s: %s\n" % (shown, answer["reason"], answer["detail"])
    lines = []
    if answer["ok"]:
        lines.append("VERIFIED: %s %s" % (answer["kind"], shown))
    else:
        where = ""
        if answer["seq"] is not None:
            where += " at entry seq %d" % answer["seq"]
        if answer["unit"] is not None:
            where += ", unit %d" % answer["unit"]
        if answer["index"] is not None:
            where += " at log index %d" % answer["index"]
        lines.append("REFUSED: %s %s" % (answer["kind"] or "input", shown))
        lines.append("%s%s: %s." % (answer["reason"], where, answer["detail"]))
    if answer["run"] is not None:
        lines.append("run %s" % answer["run"])
    if answer["ok"] and answer["kind"] != "receipt":
        lines.append("%d entries" % answer["entries"])
    begins = answer.get("begins")
    if begins:
        lines.append("begins at entry %d: %d earlier segments were deleted by plan %s" % begins[:3])
        lines.extend("copies in bucket %s at %s" % (_shown(bucket), _shown(at)) for at, bucket in begins[3])
    lines.append("")
    for name in _VERDICTS:
        value = answer["verdicts"][name]
        meaning = _MEANING.get((answer["kind"], name, value), "") if answer["ok"] else _NO_MEANING.get(value, "")
        lines.append(("  %-13s %-14s %s" % (name, value, meaning)).rstrip())
    for name, meanings in (("stream", _STREAM_MEANING), ("body", _BODY_MEANING)):
        if answer[name] is not None:
            lines.append(("  %-13s %-14s %s" % (name, answer[name], meanings[answer[name]])).rstrip())
    lines.append("")
    if answer["ok"]:
        lines.append(_NOT_PROVEN)
    else:
        lines.append("The first check that fails decides; what is `unchecked` was not decided. Do not rely on it.")
    return "\n".join(lines) + "\n"


_USAGE = "usage: pef_verify.py [--trust FILE | --key FILE] [--against FILE] [--schemas DIR] [--json] PATH\n"
_USAGE += "  of a bundle: --stream CALL --disclosure FILE --events FILE [--place N]\n"
_USAGE += "               or: --body CALL --part request|upstream|client --disclosure FILE --content FILE\n"


_OPTIONS = ("--trust", "--key", "--against", "--schemas", "--stream", "--disclosure", "--events", "--place")
_OPTIONS += ("--body", "--part", "--content")


def _arguments(argv):
    """-> (options, path), or None."""
    options, paths, rest = {"json": False}, [], list(argv)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if word == "--":
            paths += rest
            break
        if word == "--json":
            options["json"] = True
        elif name in _OPTIONS:
            if not equals and not rest or name[2:] in options:
                return None
            options[name[2:]] = value if equals else rest.pop(0)
        elif word.startswith("-") and word != "-":
            return None
        else:
            paths.append(word)
    return (options, paths[0]) if len(paths) == 1 else None


def main(argv=None):
    argv = sys.argv[1:] if argv is None else argv
    if "--help" in argv or "-h" in argv:
        sys.stdout.write(_USAGE)
        return 0
    found = _arguments(argv)
    if found is None:
        sys.stderr.write(_USAGE)
        return 6
    options, path = found
    as_json = options.pop("json")
    try:
        answer = verify_path(path, **options)
    except (Exception, MemoryError) as error:  # the last resort: no traceback on any input
        where = error.__traceback__
        while where.tb_next:
            where = where.tb_next
        sys.stderr.write("internal error: %s, line %d\n" % (type(error).__name__, where.tb_lineno))
        return 1
    if as_json:
        names = ("ok", "reason", "seq", "index", "verdicts", "run", "entries", "kind")
        if answer["stream"] is not None:
            names += ("stream", "unit")
        if answer["body"] is not None:
            names += ("body",)
        sys.stdout.write(json.dumps({name: answer[name] for name in names}, separators=(",", ":")) + "\n")
    else:
        sys.stdout.write(explain(answer, path))
    return answer["exit"]


if __name__ == "__main__":
    sys.exit(main())
