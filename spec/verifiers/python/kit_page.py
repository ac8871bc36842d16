"""What can be said of the page of an attestation (spec/attestation.md, Copies): its form, the digests on it, and its numbers of controls.
For kit_verify.py; Python 3.9 or later, nothing else."""

import re

HEAD = b"%PDF-1.7\n%\x80\x80\x80\x80\n\n"
TITLE = re.compile(rb"3 0 obj\n<<\n  /Title ([^\n]*)\n  /Producer \(estoppel\)\n>>\nendobj\n\n")
STREAM = re.compile(rb"[0-9]+ 0 obj\n<<\n  /Length ([0-9]{1,9})\n>>\nstream\n")
FONTS = (b"Helvetica", b"Helvetica-Bold", b"Courier")
NUMBER = r"-?[0-9]+(?:[.][0-9]+)?"
DRAWN = re.compile(r"BT|ET|f|/[BMP] {0} Tf|{0} {0} Td|{0} {0} {0} rg|{0} {0} {0} {0} re".format(NUMBER))
SHOWN = re.compile(r"\(((?:[^\\]|\\.)*)\) Tj")
DIGEST = re.compile("(?:leaf|root|sha256):[0-9a-f]{64}")
PAGES_MAX, BYTES_MAX = 64, 1 << 22
CITED = "attestation %s: a copy of the statement with this digest"


class Other(Exception):
    """Why the page is not one of its statement."""


def demand(holds, why):
    if not holds:
        raise Other(why)


def contents(data):
    """-> of each page its content. The whole file has the one form: there is nothing in it that a reader of PDF could find elsewhere."""
    demand(len(data) <= BYTES_MAX, "it is too large")
    title = TITLE.search(data, 0, 1 << 14)
    demand(title and is_text(title[1]), "it says no title")
    found, at = [], data.find(b"\n\n7 0 obj\n") + 2
    while data[at : at + 5] != b"xref\n":
        stream = STREAM.match(data, data.find(b"\n\n", at) + 2)
        demand(stream and len(found) < PAGES_MAX, "it is no list of pages")
        end = stream.end() + int(stream[1])
        found.append(data[stream.end() : end])
        at = end + len(b"\nendstream\nendobj\n\n")
        demand(at < len(data), "it ends within a page")
    demand(found and data == written(title[1], found), "it has another form")
    return found


def is_text(title):
    """A literal string that ends where it should: what the title is, it does not leave."""
    body = re.sub(rb"\\.", b"", title)
    if body[:1] != b"(" or body[-1:] != b")" or len(body) < 2:
        return re.fullmatch(rb"<[0-9A-Fa-f]*>", title) is not None
    depth = 0
    for at, byte in enumerate(body):
        depth += (byte == 0x28) - (byte == 0x29)
        if depth <= 0 and at < len(body) - 1:
            return False
    return depth == 0


def written(title, pages):
    """The bytes of the file."""
    kids = b" ".join(b"%d 0 R" % (7 + 2 * index) for index in range(len(pages)))
    objects = [
        (1, b"<<\n  /Type /Catalog\n  /Pages 2 0 R\n  /Lang (en)\n  /ViewerPreferences <<\n    /DisplayDocTitle true\n  >>\n>>"),
        (3, b"<<\n  /Title " + title + b"\n  /Producer (estoppel)\n>>"),
        (2, b"<<\n  /Type /Pages\n  /Kids [%s]\n  /Count %d\n>>" % (kids, len(pages))),
    ]
    for index, font in enumerate(FONTS):
        font = b"<<\n  /Type /Font\n  /Subtype /Type1\n  /BaseFont /%s\n  /Encoding /WinAnsiEncoding\n>>" % font
        objects.append((4 + index, font))
    for index, content in enumerate(pages):
        number = 7 + 2 * index
        page = b"<<\n  /Type /Page\n  /Parent 2 0 R\n  /MediaBox [0 0 595 842]\n  /Contents %d 0 R\n" % (number + 1)
        page += b"  /Resources <<\n    /Font <<\n      /P 4 0 R\n      /B 5 0 R\n      /M 6 0 R\n    >>\n  >>\n>>"
        stream = b"<<\n  /Length %d\n>>\nstream\n%s\nendstream" % (len(content), content)
        objects += [(number, page), (number + 1, stream)]
    out, places = HEAD, {}
    for number, body in objects:
        places[number] = len(out)
        out += b"%d 0 obj\n%s\nendobj\n\n" % (number, body)
    table = b"".join(b"%010d 00000 n\r\n" % places[number] for number in sorted(places))
    size = len(places) + 1
    end = b"trailer\n<<\n  /Size %d\n  /Root 1 0 R\n  /Info 3 0 R\n>>\nstartxref\n%d\n%%%%EOF" % (size, len(out))
    return out + b"xref\n0 %d\n0000000000 65535 f\r\n" % size + table + end


def texts(content):
    """What a page shows, in its order."""
    found = []
    for line in content.decode("ascii").split("\n"):
        shown = SHOWN.fullmatch(line)
        demand(shown or DRAWN.fullmatch(line), "a page has something else than texts and shapes")
        if shown:
            found.append(re.sub(r"\\(.)", r"\1", shown[1]))
    return found


def check(data, digest, statement, payload):
    """Raises `Other` or ValueError. `digest`: of the statement's file; `payload`: what is signed."""
    predicate = statement["predicate"]
    pages = [texts(content) for content in contents(data)]
    known = set(DIGEST.findall(payload.decode())) | {digest}
    for shown in pages:
        cited = [shown[at + 1] for at, text in enumerate(shown[:-1]) if text == CITED % predicate["id"]]
        demand(cited == [digest], "a page does not cite its statement once")
        others = {one for text in shown for one in DIGEST.findall(text)} - known
        demand(not others, "a page shows %s, which the statement does not have" % ", ".join(sorted(others)))
    named = [pages[0][at + 1] for at, text in enumerate(pages[0][:-1]) if text == "statement"]
    demand(named == [digest], "it names another statement")
    words = {"assessment": ("pass", "fail", "not_assessed", "no_evidence"), "mapping": ("evidence", "no_evidence")}
    tiles = []
    for word in words[predicate["framework"]["kind"]]:
        tiles += [str(predicate["counts"].get(word, 0)), word.replace("_", " ")]
    places = [at for at in range(len(pages[0])) if pages[0][at : at + len(tiles)] == tiles]
    demand(len(places) == 1, "its numbers of controls are not those of the statement")
    failed = any("failed" in row for row in predicate.get("custody", ()))
    demand(("VERIFICATION FAILED" in pages[0]) == failed, "it does not say whether a verification failed")
