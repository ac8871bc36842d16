"""Ed25519 (RFC 8032) and ECDSA P-256 (FIPS 186-5 with RFC 6979 nonces): signing and public keys.

Only for test vectors: nothing here runs in constant time. The curve arithmetic is open, because some vectors
need signatures that no correct signer would make.
"""

import hashlib
import hmac

# --- Ed25519 ---

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
IDENTITY = (0, 1, 1, 0)
_BY = 4 * pow(5, P - 2, P) % P


def _recover_x(y, odd):
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if (x * x - square) % P:
        raise ValueError("not on the curve")
    return P - x if x & 1 != odd else x


def _point(x, y):
    return (x, y, 1, x * y % P)


BASE = _point(_recover_x(_BY, 0), _BY)


def ed_add(p, q):
    a = (p[1] - p[0]) * (q[1] - q[0]) % P
    b = (p[1] + p[0]) * (q[1] + q[0]) % P
    c = 2 * p[3] * q[3] * D % P
    d = 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def ed_multiply(scalar, point):
    result = IDENTITY
    while scalar:
        if scalar & 1:
            result = ed_add(result, point)
        point = ed_add(point, point)
        scalar >>= 1
    return result


def ed_encode(point):
    inverse = pow(point[2], P - 2, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def ed_decode(data):
    number = int.from_bytes(data, "little")
    y = number & (2**255 - 1)
    return _point(_recover_x(y, number >> 255), y)


def ed_expand(seed):
    """The secret scalar and the prefix of nonces."""
    digest = hashlib.sha512(seed).digest()
    scalar = int.from_bytes(digest[:32], "little")
    return scalar & (2**254 - 8) | 2**254, digest[32:]


def ed_hash(*parts):
    return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little") % L


def ed_public(seed):
    return ed_encode(ed_multiply(ed_expand(seed)[0], BASE))


def ed_sign(seed, message, *, torsion=None, extra=0):
    """`torsion` is added to R, `extra` times L to S: both make signatures that strict verifiers refuse."""
    scalar, prefix = ed_expand(seed)
    public = ed_public(seed)
    nonce = ed_hash(prefix, message)
    r = ed_multiply(nonce, BASE)
    if torsion is not None:
        r = ed_add(r, torsion)
    r = ed_encode(r)
    s = (nonce + ed_hash(r, public, message) * scalar) % L + extra * L
    return r + s.to_bytes(32, "little")


# --- P-256 ---

Q = 2**256 - 2**224 + 2**192 + 2**96 - 1
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
    1,
)


def p256_double(p):
    x, y, z = p
    if not y or not z:
        return (0, 1, 0)
    delta, gamma = z * z % Q, y * y % Q
    beta = x * gamma % Q
    alpha = 3 * (x - delta) * (x + delta) % Q
    x3 = (alpha * alpha - 8 * beta) % Q
    return (x3, (alpha * (4 * beta - x3) - 8 * gamma * gamma) % Q, 2 * y * z % Q)


def p256_add(p, q):
    if not p[2]:
        return q
    if not q[2]:
        return p
    z1, z2 = p[2] * p[2] % Q, q[2] * q[2] % Q
    u1, u2 = p[0] * z2 % Q, q[0] * z1 % Q
    s1, s2 = p[1] * q[2] * z2 % Q, q[1] * p[2] * z1 % Q
    if u1 == u2:
        return p256_double(p) if s1 == s2 else (0, 1, 0)
    h, r = (u2 - u1) % Q, (s2 - s1) % Q
    h2 = h * h % Q
    h3, u = h2 * h % Q, u1 * h2 % Q
    x = (r * r - h3 - 2 * u) % Q
    return (x, (r * (u - x) - s1 * h3) % Q, p[2] * q[2] * h % Q)


def p256_multiply(scalar, point):
    result = (0, 1, 0)
    while scalar:
        if scalar & 1:
            result = p256_add(result, point)
        point = p256_double(point)
        scalar >>= 1
    return result


def p256_affine(point):
    inverse = pow(point[2], Q - 2, Q)
    square = inverse * inverse % Q
    return point[0] * square % Q, point[1] * square * inverse % Q


def p256_secret(seed):
    return int.from_bytes(hashlib.sha512(b"p256" + seed).digest(), "big") % (N - 1) + 1


def p256_public(secret):
    x, y = p256_affine(p256_multiply(secret, G))
    return x.to_bytes(32, "big"), y.to_bytes(32, "big")


def rfc6979(secret, digest):
    """Nonces for one digest, in the order in which RFC 6979 tries them."""
    material = secret.to_bytes(32, "big") + (int.from_bytes(digest, "big") % N).to_bytes(32, "big")
    value, key = b"\1" * 32, b"\0" * 32
    for mark in (b"\0", b"\1"):
        key = hmac.digest(key, value + mark + material, "sha256")
        value = hmac.digest(key, value, "sha256")
    while True:
        value = hmac.digest(key, value, "sha256")
        nonce = int.from_bytes(value, "big")
        if 0 < nonce < N:
            yield nonce
        key = hmac.digest(key, value + b"\0", "sha256")
        value = hmac.digest(key, value, "sha256")


def p256_sign(secret, message, *, high=False):
    """(r, s) with s <= n/2, or with the other s when `high`."""
    digest = hashlib.sha256(message).digest()
    for nonce in rfc6979(secret, digest):
        r = p256_affine(p256_multiply(nonce, G))[0] % N
        s = pow(nonce, N - 2, N) * (int.from_bytes(digest, "big") + r * secret) % N
        if r and s:
            return r, (max if high else min)(s, N - s)
    raise AssertionError("unreachable")


def der_integer(number):
    body = number.to_bytes(number.bit_length() // 8 + 1, "big")
    return b"\x02" + bytes([len(body)]) + body


def der_signature(r, s):
    body = der_integer(r) + der_integer(s)
    return b"\x30" + bytes([len(body)]) + body
