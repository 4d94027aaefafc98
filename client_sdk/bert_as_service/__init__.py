"""The clients of bert-as-service, for scripts that were written for it: only the import changes.

    from client_sdk.bert_as_service import BertClient   # was: from bert_serving.client import BertClient

    with BertClient() as bc:
        bc.encode(["First do it", "then do it right"])   # [2, D] float32, never normalised

docs/from-bert-as-service.md says what takes the place of the server's options, and what differs on purpose. New
code is better served by `client_sdk.Client`.
"""

from client_sdk.bert_as_service._client import BertClient, ConcurrentBertClient, Response
from client_sdk.bert_as_service._timeout import NoResponse

__all__ = ["BertClient", "ConcurrentBertClient", "NoResponse", "Response"]
