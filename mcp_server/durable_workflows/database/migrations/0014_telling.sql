-- Whether a client tells its sessions by itself what becomes of the runs that they started: it takes tasks.
alter table durable_workflows.sessions add column tasks boolean not null default false;

-- What the command of DURABLE_WORKFLOWS_NOTIFY was run for, or a moment later would have been: once, by whichever supervisor was first.
create table durable_workflows.notified (
    workflow_id text not null,        -- '' with the fact 'since': when facts began to be told
    fact text not null,
    at timestamptz not null default clock_timestamp(),
    primary key (workflow_id, fact)
);
