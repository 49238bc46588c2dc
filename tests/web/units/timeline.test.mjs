// The layout of the timeline: pure functions, which Node reads as they are written.

import assert from "node:assert/strict";
import { test } from "node:test";

import {
  endOf,
  piecesOf,
  placeOf,
  rowsOf,
  ticksOf,
} from "../../../mcp_server/durable_workflows/web/page/src/timeline.ts";

const START = Date.parse("2026-11-29T12:00:00Z");
const at = (seconds) => new Date(START + seconds * 1000).toISOString();

const run = (more = {}) => ({
  workflow_id: "a",
  status: "SUCCESS",
  created_at: at(0),
  completed_at: at(100),
  queue: null,
  delayed_until: null,
  running: [],
  waiting: [],
  children: [],
  rest: null,
  ...more,
});
const step = (number, from, to, more = {}) => ({
  step: number,
  name: `step_${number}`,
  started_at: at(from),
  completed_at: at(to),
  output: null,
  error: null,
  child_workflow_id: null,
  scope: null,
  label: null,
  ...more,
});
const going = { status: "PENDING", completed_at: null };
const rows = (of, steps, opened = new Map()) => rowsOf({ run: of, steps }, opened);
const shapes = (found) => found.map((row) => `${"  ".repeat(row.depth)}${row.kind} ${row.name} ${row.state}`);

test("time in the queue is a row of its own, apart from the first step", () => {
  const [queue, first] = rows(run({ queue: "small" }), [step(1, 3, 4)]);
  assert.deepEqual([queue.kind, queue.note, queue.from, queue.to], ["queue", "small", START, START + 3000]);
  assert.equal(first.from, START + 3000);
});

test("a step has the path of its scopes, and a sleep what it is for", () => {
  const [row, inner] = rows(run(), [step(1, 0, 1, { name: "DBOS.sleep", label: "noon", scope: "a/b" }), step(2, 1, 2)]);
  assert.deepEqual([row.scope, row.note], ["a/b", "noon"]);
  assert.deepEqual([inner.scope, inner.note], [null, null]);
});

test("a run that begins at once has no row for its queue", () => {
  assert.deepEqual(shapes(rows(run(), [step(1, 0, 1)])), ["step step_1 done"]);
});

test("a run that is queued goes on being queued", () => {
  const [queue] = rows(run({ ...going, status: "ENQUEUED" }), []);
  assert.deepEqual([queue.state, queue.to], ["waiting", null]);
});

test("steps under way and open waits stand after what is recorded, by their numbers", () => {
  const running = [
    { step: 2, name: "slow", since: at(1), attempt: 2, max_attempts: 5, retry_at: null, error: null },
    { step: 4, name: "again", since: at(1), attempt: 1, max_attempts: 3, retry_at: at(60), error: "no" },
  ];
  const waiting = [{ workflow_id: "a", topic: "order", since: at(2), deadline: null }];
  const found = rows(run({ ...going, running, waiting }), [step(1, 0, 1), step(3, 1, 2)]);
  assert.deepEqual(shapes(found), [
    "step step_1 done",
    "step slow running",
    "step step_3 done",
    "step again retrying",
    "wait DBOS.recv waiting",
  ]);
  assert.deepEqual(found.map((row) => row.note), [null, "attempt 2 of 5", null, "attempt 1 of 3", "order"]);
});

test("a wait that was parked begins with its timeout, not when its run was taken up again", () => {
  const recv = step(1, 50, 51, { name: "DBOS.recv" });
  const [wait, timeout] = rows(run(), [recv, step(2, 0, 3600, { name: "DBOS.sleep" })]);
  assert.deepEqual([wait.kind, wait.from, wait.to], ["wait", START, START + 51_000]);
  assert.equal(timeout.kind, "timeout");
});

test("what a child asks is not a row of its parent", () => {
  const waiting = [{ workflow_id: "child", topic: "order", since: at(2), deadline: null }];
  assert.deepEqual(rows(run({ ...going, waiting }), []), []);
});

test("a failed step is failed", () => {
  const [found] = rows(run(), [step(1, 0, 1, { error: { text: "{}", length: 2 } })]);
  assert.equal(found.state, "failed");
});

test("the sleep beside a receive is its timeout and no sleep", () => {
  const found = rows(run(), [
    step(1, 0, 5, { name: "DBOS.recv" }),
    step(2, 0, 600, { name: "DBOS.sleep" }),
    step(3, 5, 9, { name: "DBOS.sleep" }),
  ]);
  assert.deepEqual(found.map((row) => row.kind), ["wait", "timeout", "wait"]);
  assert.equal(found[1].to, found[1].from);
});

test("the timeout of an open wait is known by its beginning", () => {
  const waiting = [{ workflow_id: "a", topic: "order", since: at(3), deadline: null }];
  const steps = [step(1, 0, 2, { name: "DBOS.sleep" }), step(3, 3, 3, { name: "DBOS.sleep" })];
  const found = rows(run({ ...going, waiting }), steps);
  assert.deepEqual(found.map((row) => [row.step, row.kind]), [[1, "wait"], [2, "wait"], [3, "timeout"]]);
});

test("the wait for a child begins after the step before it: dbos records only its end", () => {
  const result = step(2, 8, 8, { name: "DBOS.getResult" });
  const found = rows(run(), [step(1, 0, 3), result]);
  assert.deepEqual([found[1].from, found[1].to], [START + 3000, START + 8000]);
});

test("a sleep ends with the run that was cancelled in it", () => {
  const [found] = rows(run({ completed_at: at(10) }), [step(1, 0, 600, { name: "DBOS.sleep" })]);
  assert.equal(found.to, START + 10_000);
});

test("a sleep that goes on is drawn until now", () => {
  const [found] = rows(run(going), [step(1, 0, 600, { name: "DBOS.sleep" })]);
  assert.equal(endOf(found, START + 30_000), START + 30_000);
});

const family = run({
  children: [{ workflow_id: "child", status: "SUCCESS", waiting_on: null, ok: null, parent_workflow_id: "a" }],
});
const called = [
  step(1, 0, 0, { name: "page_child", child_workflow_id: "child" }),
  step(2, 0, 8, { name: "DBOS.getResult", child_workflow_id: "child" }),
];

test("a child stands where it was called, until its result was taken, and can be unfolded only there", () => {
  const [child, result] = rows(family, called);
  assert.deepEqual([child.kind, child.foldable, child.to], ["child", true, START + 8000]);
  assert.deepEqual([result.kind, result.foldable], ["wait", false]);
});

test("the steps of an open child stand below it, one level deeper", () => {
  const loaded = { run: run({ workflow_id: "child" }), steps: [step(1, 0, 7)] };
  assert.deepEqual(shapes(rows(family, called, new Map([["child", loaded]]))), [
    "child page_child done",
    "  step step_1 done",
    "wait DBOS.getResult done",
  ]);
  assert.deepEqual(shapes(rows(family, called, new Map([["child", null]])))[1], "  loading Loading… done");
});

test("a child that goes on, waits or failed shows it", () => {
  const state = (more) =>
    rows(run({ ...going, children: [{ ...family.children[0], ...more }] }), called.slice(0, 1))[0].state;
  assert.equal(state({ status: "PENDING" }), "running");
  assert.equal(state({ status: "PENDING", waiting_on: "order" }), "waiting");
  assert.equal(state({ status: "ERROR" }), "failed");
  assert.equal(state({ status: "SUCCESS", ok: false }), "failed");
});

const axis = (found, now = 100) => piecesOf(found, START, START + now * 1000);

test("without long waits the axis is even", () => {
  const pieces = axis(rows(run(), [step(1, 0, 10), step(2, 10, 20)]), 20);
  assert.deepEqual(pieces.map((one) => [one.x, one.width, one.compressed]), [[0, 1, false]]);
  assert.equal(placeOf(pieces, START + 5000), 0.25);
});

test("a long wait between two steps is compressed, and what is before and after it keeps its proportions", () => {
  const found = rows(run({ completed_at: at(7210) }), [
    step(1, 0, 5),
    step(2, 5, 7205, { name: "DBOS.sleep" }),
    step(3, 7205, 7210),
  ]);
  const pieces = axis(found, 7210);
  assert.deepEqual(pieces.map((one) => one.compressed), [false, true, false]);
  assert.ok(Math.abs(pieces[0].width - pieces[2].width) < 1e-9);
  assert.ok(pieces[1].width < 0.2);
  assert.equal(placeOf(pieces, START + 7210_000), 1);
});

test("many long waits leave room for the work", () => {
  const steps = Array.from({ length: 50 }, (_, index) => step(index + 1, index * 1000, index * 1000 + 1));
  const pieces = axis(rows(run({ completed_at: at(49_001) }), steps), 49_001);
  const work = pieces.filter((one) => !one.compressed).reduce((sum, one) => sum + one.width, 0);
  assert.ok(work > 0.5, `${work}`);
});

test("a run that only waits is not compressed to nothing", () => {
  const pieces = axis(rows(run(), [step(1, 0, 100, { name: "DBOS.sleep" })]));
  assert.deepEqual(pieces.map((one) => one.compressed), [false]);
});

test("steps that a fork took over are older than the fork, and on the axis", () => {
  const found = rows(run({ created_at: at(50) }), [step(1, 0, 1), step(2, 60, 61)]);
  const pieces = piecesOf(found, START + 50_000, START + 61_000);
  assert.equal(pieces[0].from, START);
  assert.deepEqual(shapes(found), ["queue In the queue done", "step step_1 done", "step step_2 done"]);
});

test("ticks are round, in order, and not too near to each other", () => {
  const ticks = ticksOf(axis(rows(run(), [step(1, 0, 100)])));
  assert.deepEqual(ticks.map((one) => one.milliseconds), [0, 15_000, 30_000, 45_000, 60_000, 75_000, 90_000]);
  for (const [index, tick] of ticks.slice(1).entries()) assert.ok(tick.x - ticks[index].x >= 0.12);
});

test("5,000 steps are laid out in a moment", () => {
  const steps = Array.from({ length: 5000 }, (_, index) => step(index + 1, index, index + 0.9));
  const before = performance.now();
  const pieces = axis(rows(run({ completed_at: at(5000) }), steps), 5000);
  assert.equal(pieces.length, 1);
  assert.ok(performance.now() - before < 500);
});
