// Plain, streamed, blocked and mixed traffic through the gateway, and the same plain and streamed calls direct, in one
// run: what is judged is the difference. Needs GATEWAY and DIRECT (base URLs) in the environment.
import http from "k6/http";
import { check } from "k6";
import { Trend, Rate } from "k6/metrics";

const rate = Number(__ENV.RATE || 50);
const duration = __ENV.DURATION || "10s";
const scenario = (exec, startTime) => ({
  executor: "constant-arrival-rate", rate, timeUnit: "1s", duration, preAllocatedVUs: 20, maxVUs: 100, exec, startTime,
});
const seconds = parseInt(duration, 10);

export const options = {
  discardResponseBodies: false,
  summaryTrendStats: ["min", "med", "avg", "p(90)", "p(95)", "p(99)", "max"],
  scenarios: {
    direct_plain: scenario("directPlain", "0s"),
    plain: scenario("plain", `${seconds + 1}s`),
    direct_stream: scenario("directStream", `${2 * seconds + 2}s`),
    stream: scenario("stream", `${3 * seconds + 3}s`),
    blocked: scenario("blocked", `${4 * seconds + 4}s`),
    mixed: scenario("mixed", `${5 * seconds + 5}s`),
  },
};

const trends = Object.fromEntries(
  ["direct_plain", "plain", "direct_stream", "stream", "blocked", "mixed"].map((name) => [name, new Trend(name, true)]),
);
const errors = new Rate("errors");

function call(name, base, body, status) {
  const answer = http.post(`${base}/v1/chat/completions`, JSON.stringify(body), {
    headers: { "content-type": "application/json", "estoppel-run": "k6" },
  });
  trends[name].add(answer.timings.duration);
  const good = check(answer, { [`${name} answers ${status}`]: (a) => a.status === status });
  errors.add(!good);
}

const messages = [{ role: "user", content: "hello from k6" }];
const plainBody = { model: "scripted-1", messages };
const streamBody = { ...plainBody, stream: true };
const blockedBody = { ...plainBody, tools: [{ type: "function", function: { name: "bash", parameters: { type: "object" } } }] };

export const directPlain = () => call("direct_plain", __ENV.DIRECT, plainBody, 200);
export const plain = () => call("plain", __ENV.GATEWAY, plainBody, 200);
export const directStream = () => call("direct_stream", __ENV.DIRECT, streamBody, 200);
export const stream = () => call("stream", __ENV.GATEWAY, streamBody, 200);
export const blocked = () => call("blocked", __ENV.GATEWAY, blockedBody, 403);
export const mixed = () => {
  const turn = Math.floor(Math.random() * 10);
  if (turn < 6) call("mixed", __ENV.GATEWAY, plainBody, 200);
  else if (turn < 9) call("mixed", __ENV.GATEWAY, streamBody, 200);
  else call("mixed", __ENV.GATEWAY, blockedBody, 403);
};

export function handleSummary(data) {
  return { [__ENV.SUMMARY || "summary.json"]: JSON.stringify(data.metrics) };
}
