// An open loop at a constant rate: a request that the server delays does not delay the next one.
import http from "k6/http";
import { check } from "k6";

const body = open(__ENV.BODY);

export const options = {
  scenarios: {
    open: {
      executor: "constant-arrival-rate",
      rate: Number(__ENV.RATE),
      timeUnit: "1s",
      duration: "5s",
      preAllocatedVUs: 50,
      maxVUs: 200,
    },
  },
  summaryTrendStats: ["med", "p(99)", "max"],
  thresholds: {
    checks: ["rate==1"],
    http_req_failed: ["rate==0"],
    dropped_iterations: ["count==0"],
    http_req_duration: [`p(99)<${__ENV.P99_MS}`],
  },
};

export default function () {
  const reply = http.post(__ENV.URL, body, { headers: { "Content-Type": "application/json" } });
  check(reply, {
    "answered": (reply) => reply.status === 200,
    "a score each": (reply) => reply.json("outputs.0.data").length === Number(__ENV.SAMPLES),
  });
}
