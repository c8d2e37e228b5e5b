"""LiteLLM's Router in this process: two deployments of one model, usage-based routing, a mock answer.

`python -m benchmarks.beside.router`, by a Python that has LiteLLM.
"""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import Any

from benchmarks.beside.worker import serve_async

MODEL = "claude-sonnet-4-5"
ASKED = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}


def deployment(provider: str) -> dict[str, Any]:
    """Describe one provider of the model, with limits that no benchmark reaches."""
    answer = {"api_key": "none", "mock_response": "ok", "rpm": 10**8, "tpm": 10**11}
    return {"model_name": MODEL, "litellm_params": {"model": f"{provider}/{MODEL}", **answer}}


async def main() -> None:
    """Serve both calls: a whole completion, which counts, and the choice alone, which does not."""
    litellm: Any = import_module("litellm")
    litellm.suppress_debug_info = True
    models = [deployment("anthropic"), deployment("openrouter")]
    router = litellm.Router(model_list=models, routing_strategy="usage-based-routing-v2")
    for _ in range(5):
        await router.acompletion(**ASKED)
    await asyncio.sleep(0.2)
    counted = [key for key in router.cache.in_memory_cache.cache_dict if ":rpm:" in key]
    if not counted:
        raise RuntimeError("the Router counts nothing: it is not what it is to be compared as")
    await serve_async(
        {
            "completion": lambda: router.acompletion(**ASKED),
            "choice": lambda: router.async_get_available_deployment(**ASKED, request_kwargs={}),
        }
    )


if __name__ == "__main__":
    asyncio.run(main())
