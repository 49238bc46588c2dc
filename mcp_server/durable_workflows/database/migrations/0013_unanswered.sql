-- What people did with a question instead of answering it: a client asks once, whichever server it asks, and may not use a question's key again.
create table durable_workflows.unanswered (
    workflow_id text not null,
    function_id integer not null,
    attempt integer not null,         -- from 1: which time of asking this was
    action text not null check (action in ('decline', 'cancel', 'unfit')),
    why text,                         -- why an answer was not taken
    who text not null,
    how text not null,
    at timestamptz not null default clock_timestamp(),
    primary key (workflow_id, function_id, attempt)
);
