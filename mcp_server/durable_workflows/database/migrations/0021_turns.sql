-- What one worker does for all, and when one last took its turn. A row, and no lock: a lock would hold a connection of each worker's few.
create table durable_workflows.turns (
    name text primary key,
    taken_at timestamptz not null
);
insert into durable_workflows.turns values ('background jobs', now());
