"""The promises that people rely upon. Each has an id; `test_requirements.py` holds that tests name all of them and nothing else.

A test names what it proves with `@proves("recovery:worker-killed")`.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import pytest

PROMISES = {
    "recovery:worker-killed": "A killed worker's runs go on; finished steps do not run again.",
    "recovery:database-killed": "A killed database comes back by itself; nothing recorded is lost.",
    "database:one-client-cannot-end-it": "Nothing that a client of the embedded database sends stops the database, or harms another client.",
    "database:own-connections": "Connections of this software to the embedded database take nothing from libpq's environment or .env.",
    "recovery:supervisor-killed": "After a killed supervisor the next caller starts everything again.",
    "recovery:server-killed": "A killed MCP server stops nothing.",
    "recovery:whoever-holds-it": "Whoever holds an embedded database goes on with all its runs, also after the project's id was lost or its directory copied.",
    "process:only-ours": "No process is ended but the project's own: none of a copy of it, and none of others, whatever is damaged.",
    "database:one": "Never do two processes have one data directory open, whatever was removed or moved; nor does one write into another's.",
    "damage:nothing-lost": "A damaged or removed file of the state directory costs no run: it is made again, or named with what to do; a lost database is never replaced by an empty one.",
    "recovery:all-killed": "After everything was killed at once the next caller starts it, and runs go on.",
    "recovery:machine-gone": "On a shared Postgres the runs of a machine that is gone are finished by another one.",
    "move:everything": "A project that is moved to a Postgres goes on there with all it has, and nothing goes on in both.",
    "park:goes-on": "A run that is parked goes on when what it waits for is there, and does no step twice.",
    "park:no-place": "A run that waits keeps no other run from running.",
    "park:no-process": "A run that waits needs no worker; a message brings one back.",
    "park:at-rest": "A project whose runs all wait is one small process, or none, and goes on when a run is due or somebody needs it.",
    "effect:once": "A step with effect=once does not run again by itself: a run whose process ended within it is in doubt until somebody says whether it has happened.",
    "effect:find": "A step in doubt that can look up its effect resolves the doubt itself.",
    "effect:person": "A doubt that is for people is resolved by nobody else.",
    "effect:parks": "A run in doubt waits as any other: it can be parked, cancelled and resumed.",
    "effect:fork": "No fork repeats what must not happen twice, unless it is told to.",
    "effect:catalog": "The catalog names the steps of a workflow's file that happen at most once, also those that the file imports.",
    "effect:key": "A step of a run has one idempotency key, however often it runs; no other step has it, nor one that a fork does again.",
    "fork:changed": "A fork can have other arguments, other outputs of earlier steps, and an id of its own, and can take the place of its original.",
    "many:in-order": "The outcomes of runs over a list come in the order of its items, each with its output or its error.",
    "many:policies": "A call for many runs returns if they meet its policy, and fails with numbers and first errors if not.",
    "many:stops": "Once the outcome of a call for many runs is decided, those under way are cancelled, and no more are started.",
    "many:by-name": "Several workflows run at once, and what comes of each is found by its name.",
    "many:nested": "Calls for many runs inside of such runs do not block each other, whatever the worker's places.",
    "many:crash": "A call for many runs starts none twice, wherever its process ends, and a replay takes the same path.",
    "many:bounded": "Runs over 10,000 items need bounded memory, and no recorded value above the limit of payloads.",
    "many:progress": "The progress of many runs is an event of a hundred values at most.",
    "poll:durable": "A wait that polls goes on where it was, whatever ends meanwhile, and repeats no recorded look.",
    "poll:deadline": "A wait that polls looks a last time at its deadline, and fails with what it saw.",
    "autostart:reboot": "With autostart on, deadlines and schedules are kept over a reboot, without any client.",
    "park:old-versions": "Runs of any number of old versions wait without a worker, and each goes on on its own code.",
    "delete:whole": "A run is deleted with all that it started and all that they left in the database, or not at all.",
    "delete:needed-stays": "What an unfinished run refers to is not deleted, nor what a run that stays has among its steps.",
    "prune:choice": "Pruning deletes the trees of ended runs that were chosen, says before what it would delete, and what it keeps and why.",
    "prune:space": "After pruning the files of the embedded database are smaller.",
    "prune:keep-days": "With DURABLE_WORKFLOWS_KEEP_DAYS old runs are deleted without anybody's command.",
    "recovery:left-behind-steps": "What a killed worker's step had started is ended before the step runs again.",
    "recovery:disk-full": "On a full disk a run waits, and goes on when there is space; nothing recorded is lost.",
    "cancel:ends-waits": "A cancelled run stops waiting at once, for whatever it waits, and so does who awaits its end.",
    "cancel:keeps-step": "The result of a step is kept whose run was cancelled meanwhile.",
    "resume:not-twice-at-once": "Cancelled and resumed at once, a run does no step twice at a time in one worker.",
    "resume:with-children": "Runs that were cancelled with those that they started go on with them.",
    "replay:same-error": "On a replay a recorded error has the class, the text, the arguments and the plain attributes that it had.",
    "outcome:whatever-is-raised": "A run fails whatever its code raises, unless its worker ends.",
    "crash:set-apart": "A run that ends its worker again is set apart: the others of its version go on at once.",
    "crash:innocent": "A run that waits is not accused of the end of its worker, and its recovery is no attempt.",
    "crash:ends": "A run that ends a worker of its own again and again is dead-lettered, and named with what it did.",
    "wakeup:not-lost": "A run whose row is locked when a worker looks is taken up soon after, by a worker that nothing else wakes.",
    "start:once": "A start is one run, done once, however many start at the same moment.",
    "start:same-id": "A workflow_id that was used before names the run that has it.",
    "supervisor:one": "Any number of processes at the same moment start exactly one supervisor.",
    "version:old-code": "A run finishes on the code with which it began.",
    "version:new-code": "A start after an edit uses the edited code.",
    "version:broken-file": "A file that does not load makes only its own workflows unavailable, and the catalog says why.",
    "version:repair": "A fork runs on the newest code, with the recorded steps before it.",
    "code:own-libraries": "Workflow code has the libraries that its file names, and a file that cannot have them says why.",
    "catalog:registered": "The catalog has the workflows that are registered, methods too, each under its registered name; what cannot be started says why.",
    "code:written-files": "What a run writes beside its code is not lost, and it is said; what is too much for a version is left out, and it is said.",
    "import:isolated": "What a workflow file does to the process at its import, as a script may, changes nothing for other files and runs.",
    "version:releases": "A run finishes on the code that an earlier release has saved, on the release that is installed now.",
    "version:upgrade": "Runs go on over an upgrade of this software: the newer installation takes over.",
    "client:gone": "Runs go on without the client that started them, and any other client finds them.",
    "message:once": "A message with an idempotency key arrives once, however often it is sent.",
    "message:in-order": "Messages of one topic arrive in the order in which they were sent.",
    "message:fits": "A message that does not fit what a run waits for is refused at its sender; the run goes on waiting.",
    "person:only": "A question to a person ends with an answer that is noted with who gave it, and with nothing else that a tool, workflow code or SQL sends.",
    "person:once": "The first answer of a person counts, once, and it is noted who gave it.",
    "person:noted": "Who answered, when, how, and what was shown is told of a run; a fork that takes an answer over says so, and how to be asked again.",
    "person:approval": "`approval` and `plan_approval` take the decision of a person, unless their caller lets anyone decide.",
    "person:any-schema": "Whatever valid JSON schema a question has, a person can answer it, at worst as JSON; what does not fit is refused with the reason.",
    "person:asked-by-child": "A question of a run can be answered by naming the run that started it.",
    "tasks:ask": "What a run asks a person is asked through its task, by any server; an answer counts for its question, once, and what does not count is told.",
    "tasks:calls": "A start, a fork, a resume of one run and a batch are tasks that any server of the project knows.",
    "tasks:told": "A client that takes tasks is told in instructions and prompts that it will be told, and not to wait.",
    "tasks:plain": "A call whose runs end within two seconds is answered at once, as if there were no tasks.",
    "news:come-back": "Who comes back is told what is unfinished, what is asked, and what ended since; nothing where there is nothing, and nothing is started for it.",
    "news:watch": "Whoever watches is told of each end and each question of a run once, in a line, also over restarts.",
    "notify:once": "The command of DURABLE_WORKFLOWS_NOTIFY is run at most once for each end and each question, also over restarts.",
    "notify:bounded": "A command that hangs or fails keeps nothing else from happening.",
    "secrets:taken-out": "Secrets are taken out of the outputs of commands and agents, of the logs of runs, and of what a worker logs.",
    "log:kept": "What a run prints and logs is kept with it, in order, within bounds; its last lines are there once it has ended.",
    "wait:visible": "What a run waits for, since when and until when, can be seen; so can the step that runs now.",
    "hints:lead": "What an answer or an error says to do next leads on when it is done to the letter.",
    "hints:commands": "What the command line says to do next is a command that it takes; what a run recorded is never made one.",
    "arguments:typed": "A workflow's arguments are what their type hints say, at the start and on each replay.",
    "request:refused": "A request that cannot be carried out is refused with a clear error and changes nothing.",
    "value:own-run": "No text, number or depth that a run, a caller or a file brings ends a worker, or keeps others from an answer.",
    "value:seen": "No text of others acts on a terminal, hides in an answer, or passes for what we say around a question.",
    "status:answers": "server_status answers whatever is broken, and names the part that failed.",
    "client:does-not-read": "A client that does not read its answers is not listened to; what is no message is answered.",
    "list:streams": "A list of all runs is read as it is taken: its first lines come at once, and it ends when nobody reads on.",
    "commands:all-that-tools-can": "What a tool can do a command can.",
    "compare:aligned": "Two runs are compared step by step, by name and occurrence; what is said to be the same is the same.",
    "payload:bounded": "Large payloads are kept whole and shown in part, and what was left out is said.",
    "shutdown:nothing-left": "After a shutdown no process of ours is left.",
    "apps:run": "A client that shows pages shows the run of a call of its model, live, in a frame that may only run scripts.",
    "apps:person": "An answer on the page inside a client counts only with the nonce of that question, which models do not see, and is recorded as given in an app.",
    "apps:others": "Clients without pages see no tool and no resource of the page.",
    "page:who": "The page and its API answer a browser that has opened a link, which one browser can do, within a minute of its making.",
    "page:own-origin": "What another page in the same browser sends to the page's API is not answered, and changes nothing.",
    "page:run": "The page of a run shows why it is where it is, its steps on a timeline within a second of their beginning and end, and all that it holds, also of 5,000 steps.",
    "page:acts": "On the page a run can be forked from a step, cancelled, resumed, deleted, copied for a terminal and for an agent, and downloaded.",
    "page:compare": "Two runs stand side by side on the page, with the first difference and what changed.",
    "page:text": "Nothing of a run is read as HTML by the page.",
    "page:accessible": "Where the page shows runs, axe finds nothing in either theme at 360 and at 1440 pixels, and nothing is wider than the window.",
    "page:told": "The page is told of a change within half a second of a step's end, and costs nothing while nothing happens.",
    "page:doubts": "On the page a person says what has happened of a step in doubt, and is asked before a fork does again what must not happen twice.",
    "page:answers": "What a person answers on the page reaches the run, and is recorded as given there.",
    "page:starts": "On the page a workflow is started by a form made from the schema of its arguments.",
    "page:many": "On the page many runs are cancelled, resumed or deleted at once, after a question.",
    "page:fluid": "A list of 10,000 runs on the page shows a screenful of rows, and stays fluid.",
    "pickle:refused": "What a database holds in Python's pickle format is never executed.",
}

Test = TypeVar("Test", bound=Callable[..., object])


def proves(*promises: str) -> Callable[[Test], Test]:
    """Say which promises a test proves."""
    unknown = set(promises) - PROMISES.keys()
    assert not unknown, f"not promised: {unknown}"
    return pytest.mark.proves(*promises)


def long(*cases: object) -> list[Any]:
    """Cases of a parametrized test that only `make test-all` tries."""
    marked = (
        cast("tuple[object, ...]", case) if isinstance(case, tuple) else (case,) for case in cases
    )
    return [pytest.param(*case, marks=pytest.mark.long) for case in marked]
