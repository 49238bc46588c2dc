-- The clients that are, or were, connected to MCP servers of this project. A run's attribute `session` says which of them started it.
create table durable_workflows.sessions (
    session_id text primary key,
    client text not null,
    version text not null,
    transport text not null,          -- stdio or http
    pid integer not null,             -- of the server
    host text not null,
    since timestamptz not null default clock_timestamp(),
    seen_at timestamptz not null default clock_timestamp()
);
