// An OAuth issuer (oauth2-mock-server) with what tests need beside it: tokens with any claims, new keys, a count of how often its
// keys were asked for, and an outage. Prints its URL and that of these controls.

import { createServer } from "node:http";

import { OAuth2Issuer, OAuth2Service } from "oauth2-mock-server";

const issuer = new OAuth2Issuer();
const service = new OAuth2Service(issuer);
let asked = 0;
let down = false;

const listen = (server) => new Promise((done) => server.listen(0, "127.0.0.1", () => done(`http://127.0.0.1:${server.address().port}`)));

const front = createServer((request, response) => {
  if (request.url === "/jwks") asked += 1;
  if (down) {
    response.writeHead(500).end();
    return;
  }
  service.requestHandler(request, response);
});

const merge = (into, from) => {
  for (const [name, value] of Object.entries(from ?? {})) {
    if (value === null) delete into[name];
    else into[name] = value;
  }
};

const controls = {
  mint: ({ kid, claims, header }) =>
    issuer.buildToken({ kid, scopesOrTransform: (itsHeader, payload) => (merge(itsHeader, header), merge(payload, claims)) }),
  key: async ({ alg, kid }) => {
    await issuer.keys.generate(alg, { kid });
    return kid;
  },
  keys: () => issuer.keys.toJSON(true),
  asked: () => asked,
  down: (wanted) => (down = wanted),
};

const control = createServer(async (request, response) => {
  const body = [];
  for await (const piece of request) body.push(piece);
  const answer = await controls[request.url.slice(1)](JSON.parse(Buffer.concat(body).toString() || "null"));
  response.end(JSON.stringify(answer));
});

issuer.url = await listen(front);
for (const alg of ["RS256", "ES256", "EdDSA"]) await issuer.keys.generate(alg, { kid: alg });
console.log(JSON.stringify({ issuer: issuer.url, control: await listen(control) }));
