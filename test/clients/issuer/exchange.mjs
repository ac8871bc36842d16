// An authorization server (oidc-provider) that exchanges tokens (RFC 8693). It authenticates its clients, keeps its tokens and tells
// what is in them (RFC 7662); which token is given for which is said here, because the library leaves it to who uses it.

import { createServer } from "node:http";

import Provider, { errors } from "oidc-provider";

const GRANT = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token";
const PARAMETERS = ["subject_token", "subject_token_type", "requested_token_type", "audience", "resource", "scope"];
const AUDIENCE = "https://model.test";

let count = 0;

const client = (id, grant) => ({
  client_id: id,
  client_secret: `secret-of-${id}/+&=`,
  grant_types: [grant],
  redirect_uris: [],
  response_types: [],
});

const exchange = (provider) => async (context) => {
  const { client, params } = context.oidc;
  if (params.subject_token_type !== ACCESS_TOKEN) throw new errors.InvalidRequest("a subject_token_type of access_token is needed");
  if (params.audience !== AUDIENCE) throw new errors.InvalidTarget();
  const subject = await provider.ClientCredentials.find(params.subject_token);
  if (!subject?.isValid) throw new errors.InvalidGrant("the subject_token is not known");
  const token = new provider.ClientCredentials({ client, scope: params.scope, extra: { subject: subject.clientId, audience: AUDIENCE } });
  context.body = {
    access_token: await token.save(),
    issued_token_type: ACCESS_TOKEN,
    token_type: "Bearer",
    expires_in: token.expiration,
    scope: params.scope,
  };
  count += 1;
};

const server = createServer();
server.listen(0, "127.0.0.1", () => {
  const url = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(url, {
    clients: [client("app", "client_credentials"), client("gateway", GRANT)],
    features: { clientCredentials: { enabled: true }, introspection: { enabled: true }, devInteractions: { enabled: false } },
    scopes: ["chat"],
    extraTokenClaims: (_context, token) => token.extra,
    ttl: { ClientCredentials: 600 },
  });
  provider.registerGrantType(GRANT, exchange(provider), PARAMETERS);
  const answer = provider.callback();
  server.on("request", (request, response) => {
    if (request.url === "/exchanged") response.end(String(count));
    else answer(request, response);
  });
  console.log(JSON.stringify({ issuer: url }));
});
