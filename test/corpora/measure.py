"""Findings held against labels: how much of what is labelled is found, and how often something is found where nothing is."""

from dataclasses import dataclass, field

LEVELS = ("high", "medium", "low")


@dataclass(frozen=True)
class Label:
    """Where a text has something, by characters, and what its corpus calls it."""

    name: str
    start: int
    end: int
    kind: str = ""


@dataclass(frozen=True)
class Sample:
    text: str
    labels: tuple = ()


@dataclass
class Tally:
    """At one level of confidence. `wrong` counts texts in which something is found outside of every label."""

    labelled: int = 0
    found: int = 0
    clean: int = 0
    wrong: int = 0
    kinds: dict = field(default_factory=dict)

    @property
    def recall(self):
        return self.found / self.labelled if self.labelled else None

    @property
    def precision(self):
        return self.found / (self.found + self.wrong) if self.labelled and self.found + self.wrong else None


def tally(samples, findings, label, rules, level):
    """`findings` has a list for each sample; `rules` are beginnings of the names of the rules that should find `label`."""
    sure = LEVELS[: LEVELS.index(level) + 1]
    out = Tally()
    for sample, found in zip(samples, findings, strict=True):
        spans = [
            (one["at"], one["at"] + one["bytes"])
            for one in found
            if one["rule"].startswith(rules) and one["confidence"] in sure
        ]
        places = [(_bytes(sample.text, one), one.kind) for one in sample.labels if one.name == label]
        out.clean += not places
        for place, kind in places:
            hit = any(_overlap(place, span) for span in spans)
            out.labelled += 1
            out.found += hit
            right, all_of_kind = out.kinds.get(kind, (0, 0))
            out.kinds[kind] = (right + hit, all_of_kind + 1)
        out.wrong += any(not any(_overlap(place, span) for place, _ in places) for span in spans)
    return out


def _bytes(text, label):
    start = len(text[: label.start].encode())
    return start, start + len(text[label.start : label.end].encode())


def _overlap(one, other):
    return one[0] < other[1] and other[0] < one[1]
