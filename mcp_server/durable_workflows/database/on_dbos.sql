-- A hint at each change of a run's status: status, queue and workflow_id, with tabs between. Queues of DBOS poll, and ends of runs are not announced; with
-- this a worker looks when there is something, and whoever waits for a run hears of its end. Nothing depends on it: all look by themselves too.
-- A supervisor hears of a run that wants a worker only if there is none of its version.
create or replace function durable_workflows.announce_status() returns trigger language plpgsql as $$
begin
    if new.status = 'ENQUEUED' and not exists (select from durable_workflows.workers where version = new.application_version) then
        perform pg_notify('durable_workflows_wanted', coalesce(new.application_version, ''));
    end if;
    perform pg_notify(
        'durable_workflows_runs', concat_ws(E'\t', new.status, coalesce(new.queue_name, ''), left(new.workflow_uuid, 1000))
    );
    return null;
end
$$;

create or replace trigger durable_workflows_inserted after insert on dbos.workflow_status
    for each row when (new.status <> 'PENDING') execute function durable_workflows.announce_status();

create or replace trigger durable_workflows_changed after update of status on dbos.workflow_status
    for each row when (old.status is distinct from new.status and new.status <> 'PENDING') execute function durable_workflows.announce_status();

-- How many runs there are, by status, is read in this index alone.
create index if not exists durable_workflows_status on dbos.workflow_status (status, application_name);

-- Lists of runs by name, by version, by the session that started them, and of those that one run started, or none: '' stands for no run.
create index if not exists durable_workflows_name on dbos.workflow_status (name, created_at);
create index if not exists durable_workflows_version on dbos.workflow_status (application_version, created_at);
create index if not exists durable_workflows_session on dbos.workflow_status ((attributes ->> 'session'), created_at)
    where attributes ->> 'session' is not null;
create index if not exists durable_workflows_parent on dbos.workflow_status (coalesce(parent_workflow_id, ''), created_at);

-- What `busy` and `workers_apart` look for every two seconds: unfinished runs that are not parked.
create index if not exists durable_workflows_busy on dbos.workflow_status (application_version, created_at)
    where status in ('PENDING', 'ENQUEUED') and executor_id is distinct from 'parked';

-- The waits and steps that are still open: a published row may be some tenths of a second older than what DBOS has recorded since.
-- (Functions, not views: a view would stand in the way of DBOS's own migrations.)

-- The waits of parked runs are open, and their runs pending, until something comes: nobody else records anything of such a run.
create or replace function durable_workflows.parked_waits() returns setof durable_workflows.waits language sql stable as $$
    select * from durable_workflows.waits as wait
    where executor_id = 'parked' and not exists (select from durable_workflows.woken where woken.workflow_id = wait.workflow_id)
$$;

create or replace function durable_workflows.other_waits() returns setof durable_workflows.waits language sql stable as $$
    select * from (
        select * from durable_workflows.waits where executor_id <> 'parked'
        union all
        select * from durable_workflows.waits where executor_id = 'parked' and workflow_id in (select workflow_id from durable_workflows.woken)
    ) as wait
    where not exists (
        select from dbos.operation_outputs as step
        where step.workflow_uuid = wait.workflow_id and step.function_id = wait.function_id
    ) and not exists (
        select from dbos.notifications as message
        where message.destination_uuid = wait.workflow_id and message.topic = wait.topic and not message.consumed
    ) and not exists (
        select from durable_workflows.effects as effect
        where effect.workflow_id = wait.workflow_id and effect.function_id = wait.function_id and effect.happened is not null
    )
$$;

create or replace function durable_workflows.open_waits() returns setof durable_workflows.waits language sql stable as $$
    select * from durable_workflows.parked_waits() union all select * from durable_workflows.other_waits()
$$;

-- The steps of parked runs that wait for their next attempt: no process has them.
create or replace function durable_workflows.parked_steps() returns setof durable_workflows.running_steps language sql stable as $$
    select attempt.workflow_id, attempt.function_id, 'parked', attempt.name, attempt.began_at, attempt.attempt, attempt.attempts, attempt.next_at, attempt.said
    from durable_workflows.attempts as attempt join dbos.workflow_status as run on run.workflow_uuid = attempt.workflow_id
    where run.executor_id = 'parked' and run.status = 'PENDING' and attempt.next_at is not null and not exists (
        select from durable_workflows.attempts as later
        where later.workflow_id = attempt.workflow_id and later.function_id = attempt.function_id and later.attempt > attempt.attempt
    ) and not exists (
        select from dbos.operation_outputs as step
        where step.workflow_uuid = attempt.workflow_id and step.function_id = attempt.function_id
    ) and not exists (  -- its worker has not removed it yet
        select from durable_workflows.running_steps as running
        where running.workflow_id = attempt.workflow_id and running.function_id = attempt.function_id
    )
$$;

create or replace function durable_workflows.open_steps() returns setof durable_workflows.running_steps language sql stable as $$
    select * from durable_workflows.running_steps as running
    where not exists (
        select from dbos.operation_outputs as step
        where step.workflow_uuid = running.workflow_id and step.function_id = running.function_id
    )
    union all select * from durable_workflows.parked_steps()
$$;

-- The name of the sleep that a run has begun last, if that is its last step.
create or replace function durable_workflows.name_of_sleep(run_id text) returns text language sql stable as $$
    select label.name
    from (
        select function_id from dbos.operation_outputs as step where step.workflow_uuid = run_id order by function_id desc limit 1
    ) as last join durable_workflows.labels as label on label.workflow_id = run_id and label.function_id = last.function_id
$$;

-- The ids of a page of runs, in its order; it begins behind the run `edge_id`, created at `edge`. What is null is not asked for; '' is the parent of a run
-- that no other started. Each question gets a plan of its own, and an index that has its rows in this order is taken where it can be.
create or replace function durable_workflows.page_of_runs(
    application text, of_status text, of_name text, of_version text, of_session text, of_parent text, that_wait boolean, since bigint, edge bigint,
    edge_id text, oldest_first boolean, most integer
) returns setof text language plpgsql stable rows 20 set random_page_cost = 1 as $$
begin
    return query execute concat_ws(
        ' and ',
        'select run.workflow_uuid from dbos.workflow_status as run where true',
        case when application is not null then '(run.application_name = $1 or run.application_name is null)' end,
        case when of_status is not null then 'run.status = $2' end,
        case when of_name is not null then 'run.name = $3' end,
        case when of_version is not null then 'run.application_version = $4' end,
        case when of_session is not null then $q$run.attributes ->> 'session' = $5$q$ end,
        case when of_parent is not null then $q$coalesce(run.parent_workflow_id, '') = $6$q$ end,
        case when that_wait then $q$run.status = 'PENDING'$q$ end,
        case when that_wait is not null then $q$(
            run.status is not distinct from 'PENDING' and run.workflow_uuid in (select wait.workflow_id from durable_workflows.open_waits() as wait)
        ) = $7$q$ end,
        case when since is not null then 'run.created_at >= $8' end,
        case when edge is not null then '(run.created_at, run.workflow_uuid) ' || case when oldest_first then '>' else '<' end || ' ($9, $10)' end
    ) || case when oldest_first then ' order by run.created_at, run.workflow_uuid' else ' order by run.created_at desc, run.workflow_uuid desc' end || ' limit $11'
    using application, of_status, of_name, of_version, of_session, of_parent, that_wait, since, edge, edge_id, most;
end
$$;

-- The runs that some runs started, and theirs. From each to those that it started itself, by the index of that: joined as a whole, all runs that were ever
-- started by another would be read.
create or replace function durable_workflows.descendants(of_runs text[])
    returns table (root text, workflow_id text, status text) language sql stable as $$
    with recursive tree as (
        select parent_workflow_id as root, workflow_uuid, status from dbos.workflow_status where parent_workflow_id = any(of_runs)
        union all
        select tree.root, child.workflow_uuid, child.status from tree cross join lateral (
            select workflow_uuid, status from dbos.workflow_status where parent_workflow_id = tree.workflow_uuid offset 0
        ) as child
    )
    select root, workflow_uuid, status from tree
$$;

-- A time of the database, from seconds since 1970. One that is more than 30 years away is none: that is how authoring/waiting.py waits without a limit.
create or replace function durable_workflows.due(at double precision) returns timestamptz language sql as $$
    select case when at < extract(epoch from clock_timestamp()) + 1e9 then to_timestamp(at) end
$$;

-- Notes what runs wait for, and returns them. DBOS records the deadline of a recv as a sleep at the next number, whose start and output (epoch seconds)
-- outlive restarts.
-- What a parked run waits for is noted by whoever parks it: an execution that has left it may be late.
create or replace function durable_workflows.note_waits(executor text, entries json) returns setof text language sql as $$
    insert into durable_workflows.waits as wait (workflow_id, function_id, executor_id, topic, since, deadline, prompt, schema, person_only)
    select entry.workflow_id, entry.function_id, executor, entry.topic,
        coalesce(to_timestamp(sleep.started_at_epoch_ms / 1000.0), entry.since),
        durable_workflows.due(sleep.output::double precision), entry.prompt, entry.schema, entry.person_only
    from json_to_recordset(entries)
        as entry (workflow_id text, function_id int, topic text, since timestamptz, prompt text, schema json, person_only boolean)
        left join dbos.operation_outputs as sleep
            on sleep.workflow_uuid = entry.workflow_id and sleep.function_id = entry.function_id + 1 and sleep.function_name = 'DBOS.sleep'
    on conflict (workflow_id, function_id) do update
    set executor_id = excluded.executor_id, topic = excluded.topic, since = excluded.since, deadline = excluded.deadline,
        prompt = excluded.prompt, schema = excluded.schema, person_only = excluded.person_only
    where wait.executor_id <> 'parked' or excluded.executor_id = 'parked'
    returning wait.workflow_id
$$;

-- The runs that a worker has under way, and whether code of theirs runs: a step, or what is between steps. A run that sleeps, receives, waits for an event,
-- for its next attempt, for a run that it started, or in doubt, has none. All that lasts is in DBOS's rows: a sleep, and the timeout of a receive, is recorded
-- when it begins, with the time at which it ends. Published steps know more. One that the worker's process has not taken up yet has none either.
create or replace function durable_workflows.held_runs(executor text)
    returns table (workflow_id text, taken_up_at timestamptz, after_step integer, step text, under_way boolean) language sql stable as $$
    select run.workflow_uuid, taken_up.at, coalesce(last.function_id, 0), open.name, case
        when taken_up.at < (select started_at from durable_workflows.workers as worker where worker.executor_id = executor) then false
        when open.running then true
        when open.name is not null then false
        when exists (
            select from durable_workflows.waits as wait join durable_workflows.effects as effect using (workflow_id, function_id)
            where wait.workflow_id = run.workflow_uuid and wait.function_id > coalesce(last.function_id, 0)
                and effect.doubt_since is not null and effect.happened is null
        ) then false
        when last.function_name = 'DBOS.sleep' then not (
            case when last.output ~ '^[0-9.]+(e[+]?[0-9]+)?$' then last.output::double precision > extract(epoch from clock_timestamp()) else false end
            and not exists (
                select from dbos.operation_outputs as received
                where received.workflow_uuid = run.workflow_uuid and received.function_id = last.function_id - 1
                    and received.function_name in ('DBOS.recv', 'DBOS.getEvent')
            )
        )
        when last.child_workflow_id is not null or last.function_name like 'DBOS.%' then not exists (
            select from dbos.operation_outputs as started join dbos.workflow_status as child on child.workflow_uuid = started.child_workflow_id
            where started.workflow_uuid = run.workflow_uuid and child.status in ('PENDING', 'ENQUEUED', 'DELAYED')
        )
        else true
    end
    from dbos.workflow_status as run
        cross join lateral (select to_timestamp(greatest(run.started_at_epoch_ms, run.created_at, run.updated_at) / 1000.0) as at) as taken_up
        left join lateral (
            select * from dbos.operation_outputs as recorded where recorded.workflow_uuid = run.workflow_uuid order by function_id desc limit 1
        ) as last on true
        left join lateral (
            select (array_agg(running.name order by running.since desc))[1] as name,
                bool_or(running.retry_at is null or running.retry_at <= clock_timestamp()) as running
            from durable_workflows.open_steps() as running where running.workflow_id = run.workflow_uuid
        ) as open on true
    where run.status = 'PENDING' and run.executor_id = executor
$$;

-- Lets suspects run among the others again that were set apart for workers of other state directories which have given no sign of life for so long.
create or replace function durable_workflows.let_in_again(identity text, seconds double precision) returns void language sql as $$
    update durable_workflows.suspects set executor_id = null
    where executor_id is not null and not starts_with(executor_id, identity || '-') and seen_at < clock_timestamp() - make_interval(secs => seconds)
        and not exists (
            select from durable_workflows.workers where seen_at > clock_timestamp() - make_interval(secs => seconds)
                and split_part(workers.executor_id, '-', 1) = split_part(suspects.executor_id, '-', 1)
        )
$$;

-- Puts the runs of workers whose lease has run out back into their queues, whatever their version, as dbos does after the end of an executor; the attempt that
-- dbos counts when a run is taken up is given back. One process at a time does so. It judges only after its own signs of life have come without a gap for as
-- long: so nobody loses anything because the database was away, or because all machines slept. A sign of life that comes in the midst of it waits for its end,
-- and one that came before prevents it. A row that somebody has locked is left for the next time. Of an executor without a row the runs tell how old they are.
create or replace function durable_workflows.take_over(own text, seconds double precision, most integer)
    returns table (executor text, runs bigint) language plpgsql as $$
declare
    expired timestamptz := clock_timestamp() - make_interval(secs => seconds);
begin
    if not exists (select from durable_workflows.workers as worker where worker.executor_id = own and worker.unbroken_since < expired)
        or not pg_try_advisory_xact_lock(hashtextextended('durable_workflows.take_over', 0)) then
        return;
    end if;
    perform durable_workflows.let_in_again(split_part(own, '-', 1), seconds);
    return query
        with lost as materialized (
            select worker.executor_id from durable_workflows.workers as worker
            where worker.seen_at < expired and worker.executor_id <> own and exists (
                select from dbos.workflow_status as run where run.status = 'PENDING' and run.executor_id = worker.executor_id
            )
            for no key update skip locked
        ), found as materialized (
            select run.workflow_uuid from dbos.workflow_status as run
            where run.status = 'PENDING' and run.executor_id is distinct from 'parked' and run.executor_id <> own and (
                run.executor_id in (select lost.executor_id from lost) or (
                    run.updated_at < extract(epoch from expired) * 1000
                    and not exists (select from durable_workflows.workers as worker where worker.executor_id = run.executor_id)
                )
            )
            order by run.created_at limit most for no key update skip locked
        ), taken as (
            update dbos.workflow_status as run set status = 'ENQUEUED', owner_xid = null, started_at_epoch_ms = null,
                updated_at = (extract(epoch from clock_timestamp()) * 1000)::bigint, queue_name = coalesce(run.queue_name, '_dbos_internal_queue'),
                recovery_attempts = greatest(run.recovery_attempts - 1, 0)
            from found where run.workflow_uuid = found.workflow_uuid
            returning run.executor_id
        )
        select taken.executor_id, count(*) from taken group by taken.executor_id;
end
$$;

-- Starts runs, all or none, in one statement: the rows that DBOS writes for runs in a queue, and their inputs. A run that is there already is left as it is.
-- Returns the runs of these ids, as they are now; if one of them is of another workflow, only those, and nothing is started. `creator_xid` is the token of one
-- call: a repeated one finds what it has started itself.
create or replace function durable_workflows.start_runs(given json)
    returns table (workflow_id text, name text, status text, version text, existing boolean) language plpgsql as $$
begin
    return query
        select run.workflow_uuid, run.name, run.status, run.application_version, true
        from json_to_recordset(given) as entry (workflow_uuid text, name text) join dbos.workflow_status as run using (workflow_uuid)
        where run.name is distinct from entry.name;
    if found then
        return;
    end if;
    insert into dbos.workflow_status (
        workflow_uuid, status, name, queue_name, application_version, workflow_timeout_ms, priority, serialization, delay_until_epoch_ms,
        attributes, application_name, created_at, updated_at, recovery_attempts, creator_xid, is_debounced
    )
    select
        entry.workflow_uuid, entry.status, entry.name, entry.queue_name, entry.app_version, entry.workflow_timeout_ms, entry.priority, entry.serialization,
        entry.delay_until_epoch_ms, entry.attributes, entry.application_name, entry.created_at, entry.created_at, 0, entry.creator_xid, false
    from json_to_recordset(given) as entry (
        workflow_uuid text, status text, name text, queue_name text, app_version text, workflow_timeout_ms bigint, priority integer, serialization text,
        delay_until_epoch_ms bigint, attributes jsonb, application_name text, created_at bigint, creator_xid text
    )
    on conflict (workflow_uuid) do nothing;
    if exists (
        select from json_to_recordset(given) as entry (workflow_uuid text, name text) join dbos.workflow_status as run using (workflow_uuid)
        where run.name is distinct from entry.name
    ) then
        raise invalid_parameter_value using message = 'a run of another workflow has taken one of the ids at this moment';
    end if;
    insert into dbos.workflow_input (workflow_uuid, inputs)
    select entry.workflow_uuid, entry.inputs
    from json_to_recordset(given) as entry (workflow_uuid text, inputs text, creator_xid text) join dbos.workflow_status as run using (workflow_uuid)
    where run.creator_xid = entry.creator_xid
    on conflict (workflow_uuid) do nothing;
    return query
        select run.workflow_uuid, run.name, run.status, run.application_version, run.creator_xid is distinct from entry.creator_xid
        from rows from (json_to_recordset(given) as (workflow_uuid text, creator_xid text))
            with ordinality as entry (workflow_uuid, creator_xid, place)
            join dbos.workflow_status as run using (workflow_uuid)
        order by entry.place;
end
$$;

-- Parks runs that wait: each of them, or not, independently of the others. `given` has for each its id, the token of its execution, its version, when its
-- wait ends (in seconds since 1970), what it waits for, and what it asks. The verdicts: `parked`; `ready`, what it waits for is there; `busy`, somebody is
-- about to change its row or that of what it waits for; `lost`, another execution has it, or it has ended.
create or replace function durable_workflows.park(given json) returns table (workflow_id text, verdict text) language plpgsql as $$
#variable_conflict use_column
declare
    one record;
    run record;
    targets text[];
begin
    for one in
        select * from json_to_recordset(given)
            as entry (run_id text, owner text, version text, muted_below integer, due double precision, waits_for json, asked json)
    loop
        workflow_id := one.run_id;
        targets := array(select target from json_to_recordset(one.waits_for) as condition (target text)) || one.run_id;
        -- Whoever brings what it waits for has to lock one of these rows: it comes before, and is seen here, or after, and sees the parked run.
        if (select count(*) from dbos.workflow_status where workflow_uuid = any(targets))
            > (select count(*) from (select from dbos.workflow_status where workflow_uuid = any(targets) for update skip locked) as locked)
        then
            verdict := 'busy';
            return next;
            continue;
        end if;
        select status, owner_xid, executor_id, workflow_deadline_epoch_ms as deadline into run from dbos.workflow_status where workflow_uuid = one.run_id;
        verdict := case
            when run.status = 'PENDING' and run.owner_xid = one.owner then case when exists (
                select from json_to_recordset(one.waits_for) as condition (kind text, target text, key text) where
                    kind = 'message' and exists (
                        select from dbos.notifications as message where message.destination_uuid = target and message.topic = key and not message.consumed
                    ) or kind = 'event' and exists (
                        select from dbos.workflow_events as event where event.workflow_uuid = target and event.key = condition.key
                    ) or kind = 'end' and not exists (
                        select from dbos.workflow_status as other where other.workflow_uuid = target and other.status in ('PENDING', 'ENQUEUED', 'DELAYED')
                    ) or kind = 'doubt' and exists (
                        select from durable_workflows.effects as effect
                        where effect.workflow_id = target and effect.function_id::text = condition.key and effect.happened is not null
                    )
            ) then 'ready' else 'parked' end
            -- A repeated call, after an answer that was lost.
            when run.executor_id = 'parked' and exists (
                select from durable_workflows.parked where parked.workflow_id = one.run_id and parked.owner = one.owner
            ) then 'parked'
            else 'lost'
        end;
        if verdict = 'parked' and run.executor_id <> 'parked' then
            delete from durable_workflows.woken where woken.workflow_id = one.run_id;
            delete from durable_workflows.parked where parked.workflow_id = one.run_id;
            insert into durable_workflows.parked (workflow_id, version, owner, muted_below, due_at)
                values (one.run_id, one.version, one.owner, one.muted_below, durable_workflows.due(least(one.due, run.deadline / 1000.0)));
            insert into durable_workflows.parked_on (workflow_id, kind, target, key)
                select distinct one.run_id, kind, target, key from json_to_recordset(one.waits_for) as condition (kind text, target text, key text);
            delete from durable_workflows.waits where waits.workflow_id = one.run_id;
            perform durable_workflows.note_waits('parked', one.asked);
            update dbos.workflow_status set executor_id = 'parked', owner_xid = null, recovery_attempts = 0 where workflow_uuid = one.run_id;
        end if;
        return next;
    end loop;
end
$$;

-- Claims parked runs of a version that are due, at most so many, for an execution with this token; with `apart_for` only suspects that are set apart for
-- that executor, without it none that is set apart. Those that are `spared` are left alone.
create or replace function durable_workflows.claim_parked(
    of_version text, executor text, owner text, apart_for text, most integer, spared text[]
) returns table (workflow_id text, muted_below integer) language sql as $$
    with due as (
        select parked.workflow_id, parked.muted_below
        from durable_workflows.parked join dbos.workflow_status as run on run.workflow_uuid = parked.workflow_id
        where parked.workflow_id in (
                select woken.workflow_id from durable_workflows.woken where woken.version = of_version
                union all
                select parked.workflow_id from durable_workflows.parked where parked.version = of_version and parked.due_at <= statement_timestamp()
            )
            and parked.version = of_version  -- also if it is moved to another one at this moment
            and run.status = 'PENDING' and run.executor_id = 'parked' and parked.workflow_id <> all(spared)
            and case when apart_for is null then not exists (
                select from durable_workflows.suspects where suspects.workflow_id = parked.workflow_id and suspects.executor_id is not null
            ) else exists (
                select from durable_workflows.suspects where suspects.workflow_id = parked.workflow_id and suspects.executor_id = apart_for
            ) end
        order by parked.due_at limit most for update of parked, run skip locked
    ), claimed as (
        update dbos.workflow_status as run set executor_id = executor, owner_xid = owner, recovery_attempts = run.recovery_attempts + 1,
            updated_at = (extract(epoch from clock_timestamp()) * 1000)::bigint
        from due where run.workflow_uuid = due.workflow_id
    ), parked_rows as (
        delete from durable_workflows.parked using due where parked.workflow_id = due.workflow_id
    ), woken_rows as (
        delete from durable_workflows.woken using due where woken.workflow_id = due.workflow_id
    ), wait_rows as (  -- a message for it is checked as before, until its worker knows more
        update durable_workflows.waits set executor_id = executor from due where waits.workflow_id = due.workflow_id
    )
    select due.workflow_id, due.muted_below from due
$$;

-- Lets unfinished runs that no process executes go on with another version of the code: each of them, or not, independently of the others. `given` has for each
-- its id, and what it was when its steps were rehearsed on that code: its version, how many steps are recorded, and the highest one. The verdicts: `moved`;
-- `there`, it has that version already; `ended`; `held`, a process has it; `changed`, it has gone on since, or its version was changed; `busy`, somebody is
-- about to change its row. Its id, messages, children, deadlines and place in a queue stay as they are.
create or replace function durable_workflows.move_runs(given json, to_version text) returns table (workflow_id text, verdict text) language plpgsql as $$
#variable_conflict use_column
declare
    one record;
    run record;
begin
    update durable_workflows.versions set used_at = clock_timestamp() where version = to_version;  -- `prune_versions` spares it
    if not found then
        raise object_not_in_prerequisite_state using message = 'the version ' || to_version || ' has just been deleted';
    end if;
    for one in select * from json_to_recordset(given) as entry (run_id text, version text, steps bigint, last integer) order by run_id loop
        workflow_id := one.run_id;
        select status, executor_id, queue_name, application_version as version into run
            from dbos.workflow_status where workflow_uuid = one.run_id for no key update skip locked;
        verdict := case
            when not found then 'busy'
            when run.status is null or run.status not in ('PENDING', 'ENQUEUED', 'DELAYED') then 'ended'
            when run.version = to_version then 'there'
            when run.status = 'PENDING' and not (
                run.executor_id = 'parked' and exists (select from durable_workflows.parked where parked.workflow_id = one.run_id)
            ) then 'held'
            when run.version is distinct from one.version or (one.steps, one.last) <> (
                select count(*), coalesce(max(step.function_id), 0) from dbos.operation_outputs as step where step.workflow_uuid = one.run_id
            ) then 'changed'
            else 'moved'
        end;
        if verdict = 'moved' then
            update dbos.workflow_status set application_version = to_version, updated_at = (extract(epoch from clock_timestamp()) * 1000)::bigint
                where workflow_uuid = one.run_id;
            delete from durable_workflows.suspects where suspects.workflow_id = one.run_id;  -- it was the other code that ended its workers
            if run.status = 'PENDING' then
                -- It is woken, and waits anew: the code may wait for something else, and who has just brought what it waited for has told the other version.
                update durable_workflows.parked set version = to_version where parked.workflow_id = one.run_id;
                insert into durable_workflows.woken (workflow_id, version) values (one.run_id, to_version);
                perform pg_notify('durable_workflows_runs', concat_ws(E'\t', 'WOKEN', to_version, left(one.run_id, 1000)));
            else
                perform pg_notify('durable_workflows_runs', concat_ws(E'\t', run.status, coalesce(run.queue_name, ''), left(one.run_id, 1000)));
            end if;
            if not exists (select from durable_workflows.workers where workers.version = to_version) then
                perform pg_notify('durable_workflows_wanted', to_version);
            end if;
        end if;
        return next;
    end loop;
end
$$;

-- Notes that what some parked runs wait for is there.
create or replace function durable_workflows.wake(what text, of_run text, named text) returns void language sql as $$
    with woken as (
        insert into durable_workflows.woken (workflow_id, version)
        select parked.workflow_id, parked.version
        from durable_workflows.parked_on join durable_workflows.parked using (workflow_id)
        where parked_on.target = of_run and parked_on.kind = what and parked_on.key = named
        returning workflow_id, version
    )
    select pg_notify('durable_workflows_runs', concat_ws(E'\t', 'WOKEN', version, left(workflow_id, 1000))) from woken
    union all
    select pg_notify('durable_workflows_wanted', version) from woken
    where not exists (select from durable_workflows.workers where workers.version = woken.version)
$$;

create or replace function durable_workflows.message_came() returns trigger language plpgsql as $$
begin
    perform from dbos.workflow_status where workflow_uuid = new.destination_uuid for key share;  -- after a process that is parking the run
    perform durable_workflows.wake('message', new.destination_uuid, new.topic);
    return null;
end
$$;

create or replace trigger durable_workflows_message after insert on dbos.notifications
    for each row execute function durable_workflows.message_came();

create or replace function durable_workflows.event_came() returns trigger language plpgsql as $$
begin
    perform from dbos.workflow_status where workflow_uuid = new.workflow_uuid for key share;
    perform durable_workflows.wake('event', new.workflow_uuid, new.key);
    return null;
end
$$;

create or replace trigger durable_workflows_event after insert on dbos.workflow_events
    for each row execute function durable_workflows.event_came();

-- Cancels those of these runs that have not ended, as dbos cancels a run; `about` joins the attributes, if there is any. Returns how many.
create or replace function durable_workflows.cancel_runs(given text[], moment bigint, about jsonb) returns bigint language plpgsql as $$
declare
    number bigint;
begin
    update dbos.workflow_status set
        status = 'CANCELLED', owner_xid = null, queue_name = null, deduplication_id = null, started_at_epoch_ms = null, updated_at = moment,
        completed_at = moment, attributes = case when about is null then attributes else durable_workflows.attributes_of(attributes) || about end
    where status in ('PENDING', 'ENQUEUED', 'DELAYED') and workflow_uuid = any(given);
    get diagnostics number = row_count;
    return number;
end
$$;

-- Cancels what a run of such a workflow has started (`@workflow_options(children="end with parent")`) and what that has started. It is
-- called in the transaction in which the run ends, whoever ends it. A run that is cancelled may be starting another one at this moment: hence again until
-- there is none.
create or replace function durable_workflows.end_children(parent text, of_version text, called text) returns void language plpgsql as $$
declare
    moment bigint;
begin
    if not exists (select from durable_workflows.catalog where version = of_version and name = called and ends_children) then
        return;
    end if;
    loop
        moment := (extract(epoch from clock_timestamp()) * 1000)::bigint;
        exit when durable_workflows.cancel_runs(
            array(select workflow_id from durable_workflows.descendants(array[parent])), moment,
            jsonb_build_object('ended_with', jsonb_build_object('run', parent, 'at', moment))
        ) = 0;
    end loop;
end
$$;

create or replace function durable_workflows.run_left() returns trigger language plpgsql as $$
begin
    if new.status not in ('PENDING', 'ENQUEUED', 'DELAYED') then
        perform durable_workflows.wake('end', new.workflow_uuid, '');
        perform durable_workflows.end_children(new.workflow_uuid, new.application_version, new.name);
        delete from durable_workflows.woken where workflow_id = new.workflow_uuid;
        delete from durable_workflows.waits where workflow_id = new.workflow_uuid;
    end if;
    if old.executor_id = 'parked' then  -- cancelled, or resumed: it is not parked any more
        delete from durable_workflows.parked where workflow_id = new.workflow_uuid;
        delete from durable_workflows.waits where workflow_id = new.workflow_uuid and executor_id = 'parked';
    end if;
    return null;
end
$$;

create or replace trigger durable_workflows_left after update of status on dbos.workflow_status
    for each row when (
        old.status is distinct from new.status and (new.status not in ('PENDING', 'ENQUEUED', 'DELAYED') or old.executor_id = 'parked')
    ) execute function durable_workflows.run_left();

-- Begins a step whose effect happens at most once, in the execution of its run that has the token `owner`. `attempt` is the token of this call: a repeated one
-- finds its own row. The verdicts: `begun`; `doubt`, an earlier execution began it and did not record its result; `happened`, somebody has said so, with this
-- result; `cancelled`, the run is; `lost`, another execution has the run. With `not_done` the step's own look-up says that it has not happened; `trouble` is
-- the error of that look-up.
create or replace function durable_workflows.begin_effect(
    run_id text, step integer, called text, owner text, token text, by_person boolean, not_done boolean, trouble text
) returns table (verdict text, result text, looks integer, began_at timestamptz, problem text) language plpgsql as $$
#variable_conflict use_column
declare
    run record;
    there durable_workflows.effects;
begin
    select status, owner_xid into run from dbos.workflow_status where workflow_uuid = run_id for no key update;
    if run.status = 'CANCELLED' or run.owner_xid is distinct from owner then
        return query select case when run.status = 'CANCELLED' then 'cancelled' else 'lost' end, null::text, 0, null::timestamptz, null::text;
        return;
    end if;
    insert into durable_workflows.effects (workflow_id, function_id, name, attempt, person_only) values (run_id, step, called, token, by_person)
        on conflict do nothing;
    select * into there from durable_workflows.effects where workflow_id = run_id and function_id = step for update;  -- after who is saying what has happened
    if there.attempt <> token and there.happened is not true then
        if there.happened is null and not not_done then
            update durable_workflows.effects set doubt_since = coalesce(doubt_since, clock_timestamp()),
                problem = coalesce(trouble, problem), looks = there.looks + (trouble is not null)::integer
            where workflow_id = run_id and function_id = step returning * into there;
            return query select 'doubt', null::text, there.looks, there.began_at, there.problem;
            return;
        end if;
        update durable_workflows.effects set attempt = token, began_at = clock_timestamp(), doubt_since = null, problem = null, looks = 0, happened = null
        where workflow_id = run_id and function_id = step;
    end if;
    return query select case when there.happened then 'happened' else 'begun' end, there.result, there.looks, there.began_at, there.problem;
end
$$;

-- Says of a step in doubt whether it has happened, and with which result. Returns the verdict: `resolved`; or why nothing was done: `person`, only a person
-- may say; `earlier`, it was said before; `none`, it is not in doubt.
create or replace function durable_workflows.resolve_doubt(run_id text, step integer, did boolean, value text, about jsonb, from_person boolean)
    returns text language plpgsql as $$
declare
    there durable_workflows.effects;
begin
    perform from dbos.workflow_status where workflow_uuid = run_id for key share;  -- after a process that is parking the run
    select effect.* into there from durable_workflows.effects as effect
    where effect.workflow_id = run_id and effect.function_id = step and effect.doubt_since is not null and not exists (
        select from dbos.operation_outputs as recorded where recorded.workflow_uuid = run_id and recorded.function_id = step
    ) for update;
    if not found then
        return 'none';
    elsif there.happened is not null then
        return 'earlier';
    elsif there.person_only and not from_person then
        return 'person';
    end if;
    update durable_workflows.effects set happened = did, result = value,
        decisions = decisions || jsonb_build_array(about || jsonb_build_object('at', clock_timestamp(), 'happened', did))
    where workflow_id = run_id and function_id = step;
    perform durable_workflows.wake('doubt', run_id, step::text);
    return 'resolved';
end
$$;

-- The steps with effects that happen at most once, and that a fork of the run from this step would do again: its own, and those of runs that its later steps
-- started, as the fork would start them anew. `at_step` is the step of the run itself.
create or replace function durable_workflows.effects_at_stake(run_id text, first integer)
    returns table (at_step integer, workflow_id text, step integer, name text, state text) language sql stable as $$
    with recursive again (at_step, run) as (
        select started.function_id, started.child_workflow_id from dbos.operation_outputs as started
        where started.workflow_uuid = run_id and started.function_id >= first
            and started.child_workflow_id = run_id || '-' || started.function_id  -- one with an id of its own is found, not started
        union
        select again.at_step, started.child_workflow_id from again join dbos.operation_outputs as started on started.workflow_uuid = again.run
        where started.child_workflow_id = again.run || '-' || started.function_id
    ), concerned as (
        select effect.function_id as at_step, effect.* from durable_workflows.effects as effect
        where effect.workflow_id = run_id and effect.function_id >= first
        union all
        select again.at_step, effect.* from again join durable_workflows.effects as effect on effect.workflow_id = again.run
    )
    select concerned.at_step, concerned.workflow_id, concerned.function_id, concerned.name, case
        when recorded.error is not null then 'failed'
        when recorded.function_id is not null or concerned.happened then 'happened'
        when concerned.doubt_since is not null then 'doubt'
        else 'begun'
    end
    from concerned left join dbos.operation_outputs as recorded
        on recorded.workflow_uuid = concerned.workflow_id and recorded.function_id = concerned.function_id
    where recorded.function_id is not null or concerned.happened is distinct from false
    order by concerned.at_step, concerned.workflow_id, concerned.function_id
$$;

-- Answers a callback of a run, and of forks that took it over; `only_run` is that of one run. Without `given`, an answer as JSON, it is a heartbeat.
-- Returns the verdict: `taken`; `repeated`, the answer with this key was taken before; `answered`, another one was; `given up`, the run waits no longer;
-- `ended`, the run has; `unknown`, there is no such callback. The answer and the message that wakes the run are one transaction.
create or replace function durable_workflows.answer_callback(of_id text, only_run text, given text, with_key text) returns text language plpgsql as $$
declare
    number bigint;
begin
    with open as (
        select callback.workflow_id, callback.function_id
        from durable_workflows.callbacks as callback join dbos.workflow_status as run on run.workflow_uuid = callback.workflow_id
        where callback.id = of_id and (only_run is null or callback.workflow_id = only_run) and run.status in ('PENDING', 'ENQUEUED', 'DELAYED')
        for key share of run
    ), taken as (
        update durable_workflows.callbacks as callback set
            beat_at = clock_timestamp(), answer = given, answer_key = case when given is not null then with_key end,
            answered_at = case when given is not null then clock_timestamp() end
        from open where callback.workflow_id = open.workflow_id and callback.function_id = open.function_id and callback.answer is null and callback.closed is null
        returning callback.workflow_id, callback.id, callback.topic, callback.answer
    ), woken as (
        insert into dbos.notifications (destination_uuid, topic, message, message_uuid, serialization)
        select workflow_id, topic, 'null', id || '::' || workflow_id, 'portable_json' from taken where answer is not null
        on conflict (message_uuid) do nothing
    )
    select count(*) into number from taken;
    if number > 0 then
        return 'taken';
    end if;
    return (
        select (array['unknown', 'ended', 'given up', 'answered', 'repeated'])[1 + coalesce(max(case
            when callback.answer is null then case when callback.closed is null then 1 else 2 end
            when callback.answer_key = with_key and callback.answer = given then 4
            else 3
        end), 0)]
        from durable_workflows.callbacks as callback where callback.id = of_id and (only_run is null or callback.workflow_id = only_run)
    );
end
$$;

-- Which runs a step names: those that it started, and those whose result it took.
create index if not exists durable_workflows_named on dbos.operation_outputs (child_workflow_id) where child_workflow_id is not null;

-- Copies to a run what another one has recorded before a step: its steps, events and streams, and what is known of the effects and the attempts of these
-- steps. `given` has other outputs by the numbers of their steps, as recorded, and with `children` other runs in place of those that these steps started.
create or replace function durable_workflows.copy_before(origin text, copy_id text, first integer, given jsonb) returns void language plpgsql as $$
declare
    moment bigint := (extract(epoch from clock_timestamp()) * 1000)::bigint;
begin
    insert into dbos.operation_outputs (
        workflow_uuid, function_id, output, error, serialization, function_name, child_workflow_id, started_at_epoch_ms, completed_at_epoch_ms,
        application_name, retention_timestamp
    )
    select
        copy_id, step.function_id, case when other.output is null then step.output else other.output end, case when other.output is null then step.error end,
        case when other.output is null then step.serialization when other.output like '%"$type"%' then 'durable_json' else 'portable_json' end,
        step.function_name, coalesce(given -> 'children' ->> step.child_workflow_id, step.child_workflow_id),
        step.started_at_epoch_ms, step.completed_at_epoch_ms, run.application_name, moment
    from dbos.workflow_status as run join dbos.operation_outputs as step using (workflow_uuid)
        cross join lateral (select given ->> step.function_id::text as output) as other
    where run.workflow_uuid = origin and step.function_id < first;
    insert into dbos.workflow_events_history (workflow_uuid, function_id, key, value, serialization)
    select copy_id, event.function_id, event.key, event.value, event.serialization
    from dbos.workflow_events_history as event where event.workflow_uuid = origin and event.function_id < first;
    insert into dbos.workflow_events (workflow_uuid, key, value, serialization)
    select distinct on (event.key) copy_id, event.key, event.value, event.serialization
    from dbos.workflow_events_history as event where event.workflow_uuid = origin and event.function_id < first
    order by event.key, event.function_id desc;
    insert into dbos.streams (workflow_uuid, function_id, key, value, serialization, "offset")
    select copy_id, item.function_id, item.key, item.value, item.serialization, item."offset"
    from dbos.streams as item where item.workflow_uuid = origin and item.function_id < first;
    insert into durable_workflows.effects (workflow_id, function_id, name, attempt, began_at, person_only, doubt_since, decisions)
    select copy_id, effect.function_id, effect.name, effect.attempt, effect.began_at, effect.person_only, effect.doubt_since, effect.decisions
    from durable_workflows.effects as effect where effect.workflow_id = origin and effect.function_id < first;
    insert into durable_workflows.attempts (
        workflow_id, function_id, attempt, attempts, name, began_at, failed_at, next_at, said, error
    )
    select
        copy_id, attempt.function_id, attempt.attempt, attempt.attempts, attempt.name, attempt.began_at, attempt.failed_at, attempt.next_at, attempt.said,
        attempt.error
    from durable_workflows.attempts as attempt where attempt.workflow_id = origin and attempt.function_id < first;
    insert into durable_workflows.labels (workflow_id, function_id, scope, name)
    select copy_id, label.function_id, label.scope, label.name
    from durable_workflows.labels as label where label.workflow_id = origin and label.function_id < first;
    insert into durable_workflows.callbacks (
        workflow_id, function_id, id, topic, schema, made_at, ends_at, silence, beat_at, answer, answer_key, answered_at, closed
    )
    select
        copy_id, callback.function_id, callback.id, callback.topic, callback.schema, callback.made_at, callback.ends_at, callback.silence, callback.beat_at,
        callback.answer, callback.answer_key, callback.answered_at, callback.closed
    from durable_workflows.callbacks as callback where callback.workflow_id = origin and callback.function_id < first;
end
$$;

-- The attributes of a run: of one that a workflow started they are a JSON null.
create or replace function durable_workflows.attributes_of(given jsonb) returns jsonb language sql immutable as $$
    select case when jsonb_typeof(given) = 'object' then given else '{}' end
$$;

-- They say what a rewind did (`rewind_run`): another run that goes on from its steps has none of that.
create or replace function durable_workflows.without_rewinds(given jsonb) returns jsonb language sql immutable as $$
    select durable_workflows.attributes_of(given) - 'rewound' - 'rewound_from' - 'rewound_to'
$$;

-- Forks a run from a step: a new run in a queue, with the rows that DBOS writes for a fork, and with what is known of the effects and the attempts of the steps
-- that it takes over. `inputs` are other arguments, `given` other outputs and children of such steps, all as recorded (`copy_before`); `about` joins the attributes. Returns the verdict:
-- `forked`; `existing`, it was forked before with this id; `taken`, another run has the id; `unknown`, there is no such run.
create or replace function durable_workflows.fork_run(
    origin text, fork_id text, first integer, of_version text, of_queue text, inputs text, given jsonb, about jsonb
) returns text language plpgsql as $$
declare
    moment bigint := (extract(epoch from clock_timestamp()) * 1000)::bigint;
begin
    insert into dbos.workflow_status (
        workflow_uuid, status, name, class_name, config_name, application_version, application_id, authenticated_user, authenticated_roles, assumed_role,
        serialization, queue_name, forked_from, attributes, application_name, created_at, updated_at, recovery_attempts, priority
    )
    select
        fork_id, 'ENQUEUED', run.name, run.class_name, run.config_name, of_version, run.application_id, run.authenticated_user, run.authenticated_roles,
        run.assumed_role, case when fork_run.inputs is null then run.serialization else 'durable_json' end, of_queue, origin,
        durable_workflows.without_rewinds(run.attributes) || about, run.application_name, moment, moment, 0, 0
    from dbos.workflow_status as run where run.workflow_uuid = origin
    on conflict do nothing;
    if not found then
        return case
            when not exists (select from dbos.workflow_status where workflow_uuid = origin) then 'unknown'
            when exists (
                select from dbos.workflow_status as run where run.workflow_uuid = fork_id and run.forked_from = origin
                    and run.attributes ->> 'forked_at' = first::text
            ) then 'existing'
            else 'taken'
        end;
    end if;
    update dbos.workflow_status set was_forked_from = true where workflow_uuid = origin;
    insert into dbos.workflow_input (workflow_uuid, inputs)
    select fork_id, coalesce(fork_run.inputs, input.inputs, run.inputs)
    from dbos.workflow_status as run left join dbos.workflow_input as input using (workflow_uuid) where run.workflow_uuid = origin;
    perform durable_workflows.copy_before(origin, fork_id, first, given);
    return 'forked';
end
$$;

-- What a rewind has kept of a run.
create index if not exists durable_workflows_rewound on dbos.workflow_status ((attributes ->> 'rewound_from'), created_at)
    where attributes ->> 'rewound_from' is not null;

-- Gives another run what a run has recorded from a step on: its steps, with the messages that they took, what people answered at them, and what they
-- printed. From step 0 on that is everything.
create or replace function durable_workflows.move_from(origin text, target text, first integer) returns void language plpgsql as $$
declare
    began timestamptz := (
        select to_timestamp(min(started_at_epoch_ms) / 1000.0) from dbos.operation_outputs where workflow_uuid = origin and function_id >= first
    );
begin
    update dbos.operation_outputs set workflow_uuid = target where workflow_uuid = origin and function_id >= first;
    update dbos.datasource_outputs set workflow_id = target where workflow_id = origin and step_id >= first;
    update dbos.workflow_events_history set workflow_uuid = target where workflow_uuid = origin and function_id >= first;
    update dbos.streams set workflow_uuid = target where workflow_uuid = origin and function_id >= first;
    update dbos.workflow_output set workflow_uuid = target where workflow_uuid = origin;
    update dbos.notifications set destination_uuid = target,
        -- DBOS makes an id of the sender's key and the run: a message that is sent again with its key must arrive.
        message_uuid = case when right(message_uuid, length(origin) + 2) = '::' || origin
            then left(message_uuid, -length(origin)) || target else message_uuid end
    where destination_uuid = origin and (first = 0 or consumed_by_function_id >= first);
    update durable_workflows.effects set workflow_id = target where workflow_id = origin and function_id >= first;
    update durable_workflows.attempts set workflow_id = target where workflow_id = origin and function_id >= first;
    update durable_workflows.labels set workflow_id = target where workflow_id = origin and function_id >= first;
    update durable_workflows.callbacks set workflow_id = target where workflow_id = origin and function_id >= first;
    update durable_workflows.answers set workflow_id = target where workflow_id = origin and function_id >= first;
    update durable_workflows.unanswered set workflow_id = target where workflow_id = origin and function_id >= first;
    update durable_workflows.logs set workflow_id = target
    where workflow_id = origin and (first = 0 or function_id >= first or function_id is null and at >= began);
    update durable_workflows.notified set workflow_id = target where workflow_id = origin;
    delete from durable_workflows.running_steps where workflow_id = origin and function_id >= first;
    delete from durable_workflows.suspects where workflow_id = origin;
    delete from durable_workflows.waits where workflow_id = origin;
    delete from durable_workflows.woken where workflow_id = origin;
end
$$;

-- The runs that the steps of a run from this one on have started under ids that come of its own, and theirs: such a step would find them again. Those from
-- above come first.
create or replace function durable_workflows.children_from(origin text, first integer)
    returns table (workflow_id text, status text, depth integer) language sql stable as $$
    with recursive tree (id, status, depth) as (
        select child.workflow_uuid, child.status, 1 from dbos.workflow_status as child
        where child.parent_workflow_id = origin and child.workflow_uuid ~ '-[0-9]{1,9}$'
            and child.workflow_uuid = origin || '-' || substring(child.workflow_uuid from '[0-9]+$')
            and substring(child.workflow_uuid from '[0-9]{1,9}$')::integer >= first
        union all
        select child.workflow_uuid, child.status, tree.depth + 1 from tree cross join lateral (
            select * from dbos.workflow_status where parent_workflow_id = tree.id offset 0
        ) as child
        where child.workflow_uuid ~ '-[0-9]{1,9}$' and child.workflow_uuid = tree.id || '-' || substring(child.workflow_uuid from '[0-9]+$')
    )
    select id, tree.status, tree.depth from tree order by tree.depth, id
$$;

-- Gives an ended run another id, wherever it is named.
create or replace function durable_workflows.rename_run(old_id text, new_id text) returns void language plpgsql as $$
begin
    insert into dbos.workflow_status
    select (jsonb_populate_record(run, jsonb_build_object('workflow_uuid', new_id))).* from dbos.workflow_status as run where run.workflow_uuid = old_id;
    update dbos.workflow_input set workflow_uuid = new_id where workflow_uuid = old_id;
    update dbos.workflow_events set workflow_uuid = new_id where workflow_uuid = old_id;
    perform durable_workflows.move_from(old_id, new_id, 0);
    update dbos.workflow_status set parent_workflow_id = new_id where parent_workflow_id = old_id;
    update dbos.workflow_status set forked_from = new_id where forked_from = old_id;
    update dbos.operation_outputs set child_workflow_id = new_id where child_workflow_id = old_id;
    delete from dbos.workflow_status where workflow_uuid = old_id;
end
$$;

-- Rewinds a run to a step: the same run goes again from there, in a queue, on this version of the code. What it had done is kept as another run, which has ended
-- as this one had: `kept_as` says which. The verdicts: `rewound`; `existing`, it was rewound so before and has not begun; `unknown`, there is no such run;
-- `held`, a worker has it; `child`, a run that one of these steps started has not ended; `repeats`, something that must not happen twice would (`at_steps` may).
create or replace function durable_workflows.rewind_run(origin text, first integer, of_version text, of_queue text, at_steps integer[])
    returns table (verdict text, about text) language plpgsql as $$
#variable_conflict use_column
declare
    run dbos.workflow_status;
    child record;
    kept_as text;
    number integer;
    moment bigint := (extract(epoch from clock_timestamp()) * 1000)::bigint;
begin
    select * into run from dbos.workflow_status where workflow_uuid = origin for update;
    if not found then
        return query select 'unknown', null::text;
        return;
    elsif run.status = 'PENDING' and run.executor_id is distinct from 'parked' then
        return query select 'held', run.executor_id;
        return;
    elsif run.status in ('ENQUEUED', 'DELAYED') and run.attributes -> 'rewound' -> -1 = to_jsonb(first)
        and not exists (select from dbos.operation_outputs where workflow_uuid = origin and function_id >= first)
    then
        return query select 'existing', kept.workflow_uuid from dbos.workflow_status as kept
            where kept.attributes ->> 'rewound_from' = origin order by kept.created_at desc, kept.workflow_uuid desc limit 1;
        return;
    elsif exists (select from durable_workflows.effects_at_stake(origin, first) as stake where stake.at_step <> all(at_steps)) then
        return query select 'repeats', null::text;
        return;
    end if;
    perform from dbos.workflow_status where workflow_uuid in (select found.workflow_id from durable_workflows.children_from(origin, first) as found) for update;
    select * into child from durable_workflows.children_from(origin, first) as found
    where found.status is null or found.status in ('PENDING', 'ENQUEUED', 'DELAYED') limit 1;
    if found then
        return query select 'child', child.workflow_id;
        return;
    end if;
    number := jsonb_array_length(coalesce(run.attributes -> 'rewound', '[]'));
    loop
        number := number + 1;
        kept_as := origin || '-rewound-' || number;
        exit when not exists (select from dbos.workflow_status where workflow_uuid = kept_as);
    end loop;
    insert into dbos.workflow_status
    select (jsonb_populate_record(run, jsonb_build_object(
        'workflow_uuid', kept_as, 'status', case when run.status in ('PENDING', 'ENQUEUED', 'DELAYED') then 'CANCELLED' else run.status end,
        'completed_at', coalesce(run.completed_at, moment), 'executor_id', nullif(run.executor_id, 'parked'), 'owner_xid', null, 'queue_name', null,
        'deduplication_id', null, 'forked_from', null, 'was_forked_from', false, 'parent_workflow_id', null, 'schedule_name', null,
        'attributes', durable_workflows.without_rewinds(run.attributes) - 'session' || jsonb_build_object('rewound_from', origin, 'rewound_to', first)
    ))).*;
    insert into dbos.workflow_input (workflow_uuid, inputs, retention_timestamp)
    select kept_as, input.inputs, input.retention_timestamp from dbos.workflow_input as input where input.workflow_uuid = origin;
    perform durable_workflows.copy_before(origin, kept_as, first, '{}');
    insert into dbos.workflow_events (workflow_uuid, key, value, serialization)
    select kept_as, event.key, event.value, event.serialization from dbos.workflow_events as event where event.workflow_uuid = origin
    on conflict (workflow_uuid, key) do update set value = excluded.value, serialization = excluded.serialization;
    perform durable_workflows.move_from(origin, kept_as, first);
    delete from dbos.workflow_events where workflow_uuid = origin and key in (
        select later.key from dbos.workflow_events_history as later where later.workflow_uuid = kept_as and later.function_id >= first
    );
    insert into dbos.workflow_events (workflow_uuid, key, value, serialization)
    select distinct on (event.key) origin, event.key, event.value, event.serialization
    from dbos.workflow_events_history as event where event.workflow_uuid = origin
    order by event.key, event.function_id desc
    on conflict (workflow_uuid, key) do nothing;
    for child in select * from durable_workflows.children_from(origin, first) loop
        perform durable_workflows.rename_run(child.workflow_id, kept_as || substr(child.workflow_id, length(origin) + 1));
    end loop;
    update dbos.workflow_status set parent_workflow_id = kept_as
    where parent_workflow_id = origin and starts_with(workflow_uuid, kept_as || '-');
    update dbos.workflow_status set
        status = 'ENQUEUED', application_version = of_version, queue_name = of_queue, queue_partition_key = null, owner_xid = null,
        executor_id = nullif(executor_id, 'parked'), recovery_attempts = 0, workflow_deadline_epoch_ms = null, delay_until_epoch_ms = null,
        deduplication_id = null, started_at_epoch_ms = null, completed_at = null, output = null, error = null, updated_at = moment,
        attributes = durable_workflows.attributes_of(attributes)
            || jsonb_build_object('rewound', coalesce(attributes -> 'rewound', '[]') || to_jsonb(first))
    where workflow_uuid = origin;
    return query select 'rewound', kept_as;
end
$$;

-- What is forked from a run copies its steps. A run that is being deleted at this moment must not give a fork without them.
create or replace function durable_workflows.fork_begins() returns trigger language plpgsql as $$
begin
    if exists (select from dbos.workflow_status where workflow_uuid = new.forked_from) then
        perform from dbos.workflow_status where workflow_uuid = new.forked_from for key share;
        if not found then
            raise object_not_in_prerequisite_state using message = 'the run ' || new.forked_from || ' has just been deleted';
        end if;
    end if;
    return new;
end
$$;

create or replace trigger durable_workflows_fork before insert on dbos.workflow_status
    for each row when (new.forked_from is not null) execute function durable_workflows.fork_begins();

-- Why trees of runs cannot be deleted: for each of them one reason, and the run that it is about. `roots` has for each of `runs` the root of its tree.
-- References between these trees do not count. Runs that are not `locked` may change; null: it is only asked.
create or replace function durable_workflows.kept_trees(roots text[], runs text[], locked text[], older_than timestamptz)
    returns table (root text, verdict text, about text) language sql stable as $$
    with tree as materialized (select entry.root, entry.run from unnest(roots, runs) as entry (root, run)),
    moment as (select extract(epoch from older_than) * 1000 as at)
    select distinct on (found.root) found.root, found.verdict, found.about from (
        select tree.root, 0 as rank, 'busy' as verdict, tree.run as about from tree where tree.run <> all(locked)
        union all
        select tree.root, 1, 'unfinished', tree.run
        from tree join dbos.workflow_status as run on run.workflow_uuid = tree.run
        where run.status is null or run.status in ('PENDING', 'ENQUEUED', 'DELAYED')
        union all
        select tree.root, 2, 'parent', parent.workflow_uuid
        from tree join dbos.workflow_status as run on run.workflow_uuid = tree.run
            join dbos.workflow_status as parent on parent.workflow_uuid = run.parent_workflow_id
        where parent.workflow_uuid <> all(runs)
        union all
        select tree.root, 3, 'recent', tree.run
        from tree join dbos.workflow_status as run on run.workflow_uuid = tree.run, moment
        where run.updated_at >= moment.at or exists (
            select from dbos.notifications as message where message.destination_uuid = tree.run and message.created_at_epoch_ms >= moment.at
        )
        union all
        select tree.root, 4, 'forked', fork.workflow_uuid
        from tree join dbos.workflow_status as fork on fork.forked_from = tree.run
        where fork.status in ('PENDING', 'ENQUEUED', 'DELAYED') and fork.workflow_uuid <> all(runs)
        union all
        select tree.root, 5, 'awaited', waiting.workflow_id
        from tree join durable_workflows.parked_on as waiting on waiting.target = tree.run
        where waiting.workflow_id <> all(runs)
        union all
        -- DBOS would wait for ever for a run that is not there, also when a fork does such a step again.
        select tree.root, 6, 'named', step.workflow_uuid
        from tree join dbos.operation_outputs as step on step.child_workflow_id = tree.run
        where step.workflow_uuid <> all(runs)
    ) as found
    order by found.root, found.rank, found.about
$$;

-- Deletes trees of ended runs, each as a whole or not at all: each of `given`, the runs that it started, and theirs. For each it says what became of it and
-- how many runs that is: `deleted`, or why it is kept (`kept_trees`). One call deletes about so many runs at `most`:
-- a tree beyond that is `later`. Of one that is larger by itself the top is deleted, and what that had started is `later`: each of these is a whole tree now.
-- Without `really` it only says.
-- A plan for a table that was small once would take minutes for a large tree: each call is planned for what is there.
create or replace function durable_workflows.delete_trees(given text[], older_than timestamptz, most integer, really boolean)
    returns table (root text, verdict text, about text, runs bigint) language plpgsql set plan_cache_mode = force_custom_plan as $$
#variable_conflict use_column
declare
    roots text[];    -- for each of `members` the root of its tree
    members text[];  -- the top of each tree first
    kept text[] := '{}';
    locked text[];
    gone text[];
    found record;
begin
    with recursive tree (root, member, place, depth) as (
        select run.workflow_uuid, run.workflow_uuid, entry.place, 0
        from unnest(given) with ordinality as entry (root, place) join dbos.workflow_status as run on run.workflow_uuid = entry.root
        union all
        select tree.root, child.workflow_uuid, tree.place, tree.depth + 1
        from tree cross join lateral (  -- as in `descendants`
            select workflow_uuid from dbos.workflow_status where parent_workflow_id = tree.member offset 0
        ) as child
    ), counted as (
        select tree.*, count(*) over (order by place) as so_far, min(place) over () as first from tree
    )
    select array_agg(counted.root order by place, depth), array_agg(counted.member order by place, depth)
    into roots, members from counted where so_far <= most or place = first;
    return query
        select run.workflow_uuid, 'later', null::text, 0::bigint
        from unnest(given) with ordinality as entry (root, place) join dbos.workflow_status as run on run.workflow_uuid = entry.root
        where run.workflow_uuid <> all(roots) order by entry.place;
    if really then
        locked := array(select workflow_uuid from dbos.workflow_status where workflow_uuid = any(members) for update skip locked);
    end if;
    loop  -- a tree that is kept may keep others
        select array_agg(tree.root order by place), array_agg(tree.member order by place) into roots, members
        from unnest(roots, members) with ordinality as tree (root, member, place) where tree.root <> all(kept);
        kept := '{}';
        for found in select * from durable_workflows.kept_trees(roots, members, locked, older_than) loop
            kept := kept || found.root;
            return query select found.root, found.verdict, found.about, (select count(*) from unnest(roots) as tree (root) where tree.root = found.root);
        end loop;
        exit when kept = '{}';
    end loop;
    gone := members;
    if really then
        gone := members[:most];
        delete from dbos.operation_outputs where workflow_uuid = any(gone);
        delete from dbos.workflow_input where workflow_uuid = any(gone);
        delete from dbos.workflow_output where workflow_uuid = any(gone);
        delete from dbos.datasource_outputs where workflow_id = any(gone);
        delete from durable_workflows.logs where workflow_id = any(gone);
        delete from durable_workflows.waits where workflow_id = any(gone);
        delete from durable_workflows.effects where workflow_id = any(gone);
        delete from durable_workflows.attempts where workflow_id = any(gone);
        delete from durable_workflows.labels where workflow_id = any(gone);
        delete from durable_workflows.callbacks where workflow_id = any(gone);
        delete from durable_workflows.running_steps where workflow_id = any(gone);
        delete from durable_workflows.suspects where workflow_id = any(gone);
        delete from durable_workflows.unanswered where workflow_id = any(gone);
        delete from durable_workflows.notified where workflow_id = any(gone);
        delete from durable_workflows.woken where workflow_id = any(gone);
        delete from dbos.workflow_status where workflow_uuid = any(gone);
    end if;
    return query
        select tree.root, 'deleted', null::text, count(*) filter (where tree.place <= cardinality(gone))
        from unnest(roots) with ordinality as tree (root, place) group by tree.root;
    return query
        select run.workflow_uuid, 'later', null::text, 0::bigint
        from dbos.workflow_status as run where really and run.parent_workflow_id = any(gone);
end
$$;

-- Removes the versions of the code that no run has, that no worker serves, and that no supervisor has named as its newest for a day; and their files.
create or replace function durable_workflows.prune_versions() returns bigint language plpgsql as $$
declare
    number bigint;
begin
    lock table durable_workflows.version_files in share row exclusive mode;  -- no version is saved meanwhile: it may share files with one that goes
    delete from durable_workflows.versions as old
    where old.used_at < clock_timestamp() - interval '1 day'
        and old.version not in (select run.application_version from dbos.workflow_status as run where run.application_version is not null)
        and old.version not in (select worker.version from durable_workflows.workers as worker)
        and old.version <> (select newest.version from durable_workflows.versions as newest order by newest.saved_at desc limit 1);
    get diagnostics number = row_count;
    delete from durable_workflows.files where digest not in (select digest from durable_workflows.version_files);
    return number;
end
$$;
