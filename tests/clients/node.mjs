// The clients in Node: node.mjs CLIENT URL prints the answer.

import dns from 'node:dns/promises';
import http from 'node:http';
import https from 'node:https';
import { createRequire } from 'node:module';
import { urlToHttpOptions } from 'node:url';

const get = (module, target) =>
  new Promise((resolve, reject) => {
    const request = module.get(target, async (reply) => {
      let body = '';
      for await (const chunk of reply.setEncoding('utf8')) body += chunk;
      resolve(body);
    });
    request.on('error', reject);
  });

const clients = {
  http: (url) => get(http, url),
  https: (url) => get(https, url),
  fetch: async (url) => (await fetch(url)).text(),
  undici: async (url) => (await createRequire(import.meta.url)('undici').request(url)).body.text(),
  // A program that looks up the address itself, and asks that address alone.
  lookup: async (url) => {
    const { hostname, pathname, search } = new URL(url);
    const { address } = await dns.lookup(hostname);
    return get(http, { host: address, path: pathname + search });
  },
  // c-ares: the first address of the questions' answers, IPv6 before IPv4.
  resolve: async (url) => {
    const { hostname, pathname, search } = new URL(url);
    const answers = await Promise.allSettled([dns.resolve6(hostname), dns.resolve4(hostname)]);
    const [host] = answers.flatMap(({ value }) => value ?? []);
    return get(http, { host, path: pathname + search });
  },
  // As before Node 20, and as programs still ask for: one address.
  'one-address': (url) => get(http, { ...urlToHttpOptions(new URL(url)), autoSelectFamily: false }),
};

const [client, url] = process.argv.slice(2);
process.stdout.write(await clients[client](url));
