"""How often the detectors are right on corpora that others made: runs `estoppel detect` on every sample and writes the
tables into a page. `.ci/detectors-report` downloads the archives; `requirements.txt` and `crates.txt` pin them."""

import argparse
import datetime
import json
import pathlib
import re
import subprocess
import tempfile

from measure import LEVELS, tally
from readers import CORPORA, contents

HERE = pathlib.Path(__file__).parent
BEGIN, END = "<!-- corpora: begin -->\n", "<!-- corpora: end -->\n"
FILES_A_RUN = 400


def pins():
    """Version of each package that carries a corpus."""
    text = (HERE / "requirements.txt").read_text() + (HERE / "crates.txt").read_text()
    return dict(re.findall(r"^([\w-]+)(?:==| )([\d.]+)\b", text, re.MULTILINE))


def archive_of(folder, package, version):
    name = re.sub("[-_]", "[-_]", package)
    found = [one for one in folder.iterdir() if re.match(rf"{name}-{re.escape(version)}[-.]", one.name)]
    if len(found) != 1:
        raise SystemExit(f"{folder}: {len(found)} archives of {package} {version}, one is needed")
    return found[0]


def findings(estoppel, samples):
    """What is found in each sample, by the program as it is built."""
    out = []
    with tempfile.TemporaryDirectory() as folder:
        paths = [pathlib.Path(folder, f"{number}.txt") for number in range(len(samples))]
        for path, sample in zip(paths, samples, strict=True):
            path.write_bytes(sample.text.encode())
        for at in range(0, len(paths), FILES_A_RUN):
            run = subprocess.run(
                [estoppel, "detect", "--json", *paths[at : at + FILES_A_RUN]], capture_output=True, check=False
            )
            if run.returncode not in (0, 3):
                raise SystemExit(f"{estoppel} ended with {run.returncode}: {run.stderr.decode()}")
            for file in json.loads(run.stdout)["data"]["files"]:
                if file["found"] != len(file["findings"]):
                    raise SystemExit(f"{file['file']} has {file['found']} findings, more than are listed")
                out.append(file["findings"])
    return out


def share(value):
    return "-" if value is None else f"{100 * value:.1f} %"


def levels(values):
    values = [str(value) for value in values]
    return values[0] if len(set(values)) == 1 else " · ".join(values)


def rows(corpus, samples, found):
    for name, rules in corpus.classes.items():
        at = [tally(samples, found, name, rules, level) for level in LEVELS]
        yield name, at


def page_of(measured, day):
    versions = pins()
    out = [
        f"Measured on {day}. Three numbers are for what counts from `high` · `medium` · `low`; one is for all three.\n\n",
        "| corpus | licence | texts | what it has |\n|---|---|---|---|\n",
    ]
    for corpus, samples, _ in measured:
        out.append(f"| {corpus.package} {versions[corpus.package]} | {corpus.licence} | {len(samples)} | {corpus.what} |\n")
    out.append(
        "\n| corpus | what is looked for | labelled | recall | texts without | found wrongly in | precision |\n"
        "|---|---|---|---|---|---|---|\n"
    )
    kinds = []
    for corpus, samples, found in measured:
        for name, at in rows(corpus, samples, found):
            lowest = at[-1]
            out.append(
                f"| {corpus.package} | {name} | {lowest.labelled} | {levels(share(one.recall) for one in at)} "
                f"| {lowest.clean} | {levels(one.wrong for one in at)} | {levels(share(one.precision) for one in at)} |\n"
            )
            if len(lowest.kinds) > 1:
                said = ", ".join(f"{kind} {hit} of {all_of_kind}" for kind, (hit, all_of_kind) in sorted(lowest.kinds.items()))
                kinds.append(f"- {corpus.package}, {name}: {said}.\n")
    return "".join([*out, "\nFound, from `low`, by what the corpora call it:\n\n", *kinds])


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--archives", type=pathlib.Path, required=True, help="folder of the downloaded packages")
    arguments.add_argument("--estoppel", required=True, help="the program")
    arguments.add_argument("--page", type=pathlib.Path, required=True, help="the page that has the marks")
    arguments.add_argument("--date", default=datetime.date.today().isoformat())
    given = arguments.parse_args()
    versions, measured = pins(), []
    for corpus in CORPORA:
        samples = list(corpus.read(contents(archive_of(given.archives, corpus.package, versions[corpus.package]))))
        if not samples:
            raise SystemExit(f"{corpus.package}: nothing in it was understood")
        measured.append((corpus, samples, findings(given.estoppel, samples)))
        print(f"{corpus.package}: {len(samples)} texts", flush=True)
    page = given.page.read_text()
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{given.page}: the marks of the table are not there")
    given.page.write_text(head + begin + page_of(measured, given.date) + end + tail)


if __name__ == "__main__":
    main()
