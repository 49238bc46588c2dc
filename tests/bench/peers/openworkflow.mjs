// The worker and the client of openworkflow: `node openworkflow.mjs URL worker|client`. Writes `ready` when it is, and ends when its
// standard input does. Each line for the client is a call, `[name, ...arguments]`, and is answered by a line.

import { appendFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { OpenWorkflow } from "openworkflow";
import { BackendPostgres } from "openworkflow/postgres";

const [url, role] = process.argv.slice(2);
const backend = await BackendPostgres.connect(url);
const openworkflow = new OpenWorkflow({ backend });
const now = () => Date.now() / 1000;

const steps = openworkflow.defineWorkflow({ name: "bench_steps" }, async ({ input, step }) => {
  await sleep(Math.max(0, ((input.not_before ?? 0) - now()) * 1000));
  const stamps = [];
  for (let number = 0; number < input.count; number++) {
    stamps.push(await step.run({ name: `stamp ${number}` }, now));
  }
  return [stamps[0], stamps.at(-1)];
});

const nothing = openworkflow.defineWorkflow({ name: "bench_nothing" }, now);

const receive = openworkflow.defineWorkflow({ name: "bench_receive" }, async ({ input, step, run }) => {
  for (let number = 0; number < input.count; number++) {
    await step.waitForSignal({ signal: `${run.id}:${number}`, timeout: "60s" });
    await step.run({ name: `note ${number}` }, () => appendFile(input.log, `${now()}\n`));
  }
});

const workflows = { bench_steps: steps, bench_nothing: nothing, bench_receive: receive };
const handles = new Map();

const calls = {
  async start(workflow, input) {
    const handle = await workflows[workflow].run(input);
    handles.set(handle.workflowRun.id, handle);
    return handle.workflowRun.id;
  },
  result: (id) => handles.get(id).result(),
  async send(signal, data) {
    while ((await openworkflow.sendSignal({ signal, data })).workflowRunIds.length === 0) {
      await sleep(5);
    }
  },
};

const worker = openworkflow.newWorker({ concurrency: 10 });
if (role === "worker") await worker.start();
console.log("ready");
for await (const line of createInterface({ input: process.stdin })) {
  const [name, ...given] = JSON.parse(line);
  console.log(JSON.stringify((await calls[name](...given)) ?? null));
}
await worker.stop();
await backend.stop();
