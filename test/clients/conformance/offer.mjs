// The tools, resources and prompts that the conformance suite knows by name.

const PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==";
const WAV = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA=";

export const pause = (ms) => new Promise((done) => setTimeout(done, ms));
export const schema = (given) => given ?? { type: "object", properties: {} };

const text = (text) => ({ type: "text", text });
const says = (...content) => ({ content: content.map((part) => (typeof part === "string" ? text(part) : part)) });
const image = { type: "image", data: PNG, mimeType: "image/png" };
const object = (properties, required = Object.keys(properties)) => ({ type: "object", properties, required });
const ask = (message, properties) => ({ method: "elicitation/create", params: { mode: "form", message, requestedSchema: object(properties) } });
const needs = (inputRequests, requestState) => ({ resultType: "input_required", inputRequests, ...(requestState && { requestState }) });
const accepted = (response) => (response?.action === "accept" && response.content ? response.content : undefined);
const answers = (ctx) => ctx.mcpReq.inputResponses ?? {};

// A tool that asks for `requests` first and says `done(responses)` once all that it needs is there.
const asksFirst = (name, requests, isThere, done) => ({
    name,
    description: `Needs input: ${Object.keys(requests).join(", ")}`,
    run: async (_, ctx) => (isThere(answers(ctx)) ? says(done(answers(ctx))) : needs(requests)),
});

const askName = { user_name: ask("What is your name?", { name: { type: "string" } }) };
const askModel = (content, maxTokens) => ({ method: "sampling/createMessage", params: { messages: [{ role: "user", content: text(content) }], maxTokens } });
const askRoots = { method: "roots/list", params: {} };
const nameOf = (responses, key = "user_name") => accepted(responses[key])?.name;

async function stateful(ctx, requests, isThere, done) {
    const state = ctx.mcpReq.requestState();
    if (state && isThere(answers(ctx), state)) return done(answers(ctx), state);
    return needs(requests, await ctx.states.mint({ step: 1 }, ctx));
}

// Asks in the stream of the call. On the client's own stream a question is lost if that is not open yet.
const inCall = (ctx, method, params) => ctx.mcpReq.send({ method, params });

const elicits = (name, properties) => ({
    name,
    description: "Asks the user",
    run: async (_, ctx) => {
        const { action, content } = await inCall(ctx, "elicitation/create", { message: "Please fill this in", requestedSchema: { type: "object", properties, required: [] } });
        return says(`Elicitation completed: action=${action}, content=${JSON.stringify(content ?? {})}`);
    },
});

const choices = (kind, of) => of.map((name, at) => ({ const: `value${at + 1}`, title: `${name} ${kind}` }));
const NTH = ["First", "Second", "Third"];

export const TOOLS = [
    { name: "test_simple_text", description: "Says one text", run: () => says("This is a simple text response for testing.") },
    { name: "test_image_content", description: "Gives an image", run: () => says(image) },
    { name: "test_audio_content", description: "Gives a sound", run: () => says({ type: "audio", data: WAV, mimeType: "audio/wav" }) },
    {
        name: "test_embedded_resource",
        description: "Gives a resource",
        run: () => says({ type: "resource", resource: { uri: "test://embedded-resource", mimeType: "text/plain", text: "This is an embedded resource content." } }),
    },
    {
        name: "test_multiple_content_types",
        description: "Gives several kinds",
        run: () => says("Multiple content types test:", image, { type: "resource", resource: { uri: "test://mixed-content-resource", mimeType: "application/json", text: '{"test":"data","value":123}' } }),
    },
    {
        name: "test_tool_with_logging",
        description: "Logs while it works",
        run: async (_, ctx) => {
            for (const data of ["Tool execution started", "Tool processing data", "Tool execution completed"]) {
                await ctx.mcpReq.notify({ method: "notifications/message", params: { level: "info", data } });
                await pause(50);
            }
            return says("Logged three times");
        },
    },
    {
        name: "test_error_handling",
        description: "Always fails",
        run: () => {
            throw new Error("This tool intentionally returns an error for testing");
        },
    },
    {
        name: "test_tool_with_progress",
        description: "Tells how far it is",
        run: async (_, ctx) => {
            const progressToken = ctx.mcpReq._meta?.progressToken;
            for (const progress of [0, 50, 100]) {
                if (progressToken !== undefined) await ctx.mcpReq.notify({ method: "notifications/progress", params: { progressToken, progress, total: 100 } });
                await pause(50);
            }
            return says("Done");
        },
    },
    {
        name: "test_sampling",
        description: "Asks the client's model",
        inputSchema: object({ prompt: { type: "string" } }),
        run: async ({ prompt }, ctx) => {
            const { content } = await inCall(ctx, "sampling/createMessage", { messages: [{ role: "user", content: text(prompt) }], maxTokens: 100 });
            return says(`LLM response: ${content.text ?? ""}`);
        },
    },
    {
        name: "test_elicitation",
        description: "Asks the client's user",
        inputSchema: object({ message: { type: "string" } }),
        run: async ({ message }, ctx) => {
            const properties = { username: { type: "string", description: "User's response" }, email: { type: "string", description: "User's email address" } };
            const answer = await inCall(ctx, "elicitation/create", { message, requestedSchema: object(properties) });
            return says(`User response: action: ${answer.action}, content: ${JSON.stringify(answer.content ?? {})}`);
        },
    },
    elicits("test_elicitation_sep1034_defaults", {
        name: { type: "string", default: "John Doe" },
        age: { type: "integer", default: 30 },
        score: { type: "number", default: 95.5 },
        status: { type: "string", enum: ["active", "inactive", "pending"], default: "active" },
        verified: { type: "boolean", default: true },
    }),
    elicits("test_elicitation_sep1330_enums", {
        untitledSingle: { type: "string", enum: ["option1", "option2", "option3"] },
        titledSingle: { type: "string", oneOf: choices("Option", NTH) },
        legacyEnum: { type: "string", enum: ["opt1", "opt2", "opt3"], enumNames: ["Option One", "Option Two", "Option Three"] },
        untitledMulti: { type: "array", items: { type: "string", enum: ["option1", "option2", "option3"] } },
        titledMulti: { type: "array", items: { anyOf: choices("Choice", NTH) } },
    }),
    {
        name: "json_schema_2020_12_tool",
        description: "Tool with JSON Schema 2020-12 features",
        inputSchema: {
            $schema: "https://json-schema.org/draft/2020-12/schema",
            type: "object",
            $defs: { address: { $anchor: "addressDef", type: "object", properties: { street: { type: "string" }, city: { type: "string" } } } },
            properties: { name: { type: "string" }, address: { $ref: "#/$defs/address" }, contactMethod: { type: "string", enum: ["phone", "email"] }, phone: { type: "string" }, email: { type: "string" } },
            allOf: [{ anyOf: [{ required: ["phone"] }, { required: ["email"] }] }],
            if: { properties: { contactMethod: { const: "phone" } }, required: ["contactMethod"] },
            then: { required: ["phone"] },
            else: { required: ["email"] },
            additionalProperties: false,
        },
        run: ({ name }) => says(`Hello ${name}`),
    },
    {
        name: "test_reconnection",
        description: "Closes its stream and answers once the client is back",
        run: async (_, ctx) => {
            ctx.http?.closeSSE?.();
            await pause(100);
            return says("Reconnected");
        },
    },
    {
        name: "test_header_param",
        description: "Has a parameter that is mirrored to a header",
        inputSchema: object({ region: { type: "string", "x-mcp-header": "Region" } }),
        run: ({ region }) => says(`Region ${region}`),
    },
    {
        name: "test_logging_tool",
        description: "Logs where the client asked for that",
        run: async (_, ctx) => {
            if (ctx.mcpReq._meta?.["io.modelcontextprotocol/logLevel"] || ctx.legacy) await ctx.mcpReq.notify({ method: "notifications/message", params: { level: "info", data: "logged" } });
            return says("Logged if asked");
        },
    },
    {
        name: "test_streaming_elicitation",
        description: "Streams, then needs input",
        run: async (_, ctx) => {
            const progressToken = ctx.mcpReq._meta?.progressToken ?? "none";
            await ctx.mcpReq.notify({ method: "notifications/progress", params: { progressToken, progress: 1, total: 2 } });
            return nameOf(answers(ctx)) ? says("Streamed") : needs(askName);
        },
    },
    {
        name: "test_missing_capability",
        description: "Needs a client that samples",
        run: (_, ctx) => {
            const has = ctx.mcpReq.envelope?.["io.modelcontextprotocol/clientCapabilities"] ?? {};
            if (!has.sampling) throw Object.assign(new Error("Missing required client capability"), { code: -32021, data: { requiredCapabilities: { sampling: {} } } });
            return says("The client samples");
        },
    },
    asksFirst("test_input_required_result_elicitation", askName, nameOf, (had) => `Hello, ${nameOf(had)}!`),
    asksFirst("test_input_required_result_sampling", { capital_question: askModel("What is the capital of France?", 100) }, (had) => had.capital_question?.content, (had) => [had.capital_question.content].flat()[0].text ?? ""),
    asksFirst("test_input_required_result_list_roots", { client_roots: askRoots }, (had) => had.client_roots?.roots, (had) => `Roots: ${had.client_roots.roots.map(({ uri }) => uri).join(", ")}`),
    {
        name: "test_input_required_result_request_state",
        description: "Needs a confirmation",
        run: (_, ctx) => stateful(ctx, { confirm: ask("Please confirm", { ok: { type: "boolean" } }) }, (had) => accepted(had.confirm), () => says("state-ok")),
    },
    {
        name: "test_input_required_result_tampered_state",
        description: "Notices a state that is not its own",
        run: (_, ctx) => stateful(ctx, { confirm: ask("Please confirm", { ok: { type: "boolean" } }) }, (had) => accepted(had.confirm), () => says("state-ok")),
    },
    {
        name: "test_input_required_result_multiple_inputs",
        description: "Needs three things",
        run: (_, ctx) =>
            stateful(ctx, { ...askName, greeting: askModel("Generate a greeting", 50), client_roots: askRoots }, (had) => nameOf(had) && had.greeting && had.client_roots, (had) => says(`Hello, ${nameOf(had)}!`)),
    },
    {
        name: "test_input_required_result_multi_round",
        description: "Asks twice",
        run: async (_, ctx) => {
            const state = ctx.mcpReq.requestState();
            if (state?.step === 2 && accepted(answers(ctx).step2)) return says(`${state.name} likes ${accepted(answers(ctx).step2).color}`);
            const name = state && nameOf(answers(ctx), "step1");
            if (name) return needs({ step2: ask("Step 2: What is your favorite color?", { color: { type: "string" } }) }, await ctx.states.mint({ step: 2, name }, ctx));
            return needs({ step1: ask("Step 1: What is your name?", { name: { type: "string" } }) }, await ctx.states.mint({ step: 1 }, ctx));
        },
    },
    {
        name: "test_input_required_result_capabilities",
        description: "Asks for what the client can do only",
        run: (_, ctx) => {
            const has = ctx.mcpReq.envelope?.["io.modelcontextprotocol/clientCapabilities"] ?? {};
            const all = { elicitation: ["user_name", askName.user_name], sampling: ["capital_question", askModel("What is the capital of France?", 100)], roots: ["client_roots", askRoots] };
            return needs(Object.fromEntries(Object.keys(all).filter((kind) => has[kind]).map((kind) => all[kind])));
        },
    },
];

export const RESOURCES = [
    { uri: "test://static-text", name: "Static text", description: "A text", mimeType: "text/plain", text: "This is the content of the static text resource." },
    { uri: "test://static-binary", name: "Static binary", description: "An image", mimeType: "image/png", blob: PNG },
    { uri: "test://watched-resource", name: "Watched", description: "May be watched", mimeType: "text/plain", text: "Watched" },
];

export const TEMPLATES = [{ uriTemplate: "test://template/{id}/data", name: "Template", description: "Data by id", mimeType: "application/json" }];

export function read(uri) {
    const known = RESOURCES.find((resource) => resource.uri === uri);
    if (known) return { uri, mimeType: known.mimeType, ...(known.text ? { text: known.text } : { blob: known.blob }) };
    const id = /^test:\/\/template\/([^/]+)\/data$/.exec(uri)?.[1];
    return id && { uri, mimeType: "application/json", text: JSON.stringify({ id, templateTest: true, data: `Data for ID: ${id}` }) };
}

const argument = (name) => ({ name, description: `The ${name}`, required: true });
export const PROMPTS = [
    { name: "test_simple_prompt", description: "A simple prompt" },
    { name: "test_prompt_with_arguments", description: "Has arguments", arguments: [argument("arg1"), argument("arg2")] },
    { name: "test_prompt_with_embedded_resource", description: "Has a resource", arguments: [argument("resourceUri")] },
    { name: "test_prompt_with_image", description: "Has an image" },
    { name: "test_input_required_result_prompt", description: "Needs input" },
];

export function prompt({ name, arguments: given = {} }, ctx) {
    const user = (...content) => ({ messages: content.map((content) => ({ role: "user", content })) });
    switch (name) {
        case "test_simple_prompt":
            return user(text("This is a simple prompt for testing."));
        case "test_prompt_with_arguments":
            return user(text(`Prompt with arguments: arg1='${given.arg1}', arg2='${given.arg2}'`));
        case "test_prompt_with_embedded_resource":
            return user(
                { type: "resource", resource: { uri: given.resourceUri, mimeType: "text/plain", text: "Embedded resource content for testing." } },
                text("Please process the embedded resource above."),
            );
        case "test_prompt_with_image":
            return user(image, text("Please analyze the image above."));
        case "test_input_required_result_prompt": {
            const context = accepted(answers(ctx).user_context)?.context;
            return context ? user(text(`In the context of ${context}`)) : needs({ user_context: ask("What context should the prompt use?", { context: { type: "string" } }) });
        }
        default:
            throw Object.assign(new Error(`there is no prompt ${name}`), { code: -32602 });
    }
}
