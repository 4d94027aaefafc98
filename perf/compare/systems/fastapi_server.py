"""The server that most people write first: FastAPI around sentence-transformers. Runs in its peer's environment.

python -m perf.compare.systems.fastapi_server CHECKPOINT PORT
"""

from __future__ import annotations

import sys

import torch
import uvicorn
from fastapi import FastAPI, Response
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer

from perf.compare.systems.openai_form import answer

BATCH_SIZE = 32


class Texts(BaseModel):
    """What is asked for, in OpenAI's form."""

    input: list[str]


def make_app(checkpoint: str) -> FastAPI:
    """One endpoint. It is a plain function, so each request has a thread of its own and encodes overlap."""
    model = SentenceTransformer(checkpoint, device="cpu")
    app = FastAPI()

    @app.post("/embeddings")
    def encode(body: Texts) -> Response:
        with torch.inference_mode():
            vectors = model.encode(body.input, batch_size=BATCH_SIZE, show_progress_bar=False)
        # FastAPI's own encoder would walk through every number.
        return Response(answer(vectors), media_type="application/json")

    @app.get("/health")
    def health() -> str:
        return "ready"

    return app


if __name__ == "__main__":
    uvicorn.run(make_app(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
