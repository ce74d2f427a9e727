"""The process's entry, as `mobilenet-serve` and as `python -m app`."""

import gc


def run() -> None:
    """Import and run the command line; what is imported stays, so that nothing need collect it."""
    gc.disable()
    from app.cli.main import main

    gc.freeze()
    gc.enable()
    main()


if __name__ == "__main__":
    run()
