// What is asked beside a call: the same plain, streamed and blocked calls through several gateways, all in one iteration and
// in turning order, so that whatever else the machine does hits all alike. Needs GATEWAYS (JSON: name to base URL), ITERATIONS
// and RATE (iterations a second) in the environment.
import http from "k6/http";
import exec from "k6/execution";
import { Counter, Trend } from "k6/metrics";

const gateways = Object.entries(JSON.parse(__ENV.GATEWAYS));
const rate = Number(__ENV.RATE);

export const options = {
  scenarios: {
    beside: {
      executor: "constant-arrival-rate",
      rate,
      timeUnit: "1s",
      duration: `${Math.ceil(Number(__ENV.ITERATIONS) / rate)}s`,
      gracefulStop: "10s",
      preAllocatedVUs: 20,
      maxVUs: 200,
    },
  },
};

const messages = [{ role: "user", content: "please call a tool" }];
const tool = (name) => ({ type: "function", function: { name, parameters: { type: "object" } } });
const body = { model: "scripted-1", messages, tools: [tool("search")] };
const kinds = {
  plain: { body, status: 200, has: '"choices"' },
  streamed: { body: { ...body, stream: true }, status: 200, has: "data: [DONE]" },
  blocked: { body: { ...body, tools: [tool("bash")] }, status: 403, has: "TOOL_DENIED" },
};
const turns = ["plain", "plain", "plain", "streamed", "plain", "plain", "streamed", "plain", "streamed", "blocked"];

const each = (make) => Object.fromEntries(gateways.map(([name]) => [name, make(name)]));
const trends = each((name) => Object.fromEntries(Object.keys(kinds).map((kind) => [kind, new Trend(`${name}_${kind}`, true)])));
const blocked = each((name) => new Counter(`${name}_blocks`));
const failed = each((name) => new Counter(`${name}_failed`));

export default function () {
  const iteration = exec.scenario.iterationInTest;
  const kind = turns[iteration % turns.length];
  const { body, status, has } = kinds[kind];
  const first = Math.floor(iteration / turns.length) % gateways.length;
  for (const [name, base] of [...gateways.slice(first), ...gateways.slice(0, first)]) {
    const answer = http.post(`${base}/v1/chat/completions`, JSON.stringify(body), {
      headers: { "content-type": "application/json", "estoppel-run": "beside" },
    });
    trends[name][kind].add(answer.timings.duration);
    blocked[name].add(answer.status === 403 ? 1 : 0);
    failed[name].add(answer.status === status && answer.body.includes(has) ? 0 : 1);
  }
}
