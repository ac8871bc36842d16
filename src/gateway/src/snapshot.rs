//! One configuration in force: routes, upstream pools and the compiled policy. A call picks one up in
//! `layer/route.rs` and keeps it to its end; a reload swaps in another whole one or changes nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use estoppel_evidence::Sha256;
use estoppel_evidence::entry::SHADOWS_MAX;
use estoppel_policy::{
    BodyStorage, Judging, Listed, Needs, Operations, Policy, RouteSettings, SnapshotSource, Verdict,
};
use estoppel_wire::dialect::Dialect;
use http::request::Parts;

use crate::context::ContextKey;
use crate::contracts::Contracts;
use crate::credential::Credential;
use crate::database::{Database, Look};
use crate::detecting::RouteDetectors;
use crate::headers;
use crate::identity::Callers;
use crate::judging::RouteTerms;
use crate::mcp::federation::{Federation, Server};
use crate::mcp::mirrored::{Mirrored, MirroredTools};
use crate::mcp::pin_file::PinFile;
use crate::mcp::sessions::Sessions;
use crate::mcp::streams::Streams;
use crate::pins::Pins;
use crate::protected_resource::ProtectedResource;
use crate::rules::{rule_errors, rule_warnings};
use crate::settings::{Origin, Route, Settings};
use crate::shadow::Shadow;
use crate::upstream::{Pool, Target};

/// A configuration that has been checked and built.
pub struct Snapshot {
    pub(crate) routes: Vec<Arc<RouteEntry>>,
    pub(crate) policy: Arc<Policy>,
    pub(crate) policy_hash: Sha256,
    pub(crate) shadows: Arc<[Arc<Shadow>]>,
    pub(crate) pools: BTreeMap<String, Arc<Pool>>,
    pub(crate) databases: BTreeMap<String, Arc<Database>>,
    pub(crate) callers: Arc<Callers>,
}

/// Why a configuration cannot be put in force.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
pub struct SnapshotError {
    /// A sentence that says what is wrong.
    pub problem: String,
}

/// One route with what belongs to it, or one operation of a route.
#[derive(Clone)]
pub(crate) struct RouteEntry {
    pub(crate) name: Arc<str>,
    /// Of several upstreams the first one's.
    pub(crate) pool: Arc<Pool>,
    /// The servers, where there are several.
    pub(crate) federation: Option<Arc<Federation>>,
    /// Where they are, or the one upstream is.
    places: Vec<(String, Origin)>,
    pub(crate) settings: RouteSettings,
    /// What clients are told of tokens, if anything.
    pub(crate) protected_resource: Option<ProtectedResource>,
    /// What the upstream gets in the place of clients' credentials, if anything.
    pub(crate) credential: Option<Arc<Credential>>,
    /// What is held against contracts, if anything is.
    pub(crate) judging: Option<Arc<RouteTerms>>,
    /// What the rules for it look into.
    pub(crate) needs: Needs,
    /// How calls are held back for them, where nothing is held against contracts.
    only_rules: Option<Arc<RouteTerms>>,
    /// The policy may refuse an answer for the names in it, or because it could not be read.
    pub(crate) refuses_answers: bool,
    /// The database that is looked at around its calls, if one is.
    pub(crate) look: Option<Look>,
    /// What looks for secrets and the like, if anything does.
    pub(crate) detectors: Option<Arc<RouteDetectors>>,
    /// What its MCP servers said of their tools.
    pub(crate) pins: Arc<Pins>,
    /// What of the arguments of their tools is in headers.
    pub(crate) mirrored: Arc<MirroredTools>,
    /// What their clients asked in sessions.
    pub(crate) sessions: Arc<Sessions>,
    /// Which of their streams are open to which posts.
    pub(crate) streams: Arc<Streams>,
    /// `None`: found out by path.
    pub(crate) dialect: Option<Dialect>,
    pub(crate) identity_required: bool,
    /// What a credential has to be good for.
    pub(crate) scopes: Vec<String>,
    pub(crate) reads_credentials: bool,
    pub(crate) forwards_credential: bool,
    /// Only traffic that goes round the gateway comes here.
    pub(crate) canary: bool,
    pub(crate) context_key: Option<ContextKey>,
    /// Id of the operation that this is.
    operation: Option<Arc<str>>,
    /// In the order of the policy.
    operations: Vec<Arc<RouteEntry>>,
    host: Option<String>,
    path: String,
    methods: Vec<http::Method>,
    strip: bool,
    pub(crate) metrics: crate::metrics::RouteMetrics,
}

impl Snapshot {
    /// Builds what `settings` and `policy` say. Kept connections of `before` are kept where the upstream is unchanged, and what
    /// is known of MCP tools where a route's upstream is at the same place.
    ///
    /// # Errors
    /// The first thing that cannot be built: a TLS file, a contract, a route that the policy names and the configuration lacks.
    pub fn build(
        settings: &Settings,
        policy: Arc<Policy>,
        metrics: &crate::Metrics,
        before: Option<&Snapshot>,
    ) -> Result<Self, SnapshotError> {
        let wrong = |problem: String| SnapshotError { problem };
        let mut pools = BTreeMap::new();
        for (name, upstream) in &settings.upstream {
            let target = Target::new(name, upstream).map_err(|error| wrong(error.to_string()))?;
            let kept =
                before.and_then(|before| before.pools.get(name)).filter(|pool| pool.target.same(upstream));
            pools.insert(name.clone(), kept.cloned().unwrap_or_else(|| Pool::new(target)));
        }
        let mut databases = BTreeMap::new();
        for database in &settings.database {
            let kept = before.and_then(|before| before.databases.get(&database.name));
            let built = Database::build(database, metrics, kept).map_err(wrong)?;
            databases.insert(database.name.clone(), built);
        }
        if let Some(name) = policy.snapshot_sources().into_iter().find(|name| !databases.contains_key(*name))
        {
            let problem = "the policy looks at a database that is not there";
            return Err(wrong(format!("{problem}: add a `[[database]]` with the name `{name}`")));
        }
        let contracts = enforceable(settings, &policy).map_err(wrong)?;
        let names = settings.route.iter().map(|route| route.name.as_str());
        for warning in rule_warnings(&policy, names) {
            tracing::warn!("{warning}; such calls are not evaluated");
        }
        let entry = |route: &Route| {
            RouteEntry::build(
                route,
                &Named { pools: &pools, databases: &databases, contracts: &contracts },
                &policy,
                metrics,
                before,
                settings.pins_dir.as_deref(),
            )
            .map(Arc::new)
            .map_err(wrong)
        };
        let routes = settings.route.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
        let policy_hash = Sha256(*policy.hash().as_bytes());
        let callers =
            Callers::build(&settings.identity, before.map(|before| &before.callers)).map_err(wrong)?;
        Ok(Self { routes, policy, policy_hash, shadows: Arc::default(), pools, databases, callers })
    }

    /// With policies that are asked about every call, too, and change nothing; at most [`SHADOWS_MAX`] are.
    #[must_use]
    pub fn with_shadows(self, shadows: impl IntoIterator<Item = Arc<Shadow>>) -> Self {
        Self { shadows: shadows.into_iter().take(SHADOWS_MAX).collect(), ..self }
    }

    /// Whether some call may have its bodies stored.
    pub fn stores_bodies(&self) -> bool {
        let full = |storage: &BodyStorage| matches!(storage, BodyStorage::Full { .. });
        self.policy.stores_by_rule() || self.routes.iter().any(|route| full(&route.settings.body_storage))
    }

    /// The policies that are asked and change nothing.
    pub fn shadows(&self) -> &[Arc<Shadow>] {
        &self.shadows
    }

    /// The first route that takes the request.
    pub(crate) fn route(&self, head: &Parts) -> Option<&Arc<RouteEntry>> {
        let described = self.routes.iter().find(|route| route.is_described(head));
        described.or_else(|| self.routes.iter().find(|route| route.takes(head)))
    }
}

/// What routes and policies name.
struct Named<'n> {
    pools: &'n BTreeMap<String, Arc<Pool>>,
    databases: &'n BTreeMap<String, Arc<Database>>,
    contracts: &'n Contracts,
}

impl RouteEntry {
    fn build(
        route: &Route,
        named: &Named<'_>,
        policy: &Policy,
        metrics: &crate::Metrics,
        before: Option<&Snapshot>,
        pins_dir: Option<&Path>,
    ) -> Result<Self, String> {
        let Named { pools, databases, contracts } = *named;
        let known = |name: &String| pools.get(name).ok_or_else(|| format!("there is no upstream `{name}`"));
        let first = route.federation.values().next().unwrap_or(&route.upstream);
        let pool = known(first)?;
        let mut places = Vec::new();
        for (server, upstream) in &route.federation {
            places.push((server.clone(), known(upstream)?.target.origin.clone()));
        }
        if places.is_empty() {
            places.push((String::new(), pool.target.origin.clone()));
        }
        let read = |path| estoppel_journal::keys::load_secret(path).map_err(|error| error.to_string());
        let context_key = match route.context_key.as_deref() {
            Some(path) => Some(ContextKey::new(&*read(path)?)),
            None => None,
        };
        let methods = route.methods.iter().map(|m| m.parse().map_err(|_| format!("`{m}` is not a method")));
        let settings = policy.route(&route.name).clone();
        let judging = |judge: &Judging| match judge {
            Judging::None => None,
            Judging::On(terms) => Some(Arc::new(RouteTerms::new(terms, contracts))),
        };
        let look = |asked: &Option<SnapshotSource>| {
            let asked = asked.as_ref()?;
            Some(Look { database: databases.get(&asked.source)?.clone(), mode: asked.mode })
        };
        let needs = policy.needs(&route.name);
        let same = |known: &&Arc<Self>| *known.name == *route.name && known.places == places;
        let known = before.and_then(|before| before.routes.iter().find(same));
        let old = known.and_then(|known| known.credential.as_ref());
        let credential = pool.target.settings.credential.as_ref().filter(|_| route.federation.is_empty());
        let credential =
            credential.map(|said| Credential::build(&pool.target.name, said, old)).transpose()?;
        let federation = Self::federate(route, pools, known.and_then(|known| known.federation.as_ref()))?;
        let pins = match (known, pins_dir) {
            (Some(known), _) => known.pins.clone(),
            (None, None) => Arc::default(),
            (None, Some(dir)) => {
                let urls = route.federation.iter().map(|(server, upstream)| {
                    let url = pools.get(upstream).map_or("", |pool| &pool.target.settings.url);
                    format!("{server}={url}")
                });
                let url = match route.federation.is_empty() {
                    true => pool.target.settings.url.clone(),
                    false => urls.collect::<Vec<_>>().join(" "),
                };
                let kept = PinFile::open(dir, &route.name, &url);
                let (file, servers) = kept.map_err(|error| error.to_string())?;
                Arc::new(Pins::kept(file, servers))
            }
        };
        let mut entry = Self {
            name: route.name.as_str().into(),
            pool: pool.clone(),
            federation,
            detectors: RouteDetectors::build(&settings.detectors)?,
            judging: judging(&settings.judge),
            look: look(&settings.snapshot),
            settings,
            protected_resource: route.protected_resource.as_ref().map(ProtectedResource::new).transpose()?,
            only_rules: needs.calls.then(|| Arc::new(RouteTerms::only_rules())),
            refuses_answers: policy.may_refuse_answers(&route.name),
            needs,
            credential,
            pins,
            mirrored: known.map(|known| known.mirrored.clone()).unwrap_or_default(),
            sessions: known.map(|known| known.sessions.clone()).unwrap_or_default(),
            streams: known.map(|known| known.streams.clone()).unwrap_or_default(),
            dialect: if route.dialect == "auto" { None } else { route.dialect.parse().ok() },
            identity_required: route.identity_required,
            scopes: route.scopes.clone(),
            reads_credentials: route.read_credentials,
            forwards_credential: route.forward_credential,
            canary: route.canary,
            context_key,
            host: route.host.clone(),
            path: route.path.trim_end_matches('/').to_string(),
            methods: methods.collect::<Result<_, _>>()?,
            strip: route.strip_path,
            metrics: metrics.route(&route.name),
            operation: None,
            operations: Vec::new(),
            places: Vec::new(),
        };
        entry.places = places;
        entry.pins.reserve(entry.named_servers());
        let listed = entry.settings.operations.clone();
        let operations = listed.iter().map(|operation| Self {
            operation: Some(operation.id.as_str().into()),
            judging: operation.judge.as_ref().and_then(judging),
            look: look(&operation.look),
            ..entry.clone()
        });
        entry.operations = operations.map(Arc::new).collect();
        Ok(entry)
    }

    /// The servers of a route that has several. Sessions go on where the servers are at the same places.
    fn federate(
        route: &Route,
        pools: &BTreeMap<String, Arc<Pool>>,
        before: Option<&Arc<Federation>>,
    ) -> Result<Option<Arc<Federation>>, String> {
        if route.federation.is_empty() {
            return Ok(None);
        }
        let mut servers = Vec::new();
        for (name, upstream) in &route.federation {
            let pool = pools.get(upstream).ok_or_else(|| format!("there is no upstream `{upstream}`"))?;
            let said = pool.target.settings.credential.as_ref();
            let old = before.and_then(|before| before.credential(name));
            let credential = said.map(|said| Credential::build(upstream, said, old)).transpose()?;
            servers.push(Server { name: name.as_str().into(), pool: pool.clone(), credential });
        }
        let sessions = before.map(|before| before.sessions.clone()).unwrap_or_default();
        Ok(Some(Arc::new(Federation::new(&route.name, &route.path, servers, sessions))))
    }

    /// The path that requests start with.
    pub(crate) fn path(&self) -> &str {
        if self.path.is_empty() { "/" } else { &self.path }
    }

    /// The operation that a request is, this where it is none that is listed.
    ///
    /// # Errors
    /// Why the request is refused: the policy refuses what is not listed, or an upstream may take it for another operation.
    pub(crate) fn for_operation(self: &Arc<Self>, head: &Parts) -> Result<Arc<Self>, &'static str> {
        let listed = listed(&self.settings.operations, self.needs.line, head)?;
        Ok(listed.and_then(|index| self.operations.get(index)).unwrap_or(self).clone())
    }

    /// What the policy calls the operation of a call whose dialect does not name one.
    pub(crate) fn listed(&self, dialect: Dialect) -> Option<&str> {
        let plain = matches!(dialect, Dialect::Bytes | Dialect::Json);
        self.operation.as_deref().filter(|_| plain)
    }

    /// How an answer is judged, if it is: held against contracts, or held back for rules.
    pub(crate) fn answer_terms(&self) -> Option<&Arc<RouteTerms>> {
        self.judging.as_ref().or(self.only_rules.as_ref())
    }

    /// Whether a request asks for the metadata of this route.
    pub(crate) fn is_described(&self, head: &Parts) -> bool {
        let resource = self.protected_resource.as_ref();
        resource.is_some_and(|resource| resource.is_asked(&head.method, head.uri.path()))
    }

    fn takes(&self, head: &Parts) -> bool {
        let path = head.uri.path();
        let below = path
            .strip_prefix(self.path.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        below
            && (self.methods.is_empty() || self.methods.contains(&head.method))
            && self
                .host
                .as_deref()
                .is_none_or(|host| host_of(head).is_some_and(|h| h.eq_ignore_ascii_case(host)))
    }

    /// The request target that the upstream gets.
    pub(crate) fn target(&self, head: &Parts) -> Option<http::Uri> {
        let all = head.uri.path_and_query().map_or("/", |pq| pq.as_str());
        let rest = self.rest(all);
        if self.pool.target.origin.base.is_empty()
            && rest.len() == all.len()
            && head.uri.authority().is_none()
        {
            return Some(head.uri.clone());
        }
        self.below_base(rest).parse().ok()
    }

    fn rest<'p>(&self, all: &'p str) -> &'p str {
        if self.strip { all.strip_prefix(self.path.as_str()).unwrap_or(all) } else { all }
    }

    fn below_base(&self, rest: &str) -> String {
        let slash = if rest.starts_with('/') { "" } else { "/" };
        format!("{}{slash}{rest}", self.pool.target.origin.base)
    }

    /// The paths at which the route's server is asked, as far as its configuration says: where the route begins, and the usual
    /// end of an MCP server below it.
    fn named_servers(&self) -> Vec<Box<str>> {
        if self.federation.is_some() {
            return vec![self.path().into()];
        }
        let usual = (!self.path.ends_with("/mcp")).then(|| format!("{}/mcp", self.path));
        let paths = [self.path().to_owned()].into_iter().chain(usual);
        paths.map(|path| self.below_base(self.rest(&path)).into()).collect()
    }

    /// What of the arguments of a server's tool is in headers, if it has listed the tool.
    pub(crate) fn mirrored_of(&self, server: &str, tool: &str) -> Option<Arc<Mirrored>> {
        let pinned =
            || Some(self.mirrored.listed(server, tool, self.pins.get(server, tool)?.input.as_deref()));
        self.mirrored.of(server, tool).or_else(pinned)
    }

    /// The path and query at which a client asks for `target`, the upstream's; none if there is none.
    pub(crate) fn client_path(&self, target: &str) -> Option<String> {
        let rest = target.strip_prefix(self.pool.target.origin.base.as_str())?;
        Some(if self.strip { format!("{}{rest}", self.path) } else { rest.to_owned() })
    }
}

/// The operation of this list that a request is; none where it is not listed and may be so. `by_line`: rules go by the
/// method and path.
///
/// # Errors
/// Why it is refused.
pub(crate) fn listed(
    operations: &Operations,
    by_line: bool,
    head: &Parts,
) -> Result<Option<usize>, &'static str> {
    let found = operations.find(head.method.as_str(), head.uri.path());
    if (by_line || found != Listed::Nothing) && headers::names_another_operation(&head.headers) {
        return Err("a header of the request may name another operation than its method and path");
    }
    match found {
        Listed::Operation(index, _) => Ok(Some(index)),
        Listed::Nothing | Listed::Other(Verdict::Allow) => Ok(None),
        Listed::LookAlike => {
            Err("an upstream may take the request for an operation that it is not written as")
        }
        Listed::Other(Verdict::Block | Verdict::Hold) => {
            Err("the policy lists the operations of this route, and the request is none of them")
        }
    }
}

/// What a policy is to be enforced by on these routes.
///
/// # Errors
/// It cannot be: a route that is not there, rules that could not be enforced, a contract that cannot be.
pub(crate) fn enforceable(settings: &Settings, policy: &Policy) -> Result<Contracts, String> {
    let names = || settings.route.iter().map(|route| route.name.as_str());
    if let Some(name) = policy.route_names().find(|name| !names().any(|known| known == *name)) {
        return Err(format!("the policy names route `{name}`, which the configuration does not have"));
    }
    if let Some(problem) = rule_errors(policy, names()).into_iter().next() {
        return Err(problem);
    }
    Contracts::new(policy)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

fn host_of(head: &Parts) -> Option<&str> {
    let text = match head.uri.host() {
        Some(host) => return Some(host),
        None => head.headers.get(http::header::HOST)?.to_str().ok()?,
    };
    Some(
        text.rsplit_once(':')
            .map_or(text, |(host, port)| if port.bytes().all(|b| b.is_ascii_digit()) { host } else { text }),
    )
}
