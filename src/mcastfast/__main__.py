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
    except KeyboardInterrupt:  # as the imports take a while
        from mcastfast.commands.output import print_error

        print_error("interrupted")
        return 1
    return cli.main()


def _report(error: ImportError) -> None:
    from mcastfast.commands.output import print_error
    from mcastfast.commands.selftest_machine import anonymous, describe_without_extension

    print_error(
        f"the extension cannot be loaded: {anonymous(str(error))}",
        [
            *(f"{name}: {text}" for name, text in describe_without_extension().items()),
            "install it anew for this Python: python -m pip install --force-reinstall mcastfast",
            "where that does not help, please report all lines above",
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
