// Plain, streamed, blocked and mixed traffic. Plain and streamed calls are made in one iteration through every base that
// they are compared with, in turning order, so that whatever else the machine does hits all alike. Needs the base URLs
// DIRECT, GATEWAY and OPEN (a gateway whose policy blocks nothing) in the environment.
import http from "k6/http";
import exec from "k6/execution";
import { check } from "k6";
import { Counter, Trend } from "k6/metrics";

const { DIRECT, GATEWAY, OPEN, RATE = "50", SCENARIO_SECONDS = "10" } = __ENV;
const seconds = Number(SCENARIO_SECONDS);
const names = ["plain", "streamed", "blocked", "mixed"];

export const options = {
  scenarios: Object.fromEntries(names.map((name, turn) => [name, {
    executor: "constant-arrival-rate",
    rate: Number(RATE),
    timeUnit: "1s",
    duration: `${seconds}s`,
    startTime: `${turn * (seconds + 1)}s`,
    gracefulStop: "1s",
    preAllocatedVUs: 20,
    maxVUs: 100,
    exec: name,
  }])),
};

const trends = Object.fromEntries(
  ["direct_plain", "open_plain", "plain", "direct_streamed", "streamed", "blocked", "mixed"]
    .map((name) => [name, new Trend(name, true)]),
);
const failed = new Counter("failed_calls");
const answered = new Counter("gateway_calls");

const messages = [{ role: "user", content: "hello from k6" }];
const plainCall = { body: { model: "scripted-1", messages }, status: 200, has: '"choices"' };
const streamedCall = { body: { ...plainCall.body, stream: true }, status: 200, has: "data: [DONE]" };
const shell = { type: "function", function: { name: "bash", parameters: { type: "object" } } };
const blockedCall = { body: { ...plainCall.body, tools: [shell] }, status: 403, has: "TOOL_DENIED" };

function call(name, base, { body, status, has }) {
  const answer = http.post(`${base}/v1/chat/completions`, JSON.stringify(body), {
    headers: { "content-type": "application/json", "estoppel-run": "k6" },
  });
  trends[name].add(answer.timings.duration);
  const good = check(answer, { [`${name}: ${status} with ${has}`]: (a) => a.status === status && a.body.includes(has) });
  failed.add(good ? 0 : 1);
  answered.add(base === GATEWAY ? 1 : 0);
}

function inTurn(calls) {
  const first = exec.scenario.iterationInTest % calls.length;
  for (const made of [...calls.slice(first), ...calls.slice(0, first)]) made();
}

export const plain = () => inTurn([
  () => call("direct_plain", DIRECT, plainCall),
  () => call("open_plain", OPEN, plainCall),
  () => call("plain", GATEWAY, plainCall),
]);
export const streamed = () => inTurn([
  () => call("direct_streamed", DIRECT, streamedCall),
  () => call("streamed", GATEWAY, streamedCall),
]);
export const blocked = () => call("blocked", GATEWAY, blockedCall);
export const mixed = () => {
  const turn = exec.scenario.iterationInTest % 10;
  call("mixed", GATEWAY, turn < 6 ? plainCall : turn < 9 ? streamedCall : blockedCall);
};
