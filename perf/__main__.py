"""`python -m perf COMMAND`: measures the server, honestly, with tools that users trust."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

from client_sdk import ClientError
from perf.failure import Failure
from perf.report import check_output

COMMANDS = {
    "load": "perf_analyzer: throughput and latency against concurrency, by protocol and batch size",
    "compare": "against bare ONNX Runtime and other embedding servers, in one run",
    "rerank": "documents ranked for a query, beside sentence-transformers' CrossEncoder and infinity, in one run",
    "profile": "where the time of one request goes",
    "size": "throughput against number of texts, their length, and their mixture",
    "memory": "memory of client and server over a long bulk run",
    "soak": "everything at once for half an hour: does anything grow, fail or come out wrong?",
    "recall": "what smaller vectors, encode(precision=), cost in a search",
    "scale": "many texts in one call, many connections, many families in one server",
    "cache": "texts that come again, with `export --cache` and without",
    "corpus": "rows a second of the job `corpus` beside Client.encode, and its memory",
    "gpu": "what this machine makes of the networks: equality with PyTorch, speed, memory; on a GPU where there is one",
    "ceiling": "latency and bulk throughput beside bare ONNX Runtime, in a minute",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command, or list them; the exit status is the command's, 1 if it failed, 2 for wrong usage."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="python -m perf", description=__doc__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    chosen = next((word for word in argv if not word.startswith("-")), None)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter)
        if name == chosen:  # only what is run need be there, and be imported
            module: ModuleType = import_module(f".{name}.command", __package__)
            command.description = module.__doc__
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    if not argv:
        parser.print_help()
        return 0
    args = parser.parse_args(argv)
    try:
        check_output(args.output)
        return int(args.run(args))
    except (ClientError, Failure) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
