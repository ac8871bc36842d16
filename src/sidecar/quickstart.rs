//! `estoppel quickstart`: the whole product on embedded defaults, in one folder, in a few seconds.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use estoppel_stub::{Dialect, ModelReply, Reply, Rule, Script, Stub, ToolCall};
use estoppel_verify::{Input, Options, verify_bundle};
use serde_json::{Value, json};

use crate::admin;
use crate::arguments::Quickstart;
use crate::input::{self, Beside};
use crate::output::{Colour, Failure, Output};

const POLICY: &str = include_str!("../../policies/baseline.yaml");
/// Calls of tools are held back until they are whole, and against the schemas of the request.
const JUDGED: &str = "
routes:
  model:
    judge: { unknown_tools: block, repair: r1 }
";

/// The daemon beside this program.
pub fn daemon_binary() -> Result<PathBuf, Failure> {
    let here = std::env::current_exe().map_err(|error| Failure::runtime("INTERNAL", error.to_string()))?;
    let path = here.with_file_name("estoppeld");
    if path.is_file() {
        return Ok(path);
    }
    Err(Failure::dependency("DEPENDENCY_MISSING", format!("there is no `{}`", path.display()))
        .hint("build both programs: cargo build --release"))
}

pub fn run(output: &Output, quickstart: &Quickstart) -> Result<ExitCode, Failure> {
    let started = Instant::now();
    let daemon = daemon_binary()?;
    let dir = folder(quickstart.dir.as_deref())?;
    let model = Stub::spawn_thread(script()).map_err(|error| {
        Failure::runtime("LISTEN_FAILED", format!("the scripted model did not start: {error}"))
    })?;
    output.line(&format!("1  scripted model    http://{}", model.addr()));
    let gateway = Gateway::start(&daemon, &dir, model.addr())?;
    output.line(&format!("2  gateway           http://{}   admin http://{}", gateway.address, gateway.admin));
    let calls = calls(*output, &dir, gateway.address)?;
    let sealed = admin::ask(&gateway.admin.to_string(), "POST", "/runs/quickstart/seal")?;
    let bundle = PathBuf::from(sealed["path"].as_str().unwrap_or_default());
    output.line(&format!(
        "9  sealed            {} entries, {}",
        sealed["entries"],
        sealed["root"].as_str().unwrap_or("-")
    ));
    let verdicts = verify(*output, &bundle, &dir)?;
    artifacts(*output, &dir, &bundle);
    output.line(&format!("\ndone in {:.1} s", started.elapsed().as_secs_f64()));
    if quickstart.keep {
        output.line(&format!("the gateway stays at http://{} until Ctrl-C", gateway.address));
        gateway.wait();
    }
    let data = json!({
        "dir": dir, "bundle": bundle, "calls": calls, "sealed": sealed, "verdicts": verdicts,
        "elapsed_ms": u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    });
    Ok(output.data(&data))
}

fn folder(wanted: Option<&Path>) -> Result<PathBuf, Failure> {
    let failed = |path: &Path, error: std::io::Error| {
        Failure::input("DIRECTORY_READ_ONLY", format!("cannot make `{}`: {error}", path.display()))
            .hint("name another folder with --dir")
    };
    let path = match wanted {
        Some(path) => path.to_path_buf(),
        None => {
            let free = |n: &u32| !Path::new(&format!("estoppel-quickstart-{n}")).exists();
            let n = (1..10_000).find(free).unwrap_or(10_000);
            PathBuf::from(format!("estoppel-quickstart-{n}"))
        }
    };
    if path.exists() {
        return Err(Failure {
            exit: 8,
            ..Failure::input("OUTPUT_EXISTS", format!("`{}` exists and is not overwritten", path.display()))
        });
    }
    std::fs::create_dir_all(&path).map_err(|error| failed(&path, error))?;
    path.canonicalize().map_err(|error| failed(&path, error))
}

/// The daemon as a child process; stopped when dropped.
struct Gateway {
    child: Child,
    address: SocketAddr,
    admin: SocketAddr,
}

impl Gateway {
    fn start(daemon: &Path, dir: &Path, model: SocketAddr) -> Result<Self, Failure> {
        let write = |name: &str, text: &str| {
            std::fs::write(dir.join(name), text)
                .map_err(|error| Failure::runtime("DISK_FAILED", format!("cannot write `{name}`: {error}")))
        };
        write("policy.yaml", &format!("{POLICY}{JUDGED}"))?;
        write("estoppeld.toml", &config(dir, model))?;
        let log = std::fs::File::create(dir.join("estoppeld.log"))
            .map_err(|error| Failure::runtime("DISK_FAILED", error.to_string()))?;
        let ready = dir.join("ready.json");
        let mut child = Command::new(daemon)
            .arg("--config")
            .arg(dir.join("estoppeld.toml"))
            .arg("--ready-file")
            .arg(&ready)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| Failure::runtime("INTERNAL", format!("estoppeld did not start: {error}")))?;
        let until = Instant::now() + Duration::from_secs(10);
        while !ready.exists() {
            let ended = child.try_wait().ok().flatten().is_some();
            if ended || Instant::now() > until {
                let _ = child.kill();
                let _ = child.wait();
                let log = input::text(&dir.join("estoppeld.log")).unwrap_or_default();
                let last = log.lines().last().unwrap_or("it said nothing").to_string();
                return Err(Failure::runtime("INTERNAL", format!("estoppeld did not get ready: {last}")));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let value: Value = serde_json::from_slice(&input::file(&ready)?).unwrap_or(Value::Null);
        let address = |value: &Value| value.as_str().and_then(|text| text.parse().ok());
        match (address(&value["listeners"]["main"]), address(&value["admin"])) {
            (Some(address), Some(admin)) => Ok(Self { child, address, admin }),
            _ => Err(Failure::runtime("INTERNAL", "estoppeld did not say where it listens")),
        }
    }

    fn wait(mut self) {
        let _ = self.child.wait();
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap_or_default())
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

fn config(dir: &Path, model: SocketAddr) -> String {
    format!(
        r#"# Made by `estoppel quickstart`. Every key is explained in docs/configuration.md.
[instance]
host = "localhost"
name = "quickstart"

[journal]
dir = {journal:?}

[keys]
init = true

[policy]
file = {policy:?}

[admin]
listen = "127.0.0.1:0"

[[listener]]
listen = "127.0.0.1:0"

[upstream.model]
url = "http://{model}"

[[route]]
name = "model"
upstream = "model"
"#,
        journal = dir.join("journal"),
        policy = dir.join("policy.yaml"),
    )
}

/// What the scripted model says when it is asked for the weather so, as arguments of a call.
const WEATHER: [(&str, &str); 3] = [
    ("in a fence", "```json\n{\"city\": \"Oslo\",}\n```"),
    ("cut off", "{\"city\": \"Os"),
    ("of nowhere", "{}"),
];

fn script() -> Script {
    let mut script = Script::model();
    let rules = WEATHER.map(|(asked, arguments)| {
        let call = ToolCall { name: "weather".into(), arguments: arguments.into() };
        let reply = ModelReply { calls: Some(vec![call]), ..ModelReply::new(Dialect::ChatCompletions) };
        let rule = Rule::new("POST", "*/chat/completions", Reply::model(reply));
        Rule { body_contains: Some(asked.into()), ..rule }
    });
    script.rules.splice(0..0, rules);
    script
}

/// One call of the demonstration.
struct Call {
    name: &'static str,
    body: Value,
    /// How it ends: with the status, or with the code of a refusal.
    ends: &'static str,
}

fn demonstration() -> [Call; 6] {
    let chat = |asked: &str, stream: bool, tool: Option<Value>| {
        let tools: Vec<Value> =
            tool.into_iter().map(|tool| json!({ "type": "function", "function": tool })).collect();
        let mut body = json!({ "model": "scripted-1", "stream": stream,
            "messages": [{ "role": "user", "content": asked }] });
        if !tools.is_empty() {
            body["tools"] = tools.into();
        }
        body
    };
    let shell = json!({ "name": "shell", "parameters": { "type": "object" } });
    let weather = json!({ "name": "weather", "parameters": {
        "type": "object", "properties": { "city": { "type": "string" } }, "required": ["city"] } });
    let asks = |asked: &str| chat(&format!("the weather {asked}"), true, Some(weather.clone()));
    [
        Call { name: "plain call", body: chat("hello, evidence", false, None), ends: "200" },
        Call { name: "streamed call", body: chat("hello, evidence", true, None), ends: "200" },
        Call { name: "blocked call", body: chat("hello, evidence", false, Some(shell)), ends: "TOOL_DENIED" },
        Call { name: "repaired call", body: asks("in a fence"), ends: "200" },
        Call { name: "cut-off call", body: asks("cut off"), ends: "VALUE_TRUNCATED" },
        Call { name: "incomplete call", body: asks("of nowhere"), ends: "CONTRACT_VIOLATED" },
    ]
}

/// What the client of the streamed call got.
const STREAM: &str = "stream.sse";

fn calls(output: Output, dir: &Path, gateway: SocketAddr) -> Result<Vec<Value>, Failure> {
    let mut out = Vec::new();
    let mut wrong = false;
    for (number, call) in (3..).zip(demonstration()) {
        let answer = post(gateway, &call.body)?;
        let said = match (answer.status, answer.code.as_str()) {
            (200, "") if !answer.arguments.is_empty() => format!("200, {}", answer.arguments),
            (200, "") if answer.events > 0 => format!("200, {} events", answer.events),
            (200, "") => "200".to_string(),
            (200, code) => format!("cut, {code}"),
            (status, code) => format!("{status} {code}"),
        };
        output.line(&format!("{number}  {:<17} {said:<22} call {}", call.name, answer.call));
        if call.name == "streamed call" {
            std::fs::write(dir.join(STREAM), &answer.bytes)
                .map_err(|error| Failure::runtime("DISK_FAILED", error.to_string()))?;
        }
        let ends = if answer.code.is_empty() { answer.status.to_string() } else { answer.code.clone() };
        wrong |= ends != call.ends;
        out.push(
            json!({ "name": call.name, "status": answer.status, "call": answer.call, "code": answer.code,
            "arguments": answer.arguments }),
        );
    }
    if !wrong {
        return Ok(out);
    }
    Err(Failure {
        data: Some(json!(out)),
        ..Failure::runtime("INTERNAL", "the calls did not end as they should; see estoppeld.log")
    })
}

struct Answer {
    status: u16,
    bytes: Vec<u8>,
    call: String,
    /// Of a refusal, also one inside a stream.
    code: String,
    events: usize,
    /// Of the tool call in a stream.
    arguments: String,
}

fn post(gateway: SocketAddr, body: &Value) -> Result<Answer, Failure> {
    let failed = |error: std::io::Error| {
        Failure::runtime("INTERNAL", format!("the gateway at {gateway} did not answer: {error}"))
    };
    let body = body.to_string();
    let mut stream = TcpStream::connect_timeout(&gateway, Duration::from_secs(5)).map_err(failed)?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).map_err(failed)?;
    write!(
        stream,
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {gateway}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         estoppel-run: quickstart\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .map_err(failed)?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).map_err(failed)?;
    let status = line.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    let mut call = String::new();
    let mut chunked = false;
    loop {
        line.clear();
        let read = reader.read_line(&mut line).map_err(failed)?;
        if read == 0 || line.trim().is_empty() {
            break;
        }
        chunked |= line.to_ascii_lowercase().starts_with("transfer-encoding: chunked");
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("estoppel-call:") {
            call = value.trim().to_string();
        }
    }
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).map_err(failed)?;
    if chunked {
        bytes = unchunked(&bytes);
    }
    let text = String::from_utf8_lossy(&bytes);
    let events = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let events: Vec<Value> = events.filter_map(|data| serde_json::from_str(data).ok()).collect();
    let whole = serde_json::from_str::<Value>(&text).ok();
    let code = events.iter().chain(&whole).find_map(|said| said["error"]["code"].as_str());
    let piece = |event: &Value| {
        let call = &event["choices"][0]["delta"]["tool_calls"][0];
        call["function"]["arguments"].as_str().unwrap_or_default().to_string()
    };
    let code = code.unwrap_or_default().to_string();
    let arguments = events.iter().map(piece).collect::<String>().trim().to_string();
    let events = text.matches("data: ").count();
    drop(text);
    Ok(Answer { status, bytes, call, code, events, arguments })
}

/// The body in chunks (RFC 9112 section 7.1), as far as it came.
fn unchunked(mut raw: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = raw.windows(2).position(|pair| pair == b"\r\n") {
        let (line, rest) = raw.split_at(end);
        let size = std::str::from_utf8(line).ok().and_then(|line| usize::from_str_radix(line, 16).ok());
        let Some(size) = size.filter(|size| *size > 0) else { break };
        let (chunk, rest) = rest[2..].split_at(size.min(rest.len() - 2));
        body.extend_from_slice(chunk);
        raw = rest.get(2..).unwrap_or_default();
    }
    body
}

fn verify(output: Output, bundle: &Path, dir: &Path) -> Result<Value, Failure> {
    let bytes = input::file(bundle)?;
    let trust = input::file(&dir.join("journal").join("trust.json"))?;
    let options = Options { trust: Some(&trust), ..Options::default() };
    let report = verify_bundle(Input::Zip(&bytes), &mut Beside::of(bundle), &options)
        .map_err(|error| Failure::runtime("FILE_UNREADABLE", error.to_string()))?;
    let v = &report.verdicts;
    let verdicts = json!({
        "integrity": v.integrity.name(), "authenticity": v.authenticity.name(),
        "completeness": v.completeness.name(), "anchoring": v.anchoring.name(),
    });
    if let Some(finding) = &report.finding {
        return Err(Failure { exit: 2, ..Failure::runtime(finding.reason.code(), finding.detail.clone()) });
    }
    let said = format!(
        "integrity {}, authenticity {}, completeness {}, {}",
        v.integrity.name(),
        v.authenticity.name(),
        v.completeness.name(),
        v.anchoring.name()
    );
    output.line(&format!("10 verified          {}", output.paint(Colour::Green, &said)));
    Ok(verdicts)
}

fn artifacts(output: Output, dir: &Path, bundle: &Path) {
    output.line("");
    for (what, path) in [
        ("bundle     the run, portable and signed", bundle.to_path_buf()),
        ("trust      the keys an auditor needs, given by another way", dir.join("journal/trust.json")),
        ("journal    the append-only log", dir.join("journal/segments")),
        ("policy     what was decided by", dir.join("policy.yaml")),
        ("config     what to start from", dir.join("estoppeld.toml")),
        ("stream     what the client of the streamed call got", dir.join(STREAM)),
        ("log        what the daemon said", dir.join("estoppeld.log")),
    ] {
        output.line(&format!("{what:<62} {}", path.display()));
    }
    output.line("\ntry it:");
    output.line(&format!(
        "  estoppel verify {} --trust {} --explain",
        bundle.display(),
        dir.join("journal/trust.json").display()
    ));
    output.line(&format!("  estoppel show {}", bundle.display()));
    output.line(&format!("  python3 spec/verifiers/python/pef_verify.py {}", bundle.display()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined_as_far_as_they_came() {
        for (raw, body) in [
            (&b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"[..], &b"abcde"[..]),
            (b"3\r\nabc\r\nff\r\nde", b"abcde"),
            (b"3\r\nabc", b"abc"),
            (b"3\r\n", b""),
            (b"3", b""),
            (b"ffffffffffffffff\r\na", b"a"),
            (b"x\r\nabc", b""),
        ] {
            assert_eq!(unchunked(raw), body, "{}", raw.escape_ascii());
        }
    }
}
