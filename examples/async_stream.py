"""A stream of texts, encoded by several asynchronous clients that share the work, in bounded memory.

One task reads batches into a queue that holds a few; while it is full, reading waits. Each client takes the next batch
as soon as it is done with its last, and of the results only the best are kept: the stream may be of any length.

    python -m examples.async_stream    # while `make serve` runs in another terminal
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from itertools import islice

from client_sdk import AsyncClient

from .docstrings import first_paragraphs

PACKAGES = ["asyncio", "csv", "email", "http", "logging", "multiprocessing", "random", "statistics", "unittest", "xml"]
QUESTION = "pick an element at random"
CLIENTS, WAITING, BATCH, BEST = 3, 4, 32, 3


def batches() -> Iterator[list[str]]:
    """Yield texts as they come: here from files, in your case from a database or a socket."""
    texts = (text for package in PACKAGES for text in first_paragraphs(package))
    yield from iter(lambda: list(islice(texts, BATCH)), [])


async def read(queue: asyncio.Queue[list[str]], counts: Counter) -> None:
    """Put every batch into the queue, and then an empty one for each client: there are no more."""
    source = batches()
    while batch := await asyncio.to_thread(next, source, []):  # in a thread, so that the clients go on meanwhile
        counts["read"] += len(batch)
        counts["most at once"] = max(counts["most at once"], counts["read"] - counts["encoded"])
        await queue.put(batch)
    await asyncio.gather(*(queue.put([]) for _ in range(CLIENTS)))


async def encode(number: int, queue: asyncio.Queue[list[str]], counts: Counter, best: list) -> None:
    """Encode batches with a client of its own, and keep the texts that are nearest to the question."""
    async with AsyncClient() as client:
        question = await client.encode(QUESTION)
        while batch := await queue.get():
            similarity = (await client.encode(batch) @ question).tolist()
            best[:] = sorted([*best, *zip(similarity, batch, strict=True)], reverse=True)[:BEST]
            counts.update({"encoded": len(batch), number: len(batch)})


async def main() -> None:
    """Print who encoded how many texts, and those nearest to the question."""
    queue, counts, best = asyncio.Queue(WAITING), Counter(), []
    await asyncio.gather(read(queue, counts), *(encode(number, queue, counts, best) for number in range(CLIENTS)))
    shares = ", ".join(str(counts[number]) for number in range(CLIENTS))
    print(f"{counts['read']} texts, at most {counts['most at once']} of them at once, by {CLIENTS} clients: {shares}")
    print(f"nearest to {QUESTION!r}:", *(f"  {score:.2f}  {text}" for score, text in best), sep="\n")


if __name__ == "__main__":
    asyncio.run(main())
