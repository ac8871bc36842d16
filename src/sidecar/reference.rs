//! The command-line reference, docs/cli.md, from the same definitions that read the command line.

use std::fmt::Write as _;

use clap::{Arg, ArgAction, Command};

use crate::explain::PARAGRAPHS;

const HEAD: &str = "\
# Command-line reference of estoppel

Made by `estoppel man --markdown`; a test compares it and runs every example, in this order, in one folder. Exit codes
other than 0 are noted. `seal`, `run`, `reconcile --record`, `kill`, `resume` and `switches` ask the daemon whose admin address is in `ESTOPPEL_ADMIN`.

";

/// What a reader can type, by command.
const EXAMPLES: &[(&[&str], &str)] = &[
    (
        &["quickstart"],
        "estoppel quickstart --dir demo\nbundle=$(ls demo/journal/bundles/*.pef.zip | tail -n 1)",
    ),
    (
        &["verify"],
        "estoppel verify \"$bundle\"\n\
         estoppel verify \"$bundle\" --trust demo/journal/trust.json --explain\n\
         estoppel verify \"$bundle\" --signatures checkpoint\n\
         estoppel --json verify demo/journal\n\
         estoppel keys disclose \"$bundle\" --call 2 --dir demo/journal/keys --out demo/stream.key\n\
         estoppel verify \"$bundle\" --stream 2 --disclosure demo/stream.key --events demo/stream.sse\n\
         head -n 2 demo/stream.sse > first.sse\n\
         estoppel verify \"$bundle\" --stream 2 --disclosure demo/stream.key --events first.sse --place 0\n\
         estoppel verify \"$bundle\" --stream 2 --disclosure demo/stream.key --events first.sse --place 1 # exit 2\n\
         estoppel keys disclose \"$bundle\" --call 1 --scope call --dir demo/journal/keys --out call.key\n\
         estoppel verify \"$bundle\" --body 1 --part request --disclosure call.key --content first.sse # exit 2",
    ),
    (
        &["show"],
        "estoppel show \"$bundle\"\n\
         estoppel show \"$bundle\" --call 1 --export receipt.json\n\
         estoppel verify receipt.json --trust demo/journal/trust.json",
    ),
    (
        &["diff"],
        "estoppel diff \"$bundle\" \"$bundle\" --trust demo/journal/trust.json\n\
         estoppel diff \"$bundle\" demo/journal --run quickstart\n\
         estoppel diff demo/journal demo/journal --out same.json\n\
         estoppel keys wrapping --out body.key\n\
         estoppel diff demo/journal demo/journal --body-key body.key\n\
         estoppel diff \"$bundle\" demo/journal # exit 6",
    ),
    (
        &["incident"],
        "estoppel incident --from \"$bundle\" --out bundle.incident.zip\n\
         estoppel incident --from quickstart --journal demo/journal --window 30m --out run.incident.zip\n\
         estoppel incident --from \"$bundle\" --policy demo/policy.yaml --out judged.incident.zip\n\
         estoppel incident --from no-such-run --journal demo/journal --out none.incident.zip # exit 6",
    ),
    (
        &["incident", "verify"],
        "estoppel incident verify run.incident.zip --trust demo/journal/trust.json\n\
         estoppel incident verify \"$bundle\" # exit 2",
    ),
    (
        &["attest"],
        "estoppel attest --framework no-such-framework --journal demo/journal --key auditor.pem -o none # exit 6\n\
         openssl genpkey -algorithm ed25519 -out auditor.pem && chmod 600 auditor.pem\n\
         estoppel attest --framework pci-dss-4.0.1 --bundle \"$bundle\" --trust demo/journal/trust.json --key auditor.pem -o pci\n\
         estoppel attest --framework hipaa-security-rule --journal demo/journal --key auditor.pem -o hipaa --strict # exit 3\n\
         cp \"$bundle\" held.pef.zip && estoppel custody add held.pef.zip --action moved --from gateway --to safe --key auditor.pem --actor Ada\n\
         estoppel attest --framework soc2-2017 --bundle held.pef.zip --custody held.pef.zip.custody.ndjson --key auditor.pem -o soc2",
    ),
    (
        &["attest", "verify"],
        "estoppel attest verify pci --bundle \"$bundle\" --trust demo/journal/trust.json\n\
         estoppel attest verify pci --bundle \"$bundle\" # exit 2",
    ),
    (&["compliance", "list"], "estoppel compliance list"),
    (
        &["compliance", "report"],
        "estoppel compliance report --journal demo/journal --framework nist-sp-800-161r1\n\
         mkdir empty && estoppel compliance report --journal empty",
    ),
    (
        &["report"],
        "estoppel report --digest \"$bundle\" --trust demo/journal/trust.json --svg badge.svg -o digest.json\n\
         estoppel report --digest \"$bundle\" --svg badge.svg # exit 8",
    ),
    (
        &["kit", "build"],
        "estoppel kit build --bundle \"$bundle\" --trust demo/journal/trust.json --attestation pci --key auditor.pem -o audit.kit.zip\n\
         estoppel regress run --bundle \"$bundle\" --policy demo/policy.yaml --json > judged.json\n\
         estoppel kit build --bundle \"$bundle\" --trust demo/journal/trust.json --regress judged.json --policy demo/policy.yaml --key auditor.pem -o judged.kit.zip\n\
         estoppel kit build --bundle \"$bundle\" --key auditor.pem -o none.kit.zip # exit 6",
    ),
    (
        &["kit", "verify"],
        "estoppel kit verify audit.kit.zip --trust demo/journal/trust.json\n\
         estoppel kit verify judged.kit.zip --trust demo/journal/trust.json --deep\n\
         estoppel kit verify \"$bundle\" # exit 2",
    ),
    (&["snapshot", "diff"], "estoppel snapshot diff \"$bundle\" --call 1 # exit 6"),
    (
        &["snapshot", "take"],
        "estoppel snapshot take --pg 'postgresql:///shop?host=/nonexistent&user=watcher' --rows orders stock.items --out before.json # exit 1",
    ),
    (
        &["archive", "push"],
        "estoppel archive push demo/journal --config no-such.toml # exit 6\n\
         printf '[archive]\\nendpoint = \"http://127.0.0.1:1\"\\nbucket = \"evidence\"\\nmode = \"compliance\"\\nretain_days = 365\\n' > archive.toml\n\
         AWS_ACCESS_KEY_ID=id AWS_SECRET_ACCESS_KEY=secret estoppel archive push demo/journal --config archive.toml # exit 7",
    ),
    (&["archive", "status"], "estoppel archive status demo/journal"),
    (&["archive", "verify"], "estoppel archive verify demo/journal --config archive.toml"),
    (
        &["custody", "add"],
        "estoppel custody add \"$bundle\" --action moved --from gateway --to safe --key custody.pem --actor ada # exit 6\n\
         openssl genpkey -algorithm ed25519 -out custody.pem && chmod 600 custody.pem && openssl pkey -in custody.pem -pubout -out custody.pub.pem\n\
         estoppel custody add \"$bundle\" --action moved --from gateway --to safe --key custody.pem --actor ada\n\
         estoppel custody add \"$bundle\" --action verified --trust demo/journal/trust.json --key custody.pem --actor ada\n\
         estoppel custody add \"$bundle\" --action disclosed --to auditor --key custody.pem --actor ada\n\
         estoppel verify \"$bundle\" --custody-key custody.pem --custody-by ada\n\
         estoppel keys disclose \"$bundle\" --scope run --dir demo/journal/keys --out given.key --custody-key custody.pem --custody-by ada --custody-to auditor",
    ),
    (&["custody", "show"], "estoppel custody show \"$bundle\""),
    (
        &["custody", "verify"],
        "estoppel custody verify \"$bundle\" --signer custody.pub.pem\n\
         estoppel custody verify \"$bundle\" --head leaf:0000000000000000000000000000000000000000000000000000000000000000 # exit 2",
    ),
    (&["seal"], "estoppel seal nightly-42\nestoppel seal no-such-run # exit 6"),
    (
        &["reconcile"],
        "estoppel reconcile --bundle \"$bundle\" --format openai --provider-log <(echo '{\"data\":[]}')\n\
         estoppel reconcile --bundle \"$bundle\" --format openai --provider-log <(echo '{\"request_id\":\"req_direct\",\"model\":\"scripted-1\"}') --record # exit 5",
    ),
    (
        &["kill"],
        "estoppel kill tool:shell --by alice --reason 'drill 7'\nestoppel kill job:7 --by alice --reason drill # exit 6",
    ),
    (&["resume"], "estoppel resume tool:shell --by alice --reason 'drill 7 is over'"),
    (&["switches"], "estoppel switches"),
    (&["run", "list"], "estoppel run list\nestoppel run list --journal demo/journal"),
    (&["run", "show"], "estoppel run show quickstart --journal demo/journal"),
    (
        &["replay", "run"],
        "estoppel replay run \"$bundle\" --key no-such.pem --out replay.json # exit 6\n\
         cp \"$bundle\" run.pef.zip\n\
         openssl genpkey -algorithm ed25519 -out certifier.pem && chmod 600 certifier.pem\n\
         estoppel replay run \"$bundle\" --keys demo/journal/keys --key certifier.pem --out replay.json --allow-partial\n\
         estoppel replay run \"$bundle\" --key certifier.pem --out replay.json # exit 8\n\
         estoppel replay run \"$bundle\" --key certifier.pem --out db.json --db postgresql://estoppel_replay@127.0.0.1:1/shop --sql tool=query,argument=/sql,parameters=/params,result=/rows # exit 6\n\
         estoppel replay run \"$bundle\" --key certifier.pem --out live.json --live --upstream http://127.0.0.1:1/mcp --allow-tool search # exit 8\n\
         estoppel replay run \"$bundle\" --keys demo/journal/keys --key certifier.pem --out plain.json --live --upstream http://127.0.0.1:1 --allow-operation orders.create --target /v1/orders # exit 8",
    ),
    (
        &["replay", "serve"],
        "estoppel replay serve run.pef.zip --keys demo/journal/keys --key certifier.pem --out served.json &",
    ),
    (
        &["replay", "compare"],
        "estoppel replay compare \"$bundle\" \"$bundle\" --trust demo/journal/trust.json\n\
         estoppel replay compare \"$bundle\" \"$bundle\" --target /v1/chat/completions --keys demo/journal/keys",
    ),
    (
        &["replay", "verify-certificate"],
        "estoppel replay verify-certificate replay.json --bundle \"$bundle\" --trust demo/journal/trust.json\n\
         openssl pkey -in certifier.pem -pubout -out certifier.pub.pem\n\
         estoppel replay verify-certificate replay.json --bundle \"$bundle\" --signer certifier.pub.pem\n\
         estoppel replay verify-certificate replay.json --bundle \"$bundle\" --signer demo/journal/keys/manifest.pem # exit 6",
    ),
    (&["hold", "list"], "estoppel hold list --all"),
    (&["hold", "show"], "estoppel hold show 01980000-0000-7000-8000-000000000000 # exit 6"),
    (
        &["hold", "approve"],
        "estoppel hold approve 01980000-0000-7000-8000-000000000000 --key demo/journal/keys/receipt.pem # exit 6",
    ),
    (
        &["hold", "deny"],
        "estoppel hold deny 01980000-0000-7000-8000-000000000000 --key demo/journal/keys/receipt.pem --comment \"not this one\" # exit 6",
    ),
    (
        &["identity", "key", "new"],
        "estoppel identity key new --subject nightly --tenant acme --days 90 --file api-keys.ndjson\n\
         estoppel identity key new --subject agent-7 --scope read --file api-keys.ndjson > agent-7.key",
    ),
    (&["identity", "key", "list"], "estoppel identity key list --file api-keys.ndjson"),
    (
        &["identity", "key", "revoke"],
        "estoppel identity key revoke \"$(cut -d_ -f2 agent-7.key)\" --file api-keys.ndjson\n\
         estoppel identity key revoke 0000000000000000 --file api-keys.ndjson # exit 6",
    ),
    (&["keys", "init"], "estoppel keys init --dir keys\nestoppel keys init --dir keys # exit 8"),
    (&["keys", "rotate"], "estoppel keys rotate --dir keys --use receipt --alg p256"),
    (
        &["keys", "list"],
        "estoppel keys list --dir keys\nestoppel keys list --dir keys --trust localhost/main/1 > trust.json",
    ),
    (
        &["keys", "disclose"],
        "estoppel keys disclose \"$bundle\" --scope run --dir demo/journal/keys --out run.key\n\
         estoppel keys disclose \"$bundle\" --scope run --dir keys --out other.key # exit 6",
    ),
    (
        &["encrypt"],
        "estoppel keys wrapping --out wrapping.key\n\
         estoppel encrypt \"$bundle\" --key wrapping.key --out bundle.enc",
    ),
    (
        &["decrypt"],
        "estoppel decrypt bundle.enc --key wrapping.key --out decrypted.pef.zip\n\
         estoppel verify decrypted.pef.zip\n\
         estoppel decrypt \"$bundle\" --key wrapping.key --out never.zip # exit 2",
    ),
    (&["keys", "wrapping"], "estoppel keys wrapping --out another.key"),
    (
        &["retention", "plan"],
        "estoppel retention plan --journal demo/journal --as-of 2026-01-01T00:00:00.000000Z --rules <(printf 'version = 1\\n[[rule]]\\nid = \"bundles\"\\nclass = \"bundles\"\\nkeep_days = 400\\n')\n\
         cp -r demo/journal old\n\
         estoppel retention plan --journal old --out plan.json --rules <(printf 'version = 1\\n[[rule]]\\nid = \"bundles\"\\nclass = \"bundles\"\\nkeep_days = 0\\n')",
    ),
    (
        &["retention", "apply"],
        "estoppel retention apply --journal old --plan plan.json --by operator\n\
         estoppel retention apply --journal old --plan plan.json --by operator # exit 8",
    ),
    (
        &["retention", "verify"],
        "estoppel retention verify plan.json old/retention/*.completed.json --trust demo/journal/trust.json",
    ),
    (
        &["retention", "hold", "add"],
        "estoppel retention hold add quickstart --journal old --by counsel --reason 'case 12'",
    ),
    (
        &["retention", "hold", "remove"],
        "estoppel retention hold remove quickstart --journal old --by counsel --reason 'case 12 closed'",
    ),
    (&["retention", "hold", "list"], "estoppel retention hold list --journal old"),
    (&["mcp", "bridge"], "estoppel mcp bridge --listen 127.0.0.1:0 -- cat &"),
    (&["mcp", "pins", "list"], "estoppel mcp pins list"),
    (
        &["mcp", "pins", "accept"],
        "estoppel mcp pins accept add --route stub --definition sha256:0000000000000000000000000000000000000000000000000000000000000000 # exit 6",
    ),
    (&["mcp", "pins", "forget"], "estoppel mcp pins forget add --route stub # exit 6"),
    (
        &["new"],
        "estoppel new --template python-lib lib\n\
         estoppel new --from catalog:rust.release crate\n\
         estoppel new --template cobol other # exit 6\n\
         estoppel new lib # exit 8",
    ),
    (
        &["generation", "new"],
        "estoppel generation new v0.2.0 --repo lib --like v0.1.0 --change 'fix:LIB-7:Round as banks do'\n\
         estoppel generation new v0.1.1 --repo lib --template hotfix --base v0.1.0 --change 'fix:LIB-8:Do not lose it'",
    ),
    (&["generation", "list"], "estoppel generation list --repo lib"),
    (&["generation", "show"], "estoppel --json generation show v0.2.0 --repo lib"),
    (
        &["generation", "lint"],
        "estoppel generation lint --repo lib\n\
         estoppel generation lint lib/policy.yaml # exit 6",
    ),
    (
        &["generation", "seal"],
        "estoppel generation lint --repo lib\n\
         openssl genpkey -algorithm ed25519 -out author.pem && chmod 600 author.pem\n\
         git init --quiet lib && git -C lib -c user.name=Ada -c user.email=ada@example.invalid commit --quiet --allow-empty -m begun\n\
         estoppel generation seal v0.2.0 --repo lib --key author.pem # exit 7\n\
         estoppel ledger init --name Ada --repo lib --key author.pem\n\
         estoppel generation seal v0.2.0 --repo lib --key author.pem",
    ),
    (
        &["generation", "amend"],
        "estoppel generation show v0.2.0 --repo lib\n\
         sed -i 's/Round as banks do/Round half to even/' lib/.estoppel/generations/v0.2.0.yaml\n\
         estoppel generation amend v0.2.0 --repo lib --key author.pem --reason 'the bank said so'\n\
         estoppel generation amend v0.2.0 --repo lib --key author.pem --reason 'once more' # exit 3",
    ),
    (
        &["generation", "abandon"],
        "estoppel generation abandon v0.2.0 --repo lib --key author.pem --reason 'not this year'",
    ),
    (
        &["evolution", "start"],
        "estoppel new --template minimal app\n\
         sed -i 's/\"false\"/\"true\"/' app/.estoppel/generations/v0.1.0.yaml\n\
         git init --quiet app && git -C app add --all && git -C app -c user.name=Ada -c user.email=ada@example.invalid commit --quiet -m begun\n\
         openssl genpkey -algorithm ed25519 -out releaser.pem && chmod 600 releaser.pem\n\
         estoppel ledger init --name Bert --repo app --key releaser.pem\n\
         estoppel evolution start 0.1.0 --all --repo app --key releaser.pem # exit 6\n\
         estoppel generation seal 0.1.0 --repo app --key releaser.pem\n\
         estoppel evolution start 0.1.0 --all --repo app --key releaser.pem",
    ),
    (&["evolution", "list"], "estoppel evolution list 0.1.0 --repo app"),
    (&["evolution", "show"], "estoppel evolution show no-such --repo app # exit 6"),
    (&["evolution", "logs"], "estoppel evolution logs no-such --repo app # exit 6"),
    (&["approve"], "estoppel approve 0.1.0 --hours 8 --repo app --key releaser.pem"),
    (&["waive"], "estoppel waive 0.1.0 no_failed --reason 'the first one' --repo app --key releaser.pem"),
    (
        &["promote"],
        "estoppel promote 0.1.0 --repo app --key releaser.pem --explain\n\
         estoppel promote 0.1.0 --stage beta --repo app --key releaser.pem # exit 6\n\
         estoppel promote 0.1.0 --repo app --key releaser.pem\n\
         (cd app && estoppel verify tag v0.1.0)\n\
         estoppel promote 0.1.0 --repo app --key releaser.pem # exit 8",
    ),
    (&["rollback"], "estoppel rollback 0.1.0 --reason 'too early' --repo app --key releaser.pem # exit 3"),
    (&["environment", "list"], "estoppel environment list --repo app"),
    (
        &["environment", "set"],
        "estoppel environment set production 0.1.0 --repo app --key releaser.pem\n\
         estoppel environment set production 9.9.9 --repo app --key releaser.pem # exit 3",
    ),
    (
        &["environment", "bind"],
        "estoppel environment bind staging --stage beta --repo app --key releaser.pem",
    ),
    (&["ledger", "init"], "estoppel ledger init --name Ada --repo app --key releaser.pem # exit 8"),
    (&["ledger", "join"], "estoppel ledger join sha256:0 --repo app # exit 6"),
    (&["ledger", "verify"], "estoppel ledger verify --repo app"),
    (&["ledger", "show"], "estoppel --json ledger show --repo app"),
    (&["roles", "list"], "estoppel roles list --repo app"),
    (
        &["roles", "grant"],
        "estoppel roles grant certifier.pub.pem --name Cleo --role runner --role auditor --repo app --key releaser.pem",
    ),
    (
        &["roles", "revoke"],
        "estoppel roles revoke 0000000000000000000000000000000000000000000000000000000000000000 --repo app --key releaser.pem # exit 6",
    ),
    (
        &["roles", "signers"],
        "estoppel roles signers --repo app > allowed\n\
         git -C app -c gpg.ssh.allowedSignersFile=$PWD/allowed verify-tag v0.1.0",
    ),
    (
        &["audit", "export"],
        "estoppel audit export --repo lib --out audit.json\n\
         estoppel audit export --repo lib --format html --out audit.html\n\
         estoppel audit export --repo lib --format csv --from 2026-01-01T00:00:00Z",
    ),
    (
        &["audit", "verify"],
        "estoppel audit verify audit.json\n\
         estoppel audit verify audit.html --repo lib\n\
         sed 's/abandoned/amended/' audit.html > other.html\n\
         estoppel audit verify other.html --repo lib # exit 2",
    ),
    (
        &["ledger", "restore"],
        "estoppel audit export --repo app --out ledger.json\n\
         estoppel ledger restore ledger.json --repo app\n\
         printf '{}' > other.json && estoppel ledger restore other.json --repo app # exit 2",
    ),
    (
        &["status"],
        "estoppel status --repo lib --textfile estoppel.prom\n\
         estoppel --json status v0.2.0 --repo lib",
    ),
    (
        &["dashboard"],
        "estoppel dashboard --repo lib --plain\n\
         estoppel dashboard --repo lib --view gateway --snapshot 80x24\n\
         estoppel --json dashboard --repo lib --generation v0.2.0\n\
         estoppel dashboard --repo lib --admin 127.0.0.1:1 --plain # exit 7",
    ),
    (
        &["sync", "status"],
        "estoppel ledger verify --repo lib\n\
         git init --quiet --bare remote.git && git -C lib remote add origin ../remote.git\n\
         estoppel sync status --repo lib",
    ),
    (&["sync", "pull"], "estoppel sync pull --repo lib"),
    (
        &["sync", "push"],
        "estoppel sync push --repo lib\n\
         estoppel sync push --wait --tries 3 --repo lib\n\
         git -C lib remote remove origin",
    ),
    (
        &["notify", "status"],
        "estoppel notify status --repo lib # exit 6\n\
         printf 'repository = \"lib\"\\ndestinations = []\\n' > notify.toml\n\
         git -C lib config estoppel.notify ../notify.toml\n\
         estoppel notify status --repo lib",
    ),
    (
        &["notify", "send"],
        "estoppel notify send --repo lib\n\
         estoppel notify send --wait --tries 3 --repo lib",
    ),
    (
        &["notify", "test"],
        "estoppel notify test --repo lib\n\
         estoppel notify test pager --repo lib # exit 6",
    ),
    (
        &["notify", "begin"],
        "estoppel notify begin chat --repo lib # exit 6\n\
         printf '[[destinations]]\\nname = \"chat\"\\nto = { slack = { url = \"http://127.0.0.1:9/x\" } }\\n' > chat.toml\n\
         (echo 'repository = \"lib\"'; cat chat.toml) > notify.toml\n\
         estoppel notify begin chat --repo lib\n\
         estoppel notify begin chat --go-on --repo lib\n\
         git -C lib config --unset estoppel.notify",
    ),
    (
        &["db", "query"],
        "estoppel db query 'SELECT kind, count(*) FROM events GROUP BY kind' --repo lib\n\
         estoppel db query 'DELETE FROM events' --repo lib # exit 8",
    ),
    (&["db", "metric"], "estoppel db metric\nestoppel db metric pass_rate --gen v0.2.0 --repo lib"),
    (&["db", "tables"], "estoppel db tables --repo lib"),
    (
        &["db", "write"],
        "estoppel db write lib.sqlite --repo lib\nestoppel db write lib.sqlite --repo lib # exit 8",
    ),
    (&["policy", "lint"], "estoppel policy lint demo/policy.yaml"),
    (&["policy", "hash"], "estoppel policy hash demo/policy.yaml"),
    (
        &["policy", "explain"],
        "estoppel policy explain demo/policy.yaml --route model --operation openai.chat.completions --tool shell # exit 3",
    ),
    (
        &["policy", "fmt"],
        "estoppel policy fmt demo/policy.yaml > laid-out.yaml\nestoppel policy fmt --check laid-out.yaml",
    ),
    (&["policy", "diff"], "estoppel policy diff demo/policy.yaml demo/policy.yaml"),
    (
        &["policy", "test"],
        "estoppel policy test demo/policy.yaml <(echo '{\"version\":1,\"cases\":[{\"claim\":\"a shell is blocked\",\"request\":{\"route\":\"model\",\"tools\":[\"shell\"]},\"expect\":{\"verdict\":\"allow\"}}]}') # exit 3",
    ),
    (&["policy", "simulate"], "estoppel policy simulate \"$bundle\" --policy demo/policy.yaml"),
    (&["policy", "threats"], "estoppel policy threats"),
    (
        &["regress", "add"],
        "estoppel regress add --from \"$bundle\" --call 3 --name no-shell --expect verdict --trust demo/journal/trust.json\n\
         estoppel regress add --from \"$bundle\" --call 3 --self-asserted # exit 6",
    ),
    (
        &["regress", "run"],
        "estoppel regress run --policy demo/policy.yaml --trust demo/journal/trust.json --junit regress.xml\n\
         estoppel regress run --policy <(echo '{\"version\":1,\"name\":\"open\",\"defaults\":{\"verdict\":\"allow\"}}') # exit 5\n\
         estoppel regress run --bundle \"$bundle\" --policy demo/policy.yaml --trust demo/journal/trust.json\n\
         estoppel regress run --policy demo/policy.yaml --fixtures keys # exit 6",
    ),
    (
        &["regress", "bootstrap"],
        "estoppel regress bootstrap \"$bundle\" --call 3 --expect block --into incident --policy demo/policy.yaml --self-asserted",
    ),
    (
        &["reduce"],
        "estoppel reduce \"$bundle\" --predicate command --self-asserted --out reduced.json -- grep -q CONTRACT_VIOLATED\n\
         estoppel reduce \"$bundle\" --predicate finding:secret.aws_key --self-asserted # exit 6",
    ),
    (
        &["judge"],
        "estoppel judge - --as json --contract <(echo '{\"required\":[\"sku\"]}') <<< '{\"sku\":\"AB-1234\"}'\n\
         estoppel judge - --as json --contract <(echo '{\"required\":[\"sku\"]}') --repair r1 --out order.json <<< '{\"sku\":1,}'\n\
         estoppel judge - --as ndjson --contract <(echo '{\"type\":\"object\"}') --chunk 1 <<< '[]' # exit 3",
    ),
    (&["contract", "lint"], "estoppel contract lint <(echo '{\"type\":\"object\"}')"),
    (
        &["contract", "test"],
        "estoppel contract test <(echo '{\"version\":1,\"contract\":{\"json\":\"{}\"},\"cases\":[{\"name\":\"any\",\"body\":\"1\",\"expect\":\"pass\"}]}')",
    ),
    (
        &["detect"],
        "estoppel detect demo/policy.yaml\n\
         estoppel detect - --detector pii --min-confidence high <<< 'paid with 4111 1111 1111 1111' # exit 3",
    ),
    (&["pack", "lint"], "estoppel pack lint policies/packs/contracts\nestoppel pack lint demo # exit 6"),
    (&["pack", "test"], "estoppel pack test policies/packs/contracts"),
    (
        &["pack", "digest"],
        "estoppel pack digest policies/packs/contracts\n\
         estoppel policy lint policies/packs/contracts/policies/shop.yaml --packs policies/packs",
    ),
    (&["doctor"], "estoppel doctor --config demo/estoppeld.toml"),
    (&["stub"], "estoppel stub --listen 127.0.0.1:0 &"),
    (&["sbom"], "estoppel sbom > estoppel.cdx.json"),
    (&["completions"], "estoppel completions bash > estoppel.bash"),
    (
        &["man"],
        "estoppel man > estoppel.1\nestoppel man run show > estoppel-run-show.1\nestoppel man --all man1\n\
         estoppel man --markdown > cli.md",
    ),
];

pub fn markdown(mut root: Command) -> String {
    root.build();
    let mut text = HEAD.to_owned();
    text.push_str("Every command takes\n\n");
    options(&mut text, root.get_arguments().filter(|argument| argument.is_global_set()));
    sections(&mut text, &mut Vec::new(), &root);
    text
}

/// The commands below `command`, whose words are `words`.
fn sections<'c>(text: &mut String, words: &mut Vec<&'c str>, command: &'c Command) {
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        words.push(sub.get_name());
        let runs_itself = PARAGRAPHS.iter().any(|(named, _)| *named == words.as_slice());
        if runs_itself {
            section(text, words, sub);
        }
        sections(text, words, sub);
        words.pop();
    }
}

fn section(text: &mut String, words: &[&str], command: &Command) {
    let of = |rows: &'static [(&[&str], &str)]| {
        rows.iter().find(|(named, _)| *named == words).map(|(_, text)| *text)
    };
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").trim();
    let _ = write!(
        text,
        "\n## estoppel {}\n\n{}\n\n    {usage}\n\n",
        words.join(" "),
        of(PARAGRAPHS).unwrap_or_default()
    );
    options(text, command.get_arguments().filter(|argument| !argument.is_global_set()));
    if let Some(example) = of(EXAMPLES) {
        let _ = write!(text, "\n```sh\n{example}\n```\n");
    }
}

fn options<'a>(text: &mut String, arguments: impl Iterator<Item = &'a Arg>) {
    let shown = arguments.filter(|argument| argument.get_action().takes_values() || flag(argument));
    for argument in shown {
        let value =
            argument.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str());
        let name = match argument.get_long() {
            Some(long) if flag(argument) => format!("--{long}"),
            Some(long) => format!("--{long} <{value}>"),
            None => format!("<{value}>"),
        };
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let _ = write!(text, "- `{name}`: {help}.");
        let values: Vec<String> =
            argument.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect();
        if !values.is_empty() && !flag(argument) {
            let _ = write!(text, " One of {}.", values.join(", "));
        }
        if let Some(default) = argument.get_default_values().first().filter(|_| !flag(argument)) {
            let _ = write!(text, " Default: `{}`.", default.to_string_lossy());
        }
        if let Some(variable) = argument.get_env() {
            let _ = write!(text, " Also `{}`.", variable.to_string_lossy());
        }
        text.push('\n');
    }
}

fn flag(argument: &Arg) -> bool {
    matches!(argument.get_action(), ArgAction::SetTrue)
}
