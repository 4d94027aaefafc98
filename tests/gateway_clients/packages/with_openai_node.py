"""openai of node."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = """
const { OpenAI, NotFoundError } = require("openai");
const { url, texts, query } = JSON.parse(process.argv[1]);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });

async function ask() {
  const answer = await client.embeddings.create({ model: "bert", input: texts });
  const rows = (await client.embeddings.create({ model: "bert", input: texts, encoding_format: "float" })).data;
  const alone = await client.embeddings.create({ model: "bert", input: texts[0] });
  const asked = await client.embeddings.create({ model: "small-query", input: query });
  const models = await client.models.list();
  const error = await client.embeddings.create({ model: "gpt", input: "text" }).catch((error) => error);
  return {
    rows: answer.data.map((item) => item.embedding),
    floats: rows.map((item) => item.embedding),
    alone: alone.data[0].embedding,
    query: asked.data[0].embedding,
    tokens: answer.usage.total_tokens,
    models: models.data.map((model) => model.id),
    error: [error instanceof NotFoundError, error.code, error.param],
  };
}

ask().then((found) => console.log(JSON.stringify(found)));
"""


def test_vectors_models_and_errors(url, expected, same):
    """By itself it asks for base64, and decodes it."""
    environment = Path(sys.prefix)
    asked = {"url": url, "texts": expected.texts, "query": expected.query}
    done = subprocess.run(
        [environment / "bin" / "node", "-e", SCRIPT, json.dumps(asked)],
        env={"NODE_PATH": str(environment / "node_modules")},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    same(found["rows"], expected.bert)
    same(found["floats"], expected.bert)
    same(found["alone"], expected.bert_each[0])
    same(found["query"], expected.small_query)
    assert found["tokens"] == expected.tokens
    assert "bert" in found["models"]
    assert found["error"] == [True, "model_not_found", "model"]
