"""Folders of texts to vectors, on Ray Data: what `corpus` runs.

    run(CorpusSettings(inputs=["texts/"], output="vectors/", client=Client("localhost:8001")))

It needs what `bert-on-triton[corpus]` installs.
"""

from client_sdk.corpus import stores
from client_sdk.corpus.estimate import estimate
from client_sdk.corpus.job import run
from client_sdk.corpus.settings import CorpusSettings
from client_sdk.corpus.summary import Estimate, Summary

__all__ = ["CorpusSettings", "Estimate", "Summary", "estimate", "run", "stores"]
