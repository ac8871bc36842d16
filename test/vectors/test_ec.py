"""The curves of the generator against published answers."""

import hashlib
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import ec  # noqa: E402


class Ed25519(unittest.TestCase):
    """RFC 8032, section 7.1."""

    def check(self, seed, public, message, signature):
        seed, message = bytes.fromhex(seed), bytes.fromhex(message)
        self.assertEqual(ec.ed_public(seed).hex(), public)
        self.assertEqual(ec.ed_sign(seed, message).hex(), signature)

    def test_1_empty_message(self):
        self.check(
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
            "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        )

    def test_3_two_bytes(self):
        self.check(
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
            "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        )

    def test_points_survive_their_encoding(self):
        for scalar in (1, 2, 12345, ec.L - 1):
            point = ec.ed_encode(ec.ed_multiply(scalar, ec.BASE))
            self.assertEqual(ec.ed_encode(ec.ed_decode(point)), point)


class P256(unittest.TestCase):
    """RFC 6979, section A.2.5."""

    SECRET = 0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721

    def test_public_key(self):
        x, y = ec.p256_public(self.SECRET)
        self.assertEqual(x.hex(), "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6")
        self.assertEqual(y.hex(), "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299")

    def test_nonce(self):
        nonce = next(ec.rfc6979(self.SECRET, hashlib.sha256(b"sample").digest()))
        self.assertEqual(nonce, 0xA6E3C57DD01ABE90086538398355DD4C3B17AA873382B0F24D6129493D8AAD60)

    def test_signature_has_the_lower_s(self):
        r, s = ec.p256_sign(self.SECRET, b"sample")
        self.assertEqual(r, 0xEFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716)
        self.assertEqual(ec.N - s, 0xF7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8)
        self.assertEqual(ec.p256_sign(self.SECRET, b"sample", high=True), (r, ec.N - s))


if __name__ == "__main__":
    unittest.main()
