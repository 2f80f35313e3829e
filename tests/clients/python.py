"""The clients in Python: python.py CLIENT URL prints the answer.

The SDKs take the host from the URL, and the model is the URL's path: the lab's model "after/7" thinks for
seven seconds. Those of other protocols take path and query as what they ask for.
"""

import asyncio
import sys
import urllib.parse
import urllib.request
import warnings

# Each client imports its own library: no run pays for the others'.


def urllib_(url):
    with urllib.request.urlopen(url) as reply:
        return reply.read().decode()


def ftplib(url):
    import ftplib

    url, parts = urllib.parse.urlsplit(url), []
    with ftplib.FTP(url.hostname) as server:
        server.login()
        server.retrbinary(f"RETR {words(url)}", parts.append)
    return b"".join(parts).decode().strip()


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


def boto3(url):
    import boto3

    url = urllib.parse.urlsplit(url)
    client = boto3.client(
        "bedrock-runtime",
        endpoint_url=f"http://{url.netloc}",
        region_name="eu-central-1",
        aws_access_key_id="none",
        aws_secret_access_key="none",
    )
    reply = client.invoke_model(modelId=words(url), body="{}")
    return reply["body"].read().decode()


def google_genai(url):
    import google.genai

    url = urllib.parse.urlsplit(url)
    # The mark goes first: a model's name has no "?".
    options = {"base_url": f"http://{url.netloc}/{url.query}"}
    model = url.path.removeprefix("/")
    with google.genai.Client(api_key="none", http_options=options) as client:
        return client.models.generate_content(model=model, contents="6 x 7?").text


def dnspython(url):
    import dns.resolver

    dns.resolver.override_system_resolver()
    return urllib_(url)


def twisted_names(url):
    from twisted.internet import reactor, task
    from twisted.names.client import createResolver
    from twisted.web.client import Agent, readBody

    # Whether it warns of the answer that ends with the connection is a matter of moments.
    warnings.simplefilter("ignore")

    async def ask(reactor):
        reactor.installResolver(createResolver())
        reply = await Agent(reactor).request(b"GET", url.encode())
        print((await readBody(reply)).decode())

    task.react(lambda reactor: task.ensureDeferred(ask(reactor)))


def grpc(url):
    import grpc

    url = urllib.parse.urlsplit(url)
    with grpc.insecure_channel(f"{url.hostname}:50051") as channel:
        return channel.unary_unary("/lab.Answer/Answer")(words(url).encode()).decode()


def pubsub(url):
    import grpc
    from google.pubsub_v1 import SubscriberClient
    from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

    url = urllib.parse.urlsplit(url)
    channel = grpc.insecure_channel(f"{url.hostname}:50051")
    with SubscriberClient(transport=SubscriberGrpcTransport(channel=channel)) as client:
        reply = client.pull(subscription=words(url), max_messages=1)
        return reply.received_messages[0].message.data.decode()


def redis(url):
    import redis

    url = urllib.parse.urlsplit(url)
    return redis.Redis(host=url.hostname, protocol=2).get(words(url)).decode()


def pymongo(url):
    import pymongo
    from pymongo.server_api import ServerApi

    url = urllib.parse.urlsplit(url)
    # A load balancer's client makes one connection, and none to watch the server.
    with pymongo.MongoClient(url.hostname, loadBalanced=True, server_api=ServerApi("1")) as client:
        return client.admin.command("answer", words(url))["answer"]


def psycopg(url):
    import psycopg

    url = urllib.parse.urlsplit(url)
    wait = url.path.removeprefix("/after/") if url.path != "/now" else "0"
    options = {"user": "postgres", "dbname": "postgres", "application_name": url.query}
    with psycopg.connect(host=url.hostname, **options) as connection:
        return connection.execute(f"select 42 from pg_sleep({wait})").fetchone()[0]


def words(url):
    """What a client asks for: "now?MARK" or "after/N?MARK"."""
    return f"{url.path.removeprefix('/')}?{url.query}"


client, url = sys.argv[1:]
answer = {
    "urllib": urllib_,
    "ftplib": ftplib,
    "requests": requests,
    "httpx": httpx,
    "httpx-async": httpx_async,
    "aiohttp": aiohttp,
    "aiohttp-aiodns": aiohttp_aiodns,
    "openai": openai,
    "openai-async": openai_async,
    "anthropic": anthropic,
    "boto3": boto3,
    "google-genai": google_genai,
    "dnspython": dnspython,
    "twisted.names": twisted_names,
    "grpc": grpc,
    "pubsub": pubsub,
    "redis": redis,
    "pymongo": pymongo,
    "psycopg": psycopg,
}[client](url)
print(asyncio.run(answer) if asyncio.iscoroutine(answer) else answer)
