"""The same shapes through a server, by its client: tokenizer, network and pooling, and gRPC."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from client_sdk import Client, ClientError
from perf import serving
from perf.failure import Failure
from perf.gpu.results import MIXED, Measured, Point
from perf.gpu.timing import peak_memory, timed
from perf.texts import benchmark_texts, load_tokenizer, take, texts_of_length


def measure(args: argparse.Namespace, shapes: Sequence[tuple[int, int]]) -> Measured:
    """Measure the family that `args` name."""
    result = Measured(f"Triton, {args.model}")
    try:
        tokenizer = load_tokenizer(args.repository, args.model)
        with peak_memory(result), serving.serving(args) as target, Client(target.grpc_url, args.model) as client:
            longest = client.info().max_seq_len
            mixed = benchmark_texts(tokenizer)
            for length, batch in shapes:
                if length <= longest:
                    texts = take(mixed, batch) if length == MIXED else texts_of_length(tokenizer, length, batch)
                    result.points.append(Point(length, batch, *timed(client.encode, texts, args.seconds)))
    except (ClientError, Failure) as error:
        result.absent = str(error).splitlines()[0]
    return result
