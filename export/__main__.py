"""The command line: `python -m export CHECKPOINT`, or `bert-on-triton export CHECKPOINT`."""

from __future__ import annotations

import argparse
import io
import re
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from export.errors import ExportError
from export.repository.template import IN_CHECKOUT, REPOSITORY


def _missing(error: ModuleNotFoundError) -> str:
    """Return what to do where a package is not installed."""
    install = (
        "run the Python of the environment that has it (.venv/bin/python, which `make serve` makes), or "
        "pip install -e '.[export,server]' in the project's folder"
        if IN_CHECKOUT
        else "pip install 'bert-on-triton[export]'"
    )
    return f"error: {sys.executable} has no {error.name}, which export needs: {install}"


try:
    from export import poolings
    from export.repository.family import ALL_ROLES, BACKENDS, LEAST_COSINE, PRECISIONS
    from export.settings import HEADS, MOST_INSTANCES, PAD_TO_MULTIPLE_OF
    from export.tensorrt.profiles import Profile
    from export.tensorrt.profiles import parse as parse_profiles
except ModuleNotFoundError as error:
    sys.exit(_missing(error))

_PROG = "python -m export"
_MOST_VERSIONS = 2**63 - 1  # Triton ends itself at a higher one
_MOST_THREADS = 1024  # or instances: with thousands a server does not become ready
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

_EPILOG = """\
examples:
  {prog} sentence-transformers/all-MiniLM-L6-v2      from the Hugging Face hub, as the family "bert"
  {prog} ./my-bert --name support --verify           a folder, as "support", compared with PyTorch
  {prog} ./my-bert --name old --layers -2 --pooling mean --no-normalize    as bert-as-service does
  {prog} ./my-bert --layers -4 -3 -2 -1              the last four layers, concatenated
  {prog} ./my-bert --backend tensorrt --precision fp16    an engine, in NVIDIA's TensorRT container
  {prog} ./chinese_L-12_H-768_A-12 --layers -2       Google's original format (bert_config.json, ...)

Pooling, normalisation, prompts and max_seq_len are the checkpoint's own (sentence-transformers' files) unless given;
a plain network gets mean pooling, not normalised. Requests can choose others.
A folder that holds both formats is read as Hugging Face's, unless an option of Google's format is given.
exit status: 0 exported, 1 refused or failed (the repository is as it was), 2 wrong usage, 130 interrupted
"""


def parser(prog: str = _PROG) -> argparse.ArgumentParser:
    """Describe the command line of a program called `prog`."""
    p = argparse.ArgumentParser(
        prog=prog,
        description="Puts a checkpoint of BERT or its kin into a Triton model repository.",
        epilog=_EPILOG.format(prog=prog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "checkpoint",
        help="a folder in Hugging Face or sentence-transformers format (safetensors) or in Google's original format "
        "(TensorFlow), or a hub id",
    )
    p.add_argument("--name", type=_name, default="bert", help="of the model family (default: %(default)s)")
    p.add_argument(
        "--repository",
        type=Path,
        default=REPOSITORY,
        metavar="DIR",
        help="model repository (default: model_repository)",
    )
    p.add_argument("--version", type=_version, default=1, help="version directory to write (default: %(default)s)")
    p.add_argument(
        "--backend",
        choices=BACKENDS,
        default="python",
        help="of the network: python (with ONNX Runtime), or Triton's native onnxruntime or tensorrt "
        "(default: %(default)s)",
    )
    p.add_argument(
        "--layers",
        nargs="+",
        type=_layers,
        default=[[-1]],
        metavar="I",
        help="encoder layers to concatenate, by Python index (default: -1, the last)",
    )
    p.add_argument("--max-seq-len", type=_positive, metavar="N", help="longest text in tokens, special ones included")
    p.add_argument(
        "--pooling",
        type=_pooling,
        metavar="NAME",
        help=f"of requests that name none: {', '.join((*poolings.POOLINGS, poolings.POOLER))}, or several joined by + "
        "(cls+mean)",
    )
    p.add_argument(
        "--normalize", action=argparse.BooleanOptionalAction, help="vectors of length 1 where a request does not say"
    )
    p.add_argument(
        "--max-batch-size", type=_positive, default=64, metavar="N", help="texts in a request (default: %(default)s)"
    )
    p.add_argument(
        "--instances",
        type=_threads,
        metavar="N",
        help="of the network (default: 1 on the CPU, 2 on each GPU; with --backend onnxruntime on CPUs one for each of "
        f"this machine's cores, {MOST_INSTANCES} at most)",
    )
    p.add_argument(
        "--threads",
        type=_threads,
        default=0,
        metavar="N",
        help="of a network's instance (default: one a core; with --backend onnxruntime on CPUs, cores by instances)",
    )
    p.add_argument(
        "--cache",
        type=_bytes,
        default=0,
        metavar="SIZE",
        help="room for what the network has computed, such as 256MiB, so that a text that comes again is not computed "
        "again, whatever pooling, width or prompt name it is asked with; of each instance, for --backend python "
        "(default: none)",
    )
    p.add_argument(
        "--verify",
        action="store_true",
        help="compare with transformers on PyTorch; a difference > 1e-4 fails (fp16: > 1e-2, of an output's largest "
        "value where that is above 1; int8: compares the FP32 network that it is made of)",
    )
    p.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="fp32",
        help="fp16: for GPUs; int8: for CPUs and TensorRT, less exact; prints how much (default: %(default)s)",
    )
    p.add_argument(
        "--least-cosine",
        type=float,
        default=LEAST_COSINE,
        metavar="C",
        help="int8 fails if any of 1,000 texts' vectors has a lower cosine to FP32 (default: %(default)s)",
    )
    p.add_argument(
        "--head",
        choices=HEADS,
        help="of a masked language model that is not saved as a SparseEncoder: splade, for sparse vectors",
    )
    p.add_argument(
        "--encoder-only",
        action="store_true",
        help="of a classifier or cross-encoder: export its encoder, without the head that gives its answers (refused "
        "otherwise); of BGE-M3: dense vectors alone, without sparse ones and those of tokens",
    )
    gpu = p.add_argument_group("GPUs, with --backend onnxruntime or tensorrt", "see docs/gpu.md")
    gpu.add_argument(
        "--gpus", type=_gpus, metavar="LIST", help="that run the network: all, or numbers such as 0,1 (tensorrt: all)"
    )
    gpu.add_argument(
        "--profiles",
        type=_profiles,
        metavar="LIST",
        help="ranges of text lengths in tokens, a set of kernels each (tensorrt; default: 1-32,33-128,129-512, up to "
        "max_seq_len)",
    )
    gpu.add_argument(
        "--pad-to-multiple-of",
        type=_positive,
        metavar="N",
        help=f"tokens; requests share a batch if they are padded to equal lengths (tensorrt; default: "
        f"{PAD_TO_MULTIPLE_OF})",
    )
    gpu.add_argument(
        "--workspace", type=_positive, metavar="MB", help="GPU memory for a layer's scratch (tensorrt; default: all)"
    )
    gpu.add_argument(
        "--timing-cache",
        type=Path,
        metavar="FILE",
        help="measured kernels, kept for the next build (tensorrt; default: in ~/.cache/bert-on-triton)",
    )
    google = p.add_argument_group(
        "Google's original format", "bert_config.json, vocab.txt and bert_model.ckpt.{index,data-*}, in a folder"
    )
    google.add_argument("--ckpt-name", metavar="NAME", help="of the checkpoint's files (default: bert_model.ckpt)")
    google.add_argument("--config-name", metavar="NAME", help="of the configuration (default: bert_config.json)")
    google.add_argument(
        "--tuned-model-dir",
        type=Path,
        metavar="DIR",
        help="folder of a fine-tuned checkpoint; configuration and vocabulary are those of the first folder",
    )
    google.add_argument(
        "--cased",
        action="store_true",
        help="keep capitals and accents, as a cased checkpoint needs (without: lower-case; its files do not say)",
    )
    return p


def main(arguments: Sequence[str] | None = None, prog: str = _PROG) -> int:
    """Run the command line of a program called `prog`; return its exit status. All output is UTF-8."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # labels and paths may be of any characters
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    given = sys.argv[1:] if arguments is None else arguments
    # argparse takes "-2,-1" for an option unless there is a space in it.
    args = parser(prog).parse_args([f" {a}" if re.fullmatch(r"-\d+(,-?\d+)+", a) else a for a in given])
    try:
        from export.checkpoint.google import Options  # after argparse, so that --help is quick
        from export.pipeline import export
        from export.settings import Request

        request = Request(
            checkpoint=args.checkpoint,
            name=args.name,
            repository=args.repository,
            version=args.version,
            backend=args.backend,
            layers=tuple(index for group in args.layers for index in group),
            max_seq_len=args.max_seq_len,
            pooling=args.pooling,
            normalize=args.normalize,
            max_batch_size=args.max_batch_size,
            instances=args.instances,
            threads=args.threads,
            cache_bytes=args.cache,
            verify=args.verify,
            precision=args.precision,
            least_cosine=args.least_cosine,
            gpus=args.gpus,
            profiles=args.profiles,
            pad_to_multiple_of=args.pad_to_multiple_of,
            workspace=args.workspace and args.workspace * 1_000_000,
            timing_cache=args.timing_cache,
            google=Options(args.ckpt_name, args.config_name, args.tuned_model_dir, args.cased),
            encoder_only=args.encoder_only,
            head=args.head,
        )
        started = time.monotonic()
        written = export(request, step=_step)
        size = sum(path.stat().st_size for path in written.rglob("*")) / 1e6
        print(
            f"exported {args.name} (version {args.version}, network of {size:.0f} MB) to {args.repository} "
            f"in {time.monotonic() - started:.1f} s\n"
            f"serve it: {_serve(args.repository)}"
        )
    except (ExportError, OSError) as error:
        print(f"error: {' '.join(str(error).splitlines())}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        print(_missing(error), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: the repository is as it was", file=sys.stderr)
        return 130
    return 0


def _serve(repository: Path) -> str:
    """Return a command line that works wherever it is pasted: with this Python, and from any folder."""
    return shlex.join([sys.executable, "-m", "client_sdk", "serve", "--model-repository", str(repository.resolve())])


@contextmanager
def _step(what: str) -> Iterator[None]:
    print(f"{what} ...", end=" ", flush=True)
    started = time.monotonic()
    try:
        yield
    except BaseException:
        print("failed", flush=True)
        raise
    print(f"{time.monotonic() - started:.1f} s", flush=True)


def _positive(text: str, most: int = 2**31 - 1) -> int:
    value = int(text) if text.isdecimal() and len(text) < 20 else 0
    if not 0 < value <= most:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a whole number from 1 to {most}")
    return value


def _version(text: str) -> int:
    return _positive(text, _MOST_VERSIONS)


def _threads(text: str) -> int:
    return _positive(text, _MOST_THREADS)


def _bytes(text: str) -> int:
    """Such as 256MiB."""
    units = {"KiB": 10, "MiB": 20, "GiB": 30}
    number, unit = text[:-3], text[-3:]
    if unit not in units or not (number.isascii() and number.isdecimal() and 1 <= int(number[:10]) < 10**5):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no size such as 256MiB: a whole number of KiB, MiB or GiB")
    return int(number) << units[unit]


def _pooling(text: str) -> str:
    try:
        return poolings.name(poolings.parts(text))
    except ExportError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _layers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of layers such as -1 or -4,-3,-2,-1") from None


def _gpus(text: str) -> tuple[int, ...]:
    if text == "all":
        return ()
    numbers = text.split(",")
    if not all(number.isdecimal() for number in numbers) or len(set(numbers)) < len(numbers):
        raise argparse.ArgumentTypeError(f"{text!r} is neither all nor a list of GPU numbers such as 0,1")
    return tuple(map(int, numbers))


def _profiles(text: str) -> tuple[Profile, ...]:
    try:
        return parse_profiles(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a model name: letters, digits, '_', '-' and '.'")
    if role := next((role for role in ALL_ROLES if role and text.endswith(role)), None):
        raise argparse.ArgumentTypeError(
            f"{text!r} ends in {role!r}, as the name of one of the models of a family {text.removesuffix(role)!r} "
            f"does: choose one that ends in none of {', '.join(filter(None, ALL_ROLES))}"
        )
    return text


if __name__ == "__main__":
    sys.exit(main())
