"""Runs as Markdown: the cause first, what matters always there, never longer than its budget."""

import itertools
import json
import random
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest

from durable_workflows import content, limits, wording
from durable_workflows.models import (
    Child,
    Event,
    Fork,
    LogLine,
    Message,
    Preview,
    QueuePlace,
    Run,
    RunningStep,
    Status,
    Step,
    Suspect,
    Waiting,
    WorkerInfo,
)
from durable_workflows.telling import causes, pages, trace_json, traces
from nasty import nested
from requirements import proves

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)
EARLIER = NOW - timedelta(seconds=40)
RunMaker = Callable[..., Run]
StepMaker = Callable[..., Step]


def preview(text: str, length: int | None = None) -> Preview:
    return Preview(text=text, length=len(text) if length is None else length)


def error(name: str, message: str, traceback: str = "") -> Preview:
    recorded = {"name": name, "message": message, "code": None, "traceback": traceback}
    return preview(json.dumps(recorded))


def dead_worker() -> WorkerInfo:
    return WorkerInfo(
        version="v1", pid=1, host="here", state="ready", started_at=NOW, seen_at=NOW, alive=False
    )


def why(run: Run) -> tuple[str, str]:
    cause = causes.cause(run, NOW)
    lines = traces.markdown(run, now=NOW).splitlines()
    assert lines[1:3] == [f"**Why:** {cause.text}", f"**Next:** {cause.next}"]
    return cause.text, cause.next


# One test per cause


def test_a_run_that_waits_says_for_which_topic_since_when_and_how_to_answer(
    a_run: RunMaker, a_step: StepMaker
) -> None:
    wait = Waiting(
        workflow_id="run-1", topic="approval", prompt="Deploy?", since=EARLIER, deadline=LATER
    )
    text, following = why(a_run(waiting=[wait], steps=[a_step(1)]))
    assert text == (
        "waits for a message on topic 'approval' · since 2026-11-23 11:59:20 UTC (40 s)"
        " · until 2026-11-23 12:05:00 UTC · asks: Deploy?"
    )
    assert following == 'send_message(workflow_id="run-1", topic="approval", message=…)'


def test_a_sleeping_run_says_until_when(a_run: RunMaker, a_step: StepMaker) -> None:
    asleep = a_step(1, "DBOS.sleep", completed_at=LATER, output=preview(str(LATER.timestamp())))
    run = a_run(steps=[asleep])
    text, _ = why(run)
    assert text == "sleeping until 2026-11-23 12:05:00 UTC (for another 5 min 0 s)."
    assert "1. DBOS.sleep · 5 min 31 s · until 2026-11-23 12:05:00 UTC" in traces.markdown(run)


def test_a_sleep_that_is_over_is_no_cause(a_run: RunMaker, a_step: StepMaker) -> None:
    text, _ = why(a_run(steps=[a_step(1, "DBOS.sleep", completed_at=EARLIER)]))
    assert text == "running its own code after step 1."


def test_a_running_step_says_since_when_and_which_attempt(a_run: RunMaker) -> None:
    running = RunningStep(step=3, name="fetch", since=EARLIER, attempt=2, max_attempts=5)
    text, following = why(a_run(running=[running]))
    assert text == "running step 3 fetch since 2026-11-23 11:59:20 UTC (40 s), attempt 2 of 5"
    assert following == 'wait_for_workflows(workflow_ids=["run-1"])'


def test_a_run_before_its_first_step_says_so(a_run: RunMaker) -> None:
    assert why(a_run())[0] == "running its own code before its first step."


def test_a_run_that_waits_for_a_child_names_it(a_run: RunMaker, a_step: StepMaker) -> None:
    children = [
        Child(workflow_id="c-1", name="part", status="SUCCESS", parent_workflow_id="run-1"),
        Child(workflow_id="c-2", name="part", status="PENDING", parent_workflow_id="run-1"),
        Child(workflow_id="c-3", name="part", status="PENDING", parent_workflow_id="c-2"),
    ]
    text, following = why(a_run(children=children, steps=[a_step(1, child_workflow_id="c-2")]))
    assert text == "waits for child runs, or runs alongside them: c-2 (PENDING)"
    assert following == 'inspect(workflow_id="c-2")'


def test_a_queued_run_names_its_queue(a_run: RunMaker) -> None:
    text, _ = why(a_run(status="ENQUEUED"))
    assert text == "queued in workflows: its worker starts it when there is room."


def test_a_queued_run_without_a_worker_of_its_version_says_so(a_run: RunMaker) -> None:
    text, following = why(a_run(status="ENQUEUED", worker=None, newest_version="v2"))
    assert text == "queued: no worker of its version v1, which is not the newest, is running."
    assert following.startswith("server_status()")


def test_an_interrupted_run_says_what_was_under_way(a_run: RunMaker) -> None:
    running = RunningStep(step=3, name="fetch", since=EARLIER, attempt=1, max_attempts=1)
    text, _ = why(a_run(worker=dead_worker(), running=[running]))
    assert text == (
        "interrupted: no worker of its version v1 is running; step 3 fetch was under way."
    )


def test_a_delayed_run_says_until_when(a_run: RunMaker) -> None:
    text, _ = why(a_run(status="DELAYED", delayed_until=LATER))
    assert text == "delayed until 2026-11-23 12:05:00 UTC (in 5 min 0 s)."


def test_a_failed_run_names_the_step_its_error_and_the_fork(
    a_run: RunMaker, a_step: StepMaker
) -> None:
    failure = error("ValueError", "no such card", "Traceback …\n  File x\nValueError: no such card")
    caught = error("KeyError", "caught")
    steps = [a_step(1, error=caught), a_step(2, "charge", error=failure), a_step(3, "clean_up")]
    run = a_run(status="ERROR", error=failure, steps=steps, completed_at=NOW)
    text, following = why(run)
    assert text == "failed in step 2 charge: ValueError: no such card"
    assert 'inspect(workflow_id="run-1", step=2)' in following
    assert following.endswith(
        'fork(workflow_id="run-1", from_step=2) (3 clean_up ran after it: if they undid earlier steps, fork from the first of those)'
    )
    assert "File x\nValueError: no such card\n```" in traces.markdown(run, now=NOW)


def test_a_run_that_failed_in_its_own_code_says_after_which_step(
    a_run: RunMaker, a_step: StepMaker
) -> None:
    failure = error("ZeroDivisionError", "division by zero")
    text, following = why(a_run(status="ERROR", error=failure, steps=[a_step(1), a_step(2)]))
    assert text == (
        "failed in the workflow's own code after step 2: ZeroDivisionError: division by zero"
    )
    assert following.endswith('fork(workflow_id="run-1", from_step=3)')


def test_a_run_that_failed_with_its_child_sends_the_reader_there(
    a_run: RunMaker, a_step: StepMaker
) -> None:
    failure = error("ValueError", "bad part")
    result = a_step(2, "DBOS.getResult", error=failure, child_workflow_id="c-1")
    started = a_step(1, child_workflow_id="c-1")
    text, following = why(a_run(status="ERROR", error=failure, steps=[started, result]))
    assert text == "its child run c-1 failed (step 2 DBOS.getResult): ValueError: bad part"
    assert following.startswith('inspect(workflow_id="c-1") for the reason; its id is fixed in')
    assert following.endswith('change that id, then fork(workflow_id="run-1", from_step=1)')


def test_a_fork_that_failed_with_a_child_of_its_original_starts_it_anew(
    a_run: RunMaker, a_step: StepMaker
) -> None:
    failure = error("ValueError", "bad part")
    started = a_step(1, child_workflow_id="run-0-1")
    result = a_step(2, "DBOS.getResult", error=failure, child_workflow_id="run-0-1")
    run = a_run(status="ERROR", error=failure, forked_from="run-0", steps=[started, result])
    assert why(run)[1].endswith(
        'fork(workflow_id="run-1", from_step=1), which starts the child again'
    )


def test_an_error_whose_record_is_cut_is_still_read(a_run: RunMaker) -> None:
    whole = error("ValueError", "no such card", "Traceback …" * 100)
    cut = preview(whole.text[:200], whole.length)
    assert "ValueError: no such card" in why(a_run(status="ERROR", error=cut))[0]


def test_a_failed_run_shows_the_end_of_the_traceback_that_was_recorded(
    a_run: RunMaker, a_step: StepMaker
) -> None:
    traceback = "Traceback …\n" + "  in library\n" * 300 + '  File "cards.py", line 7, in charge'
    failure = error("ValueError", "no such card", traceback)
    run = a_run(status="ERROR", error=failure, steps=[a_step(1, "charge", error=failure)])
    end = '  in library\n  File "cards.py", line 7, in charge\n```'
    assert end in traces.markdown(run, now=NOW)
    assert end in traces.full_markdown(run).partition("## 1. charge")[2]
    assert "The whole error" not in traces.markdown(run, now=NOW)


def test_an_error_too_long_to_be_read_whole_names_the_call_that_brings_it(
    a_run: RunMaker, a_step: StepMaker
) -> None:
    cut = preview(error("ValueError", "no such card", "Traceback …" * 900).text[:6000], 12_000)
    shown = traces.markdown(a_run(status="ERROR", error=cut, steps=[a_step(1)]), now=NOW)
    assert '```\nThe whole error: inspect(workflow_id="run-1", step=0)' in shown


def test_a_cancelled_run_says_how_it_goes_on(a_run: RunMaker) -> None:
    text, following = why(a_run(status="CANCELLED", completed_at=NOW))
    assert text == "cancelled."
    assert following.startswith('resume(workflow_ids=["run-1"])')


def test_a_run_that_ran_out_of_time_says_so(a_run: RunMaker) -> None:
    text, _ = why(a_run(status="CANCELLED", deadline=EARLIER, completed_at=NOW))
    assert text == "cancelled: its timeout passed at 2026-11-23 11:59:20 UTC."


def test_a_dead_lettered_run_says_after_how_many_attempts(
    a_run: RunMaker, a_step: StepMaker
) -> None:
    status = "MAX_RECOVERY_ATTEMPTS_EXCEEDED"
    text, following = why(a_run(status=status, recovery_attempts=100, steps=[a_step(4)]))
    assert text.startswith(
        "dead-lettered after 100 attempts: its worker ended each time after step 4"
    )
    assert 'resume(workflow_ids=["run-1"])' in following


def test_a_run_whose_file_does_not_load_says_why(a_run: RunMaker) -> None:
    traceback = 'Traceback …\n  File "report.py", line 3\nSyntaxError: invalid syntax'
    run = a_run(status="ENQUEUED", unavailable=traceback)
    text, following = why(run)
    assert text == "its file does not load in version v1: SyntaxError: invalid syntax"
    assert 'detail="source"' in following
    assert 'File "report.py", line 3' in traces.markdown(run, now=NOW)


def test_a_run_that_ended_shows_its_input_and_output(a_run: RunMaker) -> None:
    shown = traces.markdown(
        a_run(status="SUCCESS", completed_at=NOW, output=preview('{"pages":3}')), now=NOW
    )
    assert 'Input: {"path": "src"}' in shown
    assert 'Output: {"pages":3}' in shown


# Budgets


def random_text(choice: random.Random, longest: int) -> str:
    alphabet = choice.choice(["x", "ab\n", '"\\', "`", "é漢字 ", "a b|*_#\n"])
    return "".join(choice.choices(alphabet, k=choice.randint(0, longest)))


def random_preview(choice: random.Random) -> Preview | None:
    if choice.random() < 0.2:
        return None
    text = random_text(choice, 600)
    return preview(text, len(text) + choice.choice([0, 1_000_000]))


def random_error(choice: random.Random) -> Preview:
    whole = error(random_text(choice, 50), random_text(choice, 400), random_text(choice, 4000))
    return preview(whole.text[: choice.randint(1, 600)], whole.length)


def random_steps(choice: random.Random, a_step: StepMaker) -> list[Step]:
    return [
        a_step(
            number,
            random_text(choice, 200),
            output=random_preview(choice),
            error=random_error(choice) if choice.random() < 0.05 else None,
            child_workflow_id=choice.choice([None, None, f"child-{number}"]),
        )
        for number in range(1, choice.choice([0, 1, 5, 40, 300, 1000]) + 1)
    ]


def random_run(choice: random.Random, a_run: RunMaker, a_step: StepMaker) -> Run:
    workflow_id = "w" * choice.choice([5, 36, 250])
    steps = random_steps(choice, a_step)
    waiting = [
        Waiting(
            workflow_id=workflow_id,
            topic=random_text(choice, 3000),
            prompt=random_text(choice, 3000),
        )
        for _ in range(choice.randint(0, 20))
    ]
    running = [
        RunningStep(step=n, name=random_text(choice, 500), since=EARLIER, attempt=1, max_attempts=3)
        for n in range(choice.randint(0, 20))
    ]
    children = [
        Child(
            workflow_id=f"child-{n}", name="part", status="PENDING", parent_workflow_id=workflow_id
        )
        for n in range(choice.choice([0, 3, 1000]))
    ]
    return a_run(
        workflow_id=workflow_id,
        name=random_text(choice, 1000),
        status=choice.choice(get_args(Status)),
        steps=steps,
        total_steps=len(steps) + choice.choice([0, 4000]),
        waiting=waiting,
        running=running,
        children=children,
        forks=[
            Fork(workflow_id=f"fork-{n}", status="SUCCESS")
            for n in range(choice.choice([0, 3, 500]))
        ],
        error=choice.choice([None, random_error(choice)]),
        events=[
            Event(key=random_text(choice, 500), value=random_preview(choice) or preview(""))
            for _ in range(choice.choice([0, 1, 20]))
        ],
        input=random_preview(choice),
        output=random_preview(choice),
        unavailable=choice.choice([None, None, random_text(choice, 9000)]),
        worker=choice.choice([None, dead_worker()]),
    )


@pytest.mark.parametrize("seed", range(60))
def test_no_trace_is_longer_than_its_budget(seed: int, a_run: RunMaker, a_step: StepMaker) -> None:
    choice = random.Random(seed)
    run = random_run(choice, a_run, a_step)
    after = choice.randint(0, 1000)
    messages = [
        Message(
            topic=random_text(choice, 3000),
            sent_at=NOW,
            consumed_by_step=None,
            message=preview(random_text(choice, 600), 1_000_000),
        )
        for _ in range(50)
    ]
    for budget in (limits.ANSWER, choice.randint(1500, 20_000)):
        assert len(traces.markdown(run, budget=budget)) <= budget
    shown = [
        traces.full_markdown(run, after_step=after),
        traces.full_markdown(run),
        pages.tree("w", run.children),
        pages.messages("w", messages),
        *(pages.payload(run, which=which) for which in ("input", "output", "error", "events")),
        *(pages.step("w", step) for step in run.steps[:20]),
    ]
    assert max(map(len, shown)) <= limits.ANSWER


def missing(left_out: list[dict[str, Any]], what: str) -> dict[str, Any]:
    return next((one for one in left_out if one["what"] == what), {"count": 0})


def in_ranges(text: str) -> list[int]:
    """The numbers of `1-3, 7`."""
    ends = [[int(end) for end in part.split("-")] for part in text.split(", ")]
    return [number for pair in ends for number in range(pair[0], pair[-1] + 1)]


@proves("payload:bounded")
@pytest.mark.parametrize("seed", range(20))
def test_a_trace_as_json_is_whole_and_bounded_and_names_what_is_not_in_it(
    seed: int, a_run: RunMaker, a_step: StepMaker
) -> None:
    choice = random.Random(seed)
    run = random_run(choice, a_run, a_step)
    large = random_text(choice, 1) * choice.choice([1, 5000, 30_000])
    run = run.model_copy(
        update={
            "steps": [
                one.model_copy(update={"output": preview(large, len(large) + seed)})
                for one in run.steps
            ],
            "total_steps": len(run.steps) + choice.choice([0, 4000]),
            "waiting": [
                Waiting(workflow_id="w", topic=large, prompt=large, example=nested(seed * 10))
            ],
        }
    )
    message = Message(topic="\0", sent_at=NOW, consumed_by_step=3, message=preview("x", 2))
    text = trace_json.text(run, [message] * choice.choice([0, 1000]), choice.choice([0, 7]))
    assert len(text) <= trace_json.LONGEST
    text.encode()
    whole = json.loads(text)
    assert whole["status"] == run.status
    left = whole["left_out"]
    assert missing(left, "steps")["count"] == run.total_steps - len(whole["steps"])
    cut = [one["step"] for one in whole["steps"] if len(one["output"]["text"]) < len(large) + seed]
    outputs = missing(left, "steps' outputs")
    assert outputs["count"] == len(cut)
    assert in_ranges(outputs["steps"]) == cut if cut else "steps" not in outputs
    [waiting] = whole["waiting"]
    texts = sum(len(waiting[name]) < len(large) for name in ("topic", "prompt"))
    assert missing(left, "texts in waiting")["count"] == texts
    assert all(one["get"].startswith("inspect(workflow_id=") for one in left)
    for name in ("children", "forks", "events"):
        assert len(whole[name]) == len(getattr(run, name)) or missing(left, name)["get"]


def test_the_largest_trace_as_json_is_cut_to_a_few_of_each_and_counts_the_others(
    a_run: RunMaker, a_step: StepMaker
) -> None:
    bad = "\1" * 2000
    payload = preview(bad, 1_000_000)
    run = a_run(
        workflow_id="w" * 200,
        steps=[a_step(2 * n, bad, output=payload, error=payload) for n in range(1, 1001)],
        total_steps=5000,
        forks=[Fork(workflow_id=f"{n}" * 50, status="SUCCESS") for n in range(2000)],
    )
    text = trace_json.text(run, [], 0)
    assert len(text) <= trace_json.LONGEST
    whole = json.loads(text)
    assert whole["workflow_id"] == run.workflow_id
    numbers = [one["step"] for one in whole["steps"]]
    assert (numbers[0], numbers[-1]) == (2, 2000)
    left = whole["left_out"]
    assert missing(left, "steps")["count"] == 5000 - len(numbers)
    last = next(n for n, following in itertools.pairwise(numbers) if following > n + 2)
    assert missing(left, "steps")["get"].endswith(f'detail="full", cursor="{last}")')
    assert in_ranges(missing(left, "steps' errors")["steps"]) == numbers
    assert missing(left, "forks")["count"] == 2000 - len(whole["forks"])


def test_of_many_large_steps_the_first_the_failed_and_the_last_are_shown(
    a_run: RunMaker, a_step: StepMaker
) -> None:
    large = preview("x" * 600, 1_000_000)
    failure = error("ValueError", "odd one")
    steps = [
        a_step(n, output=None if n == 500 else large, error=failure if n == 500 else None)
        for n in range(1, 1001)
    ]
    shown = traces.markdown(a_run(status="ERROR", error=failure, steps=steps), now=NOW)
    assert len(shown) < 8000
    assert "failed in step 500 work: ValueError: odd one" in shown
    for number in (1, 2, 500, 999, 1000):
        assert re.search(rf"^{number}\. work", shown, re.MULTILINE)
    numbers = [int(found) for found in re.findall(r"^(\d+)\. work", shown, re.MULTILINE)]
    assert numbers == sorted(numbers)
    last = numbers[numbers.index(500) - 1]
    assert (
        f'… left out before 500 (work ×{499 - last}): inspect(workflow_id="run-1", detail="full", cursor="{last}")'
        in shown
    )


def test_steps_that_fit_are_all_shown(a_run: RunMaker, a_step: StepMaker) -> None:
    shown = traces.markdown(a_run(steps=[a_step(n, output=preview("1")) for n in range(1, 41)]))
    assert all(f"\n{n}. work · 1 s · 1" in shown for n in range(1, 41))
    assert "left out" not in shown


def a_suspect(**given: Any) -> Suspect:
    fields: dict[str, Any] = {"ends": 3, "alone": 1, "status": 3, "after_step": 4, "step": "load"}
    return Suspect.model_validate({**fields, "apart": True, "others": 0, **given})


def test_a_run_that_ends_its_worker_is_named(a_run: RunMaker) -> None:
    text, following = why(a_run(worker=dead_worker(), suspect=a_suspect()))
    assert text == (
        "it ended its worker 3 times (exit status 3), in the step load, after step 4; it runs in a worker of its own"
        " · interrupted: that worker is not running."
    )
    assert following.startswith('cancel(workflow_ids=["run-1"]); repair the code (inspect(')
    assert following.endswith('fork(workflow_id="run-1", from_step=5)')


@pytest.mark.parametrize(
    ("suspect", "said"),
    [
        (
            a_suspect(alone=0, ends=2, status=-9, step=None),
            "it was running when its worker ended 2 times (killed by SIGKILL), after step 4; it runs in a worker of its own",
        ),
        (
            a_suspect(alone=0, ends=2, status=-63, others=1, after_step=0),
            "it was running when its worker ended 2 times (killed by signal 63), in the step load, at its beginning; it runs in a worker with another run, to find out which one ends it",
        ),
        (
            a_suspect(alone=0, ends=2, others=4, step=None, after_step=0),
            "it was running when its worker ended 2 times (exit status 3), at its beginning; it runs in a worker with 4 other runs, to find out which one ends it",
        ),
    ],
)
def test_a_run_that_may_end_its_worker_is_not_accused_of_more(
    a_run: RunMaker, suspect: Suspect, said: str
) -> None:
    text, following = why(a_run(suspect=suspect))
    assert text == f"{said} · running its own code before its first step."
    assert following.startswith("nothing: it goes on automatically")


def test_a_suspect_that_is_not_set_apart_is_told_of_as_all_others(a_run: RunMaker) -> None:
    text, _ = why(a_run(suspect=a_suspect(ends=1, alone=0, apart=False)))
    assert text == "running its own code before its first step."


def test_a_dead_lettered_run_that_ended_its_worker_says_where(a_run: RunMaker) -> None:
    status = "MAX_RECOVERY_ATTEMPTS_EXCEEDED"
    text, following = why(a_run(status=status, suspect=a_suspect(ends=7)))
    assert (
        text
        == "dead-lettered: it ended its worker 7 times (exit status 3), in the step load, after step 4."
    )
    assert 'fork(workflow_id="run-1", from_step=5)' in following
    assert following.endswith('if the cause is gone, resume(workflow_ids=["run-1"])')


def test_a_result_that_is_no_json_is_named_as_such(a_run: RunMaker) -> None:
    wrong = error("TypeError", "Object of type function is not portable JSON serializable")
    text, following = why(a_run(status="ERROR", error=wrong))
    assert text.startswith(
        "failed before a step was recorded: the value that the next step, or the run, returned"
    )
    assert following.startswith("return plain values, or dataclasses")


def test_of_a_loop_the_ends_are_shown_and_the_rest_is_counted(
    a_run: RunMaker, a_step: StepMaker
) -> None:
    steps = [a_step(n, name="DBOS.sleep" if n % 3 == 0 else "tick") for n in range(1, 301)]
    shown = traces.markdown(a_run(steps=steps))
    assert len(shown) < 3000
    assert "\n1. tick" in shown
    assert "\n300. DBOS.sleep" in shown
    assert "… left out before 281 (tick ×173, DBOS.sleep ×87): inspect(" in shown


def test_a_wait_that_goes_on_shows_no_step_for_its_time_out(
    a_run: RunMaker, a_step: StepMaker
) -> None:
    waiting = Waiting(workflow_id="run-1", topic="go", since=NOW)
    asleep = a_step(3, name="DBOS.sleep", output=preview("4949020467.09"))
    shown = traces.markdown(a_run(waiting=[waiting], steps=[a_step(1), asleep]))
    assert "1. work" in shown
    assert "DBOS.sleep" not in shown


def test_the_time_out_of_a_wait_without_one_is_shown_as_none(
    a_run: RunMaker, a_step: StepMaker
) -> None:
    """DBOS records when a wait would end; without a limit that is in a hundred years."""
    asleep = a_step(2, name="DBOS.sleep", started_at=NOW, output=preview("4949020467.09"))
    shown = traces.markdown(a_run(steps=[a_step(1), asleep]))
    assert "2. DBOS.sleep" in shown
    assert "without a time limit" in shown
    assert "2126" not in shown


def test_a_traceback_shows_the_projects_files_and_not_those_of_dbos(
    a_run: RunMaker, a_step: StepMaker
) -> None:
    traceback = (
        "Traceback (most recent call last):\n"
        '  File "/venv/lib/python3.11/site-packages/dbos/_outcome.py", line 9, in call\n'
        "    return f()\n"
        '  File "/home/me/shop/.dbos/code/5812-x7/workflows/shop.py", line 19, in price\n'
        "    return PRICES[item]\n"
        '  File "/venv/lib/python3.11/site-packages/dbos/_core.py", line 5, in last\n'
        "    raise error\n"
        "KeyError: 'plum'\n"
    )
    shown = traces.markdown(a_run(status="ERROR", error=error("KeyError", "'plum'", traceback)))
    assert 'File "workflows/shop.py", line 19, in price' in shown
    assert "_outcome.py" not in shown
    assert "KeyError: 'plum'" in shown.split("```")[1]


def test_a_failed_run_that_was_forked_sends_the_reader_to_the_fork(
    a_run: RunMaker, a_step: StepMaker
) -> None:
    failed = error("KeyError", "'plum'")
    forks = [Fork(workflow_id="f-1", status="ERROR"), Fork(workflow_id="f-2", status="SUCCESS")]
    text, following = why(
        a_run(status="ERROR", error=failed, steps=[a_step(1, error=failed)], forks=forks)
    )
    assert "It has been forked since: f-2 (SUCCESS)." in text
    assert following == 'inspect(workflow_id="f-2")'


def test_a_cancelled_run_that_was_forked_sends_the_reader_to_the_fork(a_run: RunMaker) -> None:
    text, following = why(
        a_run(status="CANCELLED", forks=[Fork(workflow_id="f-1", status="PENDING")])
    )
    assert text == "cancelled. · It has been forked since: f-1 (PENDING)."
    assert following == 'inspect(workflow_id="f-1")'


@pytest.mark.parametrize(
    ("said", "budget"),
    [
        ("it began a turn more than the 2 that it may take", "max_turns"),
        ("it has used 9 tokens of the 5 that it may", "max_tokens"),
        ("claude: it did not end within 60 seconds; it was ended", "timeout_seconds"),
    ],
)
def test_an_agent_over_its_budget_is_to_be_started_with_a_larger_one(
    a_run: RunMaker, a_step: StepMaker, said: str, budget: str
) -> None:
    failed = error("agent_task.AgentFailed", said)
    run = a_run(name="agent_task", status="ERROR", error=failed, steps=[a_step(1, error=failed)])
    wanted = f"with a larger {budget}: a fork keeps the old one."
    assert why(run)[1] == f'start_workflow(name="agent_task", args=…) {wanted}'


def test_a_run_that_was_started_wrongly_is_to_be_started_again(a_run: RunMaker) -> None:
    wrong = error("durable_workflows.errors.InvalidArguments", "a: give `workflow`.")
    following = why(a_run(status="ERROR", error=wrong))[1]
    assert following.startswith('start_workflow(name="report", args=…) with correct arguments')


def test_an_output_that_says_that_it_is_not_ok_is_not_passed_over(a_run: RunMaker) -> None:
    output = preview('{"ok": false, "failed": ["one"], "nodes": [{"id"', 500)
    text, following = why(a_run(status="SUCCESS", output=output))
    assert 'says that it did not succeed: ok is false, failed: ["one"]' in text
    assert "step=0" in following


@pytest.mark.parametrize(
    ("recorded", "failed"),
    [
        ('{"ok":false}', ""),
        ('{"commands":[],"ok":false,"failed":["one"]}', '["one"]'),
        ('{"ok":false,"nodes":[{"cut he', ""),
        ('{"ok":true,"failed":["one"]}', None),
        ('{"ok":0}', None),
        ('["ok",false]', None),
        ("gASVBQAAAAAAAACMAW", None),
        (None, None),
    ],
)
def test_an_output_says_that_it_is_not_ok_wherever_its_ok_stands(
    recorded: str | None, failed: str | None
) -> None:
    assert wording.recorded_not_ok(recorded) == failed


@pytest.mark.parametrize("name", ["run_commands", "fan_out", "plan"])
def test_a_bundled_workflow_with_a_time_out_too_short_is_to_be_started_with_a_larger_one(
    a_run: RunMaker, name: str
) -> None:
    output = preview('{"ok": false, "failed": ["slow"]}')
    following = why(a_run(name=name, status="SUCCESS", output=output))[1]
    assert f'start_workflow(name="{name}", args=…) with a larger timeout_seconds' in following
    assert "timeout_seconds" in (content.folder("workflows") / f"{name}.py").read_text("utf-8")


@pytest.mark.parametrize(
    ("number", "noun", "plural", "said"),
    [
        (0, "run", None, "0 runs"),
        (1, "run", None, "1 run"),
        (2, "run", None, "2 runs"),
        (1_000, "message", None, "1,000 messages"),
        (1, "library", "libraries", "1 library"),
        (3, "library", "libraries", "3 libraries"),
    ],
)
def test_a_number_is_told_with_its_noun(
    number: int, noun: str, plural: str | None, said: str
) -> None:
    assert wording.counted(number, noun, plural) == said


def test_one_of_a_thing_is_told_in_the_singular(a_run: RunMaker) -> None:
    assert "recovered once" in traces.markdown(a_run(recovery_attempts=2), now=NOW)
    assert "recovered 2 times" in traces.markdown(a_run(recovery_attempts=3), now=NOW)
    child = Child(workflow_id="c-1", name="part", status="PENDING", parent_workflow_id="run-1")
    assert "\n1 run: 1 PENDING\n" in pages.tree("run-1", [child])
    message = Message(topic="go", sent_at=NOW, consumed_by_step=None, message=preview("1"))
    assert "\n1 message\n" in pages.messages("run-1", [message])
    line = LogLine(id=1, at=NOW, step=None, stream="out", text="hello")
    assert "\n1 of 1 kept line\n" in pages.log("run-1", [line])
    assert "\n2 of 2 kept lines\n" in pages.log("run-1", [line, line])
    dead = a_run(status="MAX_RECOVERY_ATTEMPTS_EXCEEDED", recovery_attempts=1)
    assert why(dead)[0].startswith("dead-lettered after 1 attempt: ")
    place = QueuePlace(
        concurrency=1,
        worker_concurrency=None,
        rate_limit=None,
        rate_seconds=None,
        running=1,
        holders=["run-0"],
        ahead=0,
        next_start=None,
    )
    assert "full: 1 of 1 run at once (run-0)" in why(a_run(status="ENQUEUED", place=place))[0]


def test_unread_messages_are_named_by_their_topics_beside_what_the_run_waits_for(
    a_run: RunMaker,
) -> None:
    waiting = Waiting(workflow_id="run-1", topic="amount", since=NOW)
    run = a_run(waiting=[waiting], unread_messages=3, unread_topics=["amonut", "other"])
    assert "3 unread messages on 'amonut', 'other' (it waits on 'amount')" in traces.markdown(run)
    done = a_run(status="SUCCESS", unread_messages=1, unread_topics=["late"])
    assert "1 unread message on 'late'" in traces.markdown(done)


def test_an_example_of_the_message_is_in_the_call(a_run: RunMaker) -> None:
    waiting = Waiting(workflow_id="run-1", topic="go", since=NOW, example="yes")
    following = why(a_run(waiting=[waiting]))[1]
    assert following == 'send_message(workflow_id="run-1", topic="go", message="yes")'


def test_steps_beyond_those_that_were_read_are_said_to_be_left_out(
    a_run: RunMaker, a_step: StepMaker
) -> None:
    shown = traces.markdown(a_run(steps=[a_step(1), a_step(2)], total_steps=5000))
    assert '… left out after 2: inspect(workflow_id="run-1", detail="full", cursor="2")' in shown


def test_the_pages_of_the_full_trace_hold_every_step_once(
    a_run: RunMaker, a_step: StepMaker
) -> None:
    run = a_run(steps=[a_step(n, output=preview("y" * 900)) for n in range(1, 61)])
    numbers: list[int] = []
    cursor: int | None = 0
    while cursor is not None:
        page = traces.full_markdown(run, after_step=cursor)
        numbers += [int(found) for found in re.findall(r"^## (\d+)\. work", page, re.MULTILINE)]
        cursor = next_cursor(page)
    assert numbers == list(range(1, 61))
    short = a_run(steps=run.steps[:3])
    assert traces.full_markdown(short).endswith("\nAll finished steps are shown.")
    assert traces.full_markdown(a_run()).endswith("\nAll finished steps are shown.")


def test_the_pages_of_a_step_give_its_whole_output(a_step: StepMaker) -> None:
    whole = json.dumps("".join(random.Random(1).choices('abc\n`"', k=50_000)))
    assert "".join(pages_of(whole, a_step)) == whole


def pages_of(whole: str, a_step: StepMaker) -> list[str]:
    parts: list[str] = []
    cursor: int | None = 0
    while cursor is not None:
        part = preview(whole[cursor : cursor + limits.PART], len(whole))
        page = pages.step("run-1", a_step(7, output=part), offset=cursor)
        fence = re.search(r"^(`{3,})\n(.*)\n\1$", page, re.MULTILINE | re.DOTALL)
        assert fence is not None
        parts.append(fence[2])
        cursor = next_cursor(page)
    return parts


def next_cursor(page: str) -> int | None:
    found = re.search(r'cursor="(\d+)"\)$', page)
    return int(found[1]) if found else None


def test_a_step_that_fits_is_shown_readably(a_step: StepMaker) -> None:
    text = pages.step("run-1", a_step(2, output=preview(json.dumps("one\ntwo"))))
    assert "```\none\ntwo\n```" in text
    failed = a_step(3, "charge", error=error("ValueError", "odd", "Traceback …\nValueError: odd"))
    text = pages.step("run-1", failed)
    assert "ValueError: odd\n\nTraceback …\nValueError: odd" in text


def test_a_fence_is_longer_than_those_in_the_text(a_step: StepMaker) -> None:
    text = pages.step("run-1", a_step(2, output=preview(json.dumps("```js\n1\n```"))))
    assert "````\n```js\n1\n```\n````" in text


def test_a_cursor_beyond_the_end_is_answered_for(a_run: RunMaker, a_step: StepMaker) -> None:
    assert "none from 50 on" in pages.step("r", a_step(1, output=preview("", 3)), offset=50)
    assert "No finished step comes after 9." in traces.full_markdown(a_run(), after_step=9)


def test_the_tree_shows_who_started_whom() -> None:
    children = [
        Child(workflow_id="a", name="part", status="SUCCESS", parent_workflow_id="root"),
        Child(workflow_id="b", name="part", status="ERROR", parent_workflow_id="root"),
        Child(workflow_id="a-1", name="piece", status="PENDING", parent_workflow_id="a"),
    ]
    assert pages.tree("root", children).splitlines() == [
        "# Runs started by root",
        "3 runs: 1 ERROR, 1 PENDING, 1 SUCCESS",
        "",
        "- a part SUCCESS",
        "  - a-1 piece PENDING",
        "- b part ERROR",
    ]


def test_a_chain_of_a_thousand_runs_is_no_problem() -> None:
    children = [
        Child(workflow_id=f"r-{n}", name="part", status="PENDING", parent_workflow_id=f"r-{n - 1}")
        for n in range(1, 1001)
    ]
    text = pages.tree("r-0", children)
    assert text.splitlines()[3] == "- r-1 part PENDING"
    assert next_cursor(text) is not None


def test_messages_say_which_step_received_them() -> None:
    messages: list[dict[str, Any]] = [
        {"topic": "go", "sent_at": NOW, "consumed_by_step": 4, "message": preview("true")},
        {"topic": "", "sent_at": NOW, "consumed_by_step": None, "message": preview('"x', 900)},
    ]
    text = pages.messages("r", [Message.model_validate(one) for one in messages])
    assert "1. topic 'go', sent 2026-11-23 12:00:00 UTC, received by step 4: true" in text
    assert (
        "2. topic '', sent 2026-11-23 12:00:00 UTC, not received yet: \"x (900 characters)" in text
    )


def test_source_is_shown_as_python_in_pages() -> None:
    text = "line\n" * 3000
    page = pages.source("r", "workflows/a.py", text)
    assert page.startswith("# workflows/a.py, as r runs it")
    assert "```python\nline\n" in page
    cursor = next_cursor(page)
    assert cursor is not None
    assert "This is the end." in pages.source("r", "a.py", text, offset=len(text) - 10)
