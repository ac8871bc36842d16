//! The real programs, end to end. One binary for all, because linking is dear.
//!
//! - `support`: a daemon with its journal in a scratch folder, and a scripted upstream.
//! - `authority`, `client`: certificates, and a client for what the kit's does not speak.
//! - `calls`: what goes through, byte for byte, and what its receipt says.
//! - `admin`: what operators are told of the latest calls, and that nobody keeps their listener busy.
//! - `adapters`: each dialect captured and blocked, from recorded wire bytes.
//! - `determinism`: cutting the same bytes anywhere changes nothing; a run has one bundle.
//! - `diffing`: what differs between two runs, journals and schemas.
//! - `archive`: sealed files in a locked bucket, and chains of custody.
//! - `custody`: what commands add to a chain of custody when they are asked to.
//! - `cited`: what statements and kits cite beside bundles: custody, copies, releases.
//! - `kit_deep`: results of regress in kits, judged again by the policy that came with them.
//! - `incident`: a run and what happened around it in one file, and what is wrong with forged ones.
//! - `verify_bundle`, `negative_vectors`: the sidecar's answer to every published vector, and to forgeries of our own.
//! - `broken`: upstreams and clients that misbehave.
//! - `bypass`: traffic that goes round the gateway, and how it is found.
//! - `lineage`: rows of a database that name the call that wrote them, and those that belong to no call.
//! - `many_streams`: memory of open streams.
//! - `generations`: the contracts of versions, their digests, and templates.
//! - `framing`: messages that can be read in two ways, headers of one connection.
//! - `leaving`: clients that leave before their answer is whole.
//! - `tls`, `http2`: both sides of both.
//! - `judging`, `judging_gemini`: structured values of answers, held against what requests asked for.
//! - `reduce`: runs cut down to the calls that matter.
//! - `replay_compare`: two runs of one scenario, and in which call they part first.
//! - `replay_database`: recorded SQL, run again in a scratch schema of a real Postgres.
//! - `replay_live`: recorded calls of tools, made again for real.
//! - `replay_tolerance`: what a policy declares of operations that run again, and certificates that contradict themselves.
//! - `regress`: recorded calls as fixtures, and judged again.
//! - `sealing`: runs that are sealed again, and what is told of their bundles.
//! - `segments`: the oldest segments, deleted once a bucket keeps them, and journals that begin after them.
//! - `releases`: from a sealed generation to its release and back, and that nothing is half done.
//! - `reask`: models that are asked again where their answer is refused.
//! - `streams`: the hard cases of streams, one test for each.
//! - `mcp_federation`: several MCP servers behind one route.
//! - `mcp_pins`: what was said first of MCP tools, over restarts, and what operators do about it.
//! - `mcp_rules`: tools that are not listed, batches, and headers of MCP that say again what the message says.
//! - `mcp_sessions`: answers of MCP servers that come in another stream than the one of their request.
//! - `mcp_sse`: the transport of 2024-11-05, where what is posted is answered in another stream.
//! - `mcp_values`: arguments and results of MCP tools, held against what their server said of them first.
//! - `proven_bodies`: bodies that somebody kept, held against the bundle.
//! - `provenance`: what a tool gave earlier, recognized in what a later call brings.
//! - `retention`: what is deleted by rules, and what is kept.
//! - `rules`: rules of the policy that look into calls and bodies.
//! - `tenants`: the tenant that a call names, held against the one that its caller proved.
//! - `shadow`: policies that are asked about every call and change nothing.
//! - `policies`: what the sidecar says of policies, and what a candidate would have decided.
//! - `detecting`: secrets and the like, in every place where a call can carry them.
//! - `contracts`: bodies held against contracts of the policy.
//! - `controls`: rates, velocities and caps, over restarts, crashes and several gateways.
//! - `credentials`: what an upstream gets in the place of its client's credential.
//! - `identity`: who calls, by API keys, scopes, tenants and certificates, and what is revoked.
//! - `large`: bodies of any size in constant memory.
//! - `encryption`: files that are encrypted at rest.
//! - `events`: streams as clients got them, held against the bundle.
//! - `feeds`: what collectors get of the journal, and that calls do not wait for it.
//! - `notify`: who is told of held calls and the like, by webhook and in a chat.
//! - `told_releases`: who is told of releases, by webhook, in a chat and in a bucket, and that no promotion waits for them.
//! - `offline`: `estoppel judge` and `estoppel contract`, and that they say what the daemon does.
//! - `unread`: bodies that cannot be read, under a policy that blocks them.
//! - `starting`: bad configuration, keys, ports, folders; reload; shutdown.
//! - `command_line`: the sidecar's own words.
//! - `cli_reference`: docs/cli.md and its examples; `bill`: the bill of materials.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod adapters;
mod admin;
mod archive;
mod attest;
mod authority;
mod bill;
mod bodies;
mod broken;
mod bypass;
mod calls;
mod cited;
mod cli_reference;
mod client;
mod command_line;
mod contracts;
mod controls;
mod credentials;
mod custody;
mod dashboard;
mod detecting;
mod determinism;
mod diffing;
mod doctor;
mod encrypted_bodies;
mod encryption;
mod events;
mod feeds;
mod framing;
mod generations;
mod holds;
mod holds_mcp;
mod http2;
mod idempotency;
mod identity;
mod incident;
mod judging;
mod judging_gemini;
mod kit;
mod kit_deep;
mod kit_forged;
mod large;
mod leaving;
mod lineage;
mod many_streams;
mod mcp_federation;
mod mcp_pins;
mod mcp_rules;
mod mcp_sessions;
mod mcp_sse;
mod mcp_values;
mod negative_vectors;
mod notify;
mod offline;
mod operations;
mod other_calls;
mod packs;
mod policies;
mod proven_bodies;
mod provenance;
mod published;
mod read_once;
mod reask;
mod reduce;
mod regress;
mod releases;
mod replay;
mod replay_compare;
mod replay_database;
mod replay_live;
mod replay_live_plain;
mod replay_tolerance;
mod retention;
mod rules;
mod sealing;
mod segments;
mod shadow;
mod snapshots;
mod starting;
mod streams;
mod support;
mod tenants;
mod tls;
mod told_releases;
mod unread;
mod verify_bundle;
