"""Class bad-canonical: lines that are not admitted, or are not in canonical form.

All are chained and signed as they are. Most stand in receipts alone, which are small; some in bundles."""

from pef import canonical
from receipts import receipt
from run import Bundle
from tools import brief, lined, replacing, setting
from vector import failed, vector

ODD = {"note": "a", "other": 1}
IN_BUNDLES = {
    "duplicate-key-escaped",
    "integer-2-53",
    "byte-order-mark",
    "crlf",
    "trailing-space",
    "lone-surrogate",
    "key-order-private-use",
}


def bad(name, about, step, reason, raw):
    """One line about which `raw` is all that is wrong; its `ext` is {"note":"a","other":1}."""
    if name in IN_BUNDLES:
        vector(
            f"bad-canonical-{name}",
            about,
            failed(step, reason, 1),
            Bundle(**lined(brief(**ODD), raw={1: raw})),
        )
    else:
        receipt(
            f"bad-canonical-{name}",
            about,
            failed(step, reason, 1 if step == "L3" else None),
            edit=setting(ext=dict(ODD)),
            raw=raw,
        )


def malformed(name, about, raw):
    bad(name, f"A line {about}.", "L2", "LINE_MALFORMED", raw)


def loose(name, about, raw):
    bad(name, f"A line {about}.", "L3", "LINE_NOT_CANONICAL", raw)


def value(text):
    """The member `other` of `ext` as other text."""
    return replacing(b'"other":1', b'"other":' + (text if isinstance(text, bytes) else text.encode()))


def string(text):
    return value(b'"' + (text if isinstance(text, bytes) else text.encode()) + b'"')


# --- Not admitted ---

malformed("duplicate-key", "has a member twice", replacing(b'"note":"a"', b'"note":"a","note":"a"'))
malformed(
    "duplicate-key-escaped",
    "has a member twice, once with an escape",
    replacing(b'"note":"a"', b'"note":"a","n\\u006fte":"a"'),
)
malformed("duplicate-key-top", "has v twice", replacing(b'"v":"pef/v0"', b'"v":"pef/v0","v":"pef/v0"'))
malformed(
    "duplicate-key-later",
    "has a member twice with another between",
    replacing(b'"other":1', b'"other":1,"note":"b"'),
)
for name, text in {
    "null": "null",
    "float": "1.5",
    "float-integral": "1.0",
    "exponent": "1e2",
    "exponent-upper": "1E2",
    "minus-zero": "-0",
    "integer-2-53": "9007199254740992",
    "integer-minus-2-53": "-9007199254740992",
    "integer-huge": "1" + "0" * 400,
    "leading-zero": "01",
    "minus-leading-zero": "-01",
    "plus": "+1",
    "minus-only": "-",
    "hexadecimal": "0x1",
    "nan": "NaN",
    "infinity": "-Infinity",
    "true-upper": "True",
    "unquoted": "word",
    "trailing-comma": "[1,]",
    "object-comma": '{"a":1,}',
    "unclosed": "[1",
    "comment": "1/* */",
}.items():
    malformed(name, f"holds {text if len(text) < 20 else 'a number of 401 digits'}", value(text))
malformed("byte-order-mark", "starts with a byte order mark", lambda line: b"\xef\xbb\xbf" + line)
malformed("second-value", "is followed by a second value", lambda line: line + b"{}")
malformed("form-feed", "is followed by a form feed, which is no JSON whitespace", lambda line: line + b"\f")
malformed("array", "is an array", lambda line: b"[" + line + b"]")
malformed("single-quotes", "has single quotes", replacing(b'"a"', b"'a'"))
for name, about, text in (
    ("lone-surrogate", "a lone high surrogate", r"\ud83d"),
    ("lone-low-surrogate", "a lone low surrogate", r"\ude00"),
    ("reversed-surrogates", "a reversed surrogate pair", r"\ude00\ud83d"),
    ("surrogate-then-text", "a high surrogate before text", r"\ud83dx"),
    ("two-high-surrogates", "two high surrogates", r"\ud83d\ud83d"),
    ("noncharacter", "the noncharacter U+FDD0", "\ufdd0"),
    ("noncharacter-escaped", "the noncharacter U+FFFF as an escape", r"\uffff"),
    ("noncharacter-plane-1", "the noncharacter U+1FFFE", "\U0001fffe"),
    ("noncharacter-pair", "the noncharacter U+1FFFF as a surrogate pair", r"\ud83f\udfff"),
    ("overlong", "an overlong form of A", b"\xc1\x81"),
    ("overlong-nul", "an overlong zero", b"\xc0\x80"),
    ("overlong-three", "an overlong form of three bytes", b"\xe0\x82\x82"),
    ("overlong-four", "an overlong form of four bytes", b"\xf0\x80\x82\x82"),
    ("surrogate-in-utf-8", "a surrogate in UTF-8", b"\xed\xa0\x80"),
    ("above-10ffff", "a code point above U+10FFFF", b"\xf4\x90\x80\x80"),
    ("utf-8-cut", "a UTF-8 sequence that is cut off", b"\xe2\x82"),
    ("utf-8-stray", "a stray continuation byte", b"\x80"),
    ("latin-1", "a Latin-1 letter", b"\xe9"),
    ("byte-ff", "the byte FF", b"\xff"),
    ("control", "a control character without escape", b"\1"),
    ("tab", "a tab without escape", b"\t"),
    ("nul", "a zero byte", b"\0"),
    ("escape-unknown", "an escape that JSON does not know", r"\x41"),
    ("escape-short", "an escape that is cut off", r"\u00"),
    ("escape-braces", "an escape of another language", r"\u{41}"),
):
    malformed(name, f"has a string with {about}", string(text))
malformed("depth-33", "is nested 33 deep", value("[" * 31 + "]" * 31))
malformed("depth-33-objects", "is nested 33 deep in objects", value('{"a":' * 30 + "{}" + "}" * 30))
malformed("depth-5000", "is nested 5,000 deep", value("[" * 5000 + "]" * 5000))

# --- Not canonical ---

loose("trailing-space", "ends in a space", lambda line: line + b" ")
loose("leading-space", "starts with a space", lambda line: b" " + line)
loose("crlf", "ends in CRLF", lambda line: line + b"\r")
loose("space-in-array", "has a space inside an array", value("[1, 2]"))
loose("tab-after-colon", "has a tab after a colon", replacing(b'"note":', b'"note":\t'))
loose(
    "key-order",
    "has two members of ext in the wrong order",
    replacing(b'"note":"a","other":1', b'"other":1,"note":"a"'),
)
loose(
    "key-order-top",
    "has v before verdict's place",
    lambda line: b'{"v":"pef/v0",' + line.replace(b'"v":"pef/v0",', b"", 1)[1:],
)
loose(
    "key-order-private-use",
    "sorts an emoji after a private use character, as code points would",
    replacing(b'"other":1', b'"other":1,"\xee\x80\x80":1,"\xf0\x9f\x98\x80":2'),
)
loose(
    "key-order-prefix",
    "sorts a longer name before its prefix",
    replacing(b'"other":1', b'"other":1,"other2":1,"other1":1'),
)
for name, about, text in (
    ("escape-ascii", "escapes A", r"\u0041"),
    ("escape-solidus", "escapes the solidus", r"\/"),
    ("escape-line-feed-long", "writes a line feed as six characters", r"\u000a"),
    ("escape-backspace-long", "writes a backspace as six characters", r"\u0008"),
    ("escape-quote-long", "writes a quotation mark as six characters", r"\u0022"),
    ("escape-upper-case", "writes an escape in upper case", r"\u001F"),
    ("escape-delete", "escapes U+007F", r"\u007f"),
    ("escape-not-ascii", "escapes a letter that is not ASCII", r"\u00e9"),
    ("escape-emoji", "escapes an emoji as a surrogate pair", r"\ud83d\ude00"),
    ("escape-line-separator", "escapes U+2028", r"\u2028"),
):
    loose(name, about, string(text))
loose("escaped-name", "has an escape in a member's name", replacing(b'"note":', b'"n\\u006fte":'))

# --- Length ---


def padded(entry):
    entry["ext"] = {"pad": ""}
    entry["ext"]["pad"] = "x" * (16385 - len(canonical(entry)))


vector(
    "bad-canonical-line-16385",
    "A line of 16,385 bytes.",
    failed("L1", "LINE_LENGTH", 1),
    Bundle(**lined(brief(), edit={1: padded})),
)
vector(
    "bad-canonical-empty-line",
    "An empty line stands between two lines.",
    failed("L1", "LINE_LENGTH", 1),
    Bundle(brief(), ndjson=lambda data: data.replace(b"\n", b"\n\n", 1)),
)
vector(
    "bad-canonical-empty-first-line",
    "The first line is empty.",
    failed("L1", "LINE_LENGTH", 0),
    Bundle(brief(), ndjson=lambda data: b"\n" + data),
)
vector(
    "bad-canonical-empty-last-line",
    "An empty line follows the seal.",
    failed("L1", "LINE_LENGTH", 3),
    Bundle(brief(), ndjson=lambda data: data + b"\n"),
)
vector(
    "bad-canonical-no-last-line-feed",
    "The last line has no LF; all digests are of the file as it is.",
    failed("L1", "LINE_LENGTH", 2),
    Bundle(brief(), ndjson=lambda data: data[:-1]),
)
vector(
    "bad-canonical-carriage-returns",
    "Lines end in CR alone.",
    failed("L1", "LINE_LENGTH", 0),
    Bundle(brief(), ndjson=lambda data: data.replace(b"\n", b"\r")),
)
