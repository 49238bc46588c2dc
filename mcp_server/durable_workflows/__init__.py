"""Durable workflows for AI agents: an MCP server on DBOS and an embedded Postgres."""
