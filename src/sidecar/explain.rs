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
         stream, or with --place the units at a place of it.",
    ),
    (
        &["show"],
        "Shows the manifest and the calls of a bundle, or one call. It does not judge: run verify first. With --export it \
         writes one receipt as a signed envelope that stands alone.",
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
         bytes. Exit code 2: a bundle does not verify; 6: no sealed bundle is of that run.",
    ),
    (
        &["snapshot", "diff"],
        "Reads the two snapshots that a call's receipt names out of its bundle, and says what differs: which objects of the \
         schema came, went or changed between the one before the call and the one after. Whose doing that was it does not say. Exit code 5: \
         something differs; 6: the call has not both snapshots. It does not judge the bundle: run verify first.",
    ),
    (
        &["seal"],
        "Ends a run: its last entry commits to everything before it, and the bundle is written. A daemon does it when one is \
         running; otherwise --journal names the folder. Calls that come later under the same name open a new run.",
    ),
    (
        &["archive", "push"],
        "Copies bundles, what is beside them, their lists of custody, and the segments of a journal that are not written any more to a \
         bucket with object lock: under a key that is their digest, only where nothing is yet, with a retention that the service enforces. A copy counts \
         when it was read back whole and is kept as was asked; then an entry goes into `archive.ndjson` beside the bundles. A bucket without object lock is \
         refused before anything is sent (exit code 8). What a kill interrupts is taken up where it was. Nothing local is removed, and no copy is ever asked to be.",
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
         records what came out, whatever it is. Each entry names the hash of the one before. A list that does not hold is not added to (exit code 2). \
         Entry 0 says what the manifest says of the sealing. `archive push` adds its own.",
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
         Exit code 2 names the first entry that was altered, cut out, reordered or forged.",
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
         sequence number that differs. Exit code 0 for success, 5 for anything less, 2 for a bundle that does not verify.",
    ),
    (
        &["replay", "serve"],
        "Listens on loopback in the place of the upstream and answers the client, which runs again, with the recorded bytes, streams in their units: \
         each request gets the answer of the call with the same method, target and body, the second such request that of the second. What \
         was not recorded, or was used up, gets status 599 and never an upstream: this program connects to none. When it ends it writes a signed \
         certificate of what matched, what was missed and what differed, with exit codes as `replay run`.",
    ),
    (
        &["replay", "verify-certificate"],
        "Checks the signature of a certificate, that its status follows from what it counts, that the bundle verifies, and that the certificate is about \
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
         prove them by the bundle (`estoppel verify --stream`), and who has none can test guesses at what it opens: by default \
         the events of one call, the least that proves one. It signs nothing, and no key above it follows from it.",
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
         with the code that judges traffic, and compares verdict and reason with those of the receipt. What goes by more than the \
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
         takes calls; with --pg a database is looked at as snapshots would, without changing anything in it, with --written also \
         whether rows of a table can be asked which call wrote them, and --suggest-fixes \
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
    let runs = *command == ["verify"] && named.len() > 1;
    (!runs).then_some(text)
}
