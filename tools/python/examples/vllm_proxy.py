# SPDX-License-Identifier: Apache-2.0
"""Stands before two `vllm serve`: one computes prompts, the other decodes with the pages that it is sent.

python vllm_proxy.py 8000 http://prefill:8100 http://decode:8200 [prefill:9000]

Both run with --kv-transfer-config, "kv_connector_module_path": "kvferry.vllm". The last argument, the prefill
engine's address for kvferry (its setting "port"), asks both at once: with "layer_wise" pages travel while the
prompt is computed. Without it decode is asked when prefill is done.
"""

import asyncio
import contextlib
import sys
import uuid

from aiohttp import ClientError, ClientSession, web


class Proxy:
    def __init__(self, prefill, decode, kvferry_endpoint=""):
        self.prefill, self.decode, self.kvferry_endpoint = prefill, decode, kvferry_endpoint

    async def session(self, app):
        async with ClientSession() as self.http:
            yield

    async def compute(self, path, body, headers, transfer):
        """The prompt alone. What comes back is for the decode engine; None: it computes the prompt itself."""
        params = {"do_remote_decode": True, **transfer}
        asked = {**body, "stream": False, "max_tokens": 1, "kv_transfer_params": params}
        asked.pop("stream_options", None)
        if "max_completion_tokens" in asked:
            asked["max_completion_tokens"] = 1
        with contextlib.suppress(ClientError):
            async with self.http.post(self.prefill + path, json=asked, headers=headers) as answer:
                return (await answer.json()).get("kv_transfer_params")

    async def handle(self, request):
        body = await request.json()
        name = request.headers.get("X-Request-Id") or str(uuid.uuid4())
        headers, transfer = {"X-Request-Id": name}, {"transfer_id": name}
        if "Authorization" in request.headers:
            headers["Authorization"] = request.headers["Authorization"]
        computing = asyncio.ensure_future(self.compute(request.path, body, headers, transfer))
        if self.kvferry_endpoint:
            params = {"do_remote_prefill": True, "kvferry_endpoint": self.kvferry_endpoint}
            params.update(transfer)
        else:
            params = await computing
        asked = {**body, "kv_transfer_params": params}
        async with self.http.post(
            self.decode + request.path, json=asked, headers=headers
        ) as answer:
            kind = {"Content-Type": answer.headers["Content-Type"]}
            response = web.StreamResponse(status=answer.status, headers=kind)
            await response.prepare(request)
            async for part in answer.content.iter_any():  # a client that left ends the request
                await response.write(part)
        await computing
        return response


if __name__ == "__main__":
    proxy = Proxy(*sys.argv[2:])
    app = web.Application()
    app.cleanup_ctx.append(proxy.session)
    app.router.add_post("/v1/completions", proxy.handle)
    app.router.add_post("/v1/chat/completions", proxy.handle)
    web.run_app(app, port=int(sys.argv[1]))
