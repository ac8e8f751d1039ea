"""An object is made only if there is none with its name, also by servers that cannot say so."""

from __future__ import annotations

import pytest

from slipform.pipelines.remote import client


@pytest.mark.parametrize("kind", [NotImplementedError, RuntimeError])
def test_a_server_without_conditional_requests(kind: type[Exception]) -> None:
    """An object is written all the same, and other errors are passed on."""
    calls: list[str] = []

    class Old:
        def put(self, name: str, content: bytes, **options: object) -> None:
            calls.append(str(options.get("mode")))
            if "mode" in options:
                raise kind("Generic S3 error: status code: 501" if kind is RuntimeError else "no")

    assert client.create(Old(), "name", b"content")
    assert calls == ["create", "None"]

    class Failing:
        def put(self, *_: object, **options: object) -> None:
            raise kind("status code: 500") if kind is RuntimeError else OSError("no")

    with pytest.raises((RuntimeError, OSError)):
        client.create(Failing(), "name", b"content")
