// Deno: deno.mjs URL prints the answer.

const reply = await fetch(Deno.args[0]);
console.log(await reply.text());
