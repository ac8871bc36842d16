"""Class missing-external: what is kept beside the bundle is not there, or is something else.

Section 8 tells writers to keep content over 25 MiB outside; verifiers only compare, so these are small."""

from pef import content, sha_hex
from run import Bundle, Run
from runs import externals
from tools import flip
from vector import failed, vector

CONTENT = b"large " * 20


def beside(name, about, step, reason, change, *, run=None, directory=False):
    made = Bundle(run or externals())
    change(made.externals)
    vector(f"missing-external-{name}", about, failed(step, reason), made, directory=directory)


def as_other(data):
    return lambda files: files.update({sha_hex(CONTENT): data})


beside("absent", "The folder beside the bundle is not there.", "X1", "MISSING_EXTERNAL", dict.clear)
beside(
    "directory-absent",
    "The folder beside a directory is not there.",
    "X1",
    "MISSING_EXTERNAL",
    dict.clear,
    directory=True,
)
beside(
    "other-name",
    "Only a file of another name is there.",
    "X1",
    "MISSING_EXTERNAL",
    lambda files: files.update({"content": files.pop(sha_hex(CONTENT))}),
)
beside("bit", "One bit of the content was flipped.", "X2", "EXTERNAL_DIGEST", as_other(flip(CONTENT)))
beside("short", "The content is cut off.", "X2", "EXTERNAL_DIGEST", as_other(CONTENT[:-1]))
beside("long", "A byte follows the content.", "X2", "EXTERNAL_DIGEST", as_other(CONTENT + b"\n"))
beside("empty", "The content is an empty file.", "X2", "EXTERNAL_DIGEST", as_other(b""))

two = Run("two externals")
for number, data in enumerate((b"first ", b"second "), 1):
    two.externals[sha_hex(data)] = data
    two.call(
        number, body={"mode": "full"}, request={"bytes": len(data), "method": "PUT", "sha256": content(data)}
    )
beside(
    "second",
    "Only one of two is there.",
    "X1",
    "MISSING_EXTERNAL",
    lambda files: files.pop(sha_hex(b"second ")),
    run=two.seal(),
)
size = externals("external size")
vector(
    "missing-external-size",
    "The manifest states another size than the content with that digest has.",
    failed("X2", "EXTERNAL_DIGEST"),
    Bundle(size, manifest=lambda made: made["externals"][0].update(bytes=1)),
)
