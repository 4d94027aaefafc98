"""The main job once: serve the model repository, encode real sentences, find the nearest to a question, stop."""

import client_sdk
from export.sentences import docstring_sentences

QUESTION = "How do I read a file one line after the other?"
EVERY = 40  # of the sentences in the standard library's documentation, so a few hundred
NEAREST = 5


def main() -> None:
    """Run the demo."""
    sentences = docstring_sentences()[::EVERY]
    print("starting tritonserver ...", flush=True)
    with client_sdk.LocalServer("model_repository") as server, client_sdk.Client(server.grpc_url) as client:
        print(f"encoding {len(sentences)} sentences of the standard library's documentation")
        vectors = client.encode(sentences, show_progress=True)
        similarity = vectors @ client.encode(QUESTION)
        print(f"nearest to {QUESTION!r}:")
        for index in similarity.argsort()[::-1][:NEAREST]:
            print(f"  {similarity[index]:.2f}  {sentences[index][:100]}")


if __name__ == "__main__":
    main()
