"""The frozen vector of spec/encryption.md, made and opened by code that is not ours, and held against the program."""

import base64
import hashlib
import json
import os
import pathlib
import struct
import subprocess

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
VECTOR = ROOT / "spec/encryption-vector"
PROGRAMS = pathlib.Path(os.environ.get("ESTOPPEL_BIN_DIR", ROOT / "target/debug"))
VERSION = b"estoppel-encryption/v0"
CHUNK = 65_536


def key_id(key):
    return hashlib.sha256(VERSION + b"/key-id\0" + key).hexdigest()[:16]


SHARED = b"estoppel-encryption/v1"


def head(key, data_key, nonce, salt=None):
    name = key_id(key)
    wrapped = nonce + AESGCM(key).encrypt(nonce, data_key, VERSION + b"/wrap\0" + name.encode())
    header = {
        "aead": "aes-256-gcm",
        "chunk_bytes": CHUNK,
        "key": {"id": name, "wrapped": base64.b64encode(wrapped).decode()},
        "v": VERSION.decode(),
    }
    if salt:
        header |= {"salt": base64.b64encode(salt).decode(), "v": SHARED.decode()}
    text = json.dumps(header, separators=(",", ":"), sort_keys=True).encode()
    return b"PEFENC0\n" + struct.pack("<I", len(text)) + text


def file_key(data_key, salt):
    return HKDF(hashes.SHA256(), 32, salt, SHARED + b"/file").derive(data_key) if salt else data_key


def associated(start, index, last, version=VERSION):
    return version + b"\0" + hashlib.sha256(start).digest() + struct.pack("<Q", index) + bytes([last])


def encrypted(key, data_key, nonce, content, salt=None):
    start = head(key, data_key, nonce, salt)
    version = SHARED if salt else VERSION
    parts = [content[at : at + CHUNK] for at in range(0, len(content), CHUNK)] or [b""]
    aead = AESGCM(file_key(data_key, salt))
    return start + b"".join(
        aead.encrypt(
            struct.pack("<QI", index, 0), part, associated(start, index, index == len(parts) - 1, version)
        )
        for index, part in enumerate(parts)
    )


def decrypted(key, sealed):
    (length,) = struct.unpack("<I", sealed[8:12])
    start, rest = sealed[: 12 + length], sealed[12 + length :]
    header = json.loads(start[12:])
    wrapped = base64.b64decode(header["key"]["wrapped"])
    name = header["key"]["id"]
    assert (sealed[:8], name) == (b"PEFENC0\n", key_id(key))
    data_key = AESGCM(key).decrypt(wrapped[:12], wrapped[12:], VERSION + b"/wrap\0" + name.encode())
    salt = base64.b64decode(header.get("salt", ""))
    version = SHARED if salt else VERSION
    aead = AESGCM(file_key(data_key, salt))
    parts = [rest[at : at + CHUNK + 16] for at in range(0, len(rest), CHUNK + 16)]
    return b"".join(
        aead.decrypt(
            struct.pack("<QI", index, 0), part, associated(start, index, index == len(parts) - 1, version)
        )
        for index, part in enumerate(parts)
    )


def content():
    """Two chunks and a byte, from a counter."""
    blocks = (2 * CHUNK + 1 + 31) // 32
    return b"".join(hashlib.sha256(struct.pack("<Q", at)).digest() for at in range(blocks))[: 2 * CHUNK + 1]


def key():
    return bytes.fromhex((VECTOR / "key").read_text().strip())


def test_the_vector_is_what_the_specification_makes_of_its_key_and_content():
    made = encrypted(key(), hashlib.sha256(b"vector data key").digest(), bytes(range(12)), content())
    assert (VECTOR / "content.enc").read_bytes() == made


def test_so_is_the_vector_of_a_shared_data_key():
    salt = hashlib.sha256(b"vector salt").digest()
    made = encrypted(key(), hashlib.sha256(b"vector data key").digest(), bytes(range(12)), content(), salt)
    assert (VECTOR / "shared.enc").read_bytes() == made
    assert decrypted(key(), made) == content()


@pytest.mark.parametrize("length", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_the_program_and_other_code_read_each_other(tmp_path, length):
    plain, sealed, back = (tmp_path / name for name in ("plain", "sealed", "back"))
    secret = tmp_path / "key"
    secret.write_text((VECTOR / "key").read_text())
    secret.chmod(0o600)
    plain.write_bytes((content() * 2)[:length])

    def run(word, source, target):
        words = [PROGRAMS / "estoppel", word, source, "--key", secret, "--out", target]
        subprocess.run(words, check=True, capture_output=True)

    run("encrypt", plain, sealed)
    assert decrypted(key(), sealed.read_bytes()) == plain.read_bytes()
    for salt in (None, bytes(range(32))):
        sealed.write_bytes(
            encrypted(key(), hashlib.sha256(b"other").digest(), bytes(12), plain.read_bytes(), salt)
        )
        back.unlink(missing_ok=True)
        run("decrypt", sealed, back)
        assert back.read_bytes() == plain.read_bytes()
