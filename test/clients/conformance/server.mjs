// An MCP server of the official SDK that offers what the conformance suite asks for by name, in both eras: with sessions,
// resumable streams and requests of its own until 2025-11-25, without any from 2026-07-28 on. PORT says where, on loopback.

import { createServer } from "node:http";
import { randomUUID } from "node:crypto";
import { NodeStreamableHTTPServerTransport, localhostHostValidation, localhostOriginValidation, toNodeHandler, toWebRequest } from "@modelcontextprotocol/node";
import { Server, createMcpHandler, createRequestStateCodec, isLegacyRequest } from "@modelcontextprotocol/server";
import { PROMPTS, RESOURCES, TEMPLATES, TOOLS, prompt, read, schema } from "./offer.mjs";

const states = createRequestStateCodec({ key: "a key of a test server, 32 bytes or more" });
const mcpError = (code, message, data) => Object.assign(new Error(message), { code, data });

function build({ era }) {
    const legacy = era === "legacy";
    const capabilities = { tools: {}, prompts: {}, completions: {}, resources: legacy ? { subscribe: true } : {} };
    if (legacy) capabilities.logging = {};
    const server = new Server(
        { name: "conformance-upstream", version: "1.0.0" },
        { capabilities, requestState: { verify: states.verify } },
    );
    const on = (method, answer) => server.setRequestHandler(method, answer);
    on("tools/list", () => ({ tools: TOOLS.map(({ name, description, inputSchema }) => ({ name, description, inputSchema: schema(inputSchema) })) }));
    on("tools/call", async ({ params }, ctx) => {
        const tool = TOOLS.find((tool) => tool.name === params.name);
        if (!tool) throw mcpError(-32602, `there is no tool ${params.name}`);
        try {
            return await tool.run(params.arguments ?? {}, { ...ctx, server, states, legacy });
        } catch (error) {
            if (error.code) throw error;
            return { isError: true, content: [{ type: "text", text: error.message }] };
        }
    });
    on("resources/list", () => ({ resources: RESOURCES.map(({ uri, name, description, mimeType }) => ({ uri, name, description, mimeType })) }));
    on("resources/templates/list", () => ({ resourceTemplates: TEMPLATES }));
    on("resources/read", ({ params: { uri } }) => {
        const contents = read(uri);
        if (!contents) throw mcpError(legacy ? -32002 : -32602, "Resource not found", { uri });
        return { contents: [contents] };
    });
    on("prompts/list", () => ({ prompts: PROMPTS }));
    on("prompts/get", ({ params }, ctx) => prompt(params, ctx));
    on("completion/complete", () => ({ completion: { values: ["paris", "park", "party"], total: 3, hasMore: false } }));
    if (legacy) {
        on("logging/setLevel", () => ({}));
        on("resources/subscribe", () => ({}));
        on("resources/unsubscribe", () => ({}));
    }
    return server;
}

// What streams said, so that a client can ask for what it has missed.
class Events {
    list = [];
    async storeEvent(stream, message) {
        const id = `${stream}_${this.list.length}`;
        this.list.push({ id, stream, message });
        return id;
    }
    async getStreamIdForEventId(id) {
        return this.list.find((event) => event.id === id)?.stream;
    }
    async replayEventsAfter(last, { send }) {
        const at = this.list.findIndex((event) => event.id === last);
        const stream = this.list[at]?.stream;
        for (const { id, message } of this.list.slice(at + 1).filter((event) => event.stream === stream)) {
            if (Object.keys(message).length > 0) await send(id, message);
        }
        return stream;
    }
}

const sessions = new Map();

async function legacySession(body) {
    const transport = new NodeStreamableHTTPServerTransport({
        sessionIdGenerator: randomUUID,
        eventStore: new Events(),
        retryInterval: 500,
        onsessioninitialized: (id) => sessions.set(id, transport),
        onsessionclosed: (id) => sessions.delete(id),
    });
    await build({ era: "legacy" }).connect(transport);
    return transport;
}

const modern = toNodeHandler(createMcpHandler(build, { legacy: "reject" }));
const hostIsRight = localhostHostValidation(), originIsRight = localhostOriginValidation();

async function bodyOf(req) {
    const chunks = [];
    for await (const chunk of req) chunks.push(chunk);
    try {
        return chunks.length ? JSON.parse(Buffer.concat(chunks)) : undefined;
    } catch {
        return undefined;
    }
}

let requests = 0;
const http = createServer(async (req, res) => {
    if (req.url === "/requests") return res.end(String(requests));
    requests += 1;
    if (!hostIsRight(req, res) || !originIsRight(req, res)) return;
    const body = req.method === "POST" ? await bodyOf(req) : undefined;
    if (!(await isLegacyRequest(await toWebRequest(req, body), body))) return modern(req, res, body);
    const id = req.headers["mcp-session-id"];
    const known = sessions.get(id);
    if (id && !known) return res.writeHead(404, { "content-type": "application/json" }).end('{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"Session not found"}}');
    await (known ?? (await legacySession(body))).handleRequest(req, res, body);
});
http.listen(Number(process.env.PORT ?? 0), "127.0.0.1", () => console.log(`http://127.0.0.1:${http.address().port}/mcp`));
