-- The statements of this project, by name. Those on tables of the schema `dbos` read only, but for `send_message`: what DBOS owns is changed through DBOS, or by what a test compares with it.

-- name: what_is_allowed
select pg_is_in_recovery() as is_replica, has_database_privilege(current_database(), 'create')
    or coalesce(
        has_schema_privilege(to_regnamespace('durable_workflows'), 'create')
            and has_schema_privilege(to_regnamespace(%(other)s), 'create'),
        false
    ) as may_create

-- name: has_migrations
select to_regclass('durable_workflows.migrations') is not null as there

-- name: applied_migrations
select name from durable_workflows.migrations

-- name: note_migration
insert into durable_workflows.migrations (name) values (%(name)s) on conflict do nothing

-- name: is_set_up
select to_regclass('dbos.workflow_status') is not null and exists (select from durable_workflows.migrations where name = %(name)s) as found

-- name: note_set_up
with earlier as (delete from durable_workflows.migrations where name like 'dbos %%' and name <> %(name)s)
insert into durable_workflows.migrations (name) values (%(name)s) on conflict do nothing

-- name: version_states
select version, state, coalesce(error, progress) as note from durable_workflows.versions where version = %(version)s

-- name: save_version
insert into durable_workflows.versions (version) values (%(version)s) on conflict do nothing

-- name: make_newest
-- An edit that was taken back makes an older version the newest again. It is in use from now on, not only from the next `use_version` on.
update durable_workflows.versions set used_at = clock_timestamp(), saved_at = case
    when exists (select from durable_workflows.versions as later where later.saved_at > versions.saved_at) then clock_timestamp() else saved_at
end
where version = %(version)s

-- name: save_file
with stored as (
    insert into durable_workflows.files (digest, content) values (%(digest)s, %(content)s) on conflict do nothing
)
insert into durable_workflows.version_files (version, path, digest)
values (%(version)s, %(path)s, %(digest)s) on conflict do nothing

-- name: version_files
select path, content from durable_workflows.version_files join durable_workflows.files using (digest) where version = %(version)s

-- name: publish_catalog
with entries as (
    select * from jsonb_to_recordset(%(entries)s::jsonb)
        as entry (name text, summary text, args_schema json, source text, error text, not_startable text, once text[], ends_children boolean)
), gone as (
    delete from durable_workflows.catalog
    where version = %(version)s and name not in (select name from entries)
)
insert into durable_workflows.catalog (version, name, summary, args_schema, source, error, not_startable, once, ends_children)
select %(version)s, name, summary, args_schema, source, error, not_startable, once, ends_children from entries
on conflict (version, name) do update
set summary = excluded.summary, args_schema = excluded.args_schema, source = excluded.source, error = excluded.error,
    not_startable = excluded.not_startable, once = excluded.once, ends_children = excluded.ends_children

-- name: version_ready
update durable_workflows.versions set state = 'ready', error = null, progress = null where version = %(version)s

-- name: version_progress
update durable_workflows.versions set progress = %(progress)s where version = %(version)s

-- name: loading_versions
select version, progress from durable_workflows.versions where state <> 'failed' and progress is not null order by saved_at

-- name: version_failed
-- One that was ready before stays so: its worker comes back, and starts may wait for that.
update durable_workflows.versions set state = 'failed', error = %(error)s where version = %(version)s and state <> 'ready'

-- name: announce_worker
insert into durable_workflows.workers (executor_id, version, pid, host, state, apart)
values (%(executor_id)s, %(version)s, %(pid)s, %(host)s, 'ready', %(apart)s)
on conflict (executor_id) do update
set pid = excluded.pid, host = excluded.host, state = 'ready', started_at = clock_timestamp(), seen_at = clock_timestamp(),
    unbroken_since = case
        when workers.seen_at > clock_timestamp() - make_interval(secs => %(held)s) then workers.unbroken_since else clock_timestamp()
    end

-- name: renew_lease
update durable_workflows.workers set seen_at = clock_timestamp(), unbroken_since = case
    when seen_at > clock_timestamp() - make_interval(secs => %(held)s) then unbroken_since else clock_timestamp()
end
where executor_id = %(executor_id)s

-- name: take_over
select executor, runs from durable_workflows.take_over(%(executor_id)s, %(seconds)s, %(most)s)

-- name: strange_executors
-- Executors of other state directories with unfinished runs of the version.
select distinct executor_id from dbos.workflow_status
where status = 'PENDING' and executor_id is distinct from 'parked' and application_version = %(version)s and executor_id not like %(identity)s || '-%%'

-- name: note_worker_end
-- A process that ended before it took up a run has not announced its pid: no run is to blame.
update durable_workflows.workers set ended = %(status)s, ended_at = clock_timestamp() - make_interval(secs => %(ago)s)
where executor_id = %(executor_id)s and pid = %(pid)s

-- name: is_announced
select exists (select from durable_workflows.workers where executor_id = %(executor_id)s and pid = %(pid)s) as found

-- name: has_code_under_way
select exists (select from durable_workflows.held_runs(%(executor_id)s) where under_way) as found

-- name: take_worker_end
-- How the process before this one ended, if nobody had asked it to, and whether that was soon after its start.
with last as (select ended, ended_at from durable_workflows.workers where executor_id = %(executor_id)s and ended is not null for update)
update durable_workflows.workers set ended = null from last where executor_id = %(executor_id)s
returning last.ended as status, last.ended_at, unexplained, last.ended_at < started_at + make_interval(secs => %(seconds)s) as soon

-- name: count_unexplained
update durable_workflows.workers set unexplained = %(number)s where executor_id = %(executor_id)s

-- name: held_runs
select workflow_id, taken_up_at, after_step, step, under_way from durable_workflows.held_runs(%(executor_id)s) order by taken_up_at desc, workflow_id

-- name: accuse
-- Who has recorded a step since the last time begins anew.
insert into durable_workflows.suspects as suspect (workflow_id, after_step, step, ends, ends_here, alone, status)
select workflow_id, after_step, step, 1, 1, %(alone)s, %(status)s
from jsonb_to_recordset(%(rows)s::jsonb) as entry (workflow_id text, after_step int, step text)
on conflict (workflow_id) do update
set after_step = excluded.after_step, ends = suspect.ends + 1, status = excluded.status, seen_at = clock_timestamp(),
    step = case when suspect.after_step = excluded.after_step then coalesce(excluded.step, suspect.step) else excluded.step end,
    ends_here = case when suspect.after_step = excluded.after_step then suspect.ends_here + 1 else 1 end,
    alone = excluded.alone + case when suspect.after_step = excluded.after_step then suspect.alone else 0 end
returning workflow_id, ends, ends_here, alone

-- name: set_apart
update durable_workflows.suspects set executor_id = %(executor_id)s, alone = case when executor_id = %(executor_id)s then alone else 0 end
where workflow_id = any(%(workflow_ids)s)

-- name: acquit
delete from durable_workflows.suspects where workflow_id = any(%(workflow_ids)s)

-- name: acquit_ended
delete from durable_workflows.suspects where not exists (
    select from dbos.workflow_status as run where run.workflow_uuid = suspects.workflow_id and run.status not in ('SUCCESS', 'ERROR')
)

-- name: let_in_again
-- Suspects that were set apart for workers which will not come back: the others take them up. `seconds`: for how long they have not been heard of.
select durable_workflows.let_in_again(%(identity)s, %(seconds)s)

-- name: workers_apart
select executor_id, version, proven from durable_workflows.workers_apart(%(identity)s)

-- name: is_at_work
-- Whether a worker apart has a run to take up, or code of one under way.
select exists (
    select from durable_workflows.suspects as suspect join dbos.workflow_status as run on run.workflow_uuid = suspect.workflow_id
    where suspect.executor_id = %(executor_id)s and run.status in ('PENDING', 'ENQUEUED', 'DELAYED')
        and not (run.status = 'PENDING' and run.executor_id = %(executor_id)s) and not durable_workflows.is_resting(suspect.workflow_id)
) or exists (select from durable_workflows.held_runs(%(executor_id)s) where under_way) as found

-- name: acquit_apart
-- Those that were cancelled or dead-lettered stay apart: resumed, they may end a worker again.
delete from durable_workflows.suspects using dbos.workflow_status as run
where suspects.executor_id = %(executor_id)s and run.workflow_uuid = suspects.workflow_id
    and run.status not in ('CANCELLED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED')

-- name: has_runs
select exists (select from dbos.workflow_status where status = 'PENDING' and executor_id = %(executor_id)s) as found

-- name: worker_gone
delete from durable_workflows.workers where executor_id = %(executor_id)s

-- name: run_rest
select parked_at as since, due_at as until, coalesce((
    select jsonb_agg(jsonb_build_object('workflow_id', target, 'key', key) order by target, key)
    from durable_workflows.parked_on where parked_on.workflow_id = parked.workflow_id and kind = 'event'
), '[]') as events
from durable_workflows.parked where workflow_id = %(workflow_id)s

-- name: run_suspect
select suspect.ends, suspect.alone, suspect.status, suspect.after_step, suspect.step, suspect.executor_id, (
    select count(*) from durable_workflows.suspects as other join dbos.workflow_status as run on run.workflow_uuid = other.workflow_id
    where other.executor_id = suspect.executor_id and other.workflow_id <> suspect.workflow_id and run.status in ('PENDING', 'ENQUEUED')
) as others
from durable_workflows.suspects as suspect where suspect.workflow_id = %(workflow_id)s

-- name: suspects_apart
select suspect.workflow_id, coalesce(run.name, '') as name, suspect.ends, suspect.alone, suspect.status, suspect.after_step, suspect.step, suspect.executor_id,
    count(*) over (partition by suspect.executor_id) - 1 as others
from durable_workflows.suspects as suspect join dbos.workflow_status as run on run.workflow_uuid = suspect.workflow_id
where suspect.executor_id is not null and run.status in ('PENDING', 'ENQUEUED')
order by suspect.alone desc, suspect.executor_id, suspect.workflow_id limit %(limit)s

-- name: worker_seen
update durable_workflows.workers set seen_at = clock_timestamp() where executor_id = %(executor_id)s

-- name: clear_activity
-- What a run waits for is true until it goes on, whatever becomes of its worker: so a message is checked also before another has taken the run up.
with steps as (delete from durable_workflows.running_steps where executor_id = %(executor_id)s)
delete from durable_workflows.waits as wait where executor_id = %(executor_id)s and (
    exists (select from dbos.operation_outputs as step where step.workflow_uuid = wait.workflow_id and step.function_id = wait.function_id)
    or not exists (
        select from dbos.workflow_status as run
        where run.workflow_uuid = wait.workflow_id and run.status in ('PENDING', 'ENQUEUED', 'DELAYED')
    )
)

-- name: clear_left_activity
-- What workers left that were killed and do not come back: another one has the run now, or it has ended.
delete from durable_workflows.running_steps as step using dbos.workflow_status as run
where run.workflow_uuid = step.workflow_id
    and (run.executor_id is distinct from step.executor_id or run.status not in ('PENDING', 'ENQUEUED', 'DELAYED'))
    and not exists (
        select from durable_workflows.workers where workers.executor_id = step.executor_id and seen_at > clock_timestamp() - interval '2 minutes'
    )

-- name: remove_activity
with gone as (
    select value ->> 0 as workflow_id, (value ->> 1)::int as function_id from jsonb_array_elements(%(keys)s::jsonb)
), steps as (
    delete from durable_workflows.running_steps using gone
    where running_steps.workflow_id = gone.workflow_id and running_steps.function_id = gone.function_id
    returning running_steps.workflow_id
), waits as (
    delete from durable_workflows.waits using gone
    where waits.workflow_id = gone.workflow_id and waits.function_id = gone.function_id and waits.executor_id <> 'parked'
    returning waits.workflow_id
)
select pg_notify('durable_workflows_activity', left(workflow_id, 1000))
from (select workflow_id from steps union select workflow_id from waits) as changed

-- name: write_steps
with written as (
    insert into durable_workflows.running_steps (workflow_id, function_id, executor_id, name, since, attempt, max_attempts, retry_at, error)
    select workflow_id, function_id, %(executor_id)s, name, since, attempt, max_attempts, retry_at, error
    from jsonb_to_recordset(%(rows)s::jsonb)
        as entry (workflow_id text, function_id int, name text, since timestamptz, attempt int, max_attempts int, retry_at timestamptz, error text)
    on conflict (workflow_id, function_id) do update
    set executor_id = excluded.executor_id, name = excluded.name, since = excluded.since,
        attempt = excluded.attempt, max_attempts = excluded.max_attempts, retry_at = excluded.retry_at, error = excluded.error
    returning workflow_id
)
select pg_notify('durable_workflows_activity', left(workflow_id, 1000)) from written

-- name: write_waits
select pg_notify('durable_workflows_activity', left(workflow_id, 1000))
from durable_workflows.note_waits(%(executor_id)s, %(rows)s::json) as workflow_id

-- name: needed_versions
-- Versions whose runs have something to do, the oldest run first; those saved for a start whose catalog is not published yet; and the current one, if it
-- has not loaded or a schedule may start a run. A version has the shape of a hash: it is a part of file names and executor ids.
select version from durable_workflows.versions left join durable_workflows.busy(%(application)s) using (version)
where (
        oldest is not null or (state = 'saved' and saved_at > clock_timestamp() - interval '5 minutes') or (
            version = %(current)s and (state <> 'ready' or durable_workflows.active_schedules(%(application)s) > 0)
        )
    ) and version ~ '^[0-9a-f]+$'
order by oldest nulls first

-- name: next_due
select durable_workflows.next_due(%(application)s) as at

-- name: waiting_runs
select durable_workflows.next_due(%(application)s) as next_due, (select count(*) from durable_workflows.parked) as parked

-- name: unfinished_versions
select version, runs from durable_workflows.unfinished(%(application)s) order by oldest

-- name: catalog
select name, summary, args_schema, source, error, not_startable, once from durable_workflows.catalog
where version = %(version)s order by source like '_bundled/%%', name

-- name: queue_names
select name from dbos.queues order by name

-- name: newest_version
select version from durable_workflows.versions where state = 'ready' order by saved_at desc limit 1

-- name: start_runs
select * from durable_workflows.start_runs(%(runs)s::json)

-- name: run_heads
select workflow_uuid as workflow_id, coalesce(name, '') as name, coalesce(status, 'UNKNOWN') as status, application_version as version, was_forked_from, executor_id,
    created_at, updated_at, forked_from, (attributes ->> 'forked_at')::int as forked_at,
    case when queue_name is null or queue_name like '\_dbos\_%%' then 'workflows' else queue_name end as queue
from dbos.workflow_status where workflow_uuid = any(%(workflow_ids)s)

-- name: run_states
-- How runs stand: for waiting on them. Payloads are cut; `output_length` tells of what, as in run_steps.
select run.workflow_uuid as workflow_id, coalesce(run.name, '') as name, coalesce(run.status, 'UNKNOWN') as status, run.application_version as version,
    left(result.output, %(limit)s) as output, left(result.error, %(limit)s) as error, run.serialization,
    case when octet_length(result.output) > 4 * %(limit)s then octet_length(result.output) else length(result.output) end as output_length,
    case when octet_length(result.error) > 4 * %(limit)s then octet_length(result.error) else length(result.error) end as error_length,
    (select count(*) from dbos.operation_outputs as step where step.workflow_uuid = run.workflow_uuid) as steps,
    (select jsonb_agg(jsonb_build_object('topic', topic, 'prompt', left(prompt, %(limit)s), 'since', since, 'deadline', deadline, 'schema', schema))
        from durable_workflows.open_waits() as wait where wait.workflow_id = run.workflow_uuid) as waits,
    (select jsonb_agg(to_jsonb(step)) from durable_workflows.open_steps() as step where step.workflow_id = run.workflow_uuid) as running,
    (select case when function_name = 'DBOS.sleep' then output end from dbos.operation_outputs as step
        where step.workflow_uuid = run.workflow_uuid order by function_id desc limit 1) as sleeps_until,
    durable_workflows.name_of_sleep(run.workflow_uuid) as sleeps_for,
    (select jsonb_build_object('value', left(value, %(progress)s), 'length', length(value), 'serialization', serialization)
        from dbos.workflow_events as event where event.workflow_uuid = run.workflow_uuid and key = 'progress') as progress,
    children.number as children, children.done as children_done, children.newest as child
from dbos.workflow_status as run left join dbos.workflow_output as result using (workflow_uuid)
    left join lateral (
        select count(*) filter (where goes_on) as number, count(*) filter (where not goes_on) as done,
            max(workflow_uuid) filter (where goes_on) as newest
        from (
            select workflow_uuid, status in ('PENDING', 'ENQUEUED', 'DELAYED') as goes_on
            from dbos.workflow_status where parent_workflow_id = run.workflow_uuid
        ) as child
    ) as children on true
where run.workflow_uuid = any(%(workflow_ids)s)

-- name: asking_descendants
-- What the runs that these started, and theirs, ask whoever watches, at most so much of each family: without a prompt it may as well be a message between
-- runs. From the runs that ask upwards, and each parent once: there may be many runs that ask, and more that do not.
with recursive asking as materialized (
    select wait.workflow_id, wait.function_id, wait.since, run.parent_workflow_id as parent
    from durable_workflows.open_waits() as wait join dbos.workflow_status as run on run.workflow_uuid = wait.workflow_id
    where wait.prompt is not null and run.status = 'PENDING' and run.parent_workflow_id is not null
), lineage as (
    select parent, parent as ancestor from asking
    union
    select parent, (select run.parent_workflow_id from dbos.workflow_status as run where run.workflow_uuid = lineage.ancestor)
    from lineage where ancestor is not null
), found as (
    select ancestor, workflow_id, function_id, row_number() over (partition by ancestor order by since, workflow_id, function_id) as place
    from lineage join asking using (parent) where ancestor = any(%(workflow_ids)s)
)
select wait.workflow_id, found.ancestor as child_of, function_id, wait.topic, left(wait.prompt, coalesce(%(limit)s, length(wait.prompt))) as prompt, wait.since,
    wait.deadline, wait.schema, wait.person_only
from found join durable_workflows.waits as wait using (workflow_id, function_id)
where found.place <= %(count)s order by wait.since, wait.workflow_id, function_id

-- name: descendant_waiting_on
-- A run that this one started, or one of theirs, that waits on the topic.
select wait.workflow_id from durable_workflows.descendants(array[%(workflow_id)s::text]) join durable_workflows.open_waits() as wait using (workflow_id)
where wait.topic = %(topic)s limit 1

-- name: list_runs
-- Those of a page, or those with these ids.
select run.workflow_uuid as workflow_id, coalesce(run.name, '') as name, coalesce(run.status, 'UNKNOWN') as status, run.created_at, run.updated_at,
    left(result.error, 300) as error, run.serialization, run.attributes ->> 'session' as started_by, run.parent_workflow_id, run.forked_from,
    run.attributes ->> 'rewound_from' as rewound_from, left(result.output, 200) as output_start,
    (select jsonb_agg(to_jsonb(fork)) from (
        select workflow_uuid as workflow_id, status from dbos.workflow_status
        where forked_from = run.workflow_uuid order by created_at desc limit 2
    ) as fork) as forks,
    (select string_agg(topic, ', ') from durable_workflows.open_waits() as wait where wait.workflow_id = run.workflow_uuid) as waiting_on,
    case when run.status = 'PENDING' then durable_workflows.name_of_sleep(run.workflow_uuid) end as sleeps_for,
    (select case when function_name = 'DBOS.sleep' then step.output end from dbos.operation_outputs as step
        where step.workflow_uuid = run.workflow_uuid order by function_id desc limit 1) as sleeps_until
from (
        select workflow_id, place from unnest(%(workflow_ids)s::text[]) with ordinality as given (workflow_id, place)
        union all
        select workflow_id, place from durable_workflows.page_of_runs(
            %(application)s, %(status)s, %(name)s, %(version)s, %(started_by)s, %(parent)s, %(waiting)s, %(since)s, %(edge)s, %(edge_id)s, %(oldest_first)s,
            %(limit)s
        ) with ordinality as found (workflow_id, place)
    ) as page
    join dbos.workflow_status as run on run.workflow_uuid = page.workflow_id
    left join dbos.workflow_output as result using (workflow_uuid)
order by page.place

-- name: runs_with_text
-- Those of a page that have a text in their input, output or error, whatever its case, and the last run that was looked through: no more of them than
-- `most`, and than have `most_bytes` together.
with page as materialized (
    select workflow_id, place from durable_workflows.page_of_runs(
        %(application)s, %(status)s, %(name)s, %(version)s, %(started_by)s, %(parent)s, %(waiting)s, %(since)s, %(edge)s, %(edge_id)s, %(oldest_first)s, %(most)s
    ) with ordinality as found (workflow_id, place)
), sized as (
    select workflow_id, place, sum(
        coalesce(octet_length(given.inputs), 0) + coalesce(octet_length(result.output), 0) + coalesce(octet_length(result.error), 0)
    ) over (order by place) as so_far
    from page left join dbos.workflow_input as given on given.workflow_uuid = workflow_id
        left join dbos.workflow_output as result on result.workflow_uuid = workflow_id
), looked as materialized (
    select workflow_id, place from sized where place = 1 or so_far <= %(most_bytes)s
), matching as (
    select workflow_id, place
    from looked left join dbos.workflow_input as given on given.workflow_uuid = workflow_id
        left join dbos.workflow_output as result on result.workflow_uuid = workflow_id
        cross join lateral (select lower(concat_ws(E'\n', given.inputs, result.output, result.error)) as recorded) as whole
    where strpos(recorded, lower(%(text)s)) > 0 or strpos(recorded, lower(%(escaped)s)) > 0
    order by place limit %(limit)s
), last as (
    select workflow_id, place from looked order by place desc limit 1
)
select found.workflow_id, found.place, found.matches, run.created_at,
    (select count(*) from page) = %(most)s or (select count(*) from page) > (select count(*) from looked) as goes_on
from (select *, true as matches from matching union all select *, false from last) as found
    join dbos.workflow_status as run on run.workflow_uuid = found.workflow_id
order by found.place, found.matches desc

-- name: count_runs
-- Each status is found and counted in the index alone: grouping would read every row.
with recursive found as (
    (select status from dbos.workflow_status order by status limit 1)
    union all
    select (select run.status from dbos.workflow_status as run where run.status > found.status order by run.status limit 1)
    from found where found.status is not null
), counted as materialized (
    select status, (select count(*) from dbos.workflow_status as run where run.status = found.status and application_name = %(application)s)
        + (select count(*) from dbos.workflow_status as run where run.status = found.status and application_name is null) as runs
    from found where status is not null
    union all
    select 'UNKNOWN', count(*) from dbos.workflow_status where status is null and (application_name = %(application)s or application_name is null)
)
select status, sum(runs)::bigint as runs from counted group by status having sum(runs) > 0 order by status

-- name: count_waiting
select (select count(distinct workflow_id) from durable_workflows.parked_waits()) + (
    select count(distinct wait.workflow_id)
    from durable_workflows.other_waits() as wait join dbos.workflow_status as run on run.workflow_uuid = wait.workflow_id
    where run.status = 'PENDING'
) as runs

-- name: run_details
select run.workflow_uuid as workflow_id, coalesce(run.name, '') as name, coalesce(run.status, 'UNKNOWN') as status, run.created_at, run.updated_at, run.completed_at,
    run.application_version as version, run.queue_name as queue, run.recovery_attempts, run.forked_from, run.parent_workflow_id,
    run.attributes ->> 'session' as started_by, (run.attributes ->> 'forked_at')::int as forked_at,
    case when run.status = 'CANCELLED' and (run.attributes #>> '{ended_with,at}')::bigint = run.completed_at then run.attributes #>> '{ended_with,run}' end as ended_with,
    run.attributes ->> 'rewound_from' as rewound_from, (run.attributes ->> 'rewound_to')::int as rewound_to, run.workflow_deadline_epoch_ms as deadline, run.delay_until_epoch_ms as delayed_until, run.executor_id, run.serialization,
    left(given.inputs, %(limit)s) as input, length(given.inputs) as input_length,
    left(result.output, %(limit)s) as output, length(result.output) as output_length,
    left(result.error, greatest(%(limit)s, 6000)) as error, length(result.error) as error_length,
    (select count(*) from dbos.operation_outputs as step where step.workflow_uuid = run.workflow_uuid) as total_steps,
    (select count(*) from dbos.notifications as message where message.destination_uuid = run.workflow_uuid and not message.consumed) as unread_messages,
    array(
        select message.topic from dbos.notifications as message where message.destination_uuid = run.workflow_uuid and not message.consumed
        group by message.topic order by min(message.created_at_epoch_ms) limit 20
    ) as unread_topics
from dbos.workflow_status as run
    left join dbos.workflow_input as given using (workflow_uuid)
    left join dbos.workflow_output as result using (workflow_uuid)
where run.workflow_uuid = %(workflow_id)s

-- name: run_steps
-- Of what is far too long to be shown the length is in bytes, which are known; to count characters, all of it would have to be read.
select function_id as step, function_name as name, started_at_epoch_ms as started_at, completed_at_epoch_ms as completed_at,
    child_workflow_id, serialization,
    (select jsonb_build_object('scope', scope, 'label', label.name) from durable_workflows.labels as label
        where label.workflow_id = workflow_uuid and label.function_id = operation_outputs.function_id) as label,
    left(output, %(limit)s) as output, left(error, greatest(%(limit)s, 6000)) as error,
    case when octet_length(output) > 4 * %(limit)s then octet_length(output) else length(output) end as output_length,
    case when octet_length(error) > 4 * greatest(%(limit)s, 6000) then octet_length(error) else length(error) end as error_length
from dbos.operation_outputs
where workflow_uuid = %(workflow_id)s and function_id > %(after)s
order by function_id limit %(count)s

-- name: same_values
-- Whether two runs have recorded the same. Of an error the traceback does not count: lines of code move.
select a_given.inputs is not distinct from b_given.inputs as input, a.output is not distinct from b.output as output,
    a.error is not distinct from b.error
        or regexp_replace(a.error, '"traceback":"([^"\\]|\\.)*"', '') is not distinct from regexp_replace(b.error, '"traceback":"([^"\\]|\\.)*"', '') as error
from (select) as one
    left join dbos.workflow_input as a_given on a_given.workflow_uuid = %(a)s left join dbos.workflow_input as b_given on b_given.workflow_uuid = %(b)s
    left join dbos.workflow_output as a on a.workflow_uuid = %(a)s left join dbos.workflow_output as b on b.workflow_uuid = %(b)s

-- name: compared_steps
-- The steps of two runs, up to the number `most`, side by side: those of the same name, the first with the first. As in `same_values`, tracebacks do not count.
with step as (
    select workflow_uuid, function_id as step, function_name as name, started_at_epoch_ms as started_at, completed_at_epoch_ms as completed_at,
        child_workflow_id as child, output, error, row_number() over (partition by workflow_uuid, function_name order by function_id) as occurrence
    from dbos.operation_outputs where workflow_uuid in (%(a)s, %(b)s) and function_id <= %(most)s
)
select name, occurrence, a.step as a_step, a.started_at as a_started_at, a.completed_at as a_completed_at, a.child as a_child,
    b.step as b_step, b.started_at as b_started_at, b.completed_at as b_completed_at, b.child as b_child,
    a.output is not distinct from b.output as same_output,
    a.error is not distinct from b.error
        or regexp_replace(a.error, '"traceback":"([^"\\]|\\.)*"', '') is not distinct from regexp_replace(b.error, '"traceback":"([^"\\]|\\.)*"', '') as same_error
from (select * from step where workflow_uuid = %(a)s) as a full join (select * from step where workflow_uuid = %(b)s) as b using (name, occurrence)
order by a.step, b.step

-- name: step_values
select function_id as step, function_name as name, started_at_epoch_ms as started_at, completed_at_epoch_ms as completed_at,
    child_workflow_id, serialization,
    (select jsonb_build_object('scope', scope, 'label', label.name) from durable_workflows.labels as label
        where label.workflow_id = workflow_uuid and label.function_id = operation_outputs.function_id) as label,
    left(output, %(limit)s) as output, left(error, greatest(%(limit)s, 6000)) as error,
    case when octet_length(output) > 4 * %(limit)s then octet_length(output) else length(output) end as output_length,
    case when octet_length(error) > 4 * greatest(%(limit)s, 6000) then octet_length(error) else length(error) end as error_length
from dbos.operation_outputs where workflow_uuid = %(workflow_id)s and function_id = any(%(steps)s)

-- name: failed_steps
select function_id as step, function_name as name, started_at_epoch_ms as started_at, completed_at_epoch_ms as completed_at,
    child_workflow_id, serialization,
    (select jsonb_build_object('scope', scope, 'label', label.name) from durable_workflows.labels as label
        where label.workflow_id = workflow_uuid and label.function_id = operation_outputs.function_id) as label,
    left(output, %(limit)s) as output, left(error, greatest(%(limit)s, 6000)) as error,
    case when octet_length(output) > 4 * %(limit)s then octet_length(output) else length(output) end as output_length,
    case when octet_length(error) > 4 * greatest(%(limit)s, 6000) then octet_length(error) else length(error) end as error_length
from dbos.operation_outputs
where workflow_uuid = %(workflow_id)s and error is not null
order by function_id desc limit 3

-- name: last_steps
select * from (
    select function_id as step, function_name as name, started_at_epoch_ms as started_at, completed_at_epoch_ms as completed_at,
        child_workflow_id, serialization,
        (select jsonb_build_object('scope', scope, 'label', label.name) from durable_workflows.labels as label
            where label.workflow_id = workflow_uuid and label.function_id = operation_outputs.function_id) as label,
        left(output, %(limit)s) as output, left(error, greatest(%(limit)s, 6000)) as error,
        case when octet_length(output) > 4 * %(limit)s then octet_length(output) else length(output) end as output_length,
        case when octet_length(error) > 4 * greatest(%(limit)s, 6000) then octet_length(error) else length(error) end as error_length
    from dbos.operation_outputs where workflow_uuid = %(workflow_id)s order by function_id desc limit %(count)s
) as last order by step

-- name: step_part
-- Part of what one step recorded: `part` characters from `offset` on.
select function_id as step, function_name as name, started_at_epoch_ms as started_at, completed_at_epoch_ms as completed_at,
    child_workflow_id, serialization,
    (select jsonb_build_object('scope', scope, 'label', label.name) from durable_workflows.labels as label
        where label.workflow_id = workflow_uuid and label.function_id = operation_outputs.function_id) as label,
    substr(output, %(offset)s + 1, %(limit)s) as output, length(output) as output_length,
    substr(error, %(offset)s + 1, %(limit)s) as error, length(error) as error_length
from dbos.operation_outputs where workflow_uuid = %(workflow_id)s and function_id = %(step)s

-- name: highest_step
select coalesce(max(function_id), 0) as step from dbos.operation_outputs where workflow_uuid = %(workflow_id)s

-- name: count_steps
select count(*) as steps from dbos.operation_outputs where workflow_uuid = %(workflow_id)s

-- name: run_payload
-- One payload of a run, whole unless it is longer than `limit`.
select left(payload, %(limit)s) as payload, length(payload) as payload_length, serialization from (
    select run.serialization, case %(which)s when 'input' then given.inputs when 'output' then result.output else result.error end as payload
    from dbos.workflow_status as run
        left join dbos.workflow_input as given using (workflow_uuid)
        left join dbos.workflow_output as result using (workflow_uuid)
    where run.workflow_uuid = %(workflow_id)s
) as run

-- name: run_streams
-- The last values of each stream of a run, with the number of all of them.
select stream.key, stream.length, last."offset" as place, last.function_id as step,
    left(last.value, %(limit)s) as value, length(last.value) as value_length, last.serialization
from (
    select key, count(*) as length from dbos.streams where workflow_uuid = %(workflow_id)s group by key order by key limit 50
) as stream cross join lateral (
    select * from dbos.streams where workflow_uuid = %(workflow_id)s and key = stream.key order by "offset" desc limit %(count)s
) as last
order by stream.key, last."offset"

-- name: run_waits
select workflow_id, function_id, topic, since, deadline, prompt, schema, person_only from durable_workflows.open_waits() where workflow_id = %(workflow_id)s order by function_id

-- name: waits_for_people
select workflow_id, function_id, topic, since, deadline, prompt, schema, person_only from durable_workflows.open_waits() as wait
where workflow_id = any(%(workflow_ids)s) and person_only and exists (
    select from dbos.workflow_status as run where run.workflow_uuid = wait.workflow_id and run.status in ('PENDING', 'ENQUEUED', 'DELAYED')
)
order by since, workflow_id, function_id

-- name: run_running
select function_id as step, name, since, attempt, max_attempts, retry_at, error from durable_workflows.open_steps()
where workflow_id = %(workflow_id)s order by function_id

-- name: queue_place
-- What keeps a run in its queue: the queue's limits, who takes up its places, what comes before it, and when the limit of a rate lets the next one start.
select queue.concurrency, queue.worker_concurrency, queue.rate_limit_max as rate_limit, queue.rate_limit_period_sec as rate_seconds,
    (select count(*) from dbos.workflow_status as other where other.queue_name = queue.name and other.status = 'PENDING') as running,
    array(
        select workflow_uuid from dbos.workflow_status as other where other.queue_name = queue.name and other.status = 'PENDING'
        order by started_at_epoch_ms limit %(count)s
    ) as holders,
    (
        select count(*) from dbos.workflow_status as other
        where other.queue_name = queue.name and other.status = 'ENQUEUED' and (other.priority, other.created_at) < (run.priority, run.created_at)
    ) as ahead,
    (
        select other.started_at_epoch_ms + (queue.rate_limit_period_sec * 1000)::bigint from dbos.workflow_status as other
        where other.queue_name = queue.name and other.status not in ('ENQUEUED', 'DELAYED')
        order by other.started_at_epoch_ms desc nulls last offset greatest(queue.rate_limit_max, 1) - 1 limit 1
    ) as next_start
from dbos.workflow_status as run join dbos.queues as queue on queue.name = run.queue_name
where run.workflow_uuid = %(workflow_id)s

-- name: steps_under_way
select step.workflow_id, step.function_id as step, step.name,
    worker.version, worker.pid, worker.host, worker.state, worker.started_at, worker.seen_at, worker.seen_at > clock_timestamp() - interval '30 seconds' as seen_lately
from durable_workflows.open_steps() as step join durable_workflows.workers as worker using (executor_id)
where step.workflow_id = any(%(workflow_ids)s) order by step.function_id

-- name: descendants_in
-- How many of the runs that these started, and theirs, have one of the statuses, and one of them.
select root, count(*) as runs, min(workflow_id) as first from durable_workflows.descendants(%(workflow_ids)s) where status = any(%(statuses)s) group by root

-- name: send_message
-- As DBOS's client does; no row: there is no such run.
with run as (
    select workflow_uuid from dbos.workflow_status where workflow_uuid = %(workflow_id)s for key share
), sent as (
    insert into dbos.notifications (destination_uuid, topic, message, message_uuid, serialization)
    select workflow_uuid, %(topic)s, %(message)s, %(key)s || '::' || workflow_uuid, 'portable_json' from run
    on conflict (message_uuid) do nothing
)
select workflow_uuid from run

-- name: message_of_key
-- DBOS makes an id of the key and the run.
select topic, message, consumed_by_function_id as consumed_by_step from dbos.notifications
where message_uuid = %(key)s || '::' || %(workflow_id)s and serialization = 'portable_json'

-- name: run_messages
-- DBOS makes an id of the key and the run.
select topic, created_at_epoch_ms as sent_at, consumed_by_function_id as consumed_by_step, serialization,
    starts_with(topic, 'person:') and not exists (
        select from durable_workflows.answers as answer
        where answer.workflow_id = destination_uuid and message_uuid = answer.message_key || '::' || destination_uuid
    ) as of_nobody,
    left(message, %(limit)s) as message,
    case when octet_length(message) > 4 * %(limit)s then octet_length(message) else length(message) end as message_length
from dbos.notifications where destination_uuid = %(workflow_id)s order by created_at_epoch_ms limit %(count)s

-- name: run_effects
-- Those in doubt come first, then those of which something was said.
select effect.function_id as step, effect.name, effect.began_at, effect.person_only, effect.decisions, effect.problem, doubt.since as doubt_since
from durable_workflows.effects as effect cross join lateral (
    select case
        when effect.happened is null and not exists (
            select from dbos.operation_outputs as recorded
            where recorded.workflow_uuid = effect.workflow_id and recorded.function_id = effect.function_id
        ) then effect.doubt_since
    end as since
) as doubt
where effect.workflow_id = %(workflow_id)s
order by doubt.since is null, effect.decisions = '[]', effect.function_id limit %(count)s

-- name: run_attempts
-- The newest ones, of steps that did not succeed at once.
select attempt.function_id as step, attempt.name, attempt.attempt, attempt.attempts as max_attempts, attempt.began_at, attempt.failed_at, attempt.next_at,
    attempt.said as error, case
        when attempt.failed_at is not null then 'failed'
        when exists (
            select from durable_workflows.attempts as later
            where later.workflow_id = attempt.workflow_id and later.function_id = attempt.function_id and later.attempt > attempt.attempt
        ) then 'interrupted'
        when recorded.function_id is not null and recorded.error is null then 'succeeded'
        when recorded.function_id is null and run.status in ('PENDING', 'ENQUEUED', 'DELAYED') then 'running'
        else 'interrupted'
    end as outcome
from durable_workflows.attempts as attempt join dbos.workflow_status as run on run.workflow_uuid = attempt.workflow_id
    left join dbos.operation_outputs as recorded on recorded.workflow_uuid = attempt.workflow_id and recorded.function_id = attempt.function_id
where attempt.workflow_id = %(workflow_id)s order by attempt.began_at desc, attempt.attempt desc limit %(count)s

-- name: doubts
-- The steps that are in doubt, the oldest doubt first.
select effect.workflow_id, effect.function_id as step, effect.name, effect.doubt_since, effect.person_only
from durable_workflows.effects as effect join dbos.workflow_status as run on run.workflow_uuid = effect.workflow_id
where effect.doubt_since is not null and effect.happened is null and run.status in ('PENDING', 'ENQUEUED', 'DELAYED') and not exists (
    select from dbos.operation_outputs as recorded
    where recorded.workflow_uuid = effect.workflow_id and recorded.function_id = effect.function_id
)
order by effect.doubt_since limit %(limit)s

-- name: resolve_doubt
select durable_workflows.resolve_doubt(%(workflow_id)s, %(step)s, %(happened)s, %(result)s, %(about)s::jsonb, %(person)s) as verdict

-- name: callback_secret
-- The secret from which the tokens of the project's callbacks are made.
insert into durable_workflows.secrets (name, secret) values ('callbacks', %(made)s)
on conflict (name) do update set name = excluded.name returning secret

-- name: callback_by_id
select schema from durable_workflows.callbacks where id = %(callback_id)s limit 1

-- name: callback_of_topic
select id as callback_id, schema from durable_workflows.callbacks where workflow_id = %(workflow_id)s and function_id = %(step)s and topic = %(topic)s

-- name: answer_callback
select durable_workflows.answer_callback(%(callback_id)s, %(workflow_id)s, %(answer)s, %(key)s) as verdict

-- name: effects_at_stake
select at_step, workflow_id, step, name, state, workflow_id = %(workflow_id)s as is_own
from durable_workflows.effects_at_stake(%(workflow_id)s, %(from_step)s)

-- name: fork_run
select durable_workflows.fork_run(
    %(workflow_id)s, %(fork_id)s, %(from_step)s, %(version)s, %(queue)s, %(inputs)s, %(outputs)s::jsonb, %(about)s::jsonb
) as verdict

-- name: movable_runs
-- Some runs, and the unfinished ones that these started, and theirs (`is_named` is false): what a move to another version depends on.
select run.workflow_uuid as workflow_id, coalesce(run.name, '') as name, run.application_version as version, found.is_named, record.steps, record.last, case
        when run.status is null or run.status not in ('PENDING', 'ENQUEUED', 'DELAYED') then 'ended'
        when run.status <> 'PENDING' or (run.executor_id = 'parked' and parked.workflow_id is not null) then 'free'
        else 'held'
    end as state
from (
        select workflow_id, true as is_named, place from unnest(%(workflow_ids)s::text[]) with ordinality as entry (workflow_id, place)
        union all
        select distinct workflow_id, false, 0 from durable_workflows.descendants(%(workflow_ids)s::text[])
        where status in ('PENDING', 'ENQUEUED', 'DELAYED') and workflow_id <> all(%(workflow_ids)s::text[])
    ) as found
    join dbos.workflow_status as run on run.workflow_uuid = found.workflow_id
    left join durable_workflows.parked as parked on parked.workflow_id = found.workflow_id
    cross join lateral (
        select count(*) as steps, coalesce(max(function_id), 0) as last from dbos.operation_outputs as step where step.workflow_uuid = found.workflow_id
    ) as record
order by not found.is_named, found.place, run.created_at, run.workflow_uuid

-- name: runs_of_other_versions
-- Unfinished runs that do not have this version, the oldest first.
select workflow_uuid as workflow_id from dbos.workflow_status
where status in ('PENDING', 'ENQUEUED', 'DELAYED') and (application_name = %(application)s or application_name is null)
    and application_version is distinct from %(version)s
    and (%(name)s::text is null or name = %(name)s) and (%(of_version)s::text is null or application_version = %(of_version)s)
    and (%(status)s::text is null or status = %(status)s) and (%(since)s::bigint is null or created_at >= %(since)s)
order by created_at, workflow_uuid limit %(limit)s

-- name: move_runs
select workflow_id, verdict from durable_workflows.move_runs(%(runs)s::json, %(version)s)

-- name: rewind_run
select verdict, about from durable_workflows.rewind_run(%(workflow_id)s, %(to_step)s, %(version)s, %(queue)s, %(repeat)s)

-- name: children_from
select workflow_id from durable_workflows.children_from(%(workflow_id)s, %(from_step)s)

-- name: children_to_fork
-- Stopped runs that the steps before this one have started, and whose results no step before it has taken.
select started.function_id as step, child.workflow_uuid as workflow_id
from dbos.operation_outputs as started join dbos.workflow_status as child on child.workflow_uuid = started.child_workflow_id
where started.workflow_uuid = %(workflow_id)s and started.function_id < %(from_step)s and started.function_name <> 'DBOS.getResult'
    and child.status in ('ERROR', 'CANCELLED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED') and not exists (
        select from dbos.operation_outputs as taken
        where taken.workflow_uuid = %(workflow_id)s and taken.function_id < %(from_step)s
            and taken.function_name = 'DBOS.getResult' and taken.child_workflow_id = child.workflow_uuid
    )
order by started.function_id

-- name: run_rewinds
-- What rewinds have kept of it.
select workflow_uuid as workflow_id, status, (attributes ->> 'rewound_to')::int as to_step
from dbos.workflow_status where attributes ->> 'rewound_from' = %(workflow_id)s order by created_at, workflow_uuid

-- name: recorded_among
select function_id as step from dbos.operation_outputs where workflow_uuid = %(workflow_id)s and function_id = any(%(steps)s)

-- name: run_descendants
-- The first thousand: those that it started itself come before theirs.
with recursive tree as (
    select workflow_uuid, name, status, parent_workflow_id, created_at
    from durable_workflows.page_of_runs(null, null, null, null, null, %(workflow_id)s, null, null, null, null, true, 1000) as workflow_id
        join dbos.workflow_status on workflow_uuid = workflow_id
    union all
    select child.* from tree cross join lateral (
        select workflow_uuid, name, status, parent_workflow_id, created_at from dbos.workflow_status where parent_workflow_id = tree.workflow_uuid offset 0
    ) as child
), first as materialized (
    select * from tree limit 1000
)
select workflow_uuid as workflow_id, coalesce(name, '') as name, coalesce(status, 'UNKNOWN') as status, parent_workflow_id,
    case when status = 'PENDING' then (
        select string_agg(topic, ', ') from durable_workflows.open_waits() as wait where wait.workflow_id = first.workflow_uuid
    ) end as waiting_on,
    left(result.output, 200) as output_start
from first left join dbos.workflow_output as result using (workflow_uuid) order by created_at

-- name: descendant_ids
select workflow_id from durable_workflows.descendants(array[%(workflow_id)s::text])

-- name: run_forks
select workflow_uuid as workflow_id, status from dbos.workflow_status where forked_from = %(workflow_id)s order by created_at

-- name: run_events
-- The newest value of each key, those that were set last first.
select key, left(value, %(limit)s) as value, serialization,
    case when octet_length(value) > 4 * %(limit)s then octet_length(value) else length(value) end as value_length
from dbos.workflow_events as event where workflow_uuid = %(workflow_id)s
order by (
    select max(function_id) from dbos.workflow_events_history as past
    where past.workflow_uuid = event.workflow_uuid and past.key = event.key
) desc nulls last, key limit %(count)s

-- name: workers
select executor_id, version, pid, host, state, apart, started_at, seen_at, seen_at > clock_timestamp() - interval '30 seconds' as seen_lately
from durable_workflows.workers order by started_at desc

-- name: catalog_entry
select name, summary, args_schema, source, error, not_startable, once from durable_workflows.catalog where version = %(version)s and name = %(name)s

-- name: similar_ids
select workflow_uuid as workflow_id from dbos.workflow_status order by created_at desc limit 200

-- name: version_source
select path, content from durable_workflows.version_files join durable_workflows.files using (digest)
where version = %(version)s and path = (
    select source from durable_workflows.catalog where catalog.version = %(version)s and catalog.name = %(name)s
)

-- name: schedules
-- The schedules, or the one of that name; `plan` is the context of one without code. The run of its last time has that time in its id. `source` and
-- what follows are of the workflow in the newest version, if that has loaded.
select schedule.schedule_name as name, schedule.workflow_name as workflow, schedule.schedule as cron, schedule.status, schedule.last_fired_at,
    coalesce(schedule.cron_timezone, 'UTC') as timezone, schedule.queue_name as queue, run.workflow_uuid as last_workflow_id, run.status as last_status,
    case when schedule.context like '{"durable\_workflows\_schedule":%%' then schedule.context end as plan,
    versions.version is not null as loaded, entry.source, entry.error, entry.args_schema
from dbos.workflow_schedules as schedule
    left join dbos.workflow_status as run on run.workflow_uuid = 'sched-' || schedule.schedule_name || '-' || schedule.last_fired_at
    left join (select version from durable_workflows.versions where state = 'ready' order by saved_at desc limit 1) as versions on true
    left join durable_workflows.catalog as entry on entry.version = versions.version and entry.name = schedule.workflow_name
where (schedule.application_name = %(application)s or schedule.application_name is null)
    and (%(name)s::text is null or schedule.schedule_name = %(name)s)
order by schedule.schedule_name limit 1000

-- name: create_schedule
insert into dbos.workflow_schedules (
    schedule_id, schedule_name, workflow_name, schedule, status, context, automatic_backfill, cron_timezone, queue_name, application_name
) values (%(id)s, %(name)s, %(workflow)s, %(cron)s, 'ACTIVE', %(context)s, false, %(timezone)s, %(queue)s, %(application)s)
on conflict (schedule_name) do nothing
returning schedule_name

-- name: replace_schedule
-- It stays paused, if it is.
update dbos.workflow_schedules
set workflow_name = %(workflow)s, schedule = %(cron)s, context = %(context)s, cron_timezone = %(timezone)s, queue_name = %(queue)s
where schedule_name = %(name)s
returning schedule_name

-- name: resume_schedule
-- Times that passed while it was paused are not missed: its context says since when it is active.
update dbos.workflow_schedules set status = 'ACTIVE', context = %(context)s where schedule_name = %(name)s and status <> 'ACTIVE'
returning schedule_name

-- name: schedule_names
select schedule_name as name from dbos.workflow_schedules order by schedule_name limit 200

-- name: database_bytes
select pg_database_size(current_database()) as bytes

-- name: has_dbos_tables
-- What builds on them is made last.
select to_regprocedure('durable_workflows.open_waits()') is not null as there

-- name: has_all_of_this_release
-- The newest of what is made last: an older release may have left the rest.
select to_regprocedure(
    'durable_workflows.page_of_runs(text, text, text, text, text, text, boolean, bigint, bigint, text, boolean, integer)'
) is not null as there

-- name: all_waits
select wait.workflow_id, coalesce(run.name, '') as name, wait.topic, wait.prompt, wait.since, wait.deadline
from (
    (select * from durable_workflows.parked_waits() order by since limit %(limit)s)
    union all
    (select * from durable_workflows.other_waits() as wait where exists (
        select from dbos.workflow_status as run where run.workflow_uuid = wait.workflow_id and run.status = 'PENDING'
    ) order by since limit %(limit)s)
) as wait join dbos.workflow_status as run on run.workflow_uuid = wait.workflow_id
order by wait.since limit %(limit)s

-- name: which_are_parents
-- Those of some runs that have started others.
select workflow_id from unnest(%(workflow_ids)s::text[]) as workflow_id
where exists (select from dbos.workflow_status as child where coalesce(child.parent_workflow_id, '') = workflow_id)

-- name: inbox
-- What is waited for, the longest first, with the arguments of the run that waits, and the run at the root of its family.
select wait.workflow_id, wait.function_id, wait.topic, wait.since, wait.deadline, wait.prompt, wait.schema, wait.person_only,
    coalesce(run.name, '') as name, root.workflow_id as root_workflow_id,
    left(given.inputs, %(length)s) as input, length(given.inputs) as input_length, run.serialization
from (
    (select * from durable_workflows.parked_waits() order by since limit %(limit)s)
    union all
    (select * from durable_workflows.other_waits() as wait where exists (
        select from dbos.workflow_status as run where run.workflow_uuid = wait.workflow_id and run.status = 'PENDING'
    ) order by since limit %(limit)s)
) as wait
    join dbos.workflow_status as run on run.workflow_uuid = wait.workflow_id
    left join dbos.workflow_input as given using (workflow_uuid)
    cross join lateral (
        with recursive line as (
            select run.workflow_uuid as workflow_id, run.parent_workflow_id as parent, 0 as level
            union all
            select above.workflow_uuid, above.parent_workflow_id, line.level + 1
            from line join dbos.workflow_status as above on above.workflow_uuid = line.parent where line.level < 1000
        )
        select line.workflow_id from line order by line.level desc limit 1
    ) as root
order by wait.since, wait.workflow_id, wait.function_id limit %(limit)s

-- In two parts, as DBOS has its indexes: one for all three statuses together would match neither.
-- name: queues
with run as (
    select queue_name, status from dbos.workflow_status where status in ('ENQUEUED', 'PENDING')
    union all
    select queue_name, status from dbos.workflow_status where status = 'DELAYED'
)
select queue.name, queue.concurrency, queue.worker_concurrency,
    count(*) filter (where run.status in ('ENQUEUED', 'DELAYED')) as enqueued, count(*) filter (where run.status = 'PENDING') as running
from dbos.queues as queue left join run on run.queue_name = queue.name
group by queue.name, queue.concurrency, queue.worker_concurrency order by queue.name

-- name: write_log
with written as (
    insert into durable_workflows.logs (workflow_id, function_id, at, stream, text)
    select workflow_id, function_id, at, stream, text
    from jsonb_to_recordset(%(rows)s::jsonb) as entry (workflow_id text, function_id int, at timestamptz, stream text, text text)
    returning workflow_id
)
select pg_notify('durable_workflows_activity', left(workflow_id, 1000)) from (select distinct workflow_id from written) as changed

-- name: trim_log
delete from durable_workflows.logs where workflow_id = %(workflow_id)s and id <= (
    select id from durable_workflows.logs where workflow_id = %(workflow_id)s order by id desc offset %(keep)s limit 1
)

-- name: log_lines
select * from (
    select id, at, function_id as step, stream, text from durable_workflows.logs
    where workflow_id = %(workflow_id)s and id > %(after)s order by id desc limit %(limit)s
) as newest order by id

-- name: newest_lines
-- Of the newest lines of all runs, some of each run.
select workflow_id, id, at, step, stream, text from (
    select workflow_id, id, at, function_id as step, stream, text, row_number() over (partition by workflow_id order by id desc) as place
    from (select * from durable_workflows.logs order by id desc limit %(limit)s) as newest
) as line
where place <= %(of_one)s order by id

-- name: find_answer
select who, answer from durable_workflows.answers where workflow_id = %(workflow_id)s and function_id = %(step)s

-- name: question_states
-- What came of some questions so far: how often they were asked, what a person did last instead of answering, and who has answered.
select wanted.workflow_id, wanted.step, coalesce(last.attempt, 0) as attempts, last.action, last.why, last.who, noted.who as answered_by, noted.answer, noted.message_key
from jsonb_to_recordset(%(questions)s::jsonb) as wanted (workflow_id text, step int)
    left join lateral (
        select * from durable_workflows.unanswered as one where one.workflow_id = wanted.workflow_id and one.function_id = wanted.step
        order by attempt desc limit 1
    ) as last on true
    left join durable_workflows.answers as noted on noted.workflow_id = wanted.workflow_id and noted.function_id = wanted.step

-- name: note_unanswered
with run as (
    select workflow_uuid from dbos.workflow_status where workflow_uuid = %(workflow_id)s for key share
)
insert into durable_workflows.unanswered (workflow_id, function_id, attempt, action, why, who, how)
select workflow_uuid, %(step)s, 1 + coalesce((
    select max(attempt) from durable_workflows.unanswered as one where one.workflow_id = %(workflow_id)s and one.function_id = %(step)s
), 0), %(action)s, %(why)s, %(who)s, %(how)s from run
on conflict do nothing

-- name: note_answer
with noted as (
    insert into durable_workflows.answers (workflow_id, function_id, topic, who, how, shown, answer)
    values (%(workflow_id)s, %(step)s, %(topic)s, %(who)s, %(how)s, %(shown)s::jsonb, %(answer)s::jsonb)
    on conflict do nothing returning who, answer, answered_at, message_key
)
select * from noted union all
select who, answer, answered_at, message_key from durable_workflows.answers where workflow_id = %(workflow_id)s and function_id = %(step)s

-- name: run_answers
-- What people answered to a run, and to those from which it is forked: DBOS copies the steps that a fork takes over, with their times.
with recursive line as (
    select workflow_uuid, forked_from from dbos.workflow_status where workflow_uuid = %(workflow_id)s
    union
    select origin.workflow_uuid, origin.forked_from from line join dbos.workflow_status as origin on origin.workflow_uuid = line.forked_from
)
select noted.function_id as step, topic, who, how, answered_at as at, coalesce(shown ->> 'text', shown ->> 'prompt', '') as shown,
    left(noted.answer::text, %(limit)s) as answer, length(noted.answer::text) as answer_length,
    nullif(noted.workflow_id, %(workflow_id)s) as taken_from
from line join durable_workflows.answers as noted on noted.workflow_id = line.workflow_uuid
where noted.workflow_id = %(workflow_id)s or exists (
    select from dbos.operation_outputs as own join dbos.operation_outputs as theirs using (function_id, function_name, completed_at_epoch_ms)
    where own.workflow_uuid = %(workflow_id)s and theirs.workflow_uuid = noted.workflow_id and function_id = noted.function_id
)
order by noted.function_id

-- name: session_seen
insert into durable_workflows.sessions (session_id, client, version, transport, pid, host, tasks)
values (%(session_id)s, %(client)s, %(version)s, %(transport)s, %(pid)s, %(host)s, %(tasks)s)
on conflict (session_id) do update set seen_at = clock_timestamp(), left_at = null

-- name: sessions_left
update durable_workflows.sessions set seen_at = clock_timestamp(), left_at = clock_timestamp() where session_id = any(%(session_ids)s)

-- name: sessions
select session_id, client, version, transport, since, seen_at as last_seen,
    left_at is null and seen_at > clock_timestamp() - make_interval(secs => %(seconds)s) as connected
from durable_workflows.sessions order by seen_at desc limit %(limit)s

-- name: last_here
-- When each kind of client was here last and has left.
select client, max(seen_at) as at from durable_workflows.sessions
where left_at is not null or seen_at < clock_timestamp() - make_interval(secs => %(seconds)s) group by client

-- name: ended_roots
-- The runs that no other run started and that have ended since then, the newest first. `told`: the client that started it tells its session.
select run.workflow_uuid as workflow_id, coalesce(run.name, '') as name, run.status, least(run.completed_at, 4102444800000) as at, run.serialization,
    left(result.error, 1000) as error, length(result.error) as error_length, left(result.output, 200) as output_start,
    coalesce(session.tasks and session.left_at is null and session.seen_at > clock_timestamp() - make_interval(secs => %(seconds)s), false) as told
from dbos.workflow_status as run left join dbos.workflow_output as result using (workflow_uuid)
    left join durable_workflows.sessions as session on session.session_id = run.attributes ->> 'session'
where run.completed_at > %(after)s and run.status not in ('PENDING', 'ENQUEUED', 'DELAYED') and coalesce(run.parent_workflow_id, '') = ''
    and (run.application_name = %(application)s or run.application_name is null)
order by run.completed_at desc, run.workflow_uuid limit %(count)s

-- name: asking_since
-- What runs ask since then: people, or with a prompt whoever reads it; the oldest first. `root_id` is the run at the top, which no other started.
with recursive asking as materialized (
    select wait.workflow_id, wait.function_id as step, coalesce(nullif(wait.topic, '__null__topic__'), '') as topic, left(wait.prompt, 1000) as prompt, wait.since, wait.deadline, wait.person_only
    from durable_workflows.open_waits() as wait join dbos.workflow_status as run on run.workflow_uuid = wait.workflow_id
    where (wait.prompt is not null or wait.person_only) and wait.since > %(after)s and run.status = 'PENDING'
        and (run.application_name = %(application)s or run.application_name is null)
    order by wait.since, wait.workflow_id limit %(count)s
), up as (
    select distinct workflow_id, workflow_id as ancestor, 0 as depth from asking
    union all
    select up.workflow_id, run.parent_workflow_id, depth + 1
    from up join dbos.workflow_status as run on run.workflow_uuid = up.ancestor where run.parent_workflow_id is not null
), tops as (
    select distinct on (up.workflow_id) up.workflow_id, run.workflow_uuid as root_id, coalesce(run.name, '') as name, run.status,
        coalesce(session.tasks and session.left_at is null and session.seen_at > clock_timestamp() - make_interval(secs => %(seconds)s), false) as told
    from up join dbos.workflow_status as run on run.workflow_uuid = up.ancestor
        left join durable_workflows.sessions as session on session.session_id = run.attributes ->> 'session'
    order by up.workflow_id, depth desc
)
select asking.*, root_id, name, status, told from asking join tops using (workflow_id) order by since, workflow_id, step

-- name: unfinished_roots
-- The newest unfinished runs that no other run started, and the number of all.
with run as (
    select workflow_uuid, name, status, created_at, parent_workflow_id, application_name from dbos.workflow_status where status in ('PENDING', 'ENQUEUED')
    union all
    select workflow_uuid, name, status, created_at, parent_workflow_id, application_name from dbos.workflow_status where status = 'DELAYED'
)
select workflow_uuid as workflow_id, coalesce(name, '') as name, status, count(*) over () as runs from run
where coalesce(parent_workflow_id, '') = '' and (application_name = %(application)s or application_name is null)
order by created_at desc, workflow_uuid limit %(count)s

-- name: notified_since
-- From when on facts are told: since this was asked first, and never what is older than a day.
with first as (
    insert into durable_workflows.notified (workflow_id, fact) values ('', 'since') on conflict do nothing returning at
)
select greatest(clock_timestamp() - interval '1 day', coalesce(
    (select at from first), (select at from durable_workflows.notified where workflow_id = '' and fact = 'since')
)) as at

-- name: claim_fact
insert into durable_workflows.notified (workflow_id, fact) values (%(workflow_id)s, %(fact)s) on conflict do nothing

-- name: run_marks
-- What the traces of some runs show, in short: while a run's mark is the same, so is its trace. A step of a `moving` run may end at any moment, which nothing
-- announces. One that is parked moves when something comes for it, which is announced, or when it is due; until the next look nobody would see that.
select run.workflow_uuid as workflow_id, run.status in ('PENDING', 'ENQUEUED') and (
    not exists (
        select from durable_workflows.parked where parked.workflow_id = run.workflow_uuid
            and (parked.due_at is null or parked.due_at > clock_timestamp() + make_interval(secs => %(soon)s))
    ) or exists (select from durable_workflows.woken where woken.workflow_id = run.workflow_uuid)
) as moving, concat_ws(
    ' ', run.status, run.updated_at, run.recovery_attempts,
    (select count(*) from dbos.operation_outputs as step where step.workflow_uuid = run.workflow_uuid),
    (select count(*) from dbos.notifications as message where message.destination_uuid = run.workflow_uuid and not message.consumed),
    (select count(*) from dbos.workflow_status as fork where fork.forked_from = run.workflow_uuid),
    (select string_agg(concat_ws('.', function_id, topic, since), ' ' order by function_id)
        from durable_workflows.waits as wait where wait.workflow_id = run.workflow_uuid),
    (select string_agg(concat_ws('.', function_id, attempt), ' ' order by function_id)
        from durable_workflows.running_steps as running where running.workflow_id = run.workflow_uuid),
    (select md5(string_agg(child.status, ' ' order by child.workflow_uuid))
        from dbos.workflow_status as child where child.parent_workflow_id = run.workflow_uuid)
) as mark
from dbos.workflow_status as run where run.workflow_uuid = any(%(workflow_ids)s)

-- name: list_marks
-- The same for the list of the newest runs: which they are, and how they stand.
select md5(string_agg(workflow_uuid, ' ' order by created_at, workflow_uuid)) as runs,
    md5(string_agg(concat_ws(' ', workflow_uuid, status, updated_at), ' ' order by created_at, workflow_uuid)) as states
from (
    select workflow_uuid, created_at, status, updated_at from dbos.workflow_status
    where application_name = %(application)s or application_name is null
    order by created_at desc, workflow_uuid desc limit %(count)s
) as newest

-- name: log_marks
-- The last log line of each of some runs, for who looks at these too.
select workflow_id, max(id) as line from durable_workflows.logs where workflow_id = any(%(workflow_ids)s) group by workflow_id

-- name: wait_marks
-- In short what all runs wait for: while it is the same, so is that.
select concat_ws(' ', count(*), sum(hashtextextended(concat_ws('.', workflow_id, function_id, topic, since), 0)::numeric)) as waits
from (
    select workflow_id, function_id, topic, since from durable_workflows.parked_waits()
    union all
    select workflow_id, function_id, topic, since from durable_workflows.other_waits() as wait where exists (
        select from dbos.workflow_status as run where run.workflow_uuid = wait.workflow_id and run.status = 'PENDING'
    )
) as wait

-- name: ids_beginning
-- The newest runs whose ids begin so.
select workflow_uuid as workflow_id from dbos.workflow_status
where starts_with(workflow_uuid, %(beginning)s) and (application_name = %(application)s or application_name is null)
order by created_at desc limit %(limit)s

-- name: versions_beginning
select version from durable_workflows.versions where state = 'ready' and starts_with(version, %(beginning)s) order by saved_at desc limit %(limit)s

-- name: startable_names
select name from durable_workflows.catalog
where error is null and not_startable is null and version = (select version from durable_workflows.versions where state = 'ready' order by saved_at desc limit 1)
order by source like '_bundled/%%', name

-- name: open_topics
select distinct topic from (
    select workflow_id, topic from durable_workflows.parked_waits()
    union all
    select wait.workflow_id, wait.topic from durable_workflows.other_waits() as wait where exists (
        select from dbos.workflow_status as run where run.workflow_uuid = wait.workflow_id and run.status = 'PENDING'
    )
) as wait
where %(workflow_id)s::text is null or workflow_id = %(workflow_id)s order by topic limit %(limit)s

-- name: project_tables
-- All that holds rows of the project: columns that can be written, those with a sequence, and the tables whose rows must be there first.
select namespace.nspname as schema, namespace.nspname = %(other)s as of_dbos, class.relname as name,
    pg_relation_size(class.oid) / current_setting('block_size')::int as pages,
    array_agg(attribute.attname::text order by attribute.attnum) as columns,
    array_agg(attribute.attname::text) filter (
        where pg_get_serial_sequence(format('%%I.%%I', namespace.nspname, class.relname), attribute.attname) is not null
    ) as numbered,
    array(
        select other.relname::text from pg_constraint as reference join pg_class as other on other.oid = reference.confrelid
        where reference.contype = 'f' and reference.conrelid = class.oid and other.oid <> class.oid
    ) as needs
from pg_class as class
    join pg_namespace as namespace on namespace.oid = class.relnamespace
    join pg_attribute as attribute on attribute.attrelid = class.oid
where namespace.nspname in ('durable_workflows', %(other)s) and class.relkind = 'r' and class.relname not in ('migrations', 'dbos_migrations')
    and attribute.attnum > 0 and not attribute.attisdropped and attribute.attgenerated = ''
group by namespace.nspname, class.oid, class.relname

-- name: silent_workers
-- Those with runs, on a database that machines share. `seconds`: how long they have given no sign of life.
select worker.version, worker.pid, worker.host, count(*) as runs, extract(epoch from clock_timestamp() - worker.seen_at)::double precision as silent
from durable_workflows.workers as worker join dbos.workflow_status as run on run.executor_id = worker.executor_id and run.status = 'PENDING'
where worker.seen_at < clock_timestamp() - make_interval(secs => %(seconds)s)
group by worker.executor_id order by worker.seen_at

-- name: abandoned_versions
-- Versions with runs that have had something to do for so many seconds, while no worker of that version lives. `saved`: whether its files are there.
select run.application_version as version, count(*) as runs,
    exists (select from durable_workflows.versions where versions.version = run.application_version) as saved
from dbos.workflow_status as run
where run.status in ('PENDING', 'ENQUEUED') and run.executor_id is distinct from 'parked' and run.application_version is not null
    and run.updated_at < extract(epoch from clock_timestamp() - make_interval(secs => %(seconds)s)) * 1000
    and not exists (
        select from durable_workflows.workers as worker
        where worker.version = run.application_version and worker.seen_at > clock_timestamp() - make_interval(secs => %(seconds)s)
    )
group by run.application_version order by min(run.created_at)

-- name: closed
-- Where the project's runs went, if they went (`closing.py`), and a number of that.
select obj_description(to_regprocedure('durable_workflows.moved_away()'), 'pg_proc') as moved_to,
    to_regprocedure('durable_workflows.moved_away()')::oid::bigint as number

-- name: schemas
select nspname as name from pg_namespace

-- name: is_orphan
-- Whether the code of an unfinished run will not come: its version is loaded, and has no such workflow.
select exists (
    select from dbos.workflow_status as run join durable_workflows.versions on versions.version = run.application_version and state = 'ready'
    where run.workflow_uuid = %(workflow_id)s and run.name not like '<temp>.%%' and run.name not like '\_dbos\_%%'
        and not exists (select from durable_workflows.catalog where catalog.version = run.application_version and catalog.name = run.name)
) as found

-- name: orphans
-- Unfinished runs of workflows that their version does not have: a schedule may go on after its workflow was removed.
with unfinished as materialized (
    select name, application_version as version, count(*) as runs from dbos.workflow_status
    where status in ('PENDING', 'ENQUEUED') group by name, application_version
)
select name, version, runs from unfinished
where name not like '<temp>.%%' and name not like '\_dbos\_%%'
    and exists (select from durable_workflows.versions where versions.version = unfinished.version and state = 'ready')
    and not exists (select from durable_workflows.catalog where catalog.version = unfinished.version and catalog.name = unfinished.name)
order by name

-- name: prunable_roots
-- Ended runs that no other run started, or whose parent is gone, the oldest first: those without a change since then. Of each workflow in `spared` the newer ones are left out.
select run.workflow_uuid as workflow_id, run.created_at from dbos.workflow_status as run
where (run.created_at, run.workflow_uuid) > (%(after)s, %(after_id)s) and run.created_at < extract(epoch from %(older_than)s::timestamptz) * 1000
    and run.updated_at < extract(epoch from %(older_than)s::timestamptz) * 1000
    and run.status not in ('PENDING', 'ENQUEUED', 'DELAYED') and (%(status)s::text is null or run.status = %(status)s)
    and (%(name)s::text is null or run.name = %(name)s)
    and (run.application_name = %(application)s or run.application_name is null)
    and not exists (select from dbos.workflow_status as parent where parent.workflow_uuid = run.parent_workflow_id)
    and not exists (
        select from jsonb_to_recordset(%(spared)s::jsonb) as spared (name text, created_at bigint)
        where spared.name = run.name and spared.created_at <= run.created_at
    )
order by run.created_at, run.workflow_uuid limit %(limit)s

-- name: newest_roots
-- For each workflow when the last of its newest runs began that no other run started.
select name, min(created_at) as created_at from (
    select name, created_at, row_number() over (partition by name order by created_at desc, workflow_uuid desc) as place
    from dbos.workflow_status where parent_workflow_id is null and (application_name = %(application)s or application_name is null)
) as run
where place <= %(number)s and name is not null group by name

-- name: delete_trees
select root as workflow_id, verdict, about, runs from durable_workflows.delete_trees(%(roots)s, %(older_than)s, %(most)s, %(really)s)

-- name: prune_versions
select durable_workflows.prune_versions() as versions

-- name: use_version
update durable_workflows.versions set used_at = clock_timestamp() where version = %(version)s

-- name: prune_sessions
with gone as (delete from durable_workflows.sessions where seen_at < %(older_than)s returning session_id) select count(*) as sessions from gone

-- name: prune_answers
-- What people answered is kept at least as long as its run.
with gone as (
    delete from durable_workflows.answers as answer where answered_at < %(older_than)s
        and not exists (select from dbos.workflow_status as run where run.workflow_uuid = answer.workflow_id)
    returning answer.workflow_id
)
select count(*) as answers from gone

-- name: stored
-- About how many runs there are, and the bytes that all of them take: at the last `analyze`, as to look at the files takes longer than all else in a status.
with stored as materialized (
    select oid, reltoastrelid, reltuples from pg_class where oid in (
        'dbos.workflow_status'::regclass, 'dbos.workflow_input'::regclass, 'dbos.workflow_output'::regclass,
        'dbos.operation_outputs'::regclass, 'durable_workflows.logs'::regclass
    )
), heap as materialized (select oid from stored union all select reltoastrelid from stored)
select greatest(run.reltuples, 0)::bigint as runs, case
    when run.reltuples < 0 then (select sum(pg_total_relation_size(oid)) from stored)
    else (
        select sum(relpages) * current_setting('block_size')::bigint from pg_class
        where oid in (select oid from heap) or oid in (select indexrelid from pg_index where indrelid in (select oid from heap))
    )
end::bigint as bytes
from stored as run where oid = 'dbos.workflow_status'::regclass

-- name: count_older
-- How many runs ended before then (in milliseconds since 1970), at most `limit`.
select count(*) as runs from (
    select from dbos.workflow_status where completed_at < %(older_than)s::bigint limit %(limit)s
) as older

-- name: estimate_older
-- What the planner expects of a count: that of 100,000 runs takes longer than all else in a status.
explain (format json) select from dbos.workflow_status where completed_at < %(older_than)s::bigint

-- name: deleted_rows
-- How many rows were ever deleted of the tables of runs: space may be given back where there are more than last time.
select coalesce(sum(n_tup_del), 0)::bigint as rows from pg_stat_all_tables where relname in ('workflow_status', 'operation_outputs', 'logs')

-- name: wasteful_tables
-- Tables whose files are mostly empty, as far as the last `analyze` knows, and about how many bytes their rows take.
with measured as (
    select namespace.nspname as schema, class.relname as name,
        pg_relation_size(class.oid) + coalesce(pg_relation_size(toast.oid), 0) as bytes,
        (greatest(class.reltuples, 0) * (28 + coalesce((
            select sum(avg_width * (1 - null_frac)) from pg_stats where pg_stats.schemaname = namespace.nspname and pg_stats.tablename = class.relname
        ), 0)) + greatest(coalesce(toast.reltuples, 0), 0) * 2048)::bigint as live
    from pg_class as class join pg_namespace as namespace on namespace.oid = class.relnamespace left join pg_class as toast on toast.oid = class.reltoastrelid
    where class.relkind = 'r' and namespace.nspname in ('durable_workflows', %(other)s)
)
select schema, name, live from measured where bytes > %(least)s and live < bytes / 2 order by live

-- name: runs_to_rehearse
select run.workflow_uuid, run.name, run.status, run.class_name, run.config_name, run.serialization, run.authenticated_user, run.authenticated_roles,
    run.queue_name, run.queue_partition_key, run.attributes, run.parent_workflow_id, given.inputs
from dbos.workflow_status as run left join dbos.workflow_input as given using (workflow_uuid)
where run.workflow_uuid = any(%(workflow_ids)s)

-- name: steps_to_rehearse
select function_id as step, function_name as name, output, error, serialization, child_workflow_id
from dbos.operation_outputs where workflow_uuid = %(workflow_id)s

-- name: waits_to_rehearse
select 'message' as kind, topic as key, function_id as step from durable_workflows.waits where workflow_id = %(workflow_id)s
union all
select kind, key, null from durable_workflows.parked_on where workflow_id = %(workflow_id)s

-- name: last_runs_of
select run.workflow_uuid as workflow_id
from unnest(%(names)s::text[]) as wanted (name) cross join lateral (
    select workflow_uuid, created_at from dbos.workflow_status where workflow_status.name = wanted.name order by created_at desc limit %(count)s
) as run
order by wanted.name, run.created_at desc

-- name: dbos_migration
select max(version)::int as version from dbos.dbos_migrations

-- name: lock_runs
-- Whoever records a step of one of these runs, sends it a message or changes it, waits until the end of the transaction.
select workflow_uuid as workflow_id, status from dbos.workflow_status where workflow_uuid = any(%(workflow_ids)s) order by workflow_uuid for update

-- name: code_of_runs
select distinct run.application_version as version, file.digest
from dbos.workflow_status as run
    join durable_workflows.versions on versions.version = run.application_version
    left join durable_workflows.version_files as file on file.version = run.application_version
where run.workflow_uuid = any(%(workflow_ids)s)

-- name: code_of_versions
select version, path, digest from durable_workflows.version_files where version = any(%(versions)s)

-- name: awaited_elsewhere
-- What parked runs wait for outside of their tree.
select parked_on.workflow_id, parked_on.target from durable_workflows.parked_on
where parked_on.workflow_id = any(%(workflow_ids)s) and parked_on.target <> all(%(workflow_ids)s) limit 1

-- name: cancel_exported
select durable_workflows.cancel_runs(%(workflow_ids)s::text[], (extract(epoch from clock_timestamp()) * 1000)::bigint, null)

-- name: import_versions
-- Older than all that are here: new runs begin on the code of this project.
insert into durable_workflows.versions (version, saved_at)
select entry.version, (select coalesce(min(saved_at), clock_timestamp()) - interval '1 second' from durable_workflows.versions)
from unnest(%(versions)s::text[]) as entry (version) on conflict do nothing returning version

-- name: settle_imported
-- What processes of the other project had under way is queued, as dbos does after the end of a process; what was parked stays parked.
with left_waits as (
    delete from durable_workflows.waits where workflow_id = any(%(workflow_ids)s) and executor_id <> 'parked'
), left_workers as (
    update durable_workflows.suspects set executor_id = null where workflow_id = any(%(workflow_ids)s)
), moved as (
    select run.workflow_uuid as id, run.status = 'PENDING' as is_pending, run.executor_id = 'parked' and parked.workflow_id is not null as is_parked
    from dbos.workflow_status as run left join durable_workflows.parked on parked.workflow_id = run.workflow_uuid
    where run.workflow_uuid = any(%(workflow_ids)s)
)
update dbos.workflow_status as run set
    status = case when is_pending and is_parked is not true then 'ENQUEUED' else run.status end,
    queue_name = case when is_pending and is_parked is not true then coalesce(run.queue_name, '_dbos_internal_queue') else run.queue_name end,
    started_at_epoch_ms = case when is_pending and is_parked is not true then null else run.started_at_epoch_ms end,
    executor_id = case when is_pending and is_parked then 'parked' end,
    owner_xid = null, creator_xid = null, attributes = run.attributes - 'session', application_name = %(application)s
from moved where run.workflow_uuid = moved.id

-- name: amcheck
-- The schema of the extension amcheck, if it is in this database and this user may call it.
select place.nspname as schema from pg_extension as extension join pg_namespace as place on place.oid = extension.extnamespace
where extension.extname = 'amcheck' and not exists (
    select from pg_proc as function where function.pronamespace = place.oid
    and function.proname in ('bt_index_check', 'verify_heapam') and not has_function_privilege(function.oid, 'execute')
)

-- name: tables_to_read
select found.oid as id, place.nspname as schema, found.relname as name
from pg_class as found join pg_namespace as place on place.oid = found.relnamespace
where place.nspname = any(%(schemas)s) and found.relkind = 'r' order by place.nspname, found.relname

-- name: indexes_to_read
-- The ordered indexes of a table, with what a statement must ask for so that it is read by this index.
select found.oid as id, place.nspname || '.' || found.relname as name, found.relname as own_name, place.nspname as schema, owner.relname as table,
    detail.indisvalid as valid, pg_get_expr(detail.indpred, detail.indrelid) as predicate,
    array(
        select pg_get_indexdef(found.oid, number, true)
            || case when detail.indoption[number - 1] & 1 = 1 then ' desc' else ' asc' end
            || case when detail.indoption[number - 1] & 2 = 2 then ' nulls first' else ' nulls last' end
        from generate_series(1, detail.indnkeyatts) as number order by number
    ) as columns
from pg_index as detail
join pg_class as found on found.oid = detail.indexrelid
join pg_am as method on method.oid = found.relam and method.amname = 'btree'
join pg_class as owner on owner.oid = detail.indrelid
join pg_namespace as place on place.oid = found.relnamespace
where detail.indrelid = %(table_id)s order by found.relname

-- name: recorded_runs
select run.workflow_uuid as workflow_id, run.status, coalesce(step.steps, 0) as steps
from dbos.workflow_status as run
    left join (select workflow_uuid, count(*) as steps from dbos.operation_outputs group by workflow_uuid) as step using (workflow_uuid)
order by run.created_at desc
