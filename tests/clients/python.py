"""The clients in Python: python.py CLIENT URL prints the answer.

The SDKs take the host from the URL, and the model is the URL's path: the lab's model "after/7" thinks for
seven seconds.
"""

import asyncio
import sys
import urllib.parse
import urllib.request

# Each client imports its own library: no run pays for the others'.


def urllib_(url):
    with urllib.request.urlopen(url) as reply:
        return reply.read().decode()


def requests(url):
    import requests

    return requests.get(url).text


def httpx(url):
    import httpx

    return httpx.get(url, timeout=None).text


async def httpx_async(url):
    import httpx

    async with httpx.AsyncClient(timeout=None) as client:
        return (await client.get(url)).text


async def aiohttp(url, resolver="ThreadedResolver"):
    import aiohttp

    connector = aiohttp.TCPConnector(resolver=getattr(aiohttp, resolver)())
    async with aiohttp.ClientSession(connector=connector) as session:
        async with session.get(url) as reply:
            return await reply.text()


async def aiohttp_aiodns(url):
    return await aiohttp(url, "AsyncResolver")


def sdk(url, path=""):
    """What an SDK's client is made with, and the model."""
    url = urllib.parse.urlsplit(url)
    made_with = {
        "api_key": "none",
        "base_url": f"https://{url.netloc}{path}",
        "default_query": {url.query: ""},
    }
    return made_with, url.path.removeprefix("/")


def openai(url):
    import openai

    made_with, model = sdk(url, "/v1")
    client = openai.OpenAI(**made_with)
    return client.responses.create(model=model, input="6 x 7?").output_text


async def openai_async(url):
    import openai

    made_with, model = sdk(url, "/v1")
    async with openai.AsyncOpenAI(**made_with) as client:
        question = {"role": "user", "content": "6 x 7?"}
        reply = await client.chat.completions.create(model=model, messages=[question])
        return reply.choices[0].message.content


def anthropic(url):
    import anthropic

    made_with, model = sdk(url)
    client = anthropic.Anthropic(**made_with)
    question = {"role": "user", "content": "6 x 7?"}
    reply = client.messages.create(model=model, max_tokens=64, messages=[question])
    return reply.content[0].text


client, url = sys.argv[1:]
answer = {
    "urllib": urllib_,
    "requests": requests,
    "httpx": httpx,
    "httpx-async": httpx_async,
    "aiohttp": aiohttp,
    "aiohttp-aiodns": aiohttp_aiodns,
    "openai": openai,
    "openai-async": openai_async,
    "anthropic": anthropic,
}[client](url)
print(asyncio.run(answer) if asyncio.iscoroutine(answer) else answer)
