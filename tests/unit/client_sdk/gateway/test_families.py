"""Which family a name means, of those that are known."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from client_sdk import ServerUnreachable
from client_sdk.gateway import GatewaySettings
from client_sdk.gateway.families import Families, Family, Kind

PROMPTS = {"s2p-query": "find ", "query": "other "}


def known(*names: str) -> Families:
    """Families of these names, with PROMPTS and versions 1 and 2."""
    families = Families(GatewaySettings(triton="grpc://127.0.0.1:1"))
    info = cast(Any, SimpleNamespace(prompts=PROMPTS, versions=(1, 2), version=2))
    families._known = {name: Family(name, info, cast(Any, None)) for name in names}
    return families


@pytest.mark.parametrize(
    ("model", "name", "options"),
    [
        ("bert", "bert", {}),
        ("bert-s2p-query", "bert", {"prompt_name": "s2p-query"}),
        ("bert-query", "bert", {"input_type": "query"}),
        ("bert-large-s2p-query:1", "bert-large", {"prompt_name": "s2p-query", "model_version": 1}),
        ("bert-large", "bert-large", {}),
        ("bert:2", "bert", {"model_version": 2}),
    ],
)
async def test_the_longest_name_is_the_family_and_what_follows_its_prompt(model, name, options):
    target = known("bert", "bert-large")._named(model)
    assert target is not None and (target.family.name, target.options) == (name, options)


@pytest.mark.parametrize("model", ["bert:3", "bert:" + "9" * 5000, "bert:02", "bert-", "bert-s2p", "", "-", ":"])
async def test_another_means_none(model):
    assert known("bert")._named(model) is None


@pytest.mark.parametrize(
    ("kinds", "labels", "expected"),
    [
        ({"dense": 4}, (), {Kind.VECTORS}),
        ({"scores": 1}, ("fits",), {Kind.RANKS, Kind.SCORES}),
        ({"scores": 2}, ("no", "yes"), {Kind.SCORES}),
        ({"sparse": 9}, (), {Kind.SPARSE}),
        ({"dense": 4, "sparse": 9, "multi": 4}, (), {Kind.VECTORS, Kind.SPARSE, Kind.MULTI}),
    ],
)
def test_a_family_gives_what_its_model_does(kinds, labels, expected):
    family = Family("m3", cast(Any, SimpleNamespace(kinds=kinds, labels=labels)), cast(Any, None))
    assert {kind for kind in Kind if family.gives(kind)} == expected
    assert all(f"{kind.value} ({kind.routes})" in family.described for kind in family.kinds)


async def test_a_family_that_is_being_asked_for_is_waited_for(monkeypatch):
    families, go = known("bert"), asyncio.Event()

    async def refresh(self):
        await go.wait()
        self._known = {**self._known, **known("other")._known}

    monkeypatch.setattr(Families, "_refresh", refresh)
    assert [family.name for family in await families.all()] == ["bert"]  # which begins to ask
    finding = asyncio.ensure_future(families.find("other", None))
    await asyncio.sleep(0.01)
    go.set()
    assert (await finding).family.name == "other"
    await families.close()


async def test_where_no_server_answers_what_is_known_stays_and_is_not_ready():
    families = known("bert", "small")
    families._known = {name: replace(family, is_ready=True) for name, family in families._known.items()}
    with pytest.raises(ServerUnreachable):
        await families._ask()
    assert {family.name: family.is_ready for family in await families.all()} == {"bert": False, "small": False}
    await families.close()
