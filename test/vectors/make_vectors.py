#!/usr/bin/env python3
"""Writes the test vectors of PEF: spec/pef/vectors/<class>-<case>/ and vectors.lock.

make_vectors.py            write all of them, and remove what is no vector
make_vectors.py --check    make them again elsewhere and compare; exit code 1 when anything differs
"""

import argparse
import importlib
import os
import pathlib
import posixpath
import shutil
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import vector  # noqa: E402
from pef import sha_hex  # noqa: E402

VECTORS = HERE.parent.parent / "spec" / "pef" / "vectors"
LOCK = "vectors.lock"


def all_files():
    """Every file of every vector, by its path below the folder of vectors."""
    for module in sorted(path.stem for path in HERE.glob("cases_*.py")):
        importlib.import_module(module)
    files = {}
    for name, contents in vector.VECTORS.items():
        files |= {f"{name}/{path}": data for path, data in contents.items()}
    return files


def lock(files):
    """As `sha256sum -c` reads it; of a link, the digest of what it leads to."""

    def content(path):
        data = files[path]
        if isinstance(data, vector.Link):
            return files[posixpath.normpath(posixpath.join(posixpath.dirname(path), data.decode()))]
        return data

    return "".join(f"{sha_hex(content(path))}  {path}\n" for path in sorted(files, key=str.encode)).encode()


def write(folder, files):
    if folder.exists():
        shutil.rmtree(folder)
    for path, data in {**files, LOCK: lock(files)}.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(data, vector.Link):
            target.symlink_to(data.decode())
        else:
            target.write_bytes(data)


def on_disk(folder):
    def read(path):
        return vector.Link(os.readlink(path).encode()) if path.is_symlink() else path.read_bytes()

    return {path.relative_to(folder).as_posix(): read(path) for path in folder.rglob("*") if path.is_file()}


def unpublished(files):
    """Lines of the stored lock that these files would change or drop: a published vector never changes."""
    stored = VECTORS / LOCK
    locked = stored.read_bytes().splitlines() if stored.exists() else []
    return sorted(set(locked) - set(lock(files).splitlines()))


def check():
    """Paths that differ between what is stored and what is made now."""
    with tempfile.TemporaryDirectory() as folder:
        made = pathlib.Path(folder) / "vectors"
        write(made, all_files())
        new, old = on_disk(made), on_disk(VECTORS)
    return sorted(path for path in new.keys() | old.keys() if new.get(path) != old.get(path))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    if parser.parse_args().check:
        different = check()
        for path in different:
            print(f"differs: {path}", file=sys.stderr)
        return 1 if different else 0
    files = all_files()
    if changed := unpublished(files):
        print("would change what is published:", *[line.decode() for line in changed], sep="\n", file=sys.stderr)
        return 1
    write(VECTORS, files)
    print(
        f"{len(vector.VECTORS)} vectors, {len(files)} files, {sum(map(len, files.values()))} bytes: {VECTORS}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
