"""A dataset of Hugging Face gets a column of vectors, and is searched by it (FAISS).

`identity` is in what the dataset's cache is looked up by: once another model is served, nothing old comes back.

    python -m examples.dataset_search    # while `make serve` runs in another terminal
"""

import datasets
import faiss

from client_sdk import Client, Encoder

from .docstrings import first_paragraphs

PACKAGES = ["asyncio", "email", "pathlib"]
QUESTION = "wait until several tasks are done"


def main() -> None:
    """Print the columns, and the answer to a question."""
    datasets.disable_progress_bars()
    rows = [(text, file) for package in PACKAGES for text, file in first_paragraphs(package).items()]
    texts, files = zip(*rows, strict=True)
    dataset = datasets.Dataset.from_dict({"text": texts, "file": files})
    with Client() as client:
        encoder = Encoder(identity=client.info().identity)  # of CLIENT_SDK_URL, as the client
        question = client.encode(QUESTION)

    dataset = dataset.map(encoder, batched=True, batch_size=200)
    print(f"{len(dataset)} rows: {', '.join(dataset.column_names)}")
    dataset.add_faiss_index("vector", metric_type=faiss.METRIC_INNER_PRODUCT)  # of length 1: the cosine
    scores, found = dataset.get_nearest_examples("vector", question, k=3)
    print(f"nearest to {QUESTION!r}:")
    for score, text, file in zip(scores, found["text"], found["file"], strict=True):
        print(f"  {score:.2f}  {file}: {text}")


if __name__ == "__main__":
    main()
