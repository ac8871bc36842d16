"""What several groups of cases use."""

from run import Lines, Run


def unjudged(run):
    """The run without policy files: only a receipt's policy hash asks for one, and these have no receipt."""
    run.policies.clear()
    return run


def small(keys=None, **members):
    """The run that most vectors break: open, a call, a short entry, seal."""
    run = Run("small", keys, **members)
    run.call(1)
    run.add("gap", reason="DISK_FULL")
    return run.seal()


def plain(keys=None, sign="each", **members):
    """Open, two short entries, seal: for vectors in which no call matters."""
    run = unjudged(Run("plain", keys, sign=sign, **members))
    run.add("gap", reason="DISK_FULL")
    run.add("gap", reason="EVIDENCE_FULL")
    return run.seal()


def tiny(keys=None, sign="checkpoint", **members):
    """The shortest run: open and seal, for vectors in which the lines do not matter."""
    return unjudged(Run("tiny", keys, sign=sign, **members)).seal()


def brief(keys=None, sign="checkpoint", **ext):
    """Open, one short entry with `ext`, seal: for vectors about the second line."""
    run = unjudged(Run("brief", keys, sign=sign))
    run.add("gap", reason="DISK_FULL", **({"ext": ext} if ext else {}))
    return run.seal()


def lined(run=None, **changes):
    """Arguments of `Bundle` for a run whose lines were made with `changes`."""
    run = run or small()
    return {"run": run, "lines": Lines(run, **changes)}


def flip(data, at=-1, bit=1):
    """The same bytes with one bit changed."""
    changed = bytearray(data)
    changed[at] ^= bit
    return bytes(changed)


def file(path, change):
    """A hook for `after`, `unlisted` or `listed`: one file as `change` makes it, or as it is given."""

    def hook(files):
        files[path] = change(files[path]) if callable(change) else change

    return hook


def without(*paths):
    """A hook: these files are not there."""

    def hook(files):
        for path in paths:
            del files[path]

    return hook


def setting(**members):
    """A hook on an entry, a manifest or a statement: these members are replaced."""
    return lambda made: made.update(members)


def dropping(*members):
    """A hook: these members are absent."""

    def hook(made):
        for member in members:
            del made[member]

    return hook


def replacing(old, new):
    """A hook on bytes: the first `old` becomes `new`."""

    def hook(data):
        if old not in data:
            raise ValueError(f"{old!r} does not occur")
        return data.replace(old, new, 1)

    return hook
