"""The command `mcastfast`, also `python -m mcastfast`, as far as saying what is wrong where the extension is not."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line as mcastfast.cli.main, and return the exit code."""
    try:
        from mcastfast import cli
    except ImportError as error:
        if error.name not in ("_core", "mcastfast._core"):
            raise
        _report(error)
        return 1
    return cli.main()


def _report(error: ImportError) -> None:
    from mcastfast.commands.selftest_machine import anonymous, describe_without_extension

    print(f"mcastfast: error: the extension cannot be loaded: {anonymous(str(error))}", file=sys.stderr)
    for name, text in describe_without_extension().items():
        print(f"  {name}: {text}", file=sys.stderr)
    print(
        "  install it anew for this Python: python -m pip install --force-reinstall mcastfast\n"
        "  where that does not help, please report all lines above",
        file=sys.stderr,
    )


if __name__ == "__main__":
    sys.exit(main())
