-- The tables of durable-workflows beside those of DBOS. They hold what DBOS does not write: the code of each version, what can be
-- started, what a run waits for, which step runs now, and which worker processes there are.

create table durable_workflows.files (
    digest text primary key,          -- sha256 of the content, in hex
    content bytea not null
);

create table durable_workflows.versions (
    version text primary key,
    state text not null default 'saved' check (state in ('saved', 'ready', 'failed')),
    error text,                       -- why no worker could publish a catalog of it
    saved_at timestamptz not null default clock_timestamp()
);

create table durable_workflows.version_files (
    version text not null references durable_workflows.versions on delete cascade,
    path text not null,               -- relative, POSIX
    digest text not null references durable_workflows.files,
    primary key (version, path)
);

create table durable_workflows.catalog (
    version text not null references durable_workflows.versions on delete cascade,
    name text not null,
    summary text not null,
    args_schema json not null,
    source text not null,             -- the file that defines it
    error text,                       -- why it cannot be started: the traceback of its file
    primary key (version, name)
);

create table durable_workflows.workers (
    executor_id text primary key,
    version text not null,
    pid integer not null,
    host text not null,
    state text not null,
    started_at timestamptz not null default clock_timestamp(),
    seen_at timestamptz not null default clock_timestamp()
);

-- What runs wait for. Rows of a worker that died stay until its next start: a run whose worker is gone still waits for the same.
create table durable_workflows.waits (
    workflow_id text not null,
    function_id integer not null,
    executor_id text not null,
    topic text not null,
    since timestamptz not null,
    deadline timestamptz,
    prompt text,
    schema jsonb,
    person_only boolean not null default false,
    primary key (workflow_id, function_id)
);
create index waits_executor on durable_workflows.waits (executor_id);

create table durable_workflows.running_steps (
    workflow_id text not null,
    function_id integer not null,
    executor_id text not null,
    name text not null,
    since timestamptz not null,
    attempt integer not null,
    max_attempts integer not null,
    primary key (workflow_id, function_id)
);
create index running_steps_executor on durable_workflows.running_steps (executor_id);

-- Unfinished runs by version. The tables of DBOS may not be there yet, or be in the making by the first worker; it puts open_waits() on them.
create function durable_workflows.unfinished(application text)
    returns table (version text, runs bigint, oldest bigint) language plpgsql stable as $$
begin
    if to_regprocedure('durable_workflows.open_waits()') is not null then
        return query
            select application_version, count(*), min(created_at) from dbos.workflow_status
            where status in ('PENDING', 'ENQUEUED', 'DELAYED') and application_version is not null
                and (application_name = application or application_name is null)
            group by application_version;
    end if;
end
$$;

create function durable_workflows.active_schedules(application text) returns bigint language plpgsql stable as $$
begin
    if to_regprocedure('durable_workflows.open_waits()') is null then
        return 0;
    end if;
    return (
        select count(*) from dbos.workflow_schedules
        where status = 'ACTIVE' and (application_name = application or application_name is null)
    );
end
$$;
