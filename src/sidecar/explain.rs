//! One paragraph for every command.

/// Command words and what the command does.
pub const PARAGRAPHS: &[(&[&str], &str)] = &[
    (
        &["quickstart"],
        "Starts a scripted model and the gateway on free loopback ports in a folder of its own, sends a plain, a \
         streamed and a blocked call and three in which the model gets the arguments of a tool wrong, seals the run and verifies the bundle. Nothing leaves this machine and nothing \
         outside the folder is written.",
    ),
    (
        &["verify"],
        "Reads evidence and recomputes everything that can be recomputed: bytes, canonical form, chain, trees, signatures, \
         counters, files. It never writes and never trusts a stored conclusion. The answer has four verdicts: integrity, \
         authenticity, completeness, anchoring. Exit code 2 names the first step that failed and the sequence number. With \
         --stream, --events and a disclosed key it also says whether these bytes are what a client was streamed: the whole \
         stream, or with --place the units at a place of it; with --body, --part and --content whether they are that body of a call. \
         With --custody-key and --custody-by the verdicts are added to the chain of custody beside the bundle; `CUSTODY_UNRECORDED`: it was verified, and that could not be added.",
    ),
    (
        &["show"],
        "Shows the manifest and the calls of a bundle, or one call. It does not judge: run verify first. With --export it \
         writes one receipt as a signed envelope that stands alone. Calls of an evolution name it; with --repo the ledger of releases says whose it \
         is, and a run whose calls name none is unscoped.",
    ),
    (
        &["diff"],
        "Verifies both, then compares them entry by entry: calls by what they are and their place among their like, objects of a \
         schema by their names, stored JSON bodies value by value. What differs between any two runs, such as ids and times, is passed over, \
         by a list whose digest is in the answer. The answer is one document with a digest that is the same everywhere. Bodies that \
         were not stored have tags under a key of their run, so of two runs nobody can say whether they are equal; how many those are is said. Exit code 5: \
         something differs; 2: one of them does not verify, and nothing was compared.",
    ),
    (
        &["incident", "verify"],
        "Verifies every bundle in the file as `estoppel verify` does, then makes index, timeline, page, diffs and results of regress again from the bundles and \
         compares them byte by byte. Exit code 2 when a bundle does not verify, a reference leads nowhere, or a file is missing, altered or not \
         of it. The file as a whole is not signed: nobody can say whether a bundle of the window was left out.",
    ),
    (
        &["incident"],
        "Takes the sealed bundle of a run, and with --journal those of the runs that were open within the window around it, verifies them, \
         and writes them into one file with an index and a timeline, as JSON and as a page: calls, holds and approvals, blocks and \
         findings, policies, bypasses, what operators did, and of calls that saw a database change what differs between its snapshots. With --policy the calls of the run are judged \
         again by the policy of today, and the results are in the file. Everything that an entry refers to is looked up, and the place is noted. The same bundles give the same \
         bytes. Runs of the window that the log of the journal knows and no bundle is there of are listed with why: deleted by retention, missing, not sealed. Exit code 2: a bundle does not \
         verify; 6: no sealed bundle is of that run, `INCIDENT_ABSENT` where the log knows it.",
    ),
    (
        &["attest", "verify"],
        "Verifies the bundles and the signature, then makes the statement again from the bundles, with its own id, time and program, and \
         compares every byte. Of a folder it also compares the copies for people and programs. Exit code 2 names the first place that differs, or \
         what does not verify; of a list of custody, an index and a ledger as much is looked at as the statement is about. Exit code 6 with `ATTESTATION_MISSING` names what it cites \
         and was not given. --signer says whose key it has to be; without it the statement's own word counts.",
    ),
    (
        &["attest"],
        "Verifies the bundles now, looks up which of their entries answer each control of a framework, and writes that as a \
         signed in-toto statement with copies for people and programs into a new folder. A chain of custody, the index of an archive and the ledger of releases are verified and cited where they are given. In PCI DSS and HIPAA a control passes or fails by named checks \
         over the evidence, and by nothing else; in mappings nothing passes. Exit code 2: a bundle, or what is cited beside it, does not verify, and nothing was written; 3, with \
         --strict: a control fails.",
    ),
    (
        &["compliance", "list"],
        "Lists the frameworks that come with this program: edition, how many controls, and whether controls can pass or fail.",
    ),
    (
        &["compliance", "report"],
        "Verifies the bundles and says of each control of each framework what evidence there is, by kind and number, also of custody, archive and releases where they are given. On an empty store every \
         row says no evidence. Nothing is signed or written: that is `estoppel attest`.",
    ),
    (
        &["report"],
        "Verifies a bundle and tells it in a few numbers, all recounted: its Merkle root, calls, blocks, repairs, and with --certificate what a \
         replay came to, if the certificate holds and is about this bundle. --svg writes a badge that shows them and carries the root. The same bundle gives the \
         same bytes. Exit code 2: the bundle or the certificate does not verify, and nothing was written.",
    ),
    (
        &["kit", "build"],
        "Verifies bundles, attestations, and what else is given (custody, archive, releases, replays, results of regress), and puts them with the frameworks, the trust document, verifiers in Python and JavaScript and a \
         guide into one new file. Every file in it is declared by digest in a signed statement with a summary that anybody can count again. The same contents and \
         key give the same bytes. --policy puts the policy of a result of regress in, with its contracts of packs (--packs), and the calls are judged again; exit \
         code 6 with `KIT_POLICY`: none of the results is by this policy; with `ATTESTATION_MISSING`: an attestation cites what was not given. With --custody-key, --custody-by and --custody-to \
         the chain of custody of each bundle says to whom the kit was given; where that could not be added nothing is written, or `CUSTODY_UNRECORDED` says what was.",
    ),
    (
        &["kit", "verify"],
        "Reads a kit and makes it again from its contents: declared files, bundles, attestations with their copies, summary. Exit code 2 names the \
         file that is missing, altered or not declared, or what does not verify; `KIT_RESULT`: a result of regress is about other calls or counts otherwise. --deep also judges the calls of these results again, each by the policy \
         that the kit has for it: `KIT_JUDGED_OTHERWISE` names the call that comes out otherwise, and exit code 6 with `KIT_NOT_JUDGED` a result without a policy. --trust is the trust document that the kit's has to be, --signer the \
         key that has to have signed it. `python3 verify.py`, inside the kit, does nearly as much without this program.",
    ),
    (
        &["snapshot", "diff"],
        "Reads the two snapshots that a call's receipt names out of its bundle, or two documents, and says what differs: which objects of the \
         schema came, went or changed, and of tables whose rows were asked for how many rows came and how many went; an update is one of \
         each, and nothing is said of what is in them. Whose doing that was it does not say. Exit code 5: \
         something differs, or of a table nobody can say; 6: the call has not both snapshots. It does not judge the bundle: run verify first.",
    ),
    (
        &["snapshot", "take"],
        "Looks at a database once, changes nothing in it, and prints the digest of what it saw and where the log was; --out keeps the document, \
         which snapshot diff compares with another one. Digests of rows are taken only of the tables that are named, all at one moment, and take \
         the right to read them; who gets the document and guesses a row can see whether it was there. A table that \
         goes over a limit, or may not be read whole, is named with the cause. Exit code 1: there is no snapshot; 5: rows of a table are missing.",
    ),
    (
        &["new"],
        "Makes a folder with the generation of a first version, a policy and something small to release, from a template: minimal, \
         go-release, python-lib, node-lib, rust-release or hotfix, by its name or as catalog:python.lib. All of it is written, or nothing; a \
         folder that has something in it is left alone. No git repository is made.",
    ),
    (
        &["generation", "new"],
        "Begins the generation of a version, the file .estoppel/generations/vVERSION.yaml: from a template, or with the steps, gates, \
         policies, hooks and stages of an earlier version (--like). What is not said is asked on a terminal; elsewhere the file has one \
         change that says to be written. A file that is there is left alone.",
    ),
    (
        &["generation", "list"],
        "Lists the generations of the repository, the earliest version first, with what the ledger of this clone says of each: draft, \
         sealed, promoted, abandoned or rolled_back.",
    ),
    (
        &["generation", "show"],
        "Shows a generation with its contract digest and a digest for each change, and whether the file is still the contract that is \
         sealed. What is sealed is shown also where its file is gone.",
    ),
    (
        &["generation", "lint"],
        "Reads generations, whole, and reports everything that is wrong with each: the code, the JSON pointer, the line and what is \
         allowed there. Exit code 6 when there is anything.",
    ),
    (
        &["generation", "seal"],
        "Puts the contract of a draft into the ledger, signed by a key with the role author. From then on it counts, whatever becomes of \
         the file. A hotfix is sealed only where its base is promoted. --contract names the contract that was looked at; where the file has another \
         one, nothing is sealed (STATE_INVALID).",
    ),
    (
        &["generation", "amend"],
        "Puts the file in the place of the contract that is sealed, with a reason. Proofs of the changes that it alters lapse, and no \
         others; approvals lapse all, and come back with no text. Exit code 3: the version is not sealed, or nothing differs.",
    ),
    (&["generation", "abandon"], "Says in the ledger that a sealed version will not be promoted, and why."),
    (
        &["ledger", "init"],
        "Begins the history of releases of a repository: signed events on the ref refs/estoppel/ledger. The first event gives its key \
         every role; its digest is what other clones trust. Where this clone or the remote has a ledger already, nothing is begun.",
    ),
    (
        &["ledger", "join"],
        "Takes over the ledger of the remote, if it begins with the event whose digest is named, and from then on trusts no other. Every \
         event is verified first: its digest, its signature, the role of its key at that point, and that nothing it follows is gone.",
    ),
    (
        &["ledger", "verify"],
        "Verifies every event of the ledger, and that the ref has lost nothing since it was last looked at. Exit code 2 names what is \
         wrong. Without a digest that was named by `ledger join`, nobody has vouched for its beginning, and the answer says so.",
    ),
    (
        &["ledger", "show"],
        "Verifies the ledger and lists its events: when, what, which version, whose key, and what came of it.",
    ),
    (
        &["evolution", "start"],
        "Runs the steps of a sealed generation on a clean working tree of one commit, several at a time, with the environment variables \
         that each asks for and no other. The result is signed and recorded, red or green. Only where every step passed, the commit gets \
         the signed tag of a candidate, whose number nobody else has. ESTOPPEL_NONCE is what the tested service sends as \
         Estoppel-Evolution-Id, so that receipts name the run; what steps put into ESTOPPEL_EVIDENCE is bound to it. Exit code 3: a step \
         failed, or a fixture that a change names is not in the commit.",
    ),
    (
        &["evolution", "list"],
        "Lists the evolutions of a version with what came of each, and which changes are proven.",
    ),
    (
        &["evolution", "show"],
        "Shows an evolution: its commit, its steps with their logs' digests, what it proved, and its candidate.",
    ),
    (
        &["evolution", "logs"],
        "Prints what a step wrote, from the clone that ran it, if it is still what was signed. Exit code 2: it was altered.",
    ),
    (
        &["promote"],
        "Evaluates every gate of a generation anew: proofs in the ledger, the tag of the candidate, bundles and certificates from their \
         bytes, recorded calls judged again, approvals, programs. What passes gets a signed verification summary, the final tag and an \
         event, all together or none; what does not is recorded with every gate. `promote VERSION --explain` only tells the gates. Exit \
         code 3: a gate refuses; 4: only approvals are missing; 8: it was promoted before. --stage brings the candidate to a stage of its \
         contract: a tag vVERSION-alpha.N or -beta.N, of rc that of the candidate. Each stage needs the one before it on the same commit; a stage \
         that the contract does not have is STAGE_UNKNOWN.",
    ),
    (
        &["approve"],
        "Signs that exactly this may be promoted: the contract, the commit of the candidate and the hash of its policy, until a time. \
         Anything that changes voids it. Approvals of the author of the contract do not count. --contract names the contract that was looked \
         at; where another one is in force, nothing is signed (STATE_INVALID).",
    ),
    (
        &["waive"],
        "Signs that a gate need not pass for this contract on this commit, why, and until when. Proofs, evidence, approvals and the \
         candidate cannot be waived; the waiver is shown with the gate. --contract names the contract that was looked at; where another one is in \
         force, nothing is signed (STATE_INVALID).",
    ),
    (
        &["rollback"],
        "Takes a promoted version back: a commit on the branch rollback/VERSION whose tree is that of the version before, a signed tag \
         rollback/vVERSION and an event, all together or none. No tag is moved or removed; what comes next is another version. Environments that have it have \
         the version before from then on, by the same event.",
    ),
    (
        &["environment", "list"],
        "Lists environments as the ledger has them: the release or stage that each has, its commit, since when and by whom; of those that are bound \
         and have nothing yet, what they take. What was taken back meanwhile is marked.",
    ),
    (
        &["environment", "set"],
        "Signs that an environment has a promoted version, or what came to a stage, from now on; deploys nothing. ENVIRONMENT_INVALID: it is no \
         name. STATE_INVALID: it was not promoted far enough, was taken back, or is there already. Of two clones that move one pointer \
         at once the later one gets LEDGER_CONFLICT.",
    ),
    (
        &["environment", "bind"],
        "Signs, as an owner, the lowest stage that an environment takes. One that is not bound takes releases alone.",
    ),
    (
        &["ledger", "restore"],
        "Judges an export of the ledger as JSON and brings its events back, beside those that are here: nothing that is here is lost, and \
         what cannot be true beside it is refused with exit code 3. The export has to begin with the event that the repository trusts, or \
         that --genesis names where it trusts none (exit code 2). Tags are not in an export; they come from the remote.",
    ),
    (
        &["audit", "verify"],
        "Judges what `estoppel audit export` wrote. A document has the signed events in it and is judged by them alone; a table and a \
         page are held against the ledger of the repository, as it was when they were made. In both cases the export is made again and every \
         byte compared. Exit code 2: it is altered, or its events are no ledger; 7: there is no ledger to hold it against.",
    ),
    (
        &["audit", "export"],
        "Verifies the ledger and writes it as a document (JSON), a table (CSV) or a page (HTML): of each event when, what, whose key, \
         which machine, version and commit, its digest and those of the events before it. The same ledger gives the same bytes. --from \
         and --to choose rows; heads and counts stay those of the whole ledger.",
    ),
    (
        &["status"],
        "Says of every generation what the ledger says of it: its status, how many changes are proven by the latest evolution of each, \
         the candidate, what came of the last evolution and attempt to promote, and what to do next: what the gates want that refused, as long as nothing \
         has changed since. An evolution of this clone whose program is gone is cut off. --watch says it again when it has changed. \
         --textfile writes figures for Prometheus.",
    ),
    (
        &["dashboard"],
        "Shows generations and what is proven of each, what happened to them, evolutions as they run in this clone, and with --admin the \
         verdicts of gateways, the calls that wait there for people and the latest that were not plainly allowed, on one screen that keeps \
         itself up to date. Keys seal, start, waive, promote, approve and deny: each says which command of this program it will run, asks, and shows what came of it. Without a terminal, with \
         NO_COLOR or TERM=dumb it prints the same as lines, once; so does --plain. Exit code 6 or 7: something that is \
         asked for could not be read, and is told in its place.",
    ),
    (
        &["sync", "status"],
        "Asks the remote and says what this clone and it lack of each other, by versions, which tags are to be sent, and whether both can \
         be true; it changes nothing. Where the remote cannot be asked, it says how many events the remote is not known to have. Exit \
         code 3: a conflict.",
    ),
    (
        &["sync", "pull"],
        "Takes over what the ledger of the remote has, after every event of it was verified. What cannot be true beside what is here is \
         refused with exit code 3, and nothing is overwritten.",
    ),
    (
        &["sync", "push"],
        "Tells the remote the events and tags that it lacks, in one transaction. estoppel.sync of git's configuration says what else \
         tells it: cloud (every event), hybrid (promotions and rollbacks) or local (nothing). What the remote lacks is what is sent, so \
         that a restart loses nothing and nothing is sent twice; after a failure it is asked again with longer and longer waits, up to \
         five minutes.",
    ),
    (
        &["notify", "status"],
        "Says of each destination that estoppel.notify of git's configuration names how many events of the ledger it was not told yet, how \
         often it failed and why, when it is tried again, how many it did not want and why the last one, and whether it is told nothing because its \
         address or from was changed. It asks nobody and changes nothing. Exit code 5: a destination failed, did not want something or was \
         changed; 6: the settings cannot be used.",
    ),
    (
        &["notify", "send"],
        "Tells each destination what it was not told yet, in the order of the ledger: a webhook by signed requests, a channel in lines, a \
         bucket by the events themselves. The id of a message is made of its event, so that it is the same over retries, restarts and \
         clones. Commands that add to the ledger do the same once, after their answer. Exit code 1: something is left.",
    ),
    (
        &["notify", "test"],
        "Sends one message of type estoppel.test to a destination, or to each, signed as all are, and says which status answered and how \
         long it took. A bucket is asked whether it keeps what is put there, and gets nothing. What was told, and what is tried again and \
         when, stays as it is. Exit code 1: one said no, or cannot be used; 7: one could not be reached; 6: DESTINATION_UNKNOWN, the \
         settings name no such destination.",
    ),
    (
        &["notify", "begin"],
        "Begins anew with a destination, where its settings say: with what comes next, or with the first event. With --go-on it goes on \
         where it stands. A destination is bound to the address and to the from that it began with; where the settings say something \
         else it is told nothing until one of both was asked for. Nothing is sent. Exit code 1: NOTIFY_STATE, another process tells it \
         now; 6: DESTINATION_UNKNOWN, the settings name no such destination.",
    ),
    (
        &["db", "query"],
        "Makes a database of the verified ledger in memory, answers one SELECT and throws it away. A statement that is no question is \
         refused with exit code 8. An answer has at most 10,000 rows and takes at most 30 seconds.",
    ),
    (
        &["db", "metric"],
        "Counts a figure from the ledger, of one version or of all, and says what it was counted from. What has no whole has no share. \
         Without a name it lists the figures.",
    ),
    (&["db", "tables"], "Lists the tables and columns that estoppel db query can ask for."),
    (
        &["db", "write"],
        "Writes the database to a new file for other programs. A trigger keeps its rows from being changed; it says what the ledger said \
         then, and proves nothing.",
    ),
    (
        &["roles", "list"],
        "Lists the keys that may seal generations (author), run evolutions (runner), approve and waive (approver), promote and roll back \
         (releaser), read and sign exports (auditor), and change the roles (owner).",
    ),
    (
        &["roles", "grant"],
        "Says in the ledger what a key may do from here on, in the place of what it could before. Keys are Ed25519; events that it signed \
         earlier are held against the roles at their place. Keys of one name are one person's; a name that is taken for another one that is there is \
         refused (exit code 6).",
    ),
    (
        &["roles", "revoke"],
        "Takes every role from a key from here on. What it signed before stays; proofs of a runner that is none any more no longer count. \
         One owner has to be left.",
    ),
    (
        &["roles", "signers"],
        "Prints the keys as an allowed-signers file, with which `git verify-tag` verifies the tags of candidates and releases. Git does \
         not compare names; `estoppel verify tag` does.",
    ),
    (
        &["seal"],
        "Ends a run: its last entry commits to everything before it, and the bundle is written. A daemon does it when one is \
         running; otherwise --journal names the folder. Calls that come later under the same name open a new run. Of a run that is sealed already the bundle is written again, with the same \
         bytes, where it is gone: could not be written, or was deleted by hand. One that retention has deleted is not (BUNDLE_DELETED). With \
         --custody-key and --custody-by the chain of custody of the bundle begins; `CUSTODY_UNRECORDED`: the run was sealed, and that could not be added.",
    ),
    (
        &["archive", "push"],
        "Copies bundles, what is beside them, their lists of custody, and the segments of a journal that are not written any more to a \
         bucket with object lock: under a key that is their digest, only where nothing is yet, with a retention that the service enforces. A copy counts \
         when it was read back whole and is kept as was asked; then an entry goes into `archive.ndjson` beside the bundles. A bucket without object lock is \
         refused before anything is sent (exit code 8). What was archived before is read again: `ARCHIVE_LOCAL_CHANGED` (exit code 2) names a file that is something else by now, and nothing of it is sent. What a kill interrupts is taken up where it was. Nothing local is removed, and no copy is ever asked to be. \
         --custody-key and --custody-by sign for each copy in the chain of custody of its bundle, in the place of whom the settings name.",
    ),
    (
        &["archive", "status"],
        "Reads `archive.ndjson` beside the bundles, judges its chain, and lists what is archived until when, and what is not yet. It asks \
         no server: `archive verify` does. Exit code 2: the index was altered or cut.",
    ),
    (
        &["archive", "verify"],
        "Judges the chain of the index, then takes every entry: the local file must have the digest, the version must be in the bucket, read whole it must have the \
         digest too, and its mode, its date and its legal hold must be no less than the entry says. Exit code 2 names what was changed, is \
         gone or is kept shorter. A local file that is not there any more is counted, no fault.",
    ),
    (
        &["custody", "add"],
        "Adds a signed entry to the list beside a bundle: that it was moved, disclosed to somebody, or verified; `verified` runs the verification and \
         records what came out, whatever it is, and ends with 2 where the bundle does not verify. Each entry names the hash of the one before. A list that \
         does not hold is not added to (exit code 2). Entry 0 says what the manifest says of the sealing. `seal`, `verify`, `keys disclose`, `kit build` and `archive push` add their own with --custody-key.",
    ),
    (
        &["custody", "show"],
        "Judges the list beside a bundle as `custody verify` does without keys, and prints its entries and the hash of the last one. Keep that \
         hash elsewhere: with it a list that lost entries at its end is found.",
    ),
    (
        &["custody", "verify"],
        "Judges the list beside a bundle: every signature, the chain, that it is of this bundle and says what its manifest says, that it \
         begins with what the index of the archive says was archived, and with --signer and --head that known keys signed it and a known entry is in it. \
         Exit code 2 names the first entry that was altered, cut out, reordered or forged. Where the bundle is not there and an entry says that it was deleted, the list is judged alone.",
    ),
    (
        &["reconcile"],
        "Verifies the evidence that is named, then looks for the receipt of every call in the provider's own log: by the \
         provider's id of the request, else by model, tokens and time, and says how sure each pair is. One receipt answers for one \
         call. Calls without one went round the gateway: exit code 5, and with --record a `bypass` entry of each in the daemon's \
         journal. Exit code 2: the evidence does not verify, so nothing was compared; 6: the log cannot be read whole.",
    ),
    (
        &["kill"],
        "Stops calls: all of them, those of a route, those with a tool, those of an identity or of a tenant. Every gateway of the same store \
         blocks them within a second, over restarts too, until somebody resumes them; answers on their way are left to end. Who \
         and why go into the journal, as they say it of themselves.",
    ),
    (&["resume"], "Lets calls go on that `kill` stopped. Nothing goes on by itself."),
    (
        &["switches"],
        "Lists what is stopped on every gateway of the store that the daemon uses: the target, since when, by whom and why.",
    ),
    (
        &["run", "list"],
        "Lists the runs that take calls now and those that were sealed lately, with their ids, names and sizes.",
    ),
    (
        &["replay", "run"],
        "Verifies a bundle, then judges each recorded call again by the policy that judged it: rules and contracts, from the stored bytes, offline. \
         What the client was given must come out again byte for byte, and every stored body must be the one that its tag is of (--keys or \
         --disclosure). Detectors, controls and people are not asked again. Writes a signed certificate: success, partial or failed, with the first \
         sequence number that differs. With --db it runs the recorded SQL that --sql names instead, in a scratch schema of that database, which is \
         made of the recorded snapshot: in one transaction that is rolled back, by a role that may do nothing else. Parameters are bound. Rows and their number are compared where --sql says where they stand; \
         what could not be compared is NOT_COMPARED. With --live it makes the recorded calls of the MCP tools that --allow-tool names, or of the operations of a plain API that --allow-operation names, again for real: \
         these where --target names the path, which evidence has a tag of only. Without a name, or without ESTOPPEL_REPLAY_LIVE=<id of the run>, that is exit code 8. What a policy declares to be E1 may differ within its tolerance, with a note (TOLERATED). Exit code 0 for success, 5 for anything less, 2 for a bundle that does not verify.",
    ),
    (
        &["replay", "serve"],
        "Listens on loopback in the place of the upstream and answers the client, which runs again, with the recorded bytes, streams in their units: \
         each request gets the answer of the call with the same method, target and body, the second such request that of the second. What \
         was not recorded, or was used up, gets status 599 and never an upstream: this program connects to none. When it ends it writes a signed \
         certificate of what matched, what was missed and what differed, with exit codes as `replay run`.",
    ),
    (
        &["replay", "compare"],
        "Verifies two bundles of runs in which the same was done, with another model, prompt or policy, and holds the k-th call of a kind against the k-th \
         of that kind. Says in which call they part first and of what class the cause is: MODEL, PROMPT, TOOL_ANSWER, POLICY, UPSTREAM_STATUS, TARGET, ORDER and others \
         (spec/diff.md section 9). Paths are compared where --target names them and --keys or --disclosure brings the capture keys of both runs. Bodies that were not stored cannot be compared between two runs: such calls are undecided, never equal. Exit code 0 when all calls are equal, \
         5 when one parts or is undecided, 2 for a bundle that does not verify.",
    ),
    (
        &["replay", "verify-certificate"],
        "Checks the signature of a certificate, that its status follows from what it counts and nothing in it contradicts that, that the bundle verifies, and that the certificate is about \
         this bundle. Exit code 0 says that the certificate holds, also when the replay failed: the status says that. With --signer the \
         key has to be that one; otherwise the certificate only vouches for itself.",
    ),
    (
        &["hold", "list"],
        "Lists the calls that a rule holds until people have let them pass, the newest first, with how many approvals they \
         have and need. With --all those that are over, too.",
    ),
    (
        &["hold", "show"],
        "Shows what a held call is: its method and path, content type, whether a credential comes with it, route, operation, tool and caller, the tag of its body, who may decide and until \
         when. The body itself is shown only where the policy stores it as it is.",
    ),
    (
        &["hold", "approve"],
        "Signs with your key, on this machine, that this one call may pass: its payload under its policy until the hold \
         expires. The daemon verifies that and writes it into the call's run before it counts. Exit code 4: you may not \
         decide, have decided, or it is too late.",
    ),
    (
        &["hold", "deny"],
        "Signs with your key that this call may not pass. One denial ends a hold, also one that has been approved and not \
         been used yet.",
    ),
    (&["run", "show"], "Shows one run: its id, name, class, counts, state and bundle."),
    (
        &["identity", "key", "new"],
        "Makes an API key of the gateway's own: 256 random bits for one subject, with a tenant, scopes and an end if you like. The \
         file that the daemon reads gets its SHA-256 and never the key, which is printed once. A running daemon takes it within \
         a second.",
    ),
    (
        &["identity", "key", "list"],
        "Lists the keys of a file: id, whether they are taken, until when, tenant and subject. The keys themselves are nowhere.",
    ),
    (
        &["identity", "key", "revoke"],
        "Marks a key in the file as revoked. A running daemon answers it 401 IDENTITY_REVOKED within a second, and writes into \
         the journal that it was taken back. The line stays, so that the id is never given out again.",
    ),
    (
        &["keys", "init"],
        "Makes four secrets in one folder, readable by you only: the keys that sign receipts, checkpoints and manifests, and \
         the key that capture tags come from. Existing files are never overwritten.",
    ),
    (
        &["keys", "rotate"],
        "Makes a new key of one use. A running daemon takes it up on SIGHUP and writes a rotation record into every open \
         run, signed by the old key and countersigned by the new one, so that bundles verify across the change. Then the \
         old private key is removed; its public key stays in the folder.",
    ),
    (
        &["keys", "list"],
        "Lists keys by use, algorithm and id: the current ones, and those that were replaced (`kept` until the journal has \
         recorded that, then `retired`). Or prints the trust document of all of them, which an auditor needs.",
    ),
    (
        &["keys", "disclose"],
        "Writes the capture key of one call or run into a file that only you can read. With it somebody who has the bytes can \
         prove them by the bundle (`estoppel verify --stream` or `--body`), and who has none can test guesses at what it opens: by default \
         the events of one call, the least that proves one. It signs nothing, and no key above it follows from it. With --custody-key, --custody-by and --custody-to the chain of custody beside the \
         bundle says to whom it was given; where that could not be added nothing is written, or `CUSTODY_UNRECORDED` says what was.",
    ),
    (
        &["encrypt"],
        "Encrypts a file piece by piece with AES-256-GCM, under a key of its own that a key file or a program wraps. The header, \
         the order of the pieces and the end are authenticated with them. The result gets its name when it is whole.",
    ),
    (
        &["decrypt"],
        "Decrypts what encrypt wrote. Exit code 2 when another key is needed, and when anything was changed, cut off or put in \
         another order; nothing is left of it then.",
    ),
    (
        &["keys", "wrapping"],
        "Makes 32 secret bytes that wrap the keys of encrypted files, in a file that only you can read. What they encrypt is lost \
         without them.",
    ),
    (
        &["retention", "plan"],
        "Verifies the journal, reads it through, and lists the stored bodies, bundles and oldest segments that the rules let go: by \
         digest, with the rule and the signed time from which each age counts. A segment is listed when the index of the archive has a copy \
         that is kept. Nothing is deleted. The plan is signed; the same journal, \
         rules and --as-of give the same list. Files that nobody understands, such as a bundle that was renamed, are counted, named and kept.",
    ),
    (
        &["retention", "apply"],
        "Deletes exactly what a plan lists, and writes a signed report with the same list. The plan is durable and in the chain \
         before the first file goes; after a crash the next apply goes on with it. What is open, under legal hold or named by no \
         receipt is never deleted, and no link is followed. Before segments go, a signed `beginning.json` says where the journal begins then. \
         The chain of custody of a bundle stays; --custody-key and --custody-by add the entry `deleted` to it. `RETENTION_DONE` (exit code 8): the plan was carried out already; lists that have no such entry \
         get it all the same.",
    ),
    (
        &["retention", "verify"],
        "Judges a signed plan and, where it is given, the report of it: both by a manifest key of the trust document, the lists \
         the same bytes. Exit code 2 when that does not hold.",
    ),
    (
        &["retention", "hold", "add"],
        "Records in the chain that a run is under legal hold. Until it is removed nothing of the run is deleted, whatever the \
         rules say.",
    ),
    (
        &["retention", "hold", "remove"],
        "Records in the chain that a run is no longer under legal hold. The rules decide again.",
    ),
    (
        &["retention", "hold", "list"],
        "Verifies the journal and lists the runs that are under legal hold, since when, by whom and why.",
    ),
    (
        &["policy", "lint"],
        "Reports every error and warning of a policy at once, each with line, column, key path and a stable code.",
    ),
    (
        &["policy", "hash"],
        "Prints the SHA-256 of the policy's canonical form: comments and key order do not change it, any value does. Every \
         receipt carries it.",
    ),
    (
        &["policy", "explain"],
        "Decides about a call that you describe, by the very code that judges traffic, and lists the rules that were tried \
         and the condition at which each failed.",
    ),
    (
        &["policy", "fmt"],
        "Prints a policy in the one layout: two spaces, keys as they are ordered, values on one line where they fit. Comments stay \
         above what follows them, or behind what they follow; the hash stays the same. With --check it only says whether the file \
         is laid out so, exit code 5 if not. It writes no file.",
    ),
    (
        &["policy", "diff"],
        "Compares two policies by what they say: settings by their keys, rules by their ids, and the order of the rules that \
         both have. Layout and comments do not count. Exit code 5 when something differs.",
    ),
    (
        &["policy", "test"],
        "Judges every case of a file of cases (docs/policy.md) by the very code that judges traffic, and says of those that come \
         out otherwise what was tried. Exit code 3 when one does.",
    ),
    (
        &["policy", "simulate"],
        "Verifies sealed bundles, judges every call in them by the rules of a candidate, and lists those whose verdict or rule \
         would change. A call is judged by what its receipt says and, where rules look into calls and bodies, by the bodies that \
         were stored in full; where that is not enough it is undecided, with the cause. The policy that was in force is asked \
         too: where it does not say what was recorded, that is drift. Exit code 5 when something changes or drifts, with --strict \
         also when something is undecided; 2 when a bundle does not verify.",
    ),
    (
        &["policy", "threats"],
        "Lists the threats that rules may name: the lists of OWASP and the techniques of MITRE ATLAS, with their editions, \
         titles and the class that each belongs to.",
    ),
    (
        &["regress", "add"],
        "Verifies a sealed bundle and makes a fixture of one of its calls: a folder with the receipt, its way to the root of the run, \
         the run's checkpoint, the policy that judged then, and the bytes that passed (spec/regress.md). The same bundle gives the same \
         bytes. A call whose bodies were not stored is refused with BODY_NOT_STORED, unless --expect says what is to come out.",
    ),
    (
        &["regress", "run"],
        "Recomputes what each fixture says of itself, judges its recorded bytes by the policy of today, its contracts and detectors, \
         with the code that judges traffic, and compares verdict and reason with those of the receipt. With --bundle it does so to all calls of a sealed run, and says which is the \
         first that differs, and why: the policy, or the program. What goes by more than the \
         call (rates, caps, holds, who calls) is undecided, with the cause. Exit code 5 when something comes out otherwise, when \
         nothing could be decided, or with --strict when something is undecided; 2 when a fixture is not what was recorded; 6 when \
         there is none.",
    ),
    (
        &["regress", "bootstrap"],
        "Turns an incident into fixtures in one step: verifies the bundle, makes a fixture of every call that was blocked, held or \
         repaired, or of those that --call names, and judges them by the policy of today. Calls whose bodies were not stored are \
         listed as left out. Exit codes are those of regress run.",
    ),
    (
        &["reduce"],
        "Verifies a sealed bundle and looks for the fewest of its calls that still have what --predicate names, by delta debugging: the \
         final call is blocked, a rule of a detector holds, or a command of yours says so. Calls are judged again in their order, and \
         what controls count of them is counted anew. Without any one of the calls that are left the predicate does not hold. \
         The same bundle gives the same report. Exit code 6 when it does not hold of the whole run; 1 when the command fails.",
    ),
    (
        &["judge"],
        "Judges a body against a contract, or a model's answer against what its request and a policy ask for, by the very code \
         that judges traffic, and prints the verdict, the reason and its place, every edit, how much was held back and how long \
         it took. The file is read in pieces and never kept whole, but for what is held back. Rules of a policy and \
         `on_not_evaluated` are not asked: see policy explain. Exit code 3 when it is refused.",
    ),
    (
        &["mcp", "bridge"],
        "Starts an MCP server that speaks over standard input and output and serves it as streamable HTTP on loopback, so that the \
         daemon can be put before it. Each session has a process of its own; from version 2026-07-28 on, without sessions, all share \
         one. The server gets PATH, HOME, LANG, TZ, TMPDIR, USER, LOGNAME, SHELL and what --env names. Its standard error is this \
         program's.",
    ),
    (
        &["mcp", "pins", "list"],
        "Lists what the servers behind a running daemon said first of their MCP tools: route, path, tool and the digest of the \
         definition. Below it stands the digest of one that was refused because it is another, if one waits.",
    ),
    (
        &["mcp", "pins", "accept"],
        "Takes a definition that was refused with TOOL_CHANGED in the place of the pinned one. It is named by its digest, so that \
         what is accepted is what was looked at. The daemon keeps a receipt of it in its ambient run.",
    ),
    (
        &["mcp", "pins", "forget"],
        "Forgets a pinned tool: what its server says of it next counts as first. The daemon keeps a receipt of it in its ambient \
         run.",
    ),
    (
        &["contract", "lint"],
        "Reports at once everything that keeps a contract from being enforced, each with its JSON pointer, or prints the digest \
         by which receipts name it for a body. For a model's answer they name a document with all that was enforced: its \
         digests for the text alone, and for calls of one tool alone (--tool), are printed as well.",
    ),
    (
        &["contract", "test"],
        "Judges the bodies of fixture files (docs/fixtures.md), each whole and byte by byte, by the very code that judges \
         traffic, and compares verdict, reason, place and what leaves with what the file expects. Exit code 5 when one comes \
         out otherwise.",
    ),
    (
        &["pack", "lint"],
        "Reads a pack (docs/packs.md) and reports everything that is wrong with it: its pack.yaml, contracts that cannot be \
         enforced, policies that are not valid or name other digests than those of its contracts, fixtures that cannot be read. \
         Nothing outside of its folder is read.",
    ),
    (
        &["pack", "test"],
        "Does what pack lint does, judges the bodies of the fixtures as contract test does, and compares what became of each \
         with the goldens, byte for byte. --update writes the goldens instead, if every case comes out as its fixtures expect. \
         Exit code 5 when something comes out otherwise.",
    ),
    (
        &["pack", "digest"],
        "Prints what a policy has under `contracts` to take the contracts of a pack: for each the pack, its name and the \
         SHA-256 of its file.",
    ),
    (
        &["detect"],
        "Looks for secrets, personal data, hidden text and the like in files, by the very code that looks at traffic, and lists what \
         it finds: the rule, how sure it is and the place, never the text itself. Exit code 3 when something is found.",
    ),
    (
        &["doctor"],
        "Looks for the daemon beside this program and for the tools that third-party checks use. With --config the daemon \
         reads its configuration, policy, certificates and keys as at a start; with --admin a running one is asked whether it \
         takes calls; with --pg a database is looked at as snapshots would, without changing anything in it, with --rows also \
         whether these can have digests of a table's rows, with --written whether rows can be asked which call wrote them, and whether the database writes that into them, and --suggest-fixes \
         prints the SQL that would mend what is found (Postgres 13 and 14 are refused without --allow-best-effort). Ports, disk room and what is in the journal are not looked at. Exit \
         code 7 when something needed is missing.",
    ),
    (
        &["stub"],
        "Runs a deterministic upstream on loopback that speaks the OpenAI, Anthropic and Gemini dialects from a script: exact \
         bytes, exact chunking, any fault. It answers nothing but what the script says.",
    ),
    (
        &["sbom"],
        "Prints the bill of materials in CycloneDX 1.6: every package of the lock file with its version, digest and \
         dependencies, also those that only tests or other platforms use. It says nothing about licences or advisories; \
         `.ci/supply-chain` judges those.",
    ),
    (&["completions"], "Prints a completion script for bash, zsh, fish, elvish or PowerShell."),
    (
        &["man"],
        "Prints the manual page of a command in roff; `estoppel man run show | man -l -` shows it. With --all it writes the \
         pages of all commands into a folder, with --markdown it prints docs/cli.md.",
    ),
];

/// The paragraph that was asked for: `--explain` with the words of a command, whatever else stands there, so that asking
/// never does anything. Only `verify PATH --explain` runs, because it explains the result and writes nothing.
pub fn asked(words: &[String]) -> Option<&'static str> {
    let words: Vec<&str> = words.iter().map(String::as_str).take_while(|word| *word != "--").collect();
    if !words.contains(&"--explain") {
        return None;
    }
    let named: Vec<&str> = words.into_iter().filter(|word| !word.starts_with('-')).collect();
    let (command, text) = PARAGRAPHS.iter().find(|(command, _)| named.starts_with(command))?;
    let runs = matches!(*command, ["verify"] | ["promote"]) && named.len() > 1;
    (!runs).then_some(text)
}
