"""What several groups of cases use."""

from run import Lines, Run


def small(keys=None, **members):
    """The run that most vectors break: open, two calls, seal."""
    run = Run("small", keys, **members)
    run.call(1)
    run.call(2, action="block", total=700)
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
