// How long the page waits for an answer.

import assert from "node:assert/strict";
import { test } from "node:test";

import { within } from "../../../mcp_server/durable_workflows/web/page/src/patience.ts";

const late = () => new Error("late");

test("an answer in time is given, and so is a refusal", async () => {
  assert.equal(await within(60_000, Promise.resolve(7), late), 7);
  await assert.rejects(within(60_000, Promise.reject(new Error("no")), late), /no/);
});

test("the lack of an answer is told", async () => {
  await assert.rejects(within(1, new Promise(() => {}), late), /late/);
});
