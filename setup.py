"""What pyproject.toml cannot say: the committed family of model_repository/ is in the wheel, as export/template/."""

from setuptools import find_packages, setup

# By name, and of each only what git tracks: never what an export left beside or in them.
_MODELS = ("bert", "bert_tokens", "bert_tokenizer", "bert_encoder", "bert_pooling")
_FILES = ("config.pbtxt", "1/*.py", "1/.gitkeep", "warmup/*")

setup(
    packages=[*find_packages(include=["client_sdk*", "export*"]), "export.template"],
    package_dir={"export.template": "model_repository"},
    package_data={
        "client_sdk": ["py.typed"],
        "client_sdk.gateway.page": ["index.html", "page.css", "page.js"],
        "export": ["py.typed"],
        "export.template": [f"{model}/{file}" for model in _MODELS for file in _FILES],
    },
    include_package_data=False,
)
